// Losses between two tensors of numbers: squared, absolute and smooth absolute difference, as torch.nn.functional
// defines them.
#pragma once

#include <ocellus/losses/reduction.hpp>

namespace ocellus {

struct RegressionOptions {
  Reduction reduction = Reduction::mean;  // mean: divided by the number of elements
};

// (x − target)². x and target have one shape; throws ShapeError.
template <class T>
BasicTensor<T> mse_loss(const BasicTensor<T>& x, const BasicTensor<T>& target, const RegressionOptions& options = {});
// |x − target|
template <class T>
BasicTensor<T> l1_loss(const BasicTensor<T>& x, const BasicTensor<T>& target, const RegressionOptions& options = {});

struct SmoothL1Options {
  double beta = 1;  // where the parabola meets the line; above 0
  Reduction reduction = Reduction::mean;
};
// d² / (2 beta) below beta, d − beta / 2 above, d = |x − target| (Girshick: Fast R-CNN, 2015)
template <class T>
BasicTensor<T> smooth_l1_loss(const BasicTensor<T>& x, const BasicTensor<T>& target,
                              const SmoothL1Options& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

namespace ocellus::op {

enum class Distance : std::uint8_t { squared, absolute, smooth };

// l = f(x − t), f(d) = d², |d| or the smooth |d|;  dx = f'(d) dl, dt = −dx
struct RegressionLoss {
  OCELLUS_OP("regression_loss(x, target)", distance, beta, reduction)
  Distance distance = Distance::squared;
  double beta = 1;
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape == r.in[1].shape, "x and target must have the same shape");
    r.require(distance != Distance::smooth || beta > 0, "beta must be above 0");
    return reduction == Reduction::none ? r.in[0].shape : Shape{};
  }

  template <class T>
  void forward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1];
    const Index n = r.in[0].shape.numel();
    reduce_loss<T>(reduction, n, scale(n), r.out[0], [&](Index i) { return value(x[i] - t[i]); });
  }

  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1], *dy = r.dout[0];
    T *dx = r.din[0], *dt = r.din[1];
    const Index n = r.in[0].shape.numel();
    const T s = static_cast<T>(scale(n));
    parallel_for(n, 8192, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T g = slope(x[i] - t[i]) * (reduction == Reduction::none ? dy[i] : dy[0] * s);
        if (dx) dx[i] = g;
        if (dt) dt[i] = -g;
      }
    });
  }

 private:
  double scale(Index n) const { return reduction == Reduction::mean ? 1 / static_cast<double>(n) : 1.0; }

  template <class T>
  T value(T d) const {
    const T b = static_cast<T>(beta);
    if (distance == Distance::squared) return d * d;
    const T a = std::abs(d);
    if (distance == Distance::absolute) return a;
    return a < b ? T(0.5) * d * d / b : a - T(0.5) * b;
  }
  template <class T>
  T slope(T d) const {
    const T b = static_cast<T>(beta);
    if (distance == Distance::squared) return 2 * d;
    if (distance == Distance::smooth && std::abs(d) < b) return d / b;
    return d > 0 ? T(1) : (d < 0 ? T(-1) : d);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> mse_loss(const BasicTensor<T>& x, const BasicTensor<T>& target, const RegressionOptions& options) {
  return call(op::RegressionLoss{op::Distance::squared, 1, options.reduction}, x, target);
}
OCELLUS_FLOATS(mse_loss)

template <class T>
BasicTensor<T> l1_loss(const BasicTensor<T>& x, const BasicTensor<T>& target, const RegressionOptions& options) {
  return call(op::RegressionLoss{op::Distance::absolute, 1, options.reduction}, x, target);
}
OCELLUS_FLOATS(l1_loss)

template <class T>
BasicTensor<T> smooth_l1_loss(const BasicTensor<T>& x, const BasicTensor<T>& target, const SmoothL1Options& options) {
  return call(op::RegressionLoss{op::Distance::smooth, options.beta, options.reduction}, x, target);
}
OCELLUS_FLOATS(smooth_l1_loss)

}  // namespace ocellus
#endif
