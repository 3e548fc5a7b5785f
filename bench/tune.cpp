// Measures what the algorithms of a dense 3x3 convolution cost on this machine and prints the table they are chosen by:
//   bench_tune > tuning.hpp && mv tuning.hpp include/ocellus/kernels/
// A row for each instruction set that this build and CPU have, the others as they are committed. The costs are fitted to
// times of layers on one core whose packed weights come from beyond the caches, as in a model; standard error shows
// these times, and what the choice by the fit loses against the best algorithm.
#include <cstring>
#include <string>

#include <Eigen/Dense>

#include <ocellus/core/error.hpp>
#include <ocellus/kernels/tuning.hpp>

#include "measure.hpp"

namespace {

using namespace bench;
using ocellus::kernels::Conv;
using ocellus::kernels::ConvAlgorithm;
using ocellus::kernels::ConvCost;
using ocellus::kernels::ConvCosts;
using ocellus::kernels::ConvShape;

constexpr struct {
  ConvAlgorithm algorithm;
  Index outputs;  // of a tile's side
} algorithms[] = {{ConvAlgorithm::direct, 1}, {ConvAlgorithm::winograd2, 2}, {ConvAlgorithm::winograd4, 4}};

constexpr struct {
  Index size, channels;
} layers[] = {{112, 32}, {56, 32}, {28, 32},  {56, 64},  {28, 64},  {14, 64},  {28, 128}, {14, 128},
              {7, 128},  {4, 128}, {28, 256}, {14, 256}, {7, 256},  {4, 256},  {14, 512}, {7, 512}};

ConvShape shape_of(Index size, Index channels, ConvAlgorithm algorithm) {
  ConvShape s;
  s.batch = 1;
  s.height = s.width = s.out_height = s.out_width = size;
  s.channels = s.out_channels = channels;
  s.kernel = 3;
  s.padding = 1;
  s.algorithm = algorithm;
  return s;
}

// Median seconds of f.
template <class F>
double seconds(F&& f) {
  f();
  std::vector<double> times;
  double sum = 0;
  while (times.size() < 5 || (times.size() < 60 && sum < 0.15)) {
    const double start = now();
    f();
    times.push_back(now() - start);
    sum += times.back();
  }
  return median(times);
}

double convolution(const ConvShape& s) {
  const Numbers x = numbers(s.height * s.width * s.channels);
  const Numbers weight = numbers(9 * s.channels * s.out_channels);
  Numbers y(x.size());
  const Index size = table<float>().conv_packed_size(s);
  const Index copies = (Index{96} << 20) / (4 * size) + 1;
  Numbers packed(static_cast<std::size_t>(copies * size));
  for (Index i = 0; i < copies; ++i) table<float>().conv_pack(s, weight.data(), packed.data() + i * size);
  Conv<float> c;
  c.shape = s;
  c.x = x.data();
  c.y = y.data();
  Index turn = 0;
  return seconds([&] {
    c.packed_weight = packed.data() + turn++ % copies * size;
    table<float>().conv(c);
  });
}

// Seconds per weight.
double packing(ConvAlgorithm algorithm) {
  const ConvShape s = shape_of(14, 256, algorithm);
  const Numbers weight = numbers(9 * s.channels * s.out_channels);
  Numbers packed(static_cast<std::size_t>(table<float>().conv_packed_size(s)));
  return seconds([&] { table<float>().conv_pack(s, weight.data(), packed.data()); }) /
         static_cast<double>(weight.size());
}

// Multiply-adds, numbers transformed, weights read.
Eigen::RowVector3d features(const ConvShape& s, Index outputs) {
  const Index points = (outputs + 2) * (outputs + 2);
  const Index side = (s.height + outputs - 1) / outputs;
  const Index values = points * side * side;
  const Index transformed = outputs == 1 ? 0 : values * (s.channels + s.out_channels);
  return Eigen::Array<Index, 1, 3>(values * s.channels * s.out_channels, transformed,
                                   points * s.channels * s.out_channels)
      .cast<double>();
}

// Least squares of the relative error; a cost that comes out negative is none.
Eigen::Vector3d fit(const Eigen::MatrixXd& features_of, const Eigen::VectorXd& times) {
  Eigen::MatrixXd a = times.cwiseInverse().asDiagonal() * features_of;
  for (;;) {
    const Eigen::Vector3d costs = a.completeOrthogonalDecomposition().solve(Eigen::VectorXd::Ones(a.rows()));
    if (costs.minCoeff() >= 0) return costs;
    Eigen::Index worst = 0;
    costs.minCoeff(&worst);
    a.col(worst).setZero();
  }
}

void print_row(const ConvCost (&costs)[3]) {
  const char* between = "";
  for (const ConvCost& c : costs) {
    std::printf("%s{%.3g, %.3g, %.3g, %.3g}", between, c.product, c.transform, c.weight, c.packing);
    between = ", ";
  }
  std::printf("},\n");
}

void measure_set() {
  ocellus::set_num_threads(1);
  constexpr int count = std::size(layers);
  Eigen::MatrixXd times(count, 3);
  Eigen::MatrixXd estimates(count, 3);
  ConvCost costs[3];
  for (int a = 0; a < 3; ++a) {
    Eigen::MatrixXd all(count, 3);
    for (int i = 0; i < count; ++i) {
      const ConvShape s = shape_of(layers[i].size, layers[i].channels, algorithms[a].algorithm);
      times(i, a) = convolution(s);
      all.row(i) = features(s, algorithms[a].outputs);
    }
    const Eigen::Vector3d found = fit(all, times.col(a));
    estimates.col(a) = all * found;
    costs[a] = {1e12 * found[0], 1e12 * found[1], 1e12 * found[2], 1e12 * packing(algorithms[a].algorithm)};
  }
  std::fprintf(stderr, "%s: microseconds measured (estimated); lost by the choice\n", table<float>().instruction_set);
  for (int i = 0; i < count; ++i) {
    std::fprintf(stderr, "%4ld² %4ld", static_cast<long>(layers[i].size), static_cast<long>(layers[i].channels));
    for (int a = 0; a < 3; ++a) std::fprintf(stderr, " %8.0f (%8.0f)", 1e6 * times(i, a), 1e6 * estimates(i, a));
    Eigen::Index chosen = 0;
    estimates.row(i).minCoeff(&chosen);
    std::fprintf(stderr, " %3.0f %%\n", 100 * (times(i, chosen) / times.row(i).minCoeff() - 1));
  }
  print_row(costs);
}

// The row that this program prints when it runs with that instruction set; empty where it cannot.
std::string measured(const char* program, const char* instruction_set) {
  const std::string set = instruction_set;
  const std::string command = "OCELLUS_ISA=" + set + " '" + program + "' --row";
  std::FILE* pipe = popen(command.c_str(), "r");
  char line[256] = "";
  const bool read = pipe && std::fgets(line, sizeof line, pipe);
  return pipe && pclose(pipe) == 0 && read ? line : "";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--row") == 0) {
    try {
      measure_set();
      return 0;
    } catch (const ocellus::UsageError& error) {  // not in this build, or not for this CPU
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }
  std::printf(R"(// What each algorithm of a dense 3x3 convolution costs, by instruction set: printed by bench/tune.cpp.
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
)");
  for (const ConvCosts& committed : ocellus::kernels::conv_costs) {
    std::printf("    {\"%s\", ", committed.instruction_set);
    const std::string row = measured(argv[0], committed.instruction_set);
    if (row.empty()) {
      print_row({committed.direct, committed.winograd2, committed.winograd4});
    } else {
      std::fputs(row.c_str(), stdout);
    }
    std::fflush(stdout);
  }
  std::printf("};\n\n}  // namespace ocellus::kernels\n");
}
