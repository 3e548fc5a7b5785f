// Google Benchmark with this machine's limit beside each figure. One row is one call: counters give its GFLOP/s and share
// of the peak that is run behind every millisecond of work, or its GB/s beside the rate at which memory of that size is
// read. Threads: OCELLUS_NUM_THREADS.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include <benchmark/benchmark.h>

#include "measure.hpp"

namespace bench {

// What one row runs, and what one run costs: floating-point operations where arithmetic limits it, else bytes.
struct Work {
  std::function<void()> run;
  double flops = 0;
  double bytes = 0;
};

inline void run_row(benchmark::State& state, const std::function<Work()>& make) {
  const Work work = make();
  work.run();
  std::vector<double> shares;
  double total = 0, since_peak = 0, runs_since_peak = 0;
  for (auto _ : state) {
    const double start = now();
    work.run();
    const double elapsed = now() - start;
    state.SetIterationTime(elapsed);
    total += elapsed;
    since_peak += elapsed;
    ++runs_since_peak;
    if (work.flops > 0 && since_peak > 1e-3) {
      shares.push_back(1e-9 * work.flops * runs_since_peak / since_peak / peak());
      since_peak = runs_since_peak = 0;
    }
  }
  const double runs = static_cast<double>(state.iterations());
  if (work.flops > 0) {
    state.counters["GFLOP/s"] = 1e-9 * work.flops * runs / total;
    if (!shares.empty()) state.counters["peak_share"] = median(shares);
  } else {
    const double bandwidth = read_bandwidth(static_cast<std::size_t>(work.bytes));
    state.counters["GB/s"] = 1e-9 * work.bytes * runs / total;
    state.counters["read_GB/s"] = bandwidth;
  }
}

// Memory is taken when the row runs, not when it is named.
inline void add_row(const std::string& name, std::function<Work()> make, benchmark::TimeUnit unit = benchmark::kMicrosecond) {
  benchmark::RegisterBenchmark(name.c_str(), [make = std::move(make)](benchmark::State& state) { run_row(state, make); })
      ->UseManualTime()
      ->Unit(unit);
}

inline int run_suite(int argc, char** argv) {
  benchmark::AddCustomContext("instruction_set", table<float>().instruction_set);
  benchmark::AddCustomContext("threads", std::to_string(ocellus::num_threads()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
