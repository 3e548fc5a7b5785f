// Normalisation over channels-last tensors: layer norm, group and instance norm, batch norm.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// (x − μ) / √(σ² + ε) · weight + bias over the last axis of (..., C); weight and bias (C).
template <class T>
BasicTensor<T> layer_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias, double eps = 1e-5);

// The same over the pixels and channels of each group of one picture, x (N, ..., C); groups = C is instance norm.
template <class T>
BasicTensor<T> group_norm(const BasicTensor<T>& x, Index groups, const BasicTensor<T>& weight, const BasicTensor<T>& bias, double eps = 1e-5);

struct BatchNormOptions {
  double momentum = 0.1;  // of the newest batch in the running statistics
  double eps = 1e-5;
};

// The same per channel over all other axes. Under a Training guard by the batch's statistics, which also move running_mean and
// running_var (unbiased) and count in num_batches_tracked (one element, may be empty); otherwise by the running statistics.
template <class T>
BasicTensor<T> batch_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias, const BasicTensor<T>& running_mean,
                          const BasicTensor<T>& running_var, const BasicTensor<T>& num_batches_tracked = {}, const BatchNormOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

// x̂ = (x − μ)/σ, y = γ x̂ + β;  dx = (γ dy − mean(γ dy) − x̂ mean(γ dy x̂))/σ, dγ = Σ dy x̂, dβ = Σ dy
struct LayerNorm {
  OCELLUS_OP("layer_norm(x, weight, bias)", eps)
  double eps = 1e-5;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 1 && r.in[1].shape == Shape{x[-1]} && r.in[2].shape == Shape{x[-1]}, "weight and bias must be (C), the last axis of x");
    return x;
  }
  std::vector<Shape> aux(const Run& r) const { return {{r.in[0].shape.rows()}, {r.in[0].shape.rows()}}; }

  template <class T>
  void forward(const Run& r) const {
    kernels::LayerNorm<T> n;
    n.rows = r.in[0].shape.rows(), n.channels = r.in[0].shape[-1];
    n.x = r.in[0], n.weight = r.in[1], n.bias = r.in[2];
    n.y = r.out[0], n.mean = r.aux[0], n.rstd = r.aux[1];
    n.eps = static_cast<T>(eps);
    kernels::table<T>().layer_norm(n);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::LayerNormBackward<T> n;
    n.rows = r.in[0].shape.rows(), n.channels = r.in[0].shape[-1];
    n.x = r.in[0], n.weight = r.in[1], n.mean = r.aux[0], n.rstd = r.aux[1];
    n.dy = r.dout[0], n.dx = r.din[0], n.dweight = r.din[1], n.dbias = r.din[2];
    kernels::table<T>().layer_norm_backward(n);
  }
};

// As layer norm, over (pixels, channels of a group) of each picture.
struct GroupNorm {
  OCELLUS_OP("group_norm(x, weight, bias)", groups, eps)
  Index groups = 1;
  double eps = 1e-5;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 2 && r.in[1].shape == Shape{x[-1]} && r.in[2].shape == Shape{x[-1]}, "weight and bias must be (C), the last axis of x");
    r.require(groups > 0 && x[-1] % groups == 0, "groups must divide the channels");
    return x;
  }
  std::vector<Shape> aux(const Run& r) const { return {{r.in[0].shape[0], groups}, {r.in[0].shape[0], groups}}; }

  template <class T>
  void forward(const Run& r) const {
    Scratch frame;
    kernels::GroupNorm<T> n;
    const Shape& x = r.in[0].shape;
    n.outer = x[0], n.channels = x[-1], n.groups = groups, n.pixels = x.rows() / std::max<Index>(x[0], 1);
    n.x = r.in[0], n.weight = r.in[1], n.bias = r.in[2], n.y = r.out[0];
    n.mean = r.aux[0], n.rstd = r.aux[1];
    if (!n.mean) n.mean = frame.take<T>(x[0] * groups), n.rstd = frame.take<T>(x[0] * groups);
    n.eps = static_cast<T>(eps);
    kernels::table<T>().group_norm_statistics(n);
    kernels::table<T>().group_norm_apply(n);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::GroupNormBackward<T> n;
    const Shape& x = r.in[0].shape;
    n.outer = x[0], n.channels = x[-1], n.groups = groups, n.pixels = x.rows() / std::max<Index>(x[0], 1);
    n.x = r.in[0], n.weight = r.in[1], n.mean = r.aux[0], n.rstd = r.aux[1];
    n.dy = r.dout[0], n.dx = r.din[0], n.dweight = r.din[1], n.dbias = r.din[2];
    kernels::table<T>().group_norm_backward(n);
  }
};

