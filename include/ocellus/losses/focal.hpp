// Losses of dense detection, where almost everything is background: focal (Lin et al., 2017) and varifocal (Zhang et
// al., 2021) for scores, distribution focal (Li et al.: Generalized Focal Loss, 2020) for the edges of boxes.
#pragma once

#include <ocellus/losses/reduction.hpp>

namespace ocellus {

struct FocalOptions {
  double alpha = 0.25;  // weight of target 1, 1 − alpha of target 0; negative: none
  double gamma = 2;     // how fast the weight of what is already right falls
  Reduction reduction = Reduction::mean;
};

// (1 − pₜ)ᵞ times the binary cross-entropy of logits and targets in [0, 1], pₜ = p t + (1 − p)(1 − t). One shape → ()
// or, without reduction, that shape. Throws ShapeError.
template <class T>
BasicTensor<T> focal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target, const FocalOptions& options = {});

struct VarifocalOptions {
  double alpha = 0.75;
  double gamma = 2;
  Reduction reduction = Reduction::mean;
};

// The binary cross-entropy weighted by the target where that is above 0 (the overlap that the box reached), by alpha pᵞ
// where it is 0. Shapes as for focal_loss.
template <class T>
BasicTensor<T> varifocal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target,
                              const VarifocalOptions& options = {});

struct DistributionFocalOptions {
  Reduction reduction = Reduction::mean;  // mean: divided by the number of distributions
};

// The cross-entropy of a distribution over whole numbers with a target between two of them: logits (..., bins), target
// (...) in [0, bins − 1], moved there from outside → () or, without reduction, (...). Throws ShapeError.
template <class T>
BasicTensor<T> distribution_focal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target,
                                       const DistributionFocalOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/losses/dual.hpp>

namespace ocellus::op {

enum class FocalKind : std::uint8_t { focal, varifocal };

// b = softplus(x) − t x, p = σ(x);  focal: l = (α t + (1 − α)(1 − t)) (1 − p t − (1 − p)(1 − t))ᵞ b
// varifocal: l = t b for t > 0, α pᵞ b otherwise;  dx and dt by dual numbers
struct FocalLoss {
  OCELLUS_OP("focal_loss(logits, target)", kind, alpha, gamma, reduction)
  FocalKind kind = FocalKind::focal;
  double alpha = 0.25;
  double gamma = 2;
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape == r.in[1].shape, "logits and target must have the same shape");
    r.require(gamma >= 0, "gamma must be 0 or more");
    return reduction == Reduction::none ? r.in[0].shape : Shape{};
  }

  template <class T>
  void forward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1];
    const Index n = r.in[0].shape.numel();
    reduce_loss<T>(reduction, n, scale(n), r.out[0], [&](Index i) { return value<T>(x[i], t[i]).value; });
  }

  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1], *dy = r.dout[0];
    T *dx = r.din[0], *dt = r.din[1];
    const Index n = r.in[0].shape.numel();
    const T s = static_cast<T>(scale(n));
    parallel_for(n, 1024, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto y = value<T>(x[i], t[i]);
        const T g = reduction == Reduction::none ? dy[i] : dy[0] * s;
        if (dx) dx[i] = g * y.slope[0];
        if (dt) dt[i] = g * y.slope[1];
      }
    });
  }

 private:
  double scale(Index n) const { return reduction == Reduction::mean ? 1 / static_cast<double>(n) : 1.0; }

  template <class T>
  Dual<T, 2> value(T logit, T label) const {
    using Number = Dual<T, 2>;
    const Number x(logit, 0), t(label, 1), p = sigmoid(x), entropy = softplus(x) - t * x;
    const T a = static_cast<T>(alpha), g = static_cast<T>(gamma);
    if (kind == FocalKind::varifocal) return label > 0 ? t * entropy : a * pow(p, g) * entropy;
    const Number wrong = p * (T(1) - t) + sigmoid(Number(T(0)) - x) * t;
    const Number weighted = pow(wrong, g) * entropy;
    return alpha < 0 ? weighted : (a * t + (T(1) - a) * (T(1) - t)) * weighted;
  }
};

