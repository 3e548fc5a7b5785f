// How far predicted boxes are from their targets: 1 − overlap (vision/boxes.hpp).
#pragma once

#include <ocellus/losses/reduction.hpp>
#include <ocellus/vision/boxes.hpp>

namespace ocellus {

struct BoxLossOptions {
  Overlap kind = Overlap::ciou;
  double epsilon = 1e-7;                  // of the overlap
  Reduction reduction = Reduction::mean;  // mean: divided by the number of boxes; 0 for none
};

// Edges (..., 4) and (..., 4) → () or, without reduction, (...). In ciou the weight α of the proportions is a constant
// for the gradient (Zheng et al., 2020, section 3.4). Throws ShapeError.
template <class T>
BasicTensor<T> box_loss(const BasicTensor<T>& boxes, const BasicTensor<T>& target, const BoxLossOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <ocellus/losses/dual.hpp>

namespace ocellus::op {

// l = 1 − overlap(x, t);  dx and dt by dual numbers
struct BoxLoss {
  OCELLUS_OP("box_loss(boxes, target)", kind, epsilon, reduction)
  Overlap kind = Overlap::ciou;
  double epsilon = 1e-7;
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 1 && x[-1] == 4 && r.in[1].shape == x, "boxes and target must have one shape (..., 4)");
    Shape lead;
    for (int i = 0; i + 1 < x.rank(); ++i) lead.push_back(x[i]);
    return reduction == Reduction::none ? lead : Shape{};
  }

  template <class T>
  void forward(const Run& r) const {
    const T *x = r.in[0], *t = r.in[1];
    const Index n = r.in[0].shape.rows();
    reduce_loss<T>(reduction, n, scale(n), r.out[0], [&](Index i) {
      const T *a = x + 4 * i, *b = t + 4 * i;
      return 1 - overlap(kind, BasicBox<T>{a[0], a[1], a[2], a[3]}, BasicBox<T>{b[0], b[1], b[2], b[3]},
                         static_cast<T>(epsilon));
    });
  }

  template <class T>
  void backward(const Run& r) const {
    using Number = Dual<T, 8>;
    const T *x = r.in[0], *t = r.in[1], *dy = r.dout[0];
    T *dx = r.din[0], *dt = r.din[1];
    const Index n = r.in[0].shape.rows();
    const T s = static_cast<T>(scale(n));
    parallel_for(n, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto variable = [&](const T* v, std::size_t first, std::size_t k) {
          return Number(v[4 * i + static_cast<Index>(k)], first + k);
        };
        const auto box = [&](const T* v, std::size_t first) {
          return BasicBox<Number>{variable(v, first, 0), variable(v, first, 1), variable(v, first, 2),
                                  variable(v, first, 3)};
        };
        const Number y = overlap(kind, box(x, 0), box(t, 4), static_cast<T>(epsilon));
        const T g = reduction == Reduction::none ? dy[i] : dy[0] * s;
        for (int k = 0; k < 4; ++k) {
          if (dx) dx[4 * i + k] = -g * y.slope[k];
          if (dt) dt[4 * i + k] = -g * y.slope[4 + k];
        }
      }
    });
  }

 private:
  double scale(Index n) const { return reduction == Reduction::mean && n > 0 ? 1 / static_cast<double>(n) : 1.0; }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> box_loss(const BasicTensor<T>& boxes, const BasicTensor<T>& target, const BoxLossOptions& options) {
  return call(op::BoxLoss{options.kind, options.epsilon, options.reduction}, boxes, target);
}
OCELLUS_FLOATS(box_loss)

}  // namespace ocellus
#endif
