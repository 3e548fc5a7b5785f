// What each algorithm of a dense 3x3 convolution costs, by instruction set: printed by bench/tune.cpp.
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
inline constexpr ConvCosts conv_costs{{66.9, 0, 1.03e+03, 663}, {76, 0, 536, 1.52e+03}, {86.2, 0, 468, 3.63e+03}};
}
namespace isa_avx2 {
inline constexpr ConvCosts conv_costs{{19.8, 0, 453, 521}, {22.5, 122, 415, 1.06e+03}, {24.2, 186, 415, 2.92e+03}};
}
namespace isa_avx512 {
inline constexpr ConvCosts conv_costs{{12.2, 0, 430, 605}, {10.9, 144, 448, 1.01e+03}, {12.6, 177, 391, 2.64e+03}};
}
namespace isa_neon {
inline constexpr ConvCosts conv_costs{{19.8, 0, 453, 521}, {22.5, 122, 415, 1.06e+03}, {24.2, 186, 415, 2.92e+03}};
}

}  // namespace ocellus::kernels
