// The door, records, guards, backward and its errors; the harness itself.
#include <string>

#include <doctest/doctest.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/autograd/graph.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/nn/module.hpp>
#include <ocellus/ops.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

TEST_CASE("add") {
  const auto sum = [](const auto& v) { return v[0] + v[1]; };
  for (const auto& shapes : {std::vector<Shape>{{2, 3, 4}, {2, 3, 4}}, {{2, 3, 4}, {3, 1}}, {{4}, {2, 1, 4}}, {{}, {3}}, {{5, 1}, {1, 7}}}) {
    const GradcheckReport r = gradcheck("add", sum, shapes);
    CHECK_MESSAGE(r.ok(), r.str());
  }
  CHECK_THROWS_WITH_AS(Tensor({2, 3}) + Tensor({4}), "add: shapes must be equal or 1 on every axis, counted from the last; got a=(2, 3), b=(4)", ShapeError);
}

TEST_CASE("gradients add up where a value is used twice, and through reshaped edges") {
  const GradcheckReport shared = gradcheck("shared", [](const auto& v) { return v[0] * v[0] + v[0]; }, {{5}});
  CHECK_MESSAGE(shared.ok(), shared.str());
  const GradcheckReport reshaped = gradcheck(
      "reshaped", [](const auto& v) { return linear(reshape(v[0], {6, 4}), reshape(v[1], {3, 4}), v[2]); }, {{2, 3, 4}, {12}, {3}});
  CHECK_MESSAGE(reshaped.ok(), reshaped.str());
}

TEST_CASE("leaves accumulate, histories are used once, modified tensors are noticed") {
  Tensor x({2}, {1, 2});
  x.requires_grad();
  backward(sum(x * x));
  backward(sum(x * x));
  CHECK(x.grad()[1] == 8);

  const Tensor y = sum(x * x);
  backward(y);
  CHECK_THROWS_WITH_AS(backward(y), "backward: the history of sum was already used by an earlier backward()", UsageError);
  CHECK_THROWS_WITH_AS(backward(Tensor::scalar(1)), "backward: nothing was recorded (NoGrad, or no input requires a gradient)", UsageError);
  CHECK_THROWS_AS(backward(x * x), UsageError);

  const Tensor z = sum(x * x);
  x.storage()->bump_version();
  CHECK_THROWS_WITH_AS(backward(z), "backward: a tensor that mul saved was modified in place since; run backward() before the optimizer's step",
                       UsageError);
}

TEST_CASE("NoGrad records nothing; guards nest") {
  Tensor x({1}, {3});
  x.requires_grad();
  {
    const NoGrad off;
    CHECK_FALSE((x * x).record());
  }
  CHECK((x * x).record());
  CHECK_FALSE(context().training);
  {
    const Training on(5, 2);
    CHECK(context().training);
    CHECK(context().random.seed == 5);
    {
      const Evaluation off;
      CHECK_FALSE(context().training);
    }
    CHECK(context().training);
  }
  CHECK_FALSE(context().training);
}

TEST_CASE("a million recorded calls are released and differentiated without recursion") {
  Tensor x({1}, {0});
  x.requires_grad();
  const Tensor one({1}, {1});
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = y + one;
  backward(y);
  CHECK(x.grad().item() == 1);
  y = x;
  for (int i = 0; i < 1000000; ++i) y = y + one;
  y = Tensor();
}

// An op whose gradient is wrong on purpose: the harness must see it.
namespace {
struct WrongSquare {
  OCELLUS_OP("wrong_square(x)")
  static constexpr unsigned keeps = input(0);
  Shape infer(const Run& r) const { return r.in[0].shape; }
  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    for (Index i = 0; i < r.out[0].shape.numel(); ++i) y[i] = x[i] * x[i];
  }
  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *dy = r.dout[0];
    T* dx = r.din[0];
    for (Index i = 0; i < r.din[0].shape.numel(); ++i) dx[i] = T(2.00001) * x[i] * dy[i];
  }
};
struct Forgetful : WrongSquare {
  OCELLUS_OP("forgetful(x)")
  static constexpr unsigned keeps = 0;
};
struct Step {
  OCELLUS_OP("step(x)")
  static constexpr bool not_differentiable = true;
  Shape infer(const Run& r) const { return r.in[0].shape; }
  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    for (Index i = 0; i < r.out[0].shape.numel(); ++i) y[i] = x[i] > 0 ? T(1) : T(0);
  }
};
}  // namespace

TEST_CASE("the harness notices a wrong gradient") {
  const GradcheckReport r = gradcheck("wrong", [](const auto& v) { return call(WrongSquare{}, v[0]); }, {{7}});
  CHECK_FALSE(r.ok());
  CHECK(r.worst_difference > 1e-6);
}

TEST_CASE("backward may only read what it declared, and an op without gradient says so by name") {
  Tensor x({2}, {1, 2});
  x.requires_grad();
  CHECK_THROWS_AS(backward(call(Forgetful{}, x), Tensor({2}, {1, 1})), UsageError);
  CHECK_THROWS_WITH_AS(backward(call(Step{}, x), Tensor({2}, {1, 1})), "backward: step is not differentiable", UsageError);
}

namespace {
struct Inner : Module<Inner> {
  Parameter weight{Shape{3, 5}};
  Tensor forward(const Tensor& x) const { return linear<float>(x, weight); }
  OCELLUS_MODULE(Inner, weight)
};
struct Outer : Module<Outer> {
  std::vector<Inner> layers{2};
  Tensor forward(const Tensor& x) const { return layers[1](x); }
  OCELLUS_MODULE(Outer, layers)
};
}  // namespace

TEST_CASE("errors carry the module's path") {
  const Outer outer;
  CHECK_THROWS_WITH_AS(outer(Tensor({2, 4})), "layers.1 | linear: last axis of x must equal in_features; got x=(2, 4), weight=(3, 5)", ShapeError);
}

TEST_CASE("the harness forgets no NaN") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(max_difference(Tensor({3}, {static_cast<float>(nan), 0, 0}), Tensor({3}, {1, 0, 0}))));
  CHECK(std::isnan(max_difference(Tensor({3}, {0, 0, 0}), Tensor({3}, {0, static_cast<float>(nan), 5}))));
  CHECK(std::isnan(max_abs(Tensor({2}, {static_cast<float>(nan), 7}))));
}

TEST_CASE("asking a value that has a history for its gradient changes nothing") {
  Tensor x({1}, {3});
  x.requires_grad();
  Tensor y = x * x;
  y.requires_grad();
  backward(y);
  CHECK(x.grad()[0] == 6);
}
