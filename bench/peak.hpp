// What a speed is compared with, measured right behind the work on as many threads: fused multiply-adds in registers with
// the instruction set of the kernels (a processor that lowers its clock under wide vectors has the same clock for both),
// and reads of memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

#include <ocellus/kernels.hpp>
#include <ocellus/runtime.hpp>

#include "memory.hpp"

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

// GB/s at which all threads together read `bytes` that were read just before, each thread its share: the best of a few
// turns.
inline double read_gigabytes_per_second(std::size_t bytes, int turns = 20) {
  typedef std::uint64_t Block __attribute__((vector_size(64), may_alias));
  const int threads = ocellus::num_threads();
  const std::size_t share = bytes / sizeof(Block) / static_cast<std::size_t>(threads) / 8 * 8;
  const Numbers memory(share * static_cast<std::size_t>(threads) * sizeof(Block) / sizeof(float));
  struct Job {
    const Block* blocks;
    std::size_t share;
  } job{reinterpret_cast<const Block*>(memory.data()), share};
  double best = 0;
  for (int turn = 0; turn < turns; ++turn) {
    const double start = now();
    ocellus::run_pieces(
        threads,
        [](void* context, ocellus::Index piece) {
          const Job& j = *static_cast<const Job*>(context);
          const Block* at = j.blocks + static_cast<std::size_t>(piece) * j.share;
          Block sum[8] = {};
          for (std::size_t i = 0; i < j.share; i += 8) {
            for (std::size_t k = 0; k < 8; ++k) sum[k] ^= at[i + k];
          }
          for (std::size_t k = 1; k < 8; ++k) sum[0] ^= sum[k];
          volatile std::uint64_t sink = sum[0][0] ^ sum[0][1];
          (void)sink;
        },
        &job);
    const double rate = 1e-9 * static_cast<double>(share * sizeof(Block)) * threads / (now() - start);
    if (turn > 0) best = std::max(best, rate);  // the first one brings the memory in
  }
  return best;
}

}  // namespace bench
