// Losses: PyTorch's values and gradients, plain-loop twins, gradients against central differences, labels that do not
// fit.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

using Labels = BasicTensor<std::int64_t>;
using Double = BasicTensor<double>;

const NamedTensors& golden() {
  static const NamedTensors file = read_safetensors(OCELLUS_TEST_DIR "/golden/ops.safetensors");
  return file;
}

// (N, C, H, W) → (N, H, W, C)
Tensor channels_last(const Tensor& x) {
  const Index channels = x.dim(1), pixels = x.dim(2) * x.dim(3);
  Tensor y({x.dim(0), x.dim(2), x.dim(3), channels});
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index c = 0; c < channels; ++c) {
      for (Index p = 0; p < pixels; ++p) y[(n * pixels + p) * channels + c] = x[(n * channels + c) * pixels + p];
    }
  }
  return y;
}

struct CrossEntropyRow {
  const char* name;
  Reduction reduction;
  bool weighted;
  double smoothing;
};
const CrossEntropyRow cross_entropy_rows[] = {
    {"mean", Reduction::mean, false, 0},       {"mean_smoothing", Reduction::mean, false, 0.1},
    {"mean_weight", Reduction::mean, true, 0}, {"mean_weight_smoothing", Reduction::mean, true, 0.1},
    {"sum", Reduction::sum, false, 0},         {"sum_smoothing", Reduction::sum, false, 0.1},
    {"sum_weight", Reduction::sum, true, 0},   {"sum_weight_smoothing", Reduction::sum, true, 0.1},
    {"none", Reduction::none, false, 0},       {"none_smoothing", Reduction::none, false, 0.1},
    {"none_weight", Reduction::none, true, 0}, {"none_weight_smoothing", Reduction::none, true, 0.1},
};

Labels random_labels(const Shape& shape, Index classes, std::uint64_t seed) {
  Labels labels(shape);
  RandomStream random(seed);
  for (std::int64_t& l : labels) l = random.below(classes);
  return labels;
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const ShapeError& e) {
    return e.what();
  }
  return "no ShapeError";
}

}  // namespace

TEST_CASE("cross_entropy equals PyTorch") {
  for (const CrossEntropyRow& row : cross_entropy_rows) {
    INFO(std::string(row.name));
    const std::string prefix = std::string("cross_entropy.") + row.name + ".";
    Tensor x = channels_last(Tensor(golden().at(prefix + "x")));
    x.requires_grad();
    CrossEntropyOptions options{.ignore_index = 255, .label_smoothing = row.smoothing, .reduction = row.reduction};
    if (row.weighted) options.class_weights = Tensor(golden().at(prefix + "weight"));
    const Tensor y = cross_entropy(x, Labels(golden().at(prefix + "labels")), options);
    const Tensor expected(golden().at(prefix + "y"));
    CHECK(y.shape() == expected.shape());
    CHECK(max_difference(y, expected) <= 1e-6 * max_abs(expected));
    backward(y, golden().at(prefix + "dy"));
    const Tensor dx = channels_last(Tensor(golden().at(prefix + "dx")));
    CHECK(max_difference(x.grad(), dx) <= 2e-6 * max_abs(dx));
  }
}

TEST_CASE("cross_entropy gradients") {
  for (const CrossEntropyRow& row : cross_entropy_rows) {
    for (const Index classes : {2, 3, 19}) {
      Labels labels = random_labels({2, 3}, classes, 5);
      labels[4] = -100;
      CrossEntropyOptions options{.label_smoothing = row.smoothing, .reduction = row.reduction};
      if (row.weighted) options.class_weights = random_tensor<float>({classes}, 8, 0.2, 2);
      const auto report =
          gradcheck("cross_entropy", [&](const auto& x) { return cross_entropy(x[0], labels, options); },
                    {{2, 3, classes}}, {.low = -3, .high = 3});
      CHECK_MESSAGE(report.ok(), std::string(row.name) << " " << classes << ": " << report.str());
    }
  }
}

TEST_CASE("cross_entropy of many rows gives the same bits for any number of threads") {
  Tensor x = random_tensor<float>({50, 60, 19}, 1, -4, 4);
  const Labels labels = random_labels({50, 60}, 19, 2);
  const auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    x.requires_grad();
    const Tensor y = cross_entropy(x, labels);
    backward(y);
    set_num_threads(before);
    return std::pair{y.item(), x.grad()};
  };
  const auto one = run(1), three = run(3);
  CHECK(one.first == three.first);
  CHECK(max_difference(one.second, three.second) == 0);
  double twin = 0;
  for (Index i = 0; i < 3000; ++i) {
    double total = 0;
    for (Index c = 0; c < 19; ++c) total += std::exp(static_cast<double>(x[i * 19 + c]));
    twin += std::log(total) - static_cast<double>(x[i * 19 + labels[i]]);
  }
  CHECK(std::abs(static_cast<double>(one.first) - twin / 3000) <= 1e-6 * twin / 3000);
}

