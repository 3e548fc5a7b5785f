// Softmax and log-softmax: values against plain loops at odd widths, large inputs, gradients.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/softmax.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

BasicTensor<double> twin(const Tensor& x, bool log) {
  BasicTensor<double> y(x.shape());
  const Index n = x.dim(-1);
  for (Index r = 0; r < x.shape().rows(); ++r) {
    double top = -HUGE_VAL, total = 0;
    for (Index i = 0; i < n; ++i) top = std::max(top, static_cast<double>(x[r * n + i]));
    for (Index i = 0; i < n; ++i) total += std::exp(static_cast<double>(x[r * n + i]) - top);
    for (Index i = 0; i < n; ++i) {
      const double shifted = static_cast<double>(x[r * n + i]) - top;
      y[r * n + i] = log ? shifted - std::log(total) : std::exp(shifted) / total;
    }
  }
  return y;
}

}  // namespace

TEST_CASE("values at odd widths") {
  for (const Index n : {1, 2, 7, 15, 16, 17, 33, 150}) {
    const Tensor x = random_tensor<float>({3, 2, n}, static_cast<std::uint64_t>(n), -20, 20);
    CHECK(max_difference(softmax(x), twin(x, false)) <= 1e-6);
    CHECK(max_difference(log_softmax(x), twin(x, true)) <= 1e-5);
  }
}

TEST_CASE("large inputs neither overflow nor lose the small ones") {
  const Tensor x({1, 3}, {1000, 999, -1000});
  CHECK(max_difference(softmax(x), twin(x, false)) <= 1e-6);
  CHECK(max_difference(log_softmax(x), twin(x, true)) <= 1e-3);
}

TEST_CASE("gradients") {
  for (const Index n : {1, 3, 16, 19}) {
    auto report =
        gradcheck("softmax", [](const auto& x) { return softmax(x[0]); }, {{2, 3, n}}, {.low = -3, .high = 3});
    CHECK_MESSAGE(report.ok(), report.str());
    report =
        gradcheck("softmax log", [](const auto& x) { return log_softmax(x[0]); }, {{2, 3, n}}, {.low = -3, .high = 3});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("a scalar has no last axis") {
  CHECK_THROWS_WITH_AS(softmax(Tensor::scalar(1)), "softmax: x must have at least one axis; got x=()", ShapeError);
}
