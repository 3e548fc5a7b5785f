// Ops that read by integer index: embedding, gather, one_hot. Gradients are added in the order of the indices, whatever
// the number of threads.
#pragma once

#include <cstdint>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Rows of a table: weight (V, D), index (...) → (..., D). Throws ShapeError for an index outside of [0, V).
template <class T>
BasicTensor<T> embedding(const BasicTensor<T>& weight, const BasicTensor<std::int64_t>& index);

// y[.., i, ..] = x[.., index[.., i, ..], ..] along one axis, as torch.gather; the other axes of index and x must be
// equal. Throws ShapeError for an index outside of the axis.
template <class T>
BasicTensor<T> gather(const BasicTensor<T>& x, int axis, const BasicTensor<std::int64_t>& index);

// index (...) → (..., classes): 1 at the index, 0 elsewhere. Throws ShapeError for an index outside of [0, classes).
Tensor one_hot(const BasicTensor<std::int64_t>& index, Index classes);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cstring>
#include <string>

#include <ocellus/runtime/parallel.hpp>

namespace ocellus::op {

// Throws for the first of n indices outside of [0, limit). Before the work is cut over threads: only the caller knows
// the module.
inline void check_indices(const Run& r, const std::int64_t* index, Index n, Index limit) {
  for (Index i = 0; i < n; ++i) {
    if (index[i] >= 0 && index[i] < limit) continue;
    r.fail("index " + std::to_string(index[i]) + " at place " + std::to_string(i) + " lies outside of [0, " +
           std::to_string(limit) + ")");
  }
}

// y = W[i];  dW[i] = Σ dy of the places that read row i
struct Embedding {
  OCELLUS_OP("embedding(weight, index)")
  static constexpr unsigned keeps = input(1);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape.rank() == 2, "weight must be (V, D)");
    Shape y = r.in[1].shape;
    y.push_back(r.in[0].shape[1]);
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const T* w = r.in[0];
    const std::int64_t* index = r.in[1];
    T* y = r.out[0];
    const Index n = r.in[1].shape.numel(), dim = r.in[0].shape[1];
    check_indices(r, index, n, r.in[0].shape[0]);
    if (dim == 0) return;
    parallel_for(n, std::max<Index>(1, 32768 / dim), [=](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        std::memcpy(y + i * dim, w + index[i] * dim, static_cast<std::size_t>(dim) * sizeof(T));
    });
  }

  template <class T>
  void backward(const Run& r) const {
    const std::int64_t* index = r.in[1];
    const T* dy = r.dout[0];
    T* dw = r.din[0];
    const Index n = r.in[1].shape.numel(), rows = r.in[0].shape[0], dim = r.in[0].shape[1];
    // Each piece owns columns, so each sum has one order.
    parallel_for(dim, std::max<Index>(16, 32768 / (n + rows + 1)), [=](Index begin, Index end) {
      for (Index row = 0; row < rows; ++row) std::fill(dw + row * dim + begin, dw + row * dim + end, T(0));
      for (Index i = 0; i < n; ++i) {
        T* to = dw + index[i] * dim;
        for (Index d = begin; d < end; ++d) to[d] += dy[i * dim + d];
      }
    });
  }
};

// y = x at the indices along an axis;  dx = Σ dy of the places that read it
struct Gather {
  OCELLUS_OP("gather(x, index)", axis)
  int axis = -1;
  static constexpr unsigned keeps = input(1);

  Shape infer(const Run& r) const {
    const Shape &x = r.in[0].shape, &index = r.in[1].shape;
    r.require(axis >= -x.rank() && axis < x.rank(), "the axis must exist");
    r.require(index.rank() == x.rank(), "index must have as many axes as x");
    for (int d = 0; d < x.rank(); ++d)
      r.require(d == place(x) || x[d] == index[d], "all axes but the gathered one must be equal");
    return index;
  }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    const std::int64_t* index = r.in[1];
    check_indices(r, index, r.in[1].shape.numel(), r.in[0].shape[axis]);
    each(r, [=](Index begin, Index end, Index offset, Index inner) {
      for (Index i = begin; i < end; ++i) y[i] = x[offset + index[i] * inner + (i - begin) % inner];
    });
  }

  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T* dx = r.din[0];
    const std::int64_t* index = r.in[1];
    std::fill_n(dx, r.in[0].shape.numel(), T(0));
    each(r, [=](Index begin, Index end, Index offset, Index inner) {
      for (Index i = begin; i < end; ++i) dx[offset + index[i] * inner + (i - begin) % inner] += dy[i];
    });
  }

 private:
  int place(const Shape& x) const { return axis < 0 ? axis + x.rank() : axis; }

  // f(begin, end, offset, inner) for each slab over the axis: elements [begin, end) of index and y, which read x from
  // `offset` on.
  template <class F>
  void each(const Run& r, F f) const {
    const Shape &x = r.in[0].shape, &y = r.in[1].shape;
    if (y.numel() == 0) return;
    Index inner = 1;
    for (int d = place(x) + 1; d < x.rank(); ++d) inner *= x[d];
    const Index slab = y[axis] * inner;
    parallel_for(y.numel() / slab, std::max<Index>(1, 16384 / slab), [&](Index begin, Index end) {
      for (Index o = begin; o < end; ++o) f(o * slab, (o + 1) * slab, o * x[axis] * inner, inner);
    });
  }
};

struct OneHot {
  OCELLUS_OP("one_hot(index)", classes)
  Index classes = 0;
  using Result = float;
  static constexpr bool not_differentiable = true;

  Shape infer(const Run& r) const {
    r.require(classes > 0, "there must be at least one class");
    Shape y = r.in[0].shape;
    y.push_back(classes);
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const T* index = r.in[0];
    float* y = r.out[0];
    const Index n = r.in[0].shape.numel();
    check_indices(r, index, n, classes);
    std::fill_n(y, n * classes, 0.0f);
    for (Index i = 0; i < n; ++i) y[i * classes + index[i]] = 1;
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> embedding(const BasicTensor<T>& weight, const BasicTensor<std::int64_t>& index) {
  return call(op::Embedding{}, weight, index);
}
OCELLUS_FLOATS(embedding)

template <class T>
BasicTensor<T> gather(const BasicTensor<T>& x, int axis, const BasicTensor<std::int64_t>& index) {
  return call(op::Gather{axis}, x, index);
}
OCELLUS_FLOATS(gather)

OCELLUS_FN Tensor one_hot(const BasicTensor<std::int64_t>& index, Index classes) {
  return call(op::OneHot{classes}, index);
}

}  // namespace ocellus
#endif
