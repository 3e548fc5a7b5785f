// The matrix products that the models are made of: (m, k) times (k, n).
#pragma once

#include <ocellus/core/shape.hpp>

namespace bench {

struct GemmShape {
  ocellus::Index m, n, k;

  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
  bool matrix_vector() const { return m == 1; }
};

inline constexpr GemmShape gemm_shapes[] = {{1024, 1024, 1024}, {16384, 32, 32},  {4096, 256, 64}, {1024, 640, 160},
                                            {256, 1024, 256},   {256, 256, 1024}, {197, 768, 768}, {197, 3072, 768},
                                            {197, 768, 3072},   {1, 1000, 2048},  {3136, 64, 576}, {37, 45, 33}};

}  // namespace bench
