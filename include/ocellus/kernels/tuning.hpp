// What each algorithm of a dense 3x3 convolution costs, by instruction set: printed by bench/tune.cpp, which says how.
#pragma once

namespace ocellus::kernels {

// Picoseconds of one core per multiply-add, per number transformed, per packed weight read, and per weight packed where
// that is part of the call.
struct ConvCost {
  double product, transform, weight, packing;
};
struct ConvCosts {
  ConvCost direct, winograd2, winograd4;
};

namespace isa_sse2 {
inline constexpr ConvCosts conv_costs{{20, 0, 150, 300}, {20, 200, 100, 6000}, {20, 200, 100, 6000}};
}
namespace isa_avx2 {
inline constexpr ConvCosts conv_costs{{20, 0, 150, 300}, {20, 200, 100, 6000}, {20, 200, 100, 6000}};
}
namespace isa_avx512 {
inline constexpr ConvCosts conv_costs{{12, 0, 339, 505}, {10.9, 129, 326, 1.62e+03}, {10.9, 158, 322, 3.59e+03}};
}
namespace isa_neon {
inline constexpr ConvCosts conv_costs{{20, 0, 150, 300}, {20, 200, 100, 6000}, {20, 200, 100, 6000}};
}

}  // namespace ocellus::kernels