// With i ≤ t ≤ i + 1: l = −(i + 1 − t) log p[i] − (t − i) log p[i + 1], p = softmax(x)
// dx = p − (i + 1 − t) 1[i] − (t − i) 1[i + 1], dt = log p[i] − log p[i + 1]
struct DistributionFocalLoss {
  OCELLUS_OP("distribution_focal_loss(logits, target)", reduction)
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 1 && x[-1] >= 2, "logits must be (..., bins) with at least two bins");
    Shape lead;
    for (int i = 0; i + 1 < x.rank(); ++i) lead.push_back(x[i]);
    r.require(r.in[1].shape == lead, "target must have the shape of logits without the last axis");
    return reduction == Reduction::none ? lead : Shape{};
  }

  // The bins on both sides of a target.
  template <class T>
  struct Sides {
    Index left;
    T left_share, right_share;
    bool moved;  // the target lay outside

    Sides(T target, Index bins) {
      const T last = static_cast<T>(bins - 1);
      moved = !(target >= 0 && target <= last);
      const T inside = target > 0 ? std::min(target, last) : T(0);
      left = std::min(static_cast<Index>(inside), bins - 2);
      right_share = inside - static_cast<T>(left);
      left_share = 1 - right_share;
    }
  };

  // log Σ eˣ
  template <class T>
  static T log_sum(const T* x, Index bins) {
    const T most = *std::max_element(x, x + bins);
    T sum = 0;
    for (Index i = 0; i < bins; ++i) sum += std::exp(x[i] - most);
    return most + std::log(sum);
  }

  template <class T>
  static T value(const T* x, Index bins, T target) {
    const Sides<T> s(target, bins);
    return log_sum(x, bins) - s.left_share * x[s.left] - s.right_share * x[s.left + 1];
  }

  // Adds g · dl/dx.
  template <class T>
  static void add_gradient(const T* x, Index bins, T target, T g, T* dx) {
    const Sides<T> s(target, bins);
    const T total = log_sum(x, bins);
    for (Index i = 0; i < bins; ++i) dx[i] += g * std::exp(x[i] - total);
    dx[s.left] -= g * s.left_share;
    dx[s.left + 1] -= g * s.right_share;
  }

  template <class T>
  void forward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1];
    const Index rows = r.in[1].shape.numel(), bins = r.in[0].shape[-1];
    reduce_loss<T>(reduction, rows, scale(rows), r.out[0], [&](Index i) { return value(x + i * bins, bins, t[i]); });
  }

  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1], *dy = r.dout[0];
    T *dx = r.din[0], *dt = r.din[1];
    const Index rows = r.in[1].shape.numel(), bins = r.in[0].shape[-1];
    const T s = static_cast<T>(scale(rows));
    parallel_for(rows, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T g = reduction == Reduction::none ? dy[i] : dy[0] * s;
        const T* row = x + i * bins;
        if (dx) {
          std::fill_n(dx + i * bins, bins, T(0));
          add_gradient(row, bins, t[i], g, dx + i * bins);
        }
        const Sides<T> sides(t[i], bins);
        if (dt) dt[i] = sides.moved ? T(0) : g * (row[sides.left] - row[sides.left + 1]);
      }
    });
  }

 private:
  double scale(Index n) const { return reduction == Reduction::mean ? 1 / static_cast<double>(n) : 1.0; }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> focal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target, const FocalOptions& o) {
  return call(op::FocalLoss{op::FocalKind::focal, o.alpha, o.gamma, o.reduction}, logits, target);
}
OCELLUS_FLOATS(focal_loss)

template <class T>
BasicTensor<T> varifocal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target, const VarifocalOptions& o) {
  return call(op::FocalLoss{op::FocalKind::varifocal, o.alpha, o.gamma, o.reduction}, logits, target);
}
OCELLUS_FLOATS(varifocal_loss)

template <class T>
BasicTensor<T> distribution_focal_loss(const BasicTensor<T>& logits, const BasicTensor<T>& target,
                                       const DistributionFocalOptions& options) {
  return call(op::DistributionFocalLoss{options.reduction}, logits, target);
}
OCELLUS_FLOATS(distribution_focal_loss)

}  // namespace ocellus
#endif
