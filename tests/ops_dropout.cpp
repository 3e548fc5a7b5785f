// Dropout and stochastic depth: identity outside of training, probabilities, reproducibility, gradients through the
// same mask.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/dropout.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

bool same(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("identity outside of training and for p = 0") {
  const Tensor x = random_tensor<float>({3, 5}, 1);
  CHECK(dropout(x, 0.5).data() == x.data());
  CHECK(stochastic_depth(x, 0.5).data() == x.data());
  const Training training(1);
  CHECK(dropout(x, 0).data() == x.data());
  CHECK(context().random.stream == 0);
  const Evaluation evaluation;
  CHECK(dropout(x, 0.5).data() == x.data());
}

TEST_CASE("dropout keeps 1 - p of the elements and their mean") {
  const Tensor x = Tensor::full({100003}, 1);
  const Training training(7);
  for (const double p : {0.1, 0.5, 0.9}) {
    const Tensor y = dropout(x, p);
    Index zeros = 0;
    const float scaled = static_cast<float>(1 / (1 - p));
    Index others = 0;
    for (const float v : y) {
      zeros += v == 0;
      others += v != 0 && v != scaled;
    }
    CHECK(others == 0);
    const double deviation = std::sqrt(p * (1 - p) / 100003);
    CHECK(std::abs(static_cast<double>(zeros) / 100003 - p) <= 4 * deviation);
  }
  CHECK(max_abs(dropout(x, 1)) == 0);
}

TEST_CASE("stochastic depth drops whole samples") {
  const Tensor x = Tensor::full({2000, 3, 2}, 1);
  const Training training(3);
  const Tensor y = stochastic_depth(x, 0.25);
  Index dropped = 0, mixed = 0;
  for (Index n = 0; n < 2000; ++n) {
    dropped += y[n * 6] == 0;
    for (Index i = 1; i < 6; ++i) mixed += y[n * 6 + i] != y[n * 6];
  }
  CHECK(mixed == 0);
  CHECK(std::abs(static_cast<double>(dropped) / 2000 - 0.25) <= 0.04);
}

TEST_CASE("the mask is a function of seed, step, stream and element") {
  const Tensor x = Tensor::full({4099}, 1);
  const auto draw = [&](std::uint64_t seed, std::uint32_t step, int skip) {
    const Training training(seed, step);
    Tensor y;
    for (int i = 0; i <= skip; ++i) y = dropout(x, 0.5);
    return y;
  };
  CHECK(same(draw(1, 2, 0), draw(1, 2, 0)));
  CHECK_FALSE(same(draw(1, 2, 0), draw(2, 2, 0)));
  CHECK_FALSE(same(draw(1, 2, 0), draw(1, 3, 0)));
  CHECK_FALSE(same(draw(1, 2, 0), draw(1, 2, 1)));
  // A longer tensor begins with the same elements.
  const Training training(1, 2);
  const Tensor longer = dropout(Tensor::full({5000}, 1), 0.5);
  CHECK(std::memcmp(longer.data(), draw(1, 2, 0).data(), 4099 * sizeof(float)) == 0);
}

TEST_CASE("gradients use the mask of the forward pass, after the guard has ended too") {
  for (const double p : {0.3, 0.7}) {
    auto report = gradcheck("dropout", [&](const auto& x) { return dropout(x[0], p); }, {{3, 7}}, {.training = true});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("stochastic_depth", [&](const auto& x) { return stochastic_depth(x[0], p); }, {{5, 2, 3}},
                       {.training = true});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  Tensor x = Tensor::full({257}, 1);
  x.requires_grad();
  Tensor y;
  {
    const Training training(5, 9);
    y = dropout(x, 0.5);
  }
  backward(y, Tensor::full({257}, 1));
  CHECK(same(x.grad(), y));
}

TEST_CASE("the probability is checked") {
  const Training training;
  CHECK_THROWS_WITH_AS(dropout(Tensor({2}), 1.5), "dropout: the probability must lie in [0, 1]; got x=(2)", ShapeError);
  CHECK_THROWS_WITH_AS(stochastic_depth(Tensor({2}), -1),
                       "stochastic_depth: the probability must lie in [0, 1]; got x=(2)", ShapeError);
}
