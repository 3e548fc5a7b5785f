// The measurements of limits.py that need one process: how a model gains from a second thread, and its latency.
// Usage: bench_limits prepare DIR           writes DIR/model, DIR/x.npy and DIR/x.png: SegFormer-B0, 19 classes, 512×512
//        bench_limits scaling MODEL PAIRS   quartiles of time on 1 thread / time on 2, interleaved
//        bench_limits latency MODEL RUNS    p50 and p99 in ms on 2 threads
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/models/config.hpp>
#include <ocellus/models/zoo.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/vision/image_file.hpp>

#include "measure.hpp"

namespace {

using namespace ocellus;

struct Case {
  const char* model;
  Index labels, size;
};
constexpr Case cases[] = {{"segformer-b0", 19, 512}, {"vit-base", 1000, 224}};

const Case& find_case(const std::string& model) {
  for (const Case& c : cases) {
    if (model == c.model) return c;
  }
  throw UsageError("limits: no case for the model \"" + model + "\"");
}

std::shared_ptr<Network> make(const Case& c) {
  return make_network(c.model, config::default_labels(c.labels), 3, c.size, 255);
}

Tensor images(const Case& c) {
  Tensor x(Shape{1, c.size, c.size, 3});
  RandomStream random(1);
  for (float& value : x) value = random.normal();
  return x;
}

void prepare(const std::string& folder) {
  const Case& c = cases[0];
  std::filesystem::create_directories(folder + "/model");
  save_model(folder + "/model", *make(c), {});
  write_npy(folder + "/x.npy", images(c));
  Image picture(Size2(c.size), 3);
  RandomStream random(2);
  for (Index i = 0; i < c.size * c.size * 3; ++i) picture.writable()[i] = static_cast<std::uint8_t>(random.bits());
  write_png(folder + "/x.png", picture);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

double wall_time(const Runner& runner, const Tensor& x, int threads) {
  set_num_threads(threads);
  (void)runner.run(x);  // wakes the threads, fills the caches
  const double start = seconds();
  (void)runner.run(x);
  return seconds() - start;
}

void scaling(const Case& c, int pairs) {
  const Runner runner(make(c));
  const Tensor x = images(c);
  std::vector<double> ratios;
  for (int pair = 0; pair < pairs; ++pair) {
    const bool one_first = pair % 2 == 0;
    const double first = wall_time(runner, x, one_first ? 1 : 2), second = wall_time(runner, x, one_first ? 2 : 1);
    ratios.push_back(one_first ? first / second : second / first);
  }
  std::printf("%.4f %.4f %.4f\n", quantile(ratios, 0.25), quantile(ratios, 0.5), quantile(ratios, 0.75));
}

void latency(const Case& c, int runs) {
  set_num_threads(2);
  const Runner runner(make(c));
  const Tensor x = images(c);
  std::vector<double> ms;
  for (int i = 0; i < runs + 3; ++i) {
    const double start = seconds();
    (void)runner.run(x);
    if (i >= 3) ms.push_back(1e3 * (seconds() - start));
  }
  std::printf("%.4f %.4f\n", quantile(ms, 0.5), quantile(ms, 0.99));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 2 ? argv[1] : "";
    if (what == "prepare") {
      prepare(argv[2]);
    } else if (what == "scaling" && argc == 4) {
      scaling(find_case(argv[2]), std::atoi(argv[3]));
    } else if (what == "latency" && argc == 4) {
      latency(find_case(argv[2]), std::atoi(argv[3]));
    } else {
      throw UsageError("usage: bench_limits prepare DIR | scaling MODEL PAIRS | latency MODEL RUNS");
    }
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
