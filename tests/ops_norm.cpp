// Normalisation: PyTorch's values and gradients, twins that follow the definition, running statistics, gradients
// against central differences, sizes that do not fit.
#include "ops_golden.hpp"

#include <cmath>
#include <type_traits>

#include <ocellus/ops/norm.hpp>

using namespace ocellus;
using namespace ops_golden;

namespace {

// By the definition: x seen as (outer, pixels, channels), statistics per outer and group.
Double twin(const Double& x, Index outer, Index groups, const Double& weight, const Double& bias, double eps) {
  const Index channels = x.dim(-1), pixels = x.numel() / outer / channels, per_group = channels / groups;
  Double y(x.shape());
  for (Index o = 0; o < outer; ++o) {
    for (Index g = 0; g < groups; ++g) {
      const auto place = [&](Index p, Index c) { return (o * pixels + p) * channels + g * per_group + c; };
      const double count = static_cast<double>(pixels * per_group);
      double mean = 0, variance = 0;
      for (Index i = 0; i < pixels * per_group; ++i) mean += x[place(i / per_group, i % per_group)] / count;
      for (Index i = 0; i < pixels * per_group; ++i) {
        const double d = x[place(i / per_group, i % per_group)] - mean;
        variance += d * d / count;
      }
      for (Index i = 0; i < pixels * per_group; ++i) {
        const Index at = place(i / per_group, i % per_group), c = at % channels;
        const double hat = (x[at] - mean) / std::sqrt(variance + eps);
        y[at] = hat * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
      }
    }
  }
  return y;
}

template <class X>
using Element = typename std::decay_t<X>::value_type::value_type;

struct Buffers {
  Double mean = Double({3}, {0.1, -0.2, 0.3});
  Double variance = Double({3}, {0.5, 1.5, 2.5});
  Double batches = Double::scalar(7);
};

}  // namespace

TEST_CASE("normalisation agrees with PyTorch") {
  for (const Case& c : cases("layer_norm")) {
    check_case(c, {"x", "w", "b"}, [&](const auto& x) { return layer_norm(x[0], x[1], x[2], c.get<double>("eps")); });
  }
  for (const Case& c : cases("group_norm")) {
    check_case(c, {"x", "w", "b"}, [&](const auto& x) {
      return group_norm(x[0], c.get<Index>("groups"), x[1], x[2], c.get<double>("eps"));
    });
  }
  for (const Case& c : cases("batch_norm")) {
    const Double mean = c.tensor("running_mean"), variance = c.tensor("running_var");
    const BatchNormOptions o{.momentum = c.get<double>("momentum"), .eps = c.get<double>("eps")};
    check_case(c, {"x", "w", "b"}, [&](const auto& x) {
      std::optional<Training> training;
      if (c.get<bool>("training")) training.emplace();
      return batch_norm(x[0], x[1], x[2], mean, variance, {}, o);
    });
    check_close(c.name() + ".running_mean", mean, c.tensor("running_mean_after"));
    check_close(c.name() + ".running_var", variance, c.tensor("running_var_after"));
  }
}

TEST_CASE("normalisation against twins that follow the definition") {
  for (const Index channels : {1, 2, 12, 31, 33, 66}) {
    CAPTURE(channels);
    const Double x = random_tensor<double>({2, 3, 5, channels}, 1, -1, 3);
    const Double w = random_tensor<double>({channels}, 2), b = random_tensor<double>({channels}, 3);
    CHECK(max_difference(layer_norm(x, w, b, 1e-3), twin(x, 30, 1, w, b, 1e-3)) <= 1e-13);
    CHECK(max_difference(layer_norm(x), twin(x, 30, 1, {}, {}, 1e-5)) <= 1e-13);
    for (const Index groups : {1, 2, 3, 11}) {
      if (channels % groups) continue;
      CHECK(max_difference(group_norm(x, groups, w, b, 1e-3), twin(x, 2, groups, w, b, 1e-3)) <= 1e-12);
      CHECK(max_difference(group_norm(x, groups), twin(x, 2, groups, {}, {}, 1e-5)) <= 1e-12);
    }
    CHECK(max_difference(instance_norm(x, w, b), twin(x, 2, channels, w, b, 1e-5)) <= 1e-12);
    const Training training;
    CHECK(max_difference(batch_norm(x, w, b, Double({channels}), Double({channels})),
                         twin(x, 1, channels, w, b, 1e-5)) <= 1e-12);
  }
}

