// Reductions: values against plain loops for every set of axes, ties, NaN, gradients, errors.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/reduce.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

using Double = BasicTensor<double>;

// Reduction by walking every element; start and step define it.
Double twin(const Double& x, const std::vector<int>& axes, bool keep, double start, double (*step)(double, double)) {
  Shape kept = x.shape(), y = {};
  for (int i = 0; i < x.rank(); ++i) {
    bool reduced = axes.empty();
    for (const int a : axes) reduced |= (a < 0 ? a + x.rank() : a) == i;
    if (reduced) kept[i] = 1;
    if (!reduced || keep) y.push_back(kept[i]);
  }
  Double out = Double::full(y, start);
  for (Index i = 0; i < x.numel(); ++i) {
    Index rest = i, at = 0, stride = 1;
    for (int axis = x.rank() - 1; axis >= 0; --axis) {
      if (kept[axis] != 1) at += rest % x.dim(axis) * stride;
      rest /= x.dim(axis);
      stride *= kept[axis];
    }
    out[at] = step(out[at], x[i]);
  }
  return out;
}

const std::vector<int> axis_sets[] = {{}, {0}, {1}, {-1}, {0, 1}, {0, 2}, {-2, -1}, {1, 3}, {0, 1, 2, 3}};

}  // namespace

TEST_CASE("sum, mean, max and min over axes") {
  const Double x = random_tensor<double>({2, 3, 5, 4}, 9);
  for (const std::vector<int>& axes : axis_sets) {
    for (const bool keep : {false, true}) {
      const ReduceOptions o{.axes = axes, .keep_axes = keep};
      const Double s = twin(x, axes, keep, 0, [](double a, double b) { return a + b; });
      CHECK(sum(x, o).shape() == s.shape());
      CHECK(max_difference(sum(x, o), s) <= 1e-14);
      const double count = static_cast<double>(x.numel()) / static_cast<double>(s.numel());
      Double m = s.clone();
      for (double& v : m) v /= count;
      CHECK(max_difference(mean(x, o), m) <= 1e-15);
      CHECK(max_difference(max(x, o), twin(x, axes, keep, -9, [](double a, double b) { return a > b ? a : b; })) == 0);
      CHECK(max_difference(min(x, o), twin(x, axes, keep, 9, [](double a, double b) { return a < b ? a : b; })) == 0);
    }
  }
  CHECK(mean(Double({1, 1, 1}), {.axes = {0}}).shape() == Shape{1, 1});
}

TEST_CASE("gradients") {
  for (const std::vector<int>& axes : axis_sets) {
    auto report = gradcheck("sum", [&](const auto& x) { return sum(x[0], {.axes = axes}); }, {{2, 3, 4, 2}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("sum mean", [&](const auto& x) { return mean(x[0], {.axes = axes, .keep_axes = true}); },
                       {{2, 3, 4, 2}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("extreme max", [&](const auto& x) { return max(x[0], {.axes = axes}); }, {{2, 3, 4, 2}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("extreme min", [&](const auto& x) { return min(x[0], {.axes = axes, .keep_axes = true}); },
                       {{2, 3, 4, 2}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("a long sum stays exact and does not depend on threads") {
  const Tensor x = random_tensor<float>({1000, 301}, 4, 0, 1);
  double exact = 0;
  for (const float v : x) exact += static_cast<double>(v);
  CHECK(std::abs(static_cast<double>(sum(x).item()) - exact) <= 1e-7 * exact);
  const int threads = num_threads();
  set_num_threads(1);
  const Tensor one = sum(x, {.axes = {0}});
  set_num_threads(3);
  const Tensor three = sum(x, {.axes = {0}});
  set_num_threads(threads);
  CHECK(max_difference(one, three) == 0);
}

TEST_CASE("the first of several equal extremes gets the gradient") {
  Tensor x({2, 4}, {1, 3, 3, 2, 5, 5, 0, 5});
  x.requires_grad();
  backward(max(x, {.axes = {1}}), Tensor({2}, {10, 20}));
  CHECK(max_difference(x.grad(), Tensor({2, 4}, {0, 10, 0, 0, 20, 0, 0, 0})) == 0);
}

TEST_CASE("NaN wins extremes") {
  const Tensor x({3}, {1, NAN, 7});
  CHECK(std::isnan(max(x).item()));
  CHECK(std::isnan(min(x).item()));
  CHECK(argmax(x).item() == 1);
}

TEST_CASE("argmax") {
  const Tensor x({2, 2, 3}, {1, 5, 5, -1, -2, -3, 0, 0, 0, 2, 1, 4});
  const auto last = argmax(x);
  CHECK(last.shape() == Shape{2, 2});
  CHECK(max_difference(last, BasicTensor<std::int64_t>({2, 2}, {1, 0, 0, 2})) == 0);
  const auto first = argmax(x, 0);
  CHECK(first.shape() == Shape{2, 3});
  CHECK(max_difference(first, BasicTensor<std::int64_t>({2, 3}, {0, 0, 0, 1, 1, 1})) == 0);
}

TEST_CASE("axes that do not exist are refused") {
  const char* twice = "sum: an axis is named twice or lies outside of [-rank, rank); got x=(2, 3)";
  CHECK_THROWS_WITH_AS(sum(Tensor({2, 3}), {.axes = {2}}), twice, ShapeError);
  CHECK_THROWS_WITH_AS(sum(Tensor({2, 3}), {.axes = {1, -1}}), twice, ShapeError);
  CHECK_THROWS_WITH_AS(max(Tensor({0, 3})), "extreme: an empty tensor has no extreme; got x=(0, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(argmax(Tensor({2, 3}), 2), "argmax: the axis must exist; got x=(2, 3)", ShapeError);
  CHECK(sum(Tensor({0, 3})).item() == 0);
  CHECK(std::isnan(mean(Tensor({0, 3})).item()));
}
