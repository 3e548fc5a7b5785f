#include "profile.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/kernels/table.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus::cli {

namespace {

// Bytes a second of reading one array again and again, each thread its own part.
double read_rate(Index bytes) {
  const int threads = num_threads();
  const Index part = bytes / static_cast<Index>(sizeof(float)) / threads;
  struct Job {
    std::vector<float> array;
    std::vector<kernels::Reduce<float>> reads;  // by thread
    std::vector<float> sums;
    Index rounds;
  } job{std::vector<float>(static_cast<std::size_t>(part * threads), 1.0f), {}, std::vector<float>(static_cast<std::size_t>(threads)), (Index{256} << 20) / bytes};
  for (int t = 0; t < threads; ++t) {
    kernels::Reduce<float>& read = job.reads.emplace_back();
    read.outer = read.inner = 1;
    read.reduced = part;
    read.x = job.array.data() + t * part;
    read.y = &job.sums[static_cast<std::size_t>(t)];
  }
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const double start = seconds();
    run_pieces(threads, [](void* context, Index t) {
      const Job& j = *static_cast<const Job*>(context);
      for (Index round = 0; round < j.rounds; ++round) kernels::table<float>().reduce(j.reads[static_cast<std::size_t>(t)]);
    }, &job);
    best = std::max(best, static_cast<double>(part * threads * job.rounds) * sizeof(float) / (seconds() - start));
  }
  return best;
}

// GFLOP/s of a large matrix product, for the precisions whose peak no loop on registers tells.
double product_gflops(Precision precision) {
  const NoGrad no_grad;
  const Tensor x = Tensor::full({1536, 1536}, 1.0f), weight = x;
  const Plan plan(trace([&](const Tensor& in) { return linear(in, weight); }, x.shape()), precision);
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {x};
  double best = 0;
  for (int repeat = 0; repeat < 10; ++repeat) {
    const double start = seconds();
    plan.run(inputs, *workspace);
    best = std::max(best, 2e-9 * plan.graph().macs() / (seconds() - start));
  }
  return best;
}

// What this machine can do at most with all threads: the roofs of a roofline model.
class Roofline {
 public:
  explicit Roofline(const std::vector<NodeProfile>& profile) {
    for (const NodeProfile& p : profile) {
      double& peak = gflops_[static_cast<int>(p.precision)];
      if (peak == 0) peak = p.precision == Precision::f32 ? peak_gflops() : product_gflops(p.precision);
    }
    for (Read& r : reads_) r.rate = read_rate(r.bytes);
  }

  struct Limit {
    const char* name;
    double seconds;  // that the node takes at least
  };
  // Every multiply-add at the peak, every byte at the rate of an array as large as all that the node touches.
  Limit limit(const NodeProfile& p) const {
    const Read* read = reads_;
    while (read + 1 < std::end(reads_) && p.bytes > static_cast<double>(read->bytes)) ++read;
    const double arithmetic = p.macs > 0 ? 2e-9 * p.macs / gflops_[static_cast<int>(p.precision)] : 0, memory = p.bytes / read->rate;
    return arithmetic > memory ? Limit{"arithmetic", arithmetic} : Limit{"memory", memory};
  }

  void print() const {
    std::printf("limits:");
    for (const Precision p : {Precision::f32, Precision::bf16, Precision::int8}) {
      const double gflops = gflops_[static_cast<int>(p)];
      if (gflops > 0) std::printf(" %.0f GFLOP/s in %s,", gflops, name_of(p));
    }
    for (const Read& r : reads_) std::printf("%s %.0f GB/s from %lld MiB", &r == reads_ ? "" : ",", 1e-9 * r.rate, static_cast<long long>(r.bytes >> 20));
    std::printf("\n");
  }

 private:
  struct Read {
    Index bytes;
    double rate = 0;
  };

  double gflops_[3] = {};                                     // by precision; 0: no node has it
  Read reads_[3] = {{1 << 20}, {16 << 20}, {256 << 20}};  // as a node's data lie in a core's own cache, the shared one, memory
};

}  // namespace

void print_profile(const std::vector<NodeProfile>& profile, int runs) {
  const Roofline roofline(profile);
  double total = 0;
  for (const NodeProfile& p : profile) total += p.seconds / runs;
  std::printf("%9s %6s %9s %9s %9s %9s %7s  %-10s  %-9s %-16s %-22s %s\n", "ms", "%", "MMAC", "GFLOP/s", "MB", "GB/s", "% peak", "limit", "precision",
              "op", "output", "module");
  for (const NodeProfile& p : profile) {
    const double s = p.seconds / runs;
    const Roofline::Limit limit = roofline.limit(p);
    std::printf("%9.3f %6.1f %9.2f %9.1f %9.2f %9.1f %7.1f  %-10s  %-9s %-16s %-22s %s\n", 1e3 * s, 100 * s / total, p.macs / 1e6, 2e-9 * p.macs / s,
                1e-6 * p.bytes, 1e-9 * p.bytes / s, 100 * limit.seconds / s, limit.name, name_of(p.precision), p.op.c_str(), p.shape.str().c_str(),
                p.path.c_str());
  }
  std::printf("%9.3f  total\n", 1e3 * total);
  roofline.print();
}

void write_profile(JsonWriter& json, const std::vector<NodeProfile>& profile, int runs) {
  const Roofline roofline(profile);
  json.key("profile").begin_array();
  for (const NodeProfile& p : profile) {
    const Roofline::Limit limit = roofline.limit(p);
    json.begin_object().field("op", p.op).field("attributes", p.attributes).field("module", p.path).field("precision", name_of(p.precision));
    json.field("ms", 1e3 * p.seconds / runs).field("macs", p.macs).field("bytes", p.bytes).field("limit", limit.name);
    json.field("limit_ms", 1e3 * limit.seconds).end_object();
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
