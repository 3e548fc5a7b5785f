#include "profile.hpp"

#include <algorithm>
#include <cstdio>

#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus::cli {

void print_profile(const std::vector<NodeProfile>& profile, int runs) {
  double total = 0;
  for (const NodeProfile& p : profile) total += p.seconds / runs;
  std::printf("%9s %6s %9s %9s %9s  %-16s %-22s %s\n", "ms", "%", "MMAC", "GFLOP/s", "GB/s", "op", "output", "module");
  for (const NodeProfile& p : profile) {
    const double s = p.seconds / runs;
    std::printf("%9.3f %6.1f %9.2f %9.1f %9.1f  %-16s %-22s %s\n", 1e3 * s, 100 * s / total, p.macs / 1e6, 2e-9 * p.macs / s, 1e-9 * p.bytes / s,
                p.op.c_str(), p.shape.str().c_str(), p.path.c_str());
  }
  std::printf("%9.3f  total\n", 1e3 * total);
}

void write_profile(JsonWriter& json, const std::vector<NodeProfile>& profile, int runs) {
  json.key("profile").begin_array();
  for (const NodeProfile& p : profile) {
    json.begin_object().field("op", p.op).field("attributes", p.attributes).field("module", p.path).field("ms", 1e3 * p.seconds / runs);
    json.field("macs", p.macs).field("bytes", p.bytes).end_object();
  }
  json.end_array();
}

double peak_gflops() {
  constexpr Index iterations = 200000;
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const int threads = num_threads();
    std::vector<double> work(static_cast<std::size_t>(threads));
    const double start = seconds();
    run_pieces(threads, [](void* w, Index i) { static_cast<double*>(w)[i] = kernels::table<float>().fma_loop(iterations); }, work.data());
    const double time = seconds() - start;
    double total = 0;
    for (double w : work) total += w;
    best = std::max(best, 1e-9 * total / time);
  }
  return best;
}

}  // namespace ocellus::cli
