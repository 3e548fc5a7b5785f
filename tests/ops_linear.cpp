// linear and matmul: forward against a loop in double, gradients, error texts.
#include <doctest/doctest.h>

#include <ocellus/core/error.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

void check(const GradcheckReport& r) { CHECK_MESSAGE(r.ok(), r.str()); }

// x (rows, k), w (n, k) → (rows, n)
BasicTensor<double> twin(const BasicTensor<double>& x, const BasicTensor<double>& w, const BasicTensor<double>& b) {
  const Index rows = x.shape().rows(), k = w.dim(1), n = w.dim(0);
  Shape shape = x.shape();
  shape[-1] = n;
  BasicTensor<double> y(shape);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < n; ++j) {
      double sum = b ? b[j] : 0;
      for (Index t = 0; t < k; ++t) sum += x[i * k + t] * w[j * k + t];
      y[i * n + j] = sum;
    }
  }
  return y;
}

}  // namespace

TEST_CASE("linear") {
  for (const auto& [x, n] : {std::pair<Shape, Index>{{1, 1}, 1}, {{5, 7}, 17}, {{2, 3, 33}, 16}, {{4, 64}, 15}, {{37, 33}, 45}}) {
    const Shape w{n, x[-1]}, b{n};
    const auto exact = twin(random_tensor<double>(x, 1), random_tensor<double>(w, 2), random_tensor<double>(b, 3));
    const Tensor y = linear(random_tensor<float>(x, 1), random_tensor<float>(w, 2), random_tensor<float>(b, 3));
    CHECK(y.shape() == exact.shape());
    CHECK(max_difference(y, exact) <= 1e-5 * max_abs(exact));
  }
  check(gradcheck("linear", [](const auto& v) { return linear(v[0], v[1], v[2]); }, {{2, 3, 5}, {7, 5}, {7}}));
  check(gradcheck("linear without bias", [](const auto& v) { return linear(v[0], v[1]); }, {{3, 17}, {4, 17}}));
  check(gradcheck("linear, one row", [](const auto& v) { return linear(v[0], v[1], v[2]); }, {{1, 9}, {5, 9}, {5}}));
  CHECK_THROWS_WITH_AS(linear(Tensor({2, 4}), Tensor({3, 5})), "linear: last axis of x must equal in_features; got x=(2, 4), weight=(3, 5)", ShapeError);
  CHECK_THROWS_AS(linear(Tensor({2, 5}), Tensor({3, 5}), Tensor({4})), ShapeError);
  CHECK_THROWS_AS(linear(Tensor({2, 5}), Tensor({5})), ShapeError);
}

TEST_CASE("matmul") {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const MatmulOptions o{ta, tb};
      const Shape a = ta ? Shape{5, 4} : Shape{4, 5}, b = tb ? Shape{3, 5} : Shape{5, 3};
      check(gradcheck("matmul", [&](const auto& v) { return matmul(v[0], v[1], o); }, {a, b}));
      Shape batched_a{2, 3, a[0], a[1]}, batched_b{2, 3, b[0], b[1]};
      check(gradcheck("matmul, batched", [&](const auto& v) { return matmul(v[0], v[1], o); }, {batched_a, batched_b}));
      check(gradcheck("matmul, b shared", [&](const auto& v) { return matmul(v[0], v[1], o); }, {batched_a, b}));
      check(gradcheck("matmul, a shared", [&](const auto& v) { return matmul(v[0], v[1], o); }, {a, batched_b}));
    }
  }
  const Tensor y = matmul(Tensor({2, 2}, {1, 2, 3, 4}), Tensor({2, 1}, {5, 6}));
  CHECK(y[0] == 17);
  CHECK(y[1] == 39);
  CHECK_THROWS_WITH_AS(matmul(Tensor({2, 3}), Tensor({2, 3})), "matmul: inner sizes must be equal; got a=(2, 3), b=(2, 3)", ShapeError);
  CHECK_THROWS_AS(matmul(Tensor({2, 2, 3}), Tensor({3, 3, 4})), ShapeError);
}