TEST_CASE("labels that are all ignored: NaN, and a gradient of zeros") {
  Tensor x = random_tensor<float>({2, 3}, 1);
  x.requires_grad();
  const Tensor y = cross_entropy(x, Labels({2}, {-100, -100}));
  CHECK(std::isnan(y.item()));
  backward(y);
  CHECK(max_abs(x.grad()) == 0);
  CHECK(cross_entropy(x, Labels({2}, {-100, -100}), {.reduction = Reduction::sum}).item() == 0);
}

TEST_CASE("labels outside of the classes are named") {
  const Tensor x({2, 2, 3});
  CHECK(
      message_of([&] {
        cross_entropy(x, Labels({2, 2}, {0, 255, 3, 1}), {.ignore_index = 255});
      }) ==
      "cross_entropy: label 3 at index 2 lies outside of [0, 3) and is not ignore_index 255; "
      "got logits=(2, 2, 3), labels=(2, 2)");
  CHECK(message_of([&] {
          dice_loss(x, Labels({2, 2}, {0, -1, 3, 1}));
        }).find("dice_loss: label -1 at index 1 lies outside") == 0);
  CHECK(
      message_of([&] {
        cross_entropy(x, Labels({2, 3}));
      }) ==
      "cross_entropy: labels must have the shape of logits without the last axis; got logits=(2, 2, 3), labels=(2, 3)");
  CHECK(message_of([&] {
          cross_entropy(x, Labels({2, 2}), {.class_weights = Tensor({2})});
        }).find("class_weights must be (K)") != std::string::npos);
}

TEST_CASE("binary_cross_entropy_with_logits equals PyTorch") {
  for (const bool weighted : {false, true}) {
    const std::string prefix = std::string("binary_cross_entropy_with_logits.") + (weighted ? "pos_weight." : "plain.");
    Tensor x(golden().at(prefix + "x").copy());
    x.requires_grad();
    BinaryCrossEntropyOptions options;
    if (weighted) options.pos_weight = Tensor(golden().at(prefix + "pos_weight"));
    const Tensor y = binary_cross_entropy_with_logits(x, Tensor(golden().at(prefix + "target")), options);
    CHECK(max_difference(y, Tensor(golden().at(prefix + "y"))) <= 1e-6);
    backward(y, golden().at(prefix + "dy"));
    const Tensor dx(golden().at(prefix + "dx"));
    CHECK(max_difference(x.grad(), dx) <= 2e-6 * max_abs(dx));
  }
}

TEST_CASE("binary_cross_entropy gradients and weights") {
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    const BinaryCrossEntropyOptions options{.weight = random_tensor<float>({4, 3}, 3, 0, 2),
                                            .pos_weight = random_tensor<float>({3}, 4, 0.5, 3),
                                            .reduction = reduction};
    const auto report = gradcheck("binary_cross_entropy",
                                  [&](const auto& x) { return binary_cross_entropy_with_logits(x[0], x[1], options); },
                                  {{2, 4, 3}, {2, 4, 3}}, {.low = -2, .high = 2});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  // A weight of zero ignores, and extreme logits neither overflow nor lose the loss.
  const Tensor y =
      binary_cross_entropy_with_logits(Tensor({4}, {-200, 200, 200, 5}), Tensor({4}, {1, 0, 1, 1}),
                                       {.weight = Tensor({4}, {1, 1, 1, 0}), .reduction = Reduction::none});
  CHECK(max_difference(y, Tensor({4}, {200, 200, 0, 0})) <= 1e-5);
  CHECK(
      message_of([] {
        binary_cross_entropy_with_logits(Tensor({2, 3}), Tensor({2, 3}), {.pos_weight = Tensor({2})});
      }) ==
      "binary_cross_entropy: pos_weight must have the shape of the last axes of logits; "
      "got logits=(2, 3), target=(2, 3), pos_weight=(2)");
}

