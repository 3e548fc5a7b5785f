// NumPy's broadcasting for ops: shapes are aligned at the last axis, a size of 1 repeats.
#pragma once

#include <ocellus/autograd/op.hpp>
#include <ocellus/kernels/table.hpp>

namespace ocellus {

// The common shape of inputs a and b of a call. Throws ShapeError naming both.
Shape broadcast_shape(const Run& r, const Shape& a, const Shape& b);

namespace autograd_detail {

// Strides in elements of `shape` seen as `out`: 0 where it repeats.
void broadcast_strides(const Shape& out, const Shape& shape, Index* strides);

// Neighbouring reduced axes of `from` that `to` does not have, as (outer, reduced, inner); false when nothing is left to reduce.
struct ReduceStep {
  Index outer, reduced, inner;
};
bool next_reduction(Shape& from, const Shape& to, ReduceStep& step);

}  // namespace autograd_detail

// y = a (op) b with broadcasting.
template <class T>
void broadcast_map(kernels::Binary op, const Shape& out, const Shape& a_shape, const T* a, const Shape& b_shape, const T* b, T* y) {
  kernels::BinaryMap<T> map;
  map.op = op;
  map.rank = out.rank();
  for (int i = 0; i < out.rank(); ++i) map.size[i] = out[i];
  autograd_detail::broadcast_strides(out, a_shape, map.stride_a);
  autograd_detail::broadcast_strides(out, b_shape, map.stride_b);
  map.a = a;
  map.b = b;
  map.y = y;
  kernels::table<T>().binary(map);
}

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cstring>

#include <ocellus/runtime/scratch.hpp>

namespace ocellus {

// dx = Σ dy over the axes along which x was repeated: the gradient of broadcasting.
template <class T>
void reduce_to(const Shape& from, const T* dy, const Shape& to, T* dx) {
  Scratch frame;
  Shape shape = from;
  const T* now = dy;
  autograd_detail::ReduceStep step{};
  while (autograd_detail::next_reduction(shape, to, step)) {
    const bool last = shape.numel() == to.numel();
    T* target = last ? dx : frame.take<T>(step.outer * step.inner);
    kernels::Reduce<T> reduce;
    reduce.outer = step.outer;
    reduce.reduced = step.reduced;
    reduce.inner = step.inner;
    reduce.x = now;
    reduce.y = target;
    kernels::table<T>().reduce(reduce);
    now = target;
  }
  if (now != dx) std::memcpy(dx, now, static_cast<std::size_t>(to.numel()) * sizeof(T));
}

}  // namespace ocellus
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <algorithm>

namespace ocellus {

OCELLUS_FN Shape broadcast_shape(const Run& r, const Shape& a, const Shape& b) {
  Shape out;
  const int rank = std::max(a.rank(), b.rank());
  for (int i = 0; i < rank; ++i) {
    const Index x = i < rank - a.rank() ? 1 : a[i - rank + a.rank()];
    const Index y = i < rank - b.rank() ? 1 : b[i - rank + b.rank()];
    r.require(x == y || x == 1 || y == 1, "shapes must be equal or 1 on every axis, counted from the last");
    out.push_back(x == 1 ? y : x);
  }
  return out;
}

namespace autograd_detail {

OCELLUS_FN void broadcast_strides(const Shape& out, const Shape& shape, Index* strides) {
  for (int i = 0; i < out.rank(); ++i) strides[i] = 0;
  Index stride = 1;
  for (int i = shape.rank() - 1, j = out.rank() - 1; i >= 0; --i, --j) {
    strides[j] = shape[i] == 1 ? 0 : stride;
    stride *= shape[i];
  }
}

OCELLUS_FN bool next_reduction(Shape& from, const Shape& to, ReduceStep& step) {
  const int lead = from.rank() - to.rank();
  const auto repeats = [&](int i) { return from[i] != 1 && (i < lead || to[i - lead] == 1); };
  int first = 0;
  while (first < from.rank() && !repeats(first)) ++first;
  if (first == from.rank()) return false;
  step = {1, 1, 1};
  for (int i = 0; i < first; ++i) step.outer *= from[i];
  int i = first;
  for (; i < from.rank() && (repeats(i) || from[i] == 1); ++i) {
    step.reduced *= from[i];
    from[i] = 1;
  }
  for (; i < from.rank(); ++i) step.inner *= from[i];
  return true;
}

}  // namespace autograd_detail
}  // namespace ocellus
#endif
