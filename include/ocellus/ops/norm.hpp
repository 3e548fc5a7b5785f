// Normalisation of channels-last tensors: y = (x − μ) / √(σ² + ε) · weight + bias, μ and σ² taken over the channels of
// a position (layer norm), a group of channels of one sample (group norm) or one channel of the batch (batch norm).
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Over the last axis of x (..., C). weight and bias are (C) or empty: ones and zeros.
template <class T>
BasicTensor<T> layer_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight = {}, const BasicTensor<T>& bias = {},
                          double eps = 1e-5);

// Over the positions and the channels of each group of one sample, x (N, ..., C). weight and bias are (C) or empty.
// Throws ShapeError unless `groups` divides C.
template <class T>
BasicTensor<T> group_norm(const BasicTensor<T>& x, Index groups, const BasicTensor<T>& weight = {},
                          const BasicTensor<T>& bias = {}, double eps = 1e-5);

// Over the positions of each channel of one sample: a group per channel.
template <class T>
BasicTensor<T> instance_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight = {},
                             const BasicTensor<T>& bias = {}, double eps = 1e-5);

struct BatchNormOptions {
  double momentum = 0.1;  // share of the newest batch in the running statistics
  double eps = 1e-5;
};

// Over all axes but the last, x (..., C), the other tensors (C). Under a Training guard by the statistics of the batch,
// which also move running_mean and running_var (unbiased, as PyTorch) in place and are counted in num_batches_tracked
// (one element, may be empty); otherwise by the running statistics.
template <class T>
BasicTensor<T> batch_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                          const BasicTensor<T>& running_mean, const BasicTensor<T>& running_var,
                          const BasicTensor<T>& num_batches_tracked = {}, const BatchNormOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cmath>
#include <vector>

#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

inline constexpr char affine_rule[] = "weight and bias must be (C), C the last axis of x";

// An optional factor or shift per channel of input 0.
inline bool per_channel(const Run& r, std::size_t i) {
  return !r.in[i].given() || r.in[i].shape == Shape{r.in[0].shape[-1]};
}

// x̂ = (x − μ)/σ, y = γ x̂ + β;  dx = (γ dy − mean(γ dy) − x̂ mean(γ dy x̂))/σ, dγ = Σ dy x̂, dβ = Σ dy
struct LayerNorm {
  OCELLUS_OP("layer_norm(x, weight, bias)", eps)
  double eps = 1e-5;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape.rank() >= 1, "x must have at least one axis");
    r.require(per_channel(r, 1) && per_channel(r, 2), affine_rule);
    return r.in[0].shape;
  }

  std::vector<Shape> aux(const Run& r) const {
    const Shape rows{r.in[0].shape.rows()};
    return {rows, rows};
  }

  Rows reads(const Run&, int, Rows out) const { return out; }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    T *mean = r.aux[0], *rstd = r.aux[1];
    kernels::LayerNorm<T> n;
    n.rows = rows.size();
    n.channels = r.in[0].shape[-1];
    n.x = r.in[0].row<const T>(rows.first);
    n.weight = r.in[1];
    n.bias = r.in[2];
    n.y = r.out[0].row<T>(rows.first);
    n.mean = mean ? mean + rows.first : nullptr;
    n.rstd = rstd ? rstd + rows.first : nullptr;
    n.eps = static_cast<T>(eps);
    kernels::table<T>().layer_norm(n);
  }

  template <class T>
  void backward(const Run& r) const {
    kernels::LayerNormBackward<T> n;
    n.rows = r.in[0].shape.rows();
    n.channels = r.in[0].shape[-1];
    n.x = r.in[0];
    n.weight = r.in[1];
    n.mean = r.aux[0];
    n.rstd = r.aux[1];
    n.dy = r.dout[0];
    n.dx = r.din[0];
    n.dweight = r.din[1];
    n.dbias = r.din[2];
    kernels::table<T>().layer_norm_backward(n);
  }
};

// What group and batch norm ask of the kernels; they differ in `outer` and `groups`. Statistics that are not saved live
// in `frame`.
template <class T>
kernels::GroupNorm<T> group_norm_arguments(const Run& r, Index outer, Index groups, double eps, Scratch& frame) {
  kernels::GroupNorm<T> n;
  n.outer = outer;
  n.pixels = r.in[0].shape.rows() / std::max<Index>(outer, 1);
  n.channels = r.in[0].shape[-1];
  n.groups = groups;
  n.x = r.in[0];
  n.weight = r.in[1];
  n.bias = r.in[2];
  n.y = r.out[0];
  n.mean = r.aux[0];
  n.rstd = r.aux[1];
  if (!n.mean) n.mean = frame.take<T>(outer * groups);
  if (!n.rstd) n.rstd = frame.take<T>(outer * groups);
  n.eps = static_cast<T>(eps);
  return n;
}

template <class T>
void group_norm_gradient(const Run& r, Index outer, Index groups, bool constant_statistics) {
  kernels::GroupNormBackward<T> n;
  n.outer = outer;
  n.pixels = r.in[0].shape.rows() / std::max<Index>(outer, 1);
  n.channels = r.in[0].shape[-1];
  n.groups = groups;
  n.x = r.in[0];
  n.weight = r.in[1];
  n.mean = r.aux[0];
  n.rstd = r.aux[1];
  n.dy = r.dout[0];
  n.dx = r.din[0];
  n.dweight = r.din[1];
  n.dbias = r.din[2];
  n.constant_statistics = constant_statistics;
  kernels::table<T>().group_norm_backward(n);
}

