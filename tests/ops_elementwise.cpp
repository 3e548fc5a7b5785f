// Elementwise arithmetic: values against plain loops, gradients against central differences, broadcasting in every
// position.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

using Double = BasicTensor<double>;

// An op of two tensors, its scalar twin and its row in the gradient check.
struct BinaryRow {
  const char* name;
  Double (*f)(const Double&, const Double&);
  Tensor (*f32)(const Tensor&, const Tensor&);
  double (*twin)(double, double);
};

template <class T>
BasicTensor<T> plus(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return a + b;
}
template <class T>
BasicTensor<T> minus(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return a - b;
}
template <class T>
BasicTensor<T> times(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return a * b;
}
template <class T>
BasicTensor<T> over(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return a / b;
}

const BinaryRow binary_rows[] = {
    {"add", plus, plus, [](double a, double b) { return a + b; }},
    {"sub", minus, minus, [](double a, double b) { return a - b; }},
    {"mul", times, times, [](double a, double b) { return a * b; }},
    {"div", over, over, [](double a, double b) { return a / b; }},
};

struct BroadcastRow {
  Shape a, b, y;
};
const BroadcastRow broadcast_rows[] = {
    {{3, 5}, {3, 5}, {3, 5}},
    {{2, 3, 4}, {4}, {2, 3, 4}},
    {{4}, {2, 3, 4}, {2, 3, 4}},
    {{2, 1, 4}, {3, 1}, {2, 3, 4}},
    {{2, 3, 4, 2}, {2, 1, 1, 2}, {2, 3, 4, 2}},
    {{}, {2, 3}, {2, 3}},
    {{17}, {1}, {17}},
    {{1, 1}, {1}, {1, 1}},
};

