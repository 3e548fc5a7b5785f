// What each algorithm of a dense 3x3 convolution costs, by instruction set: printed by bench/tune.cpp.
#pragma once

namespace ocellus::kernels {

// Picoseconds of one core per multiply-add, per number transformed, per packed weight read, and per weight packed where
// that is part of the call. NEON has AVX2's row until somebody measures it.
struct ConvCost {
  double product, transform, weight, packing;
};
struct ConvCosts {
  const char* instruction_set;
  ConvCost direct, winograd2, winograd4;
};

inline constexpr ConvCosts conv_costs[] = {
    {"sse2", {68.2, 0, 960, 435}, {77.6, 0, 528, 1.53e+03}, {88, 4.98, 456, 3.8e+03}},
    {"avx2", {20.5, 0, 468, 509}, {23.1, 117, 416, 1.03e+03}, {23, 212, 433, 3.6e+03}},
    {"avx512", {13.3, 0, 502, 616}, {12.6, 125, 386, 1.06e+03}, {13.9, 126, 382, 3.17e+03}},
    {"neon", {20.5, 0, 468, 509}, {23.1, 117, 416, 1.03e+03}, {23, 212, 433, 3.6e+03}},
};

}  // namespace ocellus::kernels
