// What the benchmarks of kernels share: time, the machine's limit run beside every figure, and checked data.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>
#include <vector>

#include <ocellus/kernels.hpp>
#include <ocellus/runtime.hpp>

namespace bench {

using ocellus::Index;
using ocellus::kernels::table;

// Seconds: of this thread where it works alone, else of the clock on the wall.
inline double now() {
  if (ocellus::num_threads() == 1) {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double highest_peak = 0;

// GFLOP/s of the loop on all threads together, for about 30 microseconds; the best of a few turns where one late thread
// spoils a turn.
inline double peak() {
  const int threads = ocellus::num_threads();
  std::vector<double> operations(static_cast<std::size_t>(threads));
  double best = 0;
  for (int turn = 0; turn < (threads > 1 ? 5 : 1); ++turn) {
    const double start = now();
    ocellus::run_pieces(
        threads,
        [](void* context, Index piece) { static_cast<double*>(context)[piece] = table<float>().fma_loop(8000); },
        operations.data());
    double sum = 0;
    for (double n : operations) sum += n;
    best = std::max(best, sum / (now() - start) * 1e-9);
  }
  highest_peak = std::max(highest_peak, best);
  return best;
}

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Rate {
  double best = 0, median = 0;  // GFLOP/s
  double share = 0;             // of the peak beside it, median
};

// `count` samples of about a millisecond each.
template <class F>
Rate measure(double flops, int count, F&& f) {
  f();
  const long repeats = std::max(1L, static_cast<long>(2e8 / flops));
  std::vector<double> rates;
  std::vector<double> shares;
  for (int i = 0; i < count; ++i) {
    const double start = now();
    for (long k = 0; k < repeats; ++k) f();
    rates.push_back(flops * static_cast<double>(repeats) / (now() - start) * 1e-9);
    shares.push_back(rates.back() / peak());
  }
  return {*std::max_element(rates.begin(), rates.end()), median(rates), median(shares)};
}

// Stops the program where a product is wrong.
inline void check(double is, double expected, const char* name) {
  if (std::abs(is - expected) <= 1e-4 * (1 + std::abs(expected))) return;
  std::printf("%s: wrong result: %g, expected %g\n", name, is, expected);
  std::exit(1);
}

// As a tensor's memory: 64-byte aligned.
template <class T>
struct Aligned {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete (p, std::align_val_t{64}); }
  friend bool operator==(Aligned, Aligned) { return true; }
};
using Numbers = std::vector<float, Aligned<float>>;

inline Numbers numbers(Index n) {
  Numbers v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 17) * 0.125f - 1;
  return v;
}

using Block [[gnu::vector_size(64), gnu::may_alias]] = std::uint64_t;

#if defined(__x86_64__) && defined(__linux__)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
[[maybe_unused]] static std::uint64_t read_blocks(const Block* at, std::size_t count) {
  Block sum[4] = {};
  for (std::size_t i = 0; i + 4 <= count; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sum[k] ^= at[i + k];
  }
  const Block all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  return all[0] ^ all[3] ^ all[7];
}

// GB/s at which all threads together read `bytes` that were read just before, each thread its share: the best of a few
// turns.
inline double read_bandwidth(std::size_t bytes) {
  struct Job {
    const Block* blocks;
    std::size_t share;
  };
  const auto threads = static_cast<std::size_t>(ocellus::num_threads());
  const std::size_t share = bytes / sizeof(Block) / threads;
  const Numbers memory(share * threads * sizeof(Block) / sizeof(float));
  Job job{reinterpret_cast<const Block*>(memory.data()), share};
  const auto repeats = static_cast<int>(1 + 4'000'000 / bytes);
  double best = 0;
  for (int turn = 0; turn < 20; ++turn) {
    const double start = now();
    for (int i = 0; i < repeats; ++i) {
      ocellus::run_pieces(
          static_cast<Index>(threads),
          [](void* context, Index piece) {
            const Job& j = *static_cast<const Job*>(context);
            volatile std::uint64_t sink = read_blocks(j.blocks + static_cast<std::size_t>(piece) * j.share, j.share);
            (void)sink;
          },
          &job);
    }
    best = std::max(best, 1e-9 * static_cast<double>(share * threads * sizeof(Block)) * repeats / (now() - start));
  }
  return best;
}

}  // namespace bench