// As layer norm, per channel over all other axes; outside of training μ and σ are constants: dx = γ dy / σ
struct BatchNorm {
  OCELLUS_OP("batch_norm(x, weight, bias, running_mean, running_var, num_batches_tracked)", momentum, eps, training)
  double momentum = 0.1, eps = 1e-5;
  bool training = false;
  static constexpr unsigned keeps = input(0) | input(1);

  unsigned mutates() const { return training ? input(3) | input(4) | input(5) : 0u; }

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 2, "x must have channels and at least one other axis");
    for (std::size_t i = 1; i < 5; ++i) r.require(r.in[i].shape == Shape{x[-1]}, "weight, bias and running statistics must be (C), the last axis of x");
    r.require(!training || x.rows() > 1, "training needs more than one value per channel");
    return x;
  }
  std::vector<Shape> aux(const Run& r) const { return {{r.in[0].shape[-1]}, {r.in[0].shape[-1]}}; }

  template <class T>
  void forward(const Run& r) const {
    Scratch frame;
    const Index channels = r.in[0].shape[-1], rows = r.in[0].shape.rows();
    kernels::GroupNorm<T> n;
    n.outer = 1, n.pixels = rows, n.channels = n.groups = channels;
    n.x = r.in[0], n.weight = r.in[1], n.bias = r.in[2], n.y = r.out[0];
    n.mean = r.aux[0], n.rstd = r.aux[1];
    if (!n.mean) n.mean = frame.take<T>(channels), n.rstd = frame.take<T>(channels);
    n.eps = static_cast<T>(eps);
    T *running_mean = r.in[3], *running_var = r.in[4], *batches = r.in[5];
    if (training) {
      kernels::table<T>().group_norm_statistics(n);
      const T unbias = static_cast<T>(static_cast<double>(rows) / static_cast<double>(rows - 1)), m = static_cast<T>(momentum);
      for (Index c = 0; c < channels; ++c) {
        const T variance = T(1) / (n.rstd[c] * n.rstd[c]) - n.eps;
        running_mean[c] += m * (n.mean[c] - running_mean[c]);
        running_var[c] += m * (std::max(variance, T(0)) * unbias - running_var[c]);
      }
      if (batches) *batches += T(1);
    } else {
      for (Index c = 0; c < channels; ++c) {
        n.mean[c] = running_mean[c];
        n.rstd[c] = T(1) / std::sqrt(running_var[c] + n.eps);
      }
    }
    kernels::table<T>().group_norm_apply(n);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::GroupNormBackward<T> n;
    n.outer = 1, n.pixels = r.in[0].shape.rows(), n.channels = n.groups = r.in[0].shape[-1];
    n.x = r.in[0], n.weight = r.in[1], n.mean = r.aux[0], n.rstd = r.aux[1];
    n.dy = r.dout[0], n.dx = r.din[0], n.dweight = r.din[1], n.dbias = r.din[2];
    n.constant_statistics = !training;
    kernels::table<T>().group_norm_backward(n);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> layer_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias, double eps) {
  return call(op::LayerNorm{eps}, x, weight, bias);
}
OCELLUS_FLOATS(layer_norm)

template <class T>
BasicTensor<T> group_norm(const BasicTensor<T>& x, Index groups, const BasicTensor<T>& weight, const BasicTensor<T>& bias, double eps) {
  return call(op::GroupNorm{groups, eps}, x, weight, bias);
}
OCELLUS_FLOATS(group_norm)

template <class T>
BasicTensor<T> batch_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias, const BasicTensor<T>& running_mean,
                          const BasicTensor<T>& running_var, const BasicTensor<T>& num_batches_tracked, const BatchNormOptions& o) {
  return call(op::BatchNorm{o.momentum, o.eps, context().training}, x, weight, bias, running_mean, running_var, num_batches_tracked);
}
OCELLUS_FLOATS(batch_norm)

}  // namespace ocellus
#endif