// As layer norm, the means over the positions and the channels of a group of each sample.
struct GroupNorm {
  OCELLUS_OP("group_norm(x, weight, bias)", groups, eps)
  Index groups = 1;
  double eps = 1e-5;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 2, "x must be (N, ..., C)");
    r.require(per_channel(r, 1) && per_channel(r, 2), affine_rule);
    r.require(groups > 0 && x[-1] % groups == 0, "groups must divide the channels");
    return x;
  }

  std::vector<Shape> aux(const Run& r) const {
    const Shape statistics{r.in[0].shape[0], groups};
    return {statistics, statistics};
  }

  template <class T>
  void forward(const Run& r) const {
    Scratch frame;
    const kernels::GroupNorm<T> n = group_norm_arguments<T>(r, r.in[0].shape[0], groups, eps, frame);
    kernels::table<T>().group_norm_statistics(n);
    kernels::table<T>().group_norm_apply(n);
  }

  template <class T>
  void backward(const Run& r) const {
    group_norm_gradient<T>(r, r.in[0].shape[0], groups, false);
  }
};

// As layer norm, the means over all axes but the last; outside of training μ and σ are constants: dx = γ dy / σ
struct BatchNorm {
  OCELLUS_OP("batch_norm(x, weight, bias, running_mean, running_var, num_batches_tracked)", momentum, eps, training)
  double momentum = 0.1;
  double eps = 1e-5;
  bool training = false;
  static constexpr unsigned keeps = input(0) | input(1);

  unsigned mutates() const { return training ? input(3) | input(4) | input(5) : 0u; }

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 2, "x must be (N, ..., C)");
    for (std::size_t i = 1; i < 5; ++i) {
      r.require(r.in[i].given() && per_channel(r, i),
                "weight, bias and running statistics must be (C), C the last axis of x");
    }
    r.require(!r.in[5].given() || r.in[5].shape.numel() == 1, "num_batches_tracked must have one element");
    r.require(!training || x.rows() > 1, "training needs more than one value per channel");
    return x;
  }

  std::vector<Shape> aux(const Run& r) const {
    const Shape statistics{r.in[0].shape[-1]};
    return {statistics, statistics};
  }

  template <class T>
  void forward(const Run& r) const {
    Scratch frame;
    const kernels::GroupNorm<T> n = group_norm_arguments<T>(r, 1, r.in[0].shape[-1], eps, frame);
    if (training) {
      kernels::table<T>().group_norm_statistics(n);
      track(r, n);
    } else {
      const T *running_mean = r.in[3], *running_var = r.in[4];
      for (Index c = 0; c < n.channels; ++c) {
        n.mean[c] = running_mean[c];
        n.rstd[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(running_var[c]) + eps));
      }
    }
    kernels::table<T>().group_norm_apply(n);
  }

  template <class T>
  void backward(const Run& r) const {
    group_norm_gradient<T>(r, 1, r.in[0].shape[-1], !training);
  }

 private:
  template <class T>
  void track(const Run& r, const kernels::GroupNorm<T>& n) const {
    T *running_mean = r.in[3], *running_var = r.in[4], *batches = r.in[5];
    const double unbias = static_cast<double>(n.pixels) / static_cast<double>(n.pixels - 1);
    for (Index c = 0; c < n.channels; ++c) {
      const double rstd = static_cast<double>(n.rstd[c]), mean = static_cast<double>(running_mean[c]);
      const double variance = std::max(1 / (rstd * rstd) - static_cast<double>(n.eps), 0.0);  // NaN stays NaN
      const double running = static_cast<double>(running_var[c]);
      running_mean[c] = static_cast<T>(mean + momentum * (static_cast<double>(n.mean[c]) - mean));
      running_var[c] = static_cast<T>(running + momentum * (variance * unbias - running));
    }
    if (batches) *batches += T(1);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> layer_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                          double eps) {
  return call(op::LayerNorm{eps}, x, weight, bias);
}
OCELLUS_FLOATS(layer_norm)

template <class T>
BasicTensor<T> group_norm(const BasicTensor<T>& x, Index groups, const BasicTensor<T>& weight,
                          const BasicTensor<T>& bias, double eps) {
  return call(op::GroupNorm{groups, eps}, x, weight, bias);
}
OCELLUS_FLOATS(group_norm)

template <class T>
BasicTensor<T> instance_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                             double eps) {
  return call(op::GroupNorm{x.dim(-1), eps}, x, weight, bias);
}
OCELLUS_FLOATS(instance_norm)

template <class T>
BasicTensor<T> batch_norm(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                          const BasicTensor<T>& running_mean, const BasicTensor<T>& running_var,
                          const BasicTensor<T>& num_batches_tracked, const BatchNormOptions& options) {
  const op::BatchNorm op{options.momentum, options.eps, context().training};
  return call(op, x, weight, bias, running_mean, running_var, num_batches_tracked);
}
OCELLUS_FLOATS(batch_norm)

}  // namespace ocellus
#endif