TEST_CASE("gradients") {
  for (const Index channels : {6, 17}) {
    auto report = gradcheck("layer_norm", [](const auto& x) { return layer_norm(x[0], x[1], x[2]); },
                            {{3, 2, channels}, {channels}, {channels}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("layer_norm plain", [](const auto& x) { return layer_norm(x[0]); }, {{5, channels}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("group_norm instance", [](const auto& x) { return instance_norm(x[0], x[1], x[2]); },
                       {{2, 3, 2, channels}, {channels}, {channels}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  for (const Index groups : {1, 2, 3, 6}) {
    auto report = gradcheck("group_norm", [&](const auto& x) { return group_norm(x[0], groups, x[1], x[2]); },
                            {{2, 5, 6}, {6}, {6}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("group_norm plain", [&](const auto& x) { return group_norm(x[0], groups); }, {{2, 2, 3, 6}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  for (const bool training : {false, true}) {
    const auto f = [](const auto& x) {
      using T = Element<decltype(x)>;
      const BasicTensor<T> mean({3}, {T(0.1), T(-0.2), T(0.3)}), variance({3}, {T(0.5), T(1.5), T(2.5)});
      return batch_norm(x[0], x[1], x[2], mean, variance);
    };
    const auto report = gradcheck("batch_norm", f, {{2, 2, 3, 3}, {3}, {3}}, {.training = training});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("running statistics move in training only") {
  const Double x = random_tensor<double>({4, 5, 3}, 1), w = Double::full({3}, 1), b({3});
  const Buffers before;
  Buffers buffers;
  batch_norm(x, w, b, buffers.mean, buffers.variance, buffers.batches);
  CHECK(max_difference(buffers.mean, before.mean) == 0);
  CHECK(max_difference(buffers.variance, before.variance) == 0);
  CHECK(buffers.batches.item() == 7);

  const std::uint32_t version = buffers.mean.storage()->version();
  const Training training;
  batch_norm(x, w, b, buffers.mean, buffers.variance, buffers.batches, {.momentum = 0.25});
  CHECK(buffers.batches.item() == 8);
  CHECK(buffers.mean.storage()->version() != version);
  for (Index c = 0; c < 3; ++c) {
    double mean = 0, squares = 0;
    for (Index i = 0; i < 20; ++i) mean += x[i * 3 + c] / 20;
    for (Index i = 0; i < 20; ++i) squares += (x[i * 3 + c] - mean) * (x[i * 3 + c] - mean);
    CHECK(std::abs(buffers.mean[c] - (0.75 * before.mean[c] + 0.25 * mean)) <= 1e-14);
    CHECK(std::abs(buffers.variance[c] - (0.75 * before.variance[c] + 0.25 * squares / 19)) <= 1e-14);
  }

  const Evaluation evaluation;
  batch_norm(x, w, b, buffers.mean, buffers.variance, buffers.batches);
  CHECK(buffers.batches.item() == 8);
}

TEST_CASE("a constant channel has variance 0") {
  const Tensor x = Tensor::full({4, 3}, 2), mean({3}), variance({3});
  const Training training;
  const Tensor y = batch_norm(x, Tensor::full({3}, 1), Tensor::full({3}, 5), mean, variance, {}, {.momentum = 1});
  CHECK(max_difference(y, Tensor::full({4, 3}, 5)) == 0);
  CHECK(max_difference(mean, Tensor::full({3}, 2)) == 0);
  CHECK(max_abs(variance) <= 1e-11);
}

TEST_CASE("running statistics may move again before backward") {
  Double x = random_tensor<double>({4, 3}, 1);
  const Double w = Double::full({3}, 1), b({3});
  const Buffers buffers;
  const Training training;
  const Double y = batch_norm(x.requires_grad(), w, b, buffers.mean, buffers.variance);
  batch_norm(x, w, b, buffers.mean, buffers.variance);
  CHECK_NOTHROW(backward(y, random_tensor<double>({4, 3}, 2)));
}

TEST_CASE("sizes that do not fit are refused") {
  const Tensor x({2, 5, 6}), six({6}), five({5});
  CHECK_THROWS_WITH_AS(
      layer_norm(x, five, six),
      "layer_norm: weight and bias must be (C), C the last axis of x; got x=(2, 5, 6), weight=(5), bias=(6)",
      ShapeError);
  CHECK_THROWS_WITH_AS(group_norm(x, 4, six, six),
                       "group_norm: groups must divide the channels; got x=(2, 5, 6), weight=(6), bias=(6)",
                       ShapeError);
  CHECK_THROWS_AS(group_norm(x, 0), ShapeError);
  CHECK_THROWS_AS(group_norm(six, 2), ShapeError);
  CHECK_THROWS_WITH_AS(
      batch_norm(x, six, six, six, five),
      "batch_norm: weight, bias and running statistics must be (C), C the last axis of x; got x=(2, 5, 6), "
      "weight=(6), bias=(6), running_mean=(6), running_var=(5)",
      ShapeError);
  CHECK_THROWS_AS(batch_norm(x, six, six, six, Tensor()), ShapeError);
  CHECK_THROWS_AS(batch_norm(x, six, six, six, six, six), ShapeError);
  const Training training;
  CHECK_THROWS_WITH_AS(
      batch_norm(Tensor({1, 6}), six, six, six, six),
      "batch_norm: training needs more than one value per channel; got x=(1, 6), weight=(6), bias=(6), "
      "running_mean=(6), running_var=(6)",
      ShapeError);
}
