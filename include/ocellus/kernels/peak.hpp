// The machine's limit: fused multiply-adds on registers alone. What every speed in a report is compared with.
#pragma once

#include <ocellus/kernels/simd.hpp>
#include <ocellus/kernels/arguments.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// Floating-point operations done in `iterations` rounds of independent multiply-adds.
template <class T>
[[gnu::noinline]] double fma_loop(Index iterations) {
  constexpr int chains = OCELLUS_ISA_REGISTERS == 32 ? 24 : 12;  // more than latency times throughput, fewer than registers
  vec<T> sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = vec<T>(T(i));
  vec<T> factor(T(0.999)), term(T(0.001));
  for (Index n = 0; n < iterations; ++n) {
    OCELLUS_UNROLL for (int i = 0; i < chains; ++i) sum[i] = fma<T>(sum[i], factor, term);
  }
  T total[vec<T>::size];
  for (int i = 1; i < chains; ++i) sum[0] += sum[i];
  store<T>(total, sum[0]);
  volatile T sink = total[0];
  (void)sink;
  return 2.0 * chains * static_cast<double>(vec<T>::size) * static_cast<double>(iterations);
}

}  // namespace ocellus::kernels::OCELLUS_ISA
