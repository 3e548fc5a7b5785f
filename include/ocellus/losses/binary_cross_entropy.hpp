// Binary cross-entropy of logits and targets in [0, 1], as torch.nn.functional.binary_cross_entropy_with_logits defines
// it: for masks and for several labels per picture.
#pragma once

#include <ocellus/losses/reduction.hpp>

namespace ocellus {

// Weights have the shape of the last axes of the logits: (), (K), ... up to the whole shape.
struct BinaryCrossEntropyOptions {
  Tensor weight = {};                     // of each element; 0 ignores it
  Tensor pos_weight = {};                 // of the positive part: above 1 favours recall
  Reduction reduction = Reduction::mean;  // mean: divided by the number of elements, whatever their weight
};

// logits and target of one shape → () or, without reduction, that shape. Throws ShapeError.
template <class T>
BasicTensor<T> binary_cross_entropy_with_logits(const BasicTensor<T>& logits, const BasicTensor<T>& target,
                                                const BinaryCrossEntropyOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/losses/dual.hpp>

namespace ocellus::op {

// l = w ((1 − t) x + (1 + (q − 1) t) s), s = log(1 + e⁻ˣ), q the positive weight
// dx = w ((1 − t) + (1 + (q − 1) t)(σ(x) − 1)), dt = w ((q − 1) s − x)
struct BinaryCrossEntropy {
  OCELLUS_OP("binary_cross_entropy(logits, target, weight, pos_weight)", reduction)
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1) | input(2) | input(3);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(r.in[1].shape == x, "target must have the shape of logits");
    r.require(ends(x, r.in[2].shape), "weight must have the shape of the last axes of logits");
    r.require(ends(x, r.in[3].shape), "pos_weight must have the shape of the last axes of logits");
    return reduction == Reduction::none ? x : Shape{};
  }

  template <class T>
  void forward(const Run& r) const {
    const Operands<T> o(r);
    reduce_loss<T>(reduction, o.n, scale(o.n), r.out[0], [&](Index i) {
      return o.w(i) * ((1 - o.t[i]) * o.x[i] + (1 + (o.q(i) - 1) * o.t[i]) * softplus(-o.x[i]));
    });
  }

  template <class T>
  void backward(const Run& r) const {
    const Operands<T> o(r);
    const T* dy = r.dout[0];
    T *dx = r.din[0], *dt = r.din[1];
    const T s = static_cast<T>(scale(o.n));
    parallel_for(o.n, 4096, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T d = reduction == Reduction::none ? dy[i] * o.w(i) : dy[0] * s * o.w(i);
        // σ(x) − 1 = −1 / (1 + eˣ)
        if (dx) dx[i] = d * ((1 - o.t[i]) - (1 + (o.q(i) - 1) * o.t[i]) / (1 + std::exp(o.x[i])));
        if (dt) dt[i] = d * ((o.q(i) - 1) * softplus(-o.x[i]) - o.x[i]);
      }
    });
  }

 private:
  template <class T>
  struct Operands {
    Index n;
    const T *x, *t, *weight, *positive;
    Index weights, positives;  // how many there are: they repeat

    explicit Operands(const Run& r)
        : n(r.in[0].shape.numel()),
          x(r.in[0]),
          t(r.in[1]),
          weight(r.in[2]),
          positive(r.in[3]),
          weights(r.in[2].shape.numel()),
          positives(r.in[3].shape.numel()) {}
    T w(Index i) const { return weight ? weight[i % weights] : T(1); }
    T q(Index i) const { return positive ? positive[i % positives] : T(1); }
  };

  static bool ends(const Shape& x, const Shape& tail) {
    if (tail.rank() > x.rank()) return false;
    for (int i = 1; i <= tail.rank(); ++i) {
      if (x[-i] != tail[-i]) return false;
    }
    return true;
  }
  double scale(Index n) const { return reduction == Reduction::mean ? 1 / static_cast<double>(n) : 1.0; }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> binary_cross_entropy_with_logits(const BasicTensor<T>& logits, const BasicTensor<T>& target,
                                                const BinaryCrossEntropyOptions& options) {
  const auto as_input = [](const Tensor& t) { return t ? convert<T>(t) : BasicTensor<T>(); };
  return call(op::BinaryCrossEntropy{options.reduction}, logits, target, as_input(options.weight),
              as_input(options.pos_weight));
}
OCELLUS_FLOATS(binary_cross_entropy_with_logits)

}  // namespace ocellus
#endif