TEST_CASE("differences of numbers") {
  const Tensor x({4}, {1, -2, 3, 0.25f}), t({4}, {0, -2, 5, 0});
  CHECK(mse_loss(x, t).item() == doctest::Approx((1 + 0 + 4 + 0.0625) / 4));
  CHECK(l1_loss(x, t).item() == doctest::Approx((1 + 0 + 2 + 0.25) / 4));
  CHECK(max_difference(smooth_l1_loss(x, t, {.beta = 1, .reduction = Reduction::none}),
                       Tensor({4}, {0.5f, 0, 1.5f, 0.03125f})) <= 1e-7);
  CHECK(mse_loss(x, t, {.reduction = Reduction::sum}).item() == doctest::Approx(5.0625));
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    auto report = gradcheck("regression_loss mse", [&](const auto& v) { return mse_loss(v[0], v[1], {reduction}); },
                            {{3, 5}, {3, 5}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("regression_loss l1", [&](const auto& v) { return l1_loss(v[0], v[1], {reduction}); },
                       {{3, 5}, {3, 5}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("regression_loss smooth l1",
                       [&](const auto& v) {
                         return smooth_l1_loss(v[0], v[1], {0.5, reduction});
                       },
                       {{3, 5}, {3, 5}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  CHECK(message_of([] { mse_loss(Tensor({2}), Tensor({3})); }) ==
        "regression_loss: x and target must have the same shape; got x=(2), target=(3)");
}

TEST_CASE("dice_loss") {
  const Index classes = 4;
  const Double x = random_tensor<double>({2, 5, 3, classes}, 1, -2, 2);
  Labels labels = random_labels({2, 5, 3}, 3, 2);  // the last class is absent
  labels[7] = 255;
  const Tensor weights({classes}, {1, 2, 0.5f, 1});
  std::vector<double> hit(4), predicted(4), truth(4);
  for (Index i = 0; i < 30; ++i) {
    if (labels[i] == 255) continue;
    double total = 0;
    for (Index c = 0; c < classes; ++c) total += std::exp(x[i * classes + c]);
    for (Index c = 0; c < classes; ++c) {
      const double p = std::exp(x[i * classes + c]) / total;
      const std::size_t k = static_cast<std::size_t>(c);
      predicted[k] += p;
      hit[k] += labels[i] == c ? p : 0;
      truth[k] += labels[i] == c;
    }
  }
  double twin = 0;
  for (std::size_t c = 0; c < 4; ++c)
    twin += static_cast<double>(weights[static_cast<Index>(c)]) / 4.5 *
            (1 - (2 * hit[c] + 0.1) / (predicted[c] + truth[c] + 0.1));
  const DiceOptions options{.class_weights = weights, .ignore_index = 255, .smooth = 0.1};
  CHECK(dice_loss(x, labels, options).item() == doctest::Approx(twin).epsilon(1e-12));
  auto report = gradcheck("dice_loss", [&](const auto& v) { return dice_loss(v[0], labels, options); },
                          {{2, 5, 3, classes}}, {.low = -2, .high = 2});
  CHECK_MESSAGE(report.ok(), report.str());
  report = gradcheck("dice_loss without weights",
                     [&](const auto& v) { return dice_loss(v[0], labels, {.ignore_index = 255}); },
                     {{2, 5, 3, classes}}, {.low = -2, .high = 2});
  CHECK_MESSAGE(report.ok(), report.str());

  // A perfect prediction costs nothing.
  Tensor sure({6, 3});
  const Labels truth_of({6}, {0, 1, 2, 2, 1, 0});
  for (Index i = 0; i < 6; ++i) sure[i * 3 + truth_of[i]] = 50;
  CHECK(std::abs(dice_loss(sure, truth_of).item()) <= 1e-6f);
}

TEST_CASE("LossTerms reports and sums") {
  Tensor x = random_tensor<float>({6, 3}, 1);
  const Labels labels = random_labels({6}, 3, 4);
  x.requires_grad();
  LossTerms loss;
  loss.add("cross_entropy", cross_entropy(x, labels));
  loss.add("dice", dice_loss(x, labels), 2);
  const Tensor total = loss.total();
  CHECK(static_cast<double>(total.item()) ==
        doctest::Approx(loss.terms()[0].item() + 2 * loss.terms()[1].item()).epsilon(1e-6));
  backward(total);
  const Tensor both = x.grad();
  x.requires_grad();
  backward(cross_entropy(x, labels) + dice_loss(x, labels) * 2);
  CHECK(max_difference(both, x.grad()) == 0);
  CHECK_THROWS_WITH_AS(loss.add("dice", Tensor::scalar(1)), "LossTerms: \"dice\" is there already", UsageError);
  CHECK_THROWS_WITH_AS(loss.add("map", Tensor({2})), "LossTerms: \"map\" must be one number; got (2)", UsageError);
  CHECK_THROWS_AS(LossTerms().total(), UsageError);
}
