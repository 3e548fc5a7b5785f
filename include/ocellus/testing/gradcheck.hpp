// gradcheck: does the gradient that an op or a model computes agree with central differences, does float agree with double, and do
// one and several threads give the same bits? Shipped, so that users can check their own ops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus {

struct GradcheckOptions {
  double low = -1, high = 1;       // inputs are uniform in [low, high)
  double step = 1e-6;              // of the central difference, in double
  double tolerance = 1e-7;         // |difference − gradient| ≤ tolerance · max(1, largest gradient of that input)
  double float_tolerance = 1e-5;   // float against double, of the largest value of that tensor
  bool training = false;           // under a Training guard with a fixed seed
  std::uint64_t seed = 1;
};

struct GradcheckReport {
  std::vector<std::string> failures;  // one line per tensor that is off
  double worst_difference = 0;        // relative, over all inputs, against central differences
  double worst_float = 0;             // relative, over outputs and gradients, float against double

  bool ok() const { return failures.empty(); }
  std::string str() const {
    std::string s;
    for (const std::string& f : failures) s += f + "\n";
    return s;
  }
};

// Uniform in [low, high), the same on every platform.
template <class T>
BasicTensor<T> random_tensor(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) {
  BasicTensor<T> t(shape);
  const RandomKey key{seed, 0, 0};
  // Rounded to float first, so that float and double tests see the same numbers.
  for (Index i = 0; i < t.numel(); ++i) t[i] = static_cast<T>(static_cast<float>(low + (high - low) * key.uniform(i)));
  return t;
}

namespace testing_detail {
// The larger one; NaN if either is.
inline double worse(double a, double b) { return std::isnan(a) || !(b > a || std::isnan(b)) ? a : b; }
}  // namespace testing_detail

// Largest |a − b|; NaN if any is.
template <class T, class U>
double max_difference(const BasicTensor<T>& a, const BasicTensor<U>& b) {
  double worst = 0;
  for (Index i = 0; i < a.numel(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = testing_detail::worse(worst, d);
  }
  return worst;
}
template <class T>
double max_abs(const BasicTensor<T>& a) {
  double worst = 0;
  for (Index i = 0; i < a.numel(); ++i) {
    worst = testing_detail::worse(worst, std::abs(static_cast<double>(a[i])));
  }
  return worst;
}

namespace testing_detail {

template <class T>
struct Evaluated {
  BasicTensor<T> y;
  std::vector<BasicTensor<T>> gradients;
};

template <class T, class F>
BasicTensor<T> value_of(F& f, const std::vector<BasicTensor<T>>& inputs, const GradcheckOptions& o) {
  std::optional<Training> training;
  if (o.training) training.emplace(o.seed, 3u);
  return f(inputs);
}

// f and the gradient of ⟨f(x), r⟩ for a fixed random r, for all inputs or one.
template <class T, class F>
Evaluated<T> evaluate(F& f, const std::vector<Shape>& shapes, const GradcheckOptions& o, std::optional<std::size_t> only = {}) {
  std::vector<BasicTensor<T>> x;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    x.push_back(random_tensor<T>(shapes[i], o.seed + i, o.low, o.high));
    if (!only || *only == i) x.back().requires_grad();
  }
  Evaluated<T> e;
  e.y = value_of<T>(f, x, o);
  backward(e.y, random_tensor<T>(e.y.shape(), o.seed + 1000));
  for (const BasicTensor<T>& t : x) e.gradients.push_back(t.grad() ? t.grad() : BasicTensor<T>(t.shape()));
  return e;
}

template <class F>
double probe(F& f, const std::vector<BasicTensor<double>>& x, const GradcheckOptions& o) {
  const NoGrad no_grad;
  const BasicTensor<double> y = value_of<double>(f, x, o);
  const BasicTensor<double> r = random_tensor<double>(y.shape(), o.seed + 1000);
  double sum = 0;
  for (Index i = 0; i < y.numel(); ++i) sum += y[i] * r[i];
  return sum;
}

}  // namespace testing_detail

// Checks f, a generic function of a std::vector<BasicTensor<T>> (T = double and float) that returns one tensor, on random inputs of
// these shapes. Keep them small: every element is perturbed twice.
template <class F>
GradcheckReport gradcheck(const std::string& name, F f, const std::vector<Shape>& shapes, const GradcheckOptions& o = {}) {
  namespace d = testing_detail;
  GradcheckReport report;
  const auto fail = [&](const std::string& what, double worst, double bound) {
    report.failures.push_back(name + ": " + what + " is off by " + std::to_string(worst / bound) + " times the bound " + std::to_string(bound));
  };

  const d::Evaluated<double> exact = d::evaluate<double>(f, shapes, o);
  std::vector<BasicTensor<double>> x;
  for (std::size_t i = 0; i < shapes.size(); ++i) x.push_back(random_tensor<double>(shapes[i], o.seed + i, o.low, o.high));
  for (std::size_t i = 0; i < x.size(); ++i) {
    double worst = 0;
    for (Index j = 0; j < x[i].numel(); ++j) {
      const double held = x[i][j];
      x[i][j] = held + o.step;
      const double above = d::probe(f, x, o);
      x[i][j] = held - o.step;
      const double below = d::probe(f, x, o);
      x[i][j] = held;
      worst = d::worse(worst, std::abs((above - below) / (2 * o.step) - exact.gradients[i][j]));
    }
    const double scale = std::max(1.0, max_abs(exact.gradients[i]));
    report.worst_difference = std::max(report.worst_difference, worst / scale);
    if (!(worst <= o.tolerance * scale)) fail("gradient of input " + std::to_string(i) + " against central differences", worst, o.tolerance * scale);
  }

  const int threads = num_threads();
  set_num_threads(1);
  const d::Evaluated<float> one = d::evaluate<float>(f, shapes, o);
  set_num_threads(3);
  const d::Evaluated<float> three = d::evaluate<float>(f, shapes, o);
  set_num_threads(threads);
  const auto compare = [&](const std::string& what, const Tensor& a, const Tensor& b, const BasicTensor<double>& reference) {
    const double scale = std::max(1e-3, max_abs(reference));
    const double worst = max_difference(a, reference);
    report.worst_float = std::max(report.worst_float, worst / scale);
    if (!(worst <= o.float_tolerance * scale)) fail(what + " in float", worst, o.float_tolerance * scale);
    const bool same = std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0;
    if (!same) report.failures.push_back(name + ": " + what + " differs between 1 and 3 threads");
  };
  compare("the output", one.y, three.y, exact.y);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::string gradient = "the gradient of input " + std::to_string(i);
    compare(gradient, one.gradients[i], three.gradients[i], exact.gradients[i]);
    if (shapes.size() == 1 || max_abs(exact.gradients[i]) == 0) continue;
    const Tensor alone = d::evaluate<float>(f, shapes, o, i).gradients[i];
    compare(gradient + ", the only one that is wanted,", alone, alone, exact.gradients[i]);
  }
  return report;
}

}  // namespace ocellus