// Element (…) of y reads this element of an operand of shape s.
Index source(const Shape& y, Index i, const Shape& s) {
  Index at = 0, stride = 1;
  for (int axis = 1; axis <= s.rank(); ++axis) {
    const Index here = i % y[-axis];
    i /= y[-axis];
    if (s[-axis] != 1) at += here * stride;
    stride *= s[-axis];
  }
  return at;
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

TEST_CASE("binary operators broadcast") {
  for (const BinaryRow& op : binary_rows) {
    for (const BroadcastRow& row : broadcast_rows) {
      INFO(std::string(op.name) << " " << row.a.str() << " " << row.b.str());
      const Double a = random_tensor<double>(row.a, 1, 0.5, 2), b = random_tensor<double>(row.b, 2, 0.5, 2);
      const Double y = op.f(a, b);
      CHECK(y.shape() == row.y);
      Double twin(row.y);
      for (Index i = 0; i < twin.numel(); ++i)
        twin[i] = op.twin(a[source(row.y, i, row.a)], b[source(row.y, i, row.b)]);
      CHECK(max_difference(y, twin) <= 1e-15);
      const auto report = gradcheck(op.name,
                                    [&](const auto& x) {
                                      if constexpr (std::is_same_v<std::decay_t<decltype(x[0])>, Double>) {
                                        return op.f(x[0], x[1]);
                                      } else {
                                        return op.f32(x[0], x[1]);
                                      }
                                    },
                                    {row.a, row.b}, {.low = 0.5, .high = 2});
      CHECK_MESSAGE(report.ok(), report.str());
    }
  }
}

TEST_CASE("gradcheck rows of the binary ops by name") {
  // One row per op struct where both inputs are the same tensor: the two gradients meet.
  auto report = gradcheck("add self", [](const auto& x) { return x[0] + x[0]; }, {{2, 3}});
  CHECK_MESSAGE(report.ok(), report.str());
  report = gradcheck("sub self", [](const auto& x) { return x[0] - x[0]; }, {{2, 3}});
  CHECK_MESSAGE(report.ok(), report.str());
  report = gradcheck("mul self", [](const auto& x) { return x[0] * x[0]; }, {{2, 3}});
  CHECK_MESSAGE(report.ok(), report.str());
  report = gradcheck("div self", [](const auto& x) { return x[0] / (x[0] * x[0]); }, {{2, 3}}, {.low = 0.5, .high = 2});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("shapes that do not broadcast are refused") {
  CHECK(message_of([] {
          add(Tensor({2, 3}), Tensor({2}));
        }) == "add: shapes must be equal or 1 on every axis, counted from the last; got a=(2, 3), b=(2)");
  CHECK(message_of([] { mul(Tensor({2, 3}), Tensor({3, 2})); }).find("mul: shapes must be equal or 1") == 0);
  CHECK(message_of([] { clamp(Tensor({2}), 1, 0); }) == "clamp: low must not exceed high; got x=(2)");
}

TEST_CASE("numbers on either side") {
  const Tensor x({4}, {-2, -0.5f, 1, 4});
  const auto check = [&](const Tensor& y, std::initializer_list<float> expected) {
    CHECK(max_difference(y, Tensor({4}, expected)) <= 1e-6);
  };
  check(x * 2.0f, {-4, -1, 2, 8});
  check(2 * x, {-4, -1, 2, 8});
  check(x + 1.0, {-1, 0.5f, 2, 5});
  check(1 + x, {-1, 0.5f, 2, 5});
  check(x - 1, {-3, -1.5f, 0, 3});
  check(1.0f - x, {3, 1.5f, 0, -3});
  check(x / 4, {-0.5f, -0.125f, 0.25f, 1});
  check(1 / x, {-0.5f, -2, 1, 0.25f});
  check(-x, {2, 0.5f, -1, -4});
  const auto report = gradcheck("affine", [](const auto& t) { return 3 - t[0] * 2.5; }, {{3, 7}});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("functions of one tensor") {
  struct Row {
    const char* name;
    Double (*f)(const Double&);
    Tensor (*f32)(const Tensor&);
    double (*twin)(double);
    double low, high;
  };
  const Row rows[] = {
      {"unary neg", neg, neg, [](double v) { return -v; }, -2, 2},
      {"unary exp", exp, exp, [](double v) { return std::exp(v); }, -3, 3},
      {"unary log", log, log, [](double v) { return std::log(v); }, 0.1, 3},
      {"unary sqrt", sqrt, sqrt, [](double v) { return std::sqrt(v); }, 0.1, 3},
      {"unary abs", abs, abs, [](double v) { return std::abs(v); }, -2, 2},
      {"unary square", square, square, [](double v) { return v * v; }, -2, 2},
      {"unary reciprocal", reciprocal, reciprocal, [](double v) { return 1 / v; }, 0.3, 2},
  };
  for (const Row& row : rows) {
    for (const Index n : {1, 7, 16, 33}) {
      INFO(std::string(row.name) << " " << n);
      const Double x = random_tensor<double>({n}, 5, row.low, row.high);
      Double twin({n});
      for (Index i = 0; i < n; ++i) twin[i] = row.twin(x[i]);
      CHECK(max_difference(row.f(x), twin) <= 1e-13);
      const auto report = gradcheck(row.name,
                                    [&](const auto& t) {
                                      if constexpr (std::is_same_v<std::decay_t<decltype(t[0])>, Double>) {
                                        return row.f(t[0]);
                                      } else {
                                        return row.f32(t[0]);
                                      }
                                    },
                                    {{n}}, {.low = row.low, .high = row.high});
      CHECK_MESSAGE(report.ok(), report.str());
    }
  }
  auto report = gradcheck("unary log of exp", [](const auto& t) { return log(exp(t[0])); }, {{5}});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("pow and clamp") {
  for (const double p : {-1.5, 0.0, 0.5, 1.0, 2.0, 3.0}) {
    const Double x = random_tensor<double>({3, 5}, 3, 0.2, 2);
    Double twin({3, 5});
    for (Index i = 0; i < 15; ++i) twin[i] = std::pow(x[i], p);
    CHECK(max_difference(pow(x, p), twin) <= 1e-14);
    const auto report =
        gradcheck("pow", [&](const auto& t) { return pow(t[0], p); }, {{3, 5}}, {.low = 0.2, .high = 2});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  const Tensor x({5}, {-2, -1, 0.25f, 1, NAN});
  const Tensor y = clamp(x, -1, 0.5);
  CHECK(y[0] == -1);
  CHECK(y[2] == 0.25f);
  CHECK(y[3] == 0.5f);
  CHECK(std::isnan(y[4]));
  const auto report = gradcheck("clamp", [](const auto& t) { return clamp(t[0], -0.4, 0.3); }, {{4, 9}});
  CHECK_MESSAGE(report.ok(), report.str());

  Tensor edge({2}, {-1, 0.5f});  // at the limits the gradient passes, as in PyTorch
  edge.requires_grad();
  backward(clamp(edge, -1, 0.5), Tensor({2}, {3, 4}));
  CHECK(max_difference(edge.grad(), Tensor({2}, {3, 4})) == 0);
}

TEST_CASE("empty tensors pass through") {
  CHECK((Tensor({0, 3}) + Tensor({3})).shape() == Shape{0, 3});
  CHECK(exp(Tensor({2, 0})).numel() == 0);
}
