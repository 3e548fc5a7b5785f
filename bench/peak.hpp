// What a speed is compared with: the rate of a loop of fused multiply-adds in registers, with the instruction set that
// the kernels use and on as many threads. Measured right behind the work, so that a processor that lowers its clock under
// wide vectors has the same clock for both.
#pragma once

#include <algorithm>
#include <ctime>
#include <vector>

#include <ocellus/kernels.hpp>
#include <ocellus/runtime.hpp>

namespace bench {

// Seconds. One thread: its CPU time, which a busy machine disturbs less; more: wall time.
inline double now() {
  if (ocellus::num_threads() > 1) return ocellus::seconds();
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// GFLOP/s of all threads together: the best of a few turns of about 30 microseconds.
inline double peak_gflops(int turns = 5) {
  const int threads = ocellus::num_threads();
  std::vector<double> operations(static_cast<std::size_t>(threads));
  double best = 0;
  for (int turn = 0; turn < turns; ++turn) {
    const double start = now();
    ocellus::run_pieces(
        threads,
        [](void* context, ocellus::Index piece) {
          static_cast<double*>(context)[piece] = ocellus::kernels::table<float>().fma_loop(8000);
        },
        operations.data());
    double sum = 0;
    for (double n : operations) sum += n;
    best = std::max(best, 1e-9 * sum / (now() - start));
  }
  return best;
}

}  // namespace bench
