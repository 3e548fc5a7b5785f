// Ops that read by integer index.
#pragma once

#include <cstdint>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Rows of a table. weight (V, D), index (...) → (..., D). Throws ShapeError for an index outside of [0, V).
template <class T>
BasicTensor<T> embedding(const BasicTensor<T>& weight, const BasicTensor<std::int64_t>& index);

// y[.., i, ..] = x[.., index[.., i, ..], ..] along one axis, as torch.gather; the other axes of index and x are equal.
template <class T>
BasicTensor<T> gather(const BasicTensor<T>& x, int axis, const BasicTensor<std::int64_t>& index);

// index (...) → (..., classes): 1 at the index, 0 elsewhere.
Tensor one_hot(const BasicTensor<std::int64_t>& index, Index classes);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cstring>

namespace ocellus::op {

// y = W[i];  dW[i] += dy, in the order of the indices
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
    const Index rows = r.in[0].shape[0], dim = r.in[0].shape[1];
    for (Index i = 0; i < r.in[1].shape.numel(); ++i) {
      if (index[i] < 0 || index[i] >= rows) r.fail("index " + std::to_string(index[i]) + " at place " + std::to_string(i) + " is outside of the table");
      std::memcpy(y + i * dim, w + index[i] * dim, static_cast<std::size_t>(dim) * sizeof(T));
    }
  }
  template <class T>
  void backward(const Run& r) const {
    const std::int64_t* index = r.in[1];
    const T* dy = r.dout[0];
    T* dw = r.din[0];
    const Index dim = r.in[0].shape[1];
    std::fill_n(dw, r.in[0].shape.numel(), T(0));
    for (Index i = 0; i < r.in[1].shape.numel(); ++i) {
      for (Index d = 0; d < dim; ++d) dw[index[i] * dim + d] += dy[i * dim + d];
    }
  }
};

// y = x at the indices along an axis;  dx = Σ dy of the places that read it
struct Gather {
  OCELLUS_OP("gather(x, index)", axis)
  int axis = -1;
  static constexpr unsigned keeps = input(1);

  Shape infer(const Run& r) const {
    const Shape &x = r.in[0].shape, &i = r.in[1].shape;
    const int a = axis < 0 ? axis + x.rank() : axis;
    r.require(a >= 0 && a < x.rank() && i.rank() == x.rank(), "index must have the axes of x, among them the one gathered along");
    for (int d = 0; d < x.rank(); ++d) r.require(d == a || x[d] == i[d], "the other axes of index and x must be equal");
    return i;
  }
  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    each(r, [&](Index to, Index from) { y[to] = x[from]; });
  }
  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T* dx = r.din[0];
    std::fill_n(dx, r.in[0].shape.numel(), T(0));
    each(r, [&](Index to, Index from) { dx[from] += dy[to]; });
  }

 private:
  // f(place in y, place in x)
  template <class F>
  void each(const Run& r, F f) const {
    const Shape &x = r.in[0].shape, &is = r.in[1].shape;
    const int a = axis < 0 ? axis + x.rank() : axis;
    const std::int64_t* index = r.in[1];
    Index outer = 1, inner = 1;
    for (int d = 0; d < a; ++d) outer *= x[d];
    for (int d = a + 1; d < x.rank(); ++d) inner *= x[d];
    Index to = 0;
    for (Index o = 0; o < outer; ++o) {
      for (Index j = 0; j < is[a]; ++j) {
        for (Index i = 0; i < inner; ++i, ++to) {
          const Index at = index[to];
          if (at < 0 || at >= x[a]) r.fail("index " + std::to_string(at) + " at place " + std::to_string(to) + " is outside of the axis");
          f(to, (o * x[a] + at) * inner + i);
        }
      }
    }
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
#include <ocellus/core/error.hpp>

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
  Shape shape = index.shape();
  shape.push_back(classes);
  Tensor y(shape);
  for (Index i = 0; i < index.numel(); ++i) {
    if (index[i] < 0 || index[i] >= classes) {
      throw ShapeError("one_hot: index " + std::to_string(index[i]) + " at place " + std::to_string(i) + " is outside of the " + std::to_string(classes) + " classes");
    }
    y[i * classes + index[i]] = 1;
  }
  return y;
}

}  // namespace ocellus
#endif
