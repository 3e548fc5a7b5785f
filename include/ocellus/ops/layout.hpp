// Ops that only move elements: concat, split, slice, pad, permute, broadcast.
#pragma once

#include <vector>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Joined along an axis; the other axes must agree.
template <class T>
BasicTensor<T> concat(const std::vector<BasicTensor<T>>& tensors, int axis = -1);
// Joined along a new axis.
template <class T>
BasicTensor<T> stack(const std::vector<BasicTensor<T>>& tensors, int axis = 0);
// Cut along an axis into pieces of these sizes.
template <class T>
std::vector<BasicTensor<T>> split(const BasicTensor<T>& x, const std::vector<Index>& sizes, int axis = -1);
// The entries [begin, end) of an axis; negative ends count from the end of the axis.
template <class T>
BasicTensor<T> slice(const BasicTensor<T>& x, int axis, Index begin, Index end);

struct Padding {
  Index before = 0, after = 0;
};
// Surrounded by `value`, one Padding per axis.
template <class T>
BasicTensor<T> pad(const BasicTensor<T>& x, const std::vector<Padding>& padding, double value = 0);

// Axis i of the result is axis axes[i] of x.
template <class T>
BasicTensor<T> permute(const BasicTensor<T>& x, const std::vector<int>& axes);
// Two axes exchanged.
template <class T>
BasicTensor<T> transpose(const BasicTensor<T>& x, int a, int b);
// Repeated along its axes of size 1.
template <class T>
BasicTensor<T> broadcast_to(const BasicTensor<T>& x, const Shape& shape);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cstring>

#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus::op {

// An axis counted from the front; throws where there is none.
inline int checked_axis(const Run& r, int axis, int rank) {
  const int i = axis < 0 ? axis + rank : axis;
  r.require(i >= 0 && i < rank, "the axis must exist");
  return i;
}

// Copies a window along one axis between dense tensors that agree in the other axes.
template <class T>
void copy_window(const Shape& from_shape, const T* from, Index from_begin, const Shape& to_shape, T* to, Index to_begin, Index count, int axis) {
  Index outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= from_shape[i];
  for (int i = axis + 1; i < from_shape.rank(); ++i) inner *= from_shape[i];
  const Index from_row = from_shape[axis] * inner, to_row = to_shape[axis] * inner, n = count * inner;
  if (n == 0) return;
  parallel_for(outer, std::max<Index>(1, 65536 / n), [&](Index begin, Index end) {
    for (Index o = begin; o < end; ++o) std::memcpy(to + o * to_row + to_begin * inner, from + o * from_row + from_begin * inner, static_cast<std::size_t>(n) * sizeof(T));
  });
}

// y = [x₁; x₂; …];  dxᵢ = its part of dy
struct Concat {
  OCELLUS_OP("concat(x)", axis)
  int axis = -1;

  Shape infer(const Run& r) const {
    Shape y = r.in[0].shape;
    const int a = checked_axis(r, axis, y.rank());
    for (std::size_t i = 1; i < r.in.size(); ++i) {
      const Shape& x = r.in[i].shape;
      r.require(x.rank() == y.rank(), "all tensors must have the same number of axes");
      for (int d = 0; d < y.rank(); ++d) r.require(d == a || x[d] == y[d], "all axes but the joined one must be equal");
      y[a] += x[a];
    }
    return y;
  }
  template <class T>
  void forward(const Run& r) const {
    const int a = checked_axis(r, axis, r.out[0].shape.rank());
    Index at = 0;
    for (const View& x : r.in) {
      copy_window<T>(x.shape, x, 0, r.out[0].shape, r.out[0], at, x.shape[a], a);
      at += x.shape[a];
    }
  }
  template <class T>
  void backward(const Run& r) const {
    const int a = checked_axis(r, axis, r.dout[0].shape.rank());
    Index at = 0;
    for (std::size_t i = 0; i < r.in.size(); ++i) {
      const Shape& x = r.in[i].shape;
      if (r.wants(static_cast<int>(i))) copy_window<T>(r.dout[0].shape, r.dout[0], at, x, r.din[i], 0, x[a], a);
      at += x[a];
    }
  }
};

// yᵢ = a part of x;  dx = [dy₁; dy₂; …]
struct Split {
  OCELLUS_OP("split(x)", sizes, axis)
  std::vector<Index> sizes;
  int axis = -1;

  std::vector<Shape> infer(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape.rank());
    std::vector<Shape> list;
    Index sum = 0;
    for (Index s : sizes) {
      r.require(s >= 0, "sizes must not be negative");
      list.push_back(r.in[0].shape);
      list.back()[a] = s;
      sum += s;
    }
    r.require(sum == r.in[0].shape[a], "sizes must sum to the axis");
    return list;
  }
  template <class T>
  void forward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape.rank());
    Index at = 0;
    for (const View& y : r.out) {
      copy_window<T>(r.in[0].shape, r.in[0], at, y.shape, y, 0, y.shape[a], a);
      at += y.shape[a];
    }
  }
  template <class T>
  void backward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape.rank());
    Index at = 0;
    for (const View& dy : r.dout) {
      copy_window<T>(dy.shape, dy, 0, r.in[0].shape, r.din[0], at, dy.shape[a], a);
      at += dy.shape[a];
    }
  }
};

// y = x[begin:end] along an axis;  dx = dy there, 0 elsewhere
struct Slice {
  OCELLUS_OP("slice(x)", axis, begin, end)
  int axis = 0;
  Index begin = 0, end = 0;

  Shape infer(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape.rank());
    r.require(begin >= 0 && begin <= end && end <= r.in[0].shape[a], "the range must lie inside the axis");
    Shape y = r.in[0].shape;
    y[a] = end - begin;
    return y;
  }
  template <class T>
  void forward(const Run& r) const {
    copy_window<T>(r.in[0].shape, r.in[0], begin, r.out[0].shape, r.out[0], 0, end - begin, checked_axis(r, axis, r.in[0].shape.rank()));
  }
  template <class T>
  void backward(const Run& r) const {
    T* dx = r.din[0];
    std::fill_n(dx, r.in[0].shape.numel(), T(0));
    copy_window<T>(r.dout[0].shape, r.dout[0], 0, r.in[0].shape, dx, begin, end - begin, checked_axis(r, axis, r.in[0].shape.rank()));
  }
};

// A walk over all rows (runs along the last axis) of a window inside a larger dense tensor: f(row of the window, offset in the larger one).
template <class F>
void each_row_of_window(const Shape& window, const Shape& larger, const std::vector<Index>& corner, F f) {
  const int rank = window.rank();
  if (window.numel() == 0) return;
  Index position[Shape::max_rank] = {};
  for (Index row = 0; row < window.rows(); ++row) {
    Index offset = 0;
    for (int d = 0; d < rank; ++d) offset = offset * larger[d] + corner[static_cast<std::size_t>(d)] + (d + 1 < rank ? position[d] : 0);
    f(row, offset);
    for (int d = rank - 2; d >= 0 && ++position[d] == window[d]; --d) position[d] = 0;
  }
}

// y = x surrounded by a constant;  dx = the inner part of dy
struct Pad {
  OCELLUS_OP("pad(x)", before, after, value)
  std::vector<Index> before, after;
  double value = 0;

  Shape infer(const Run& r) const {
    Shape y = r.in[0].shape;
    r.require(y.rank() > 0 && static_cast<int>(before.size()) == y.rank(), "one padding per axis is needed");
    for (int d = 0; d < y.rank(); ++d) {
      const std::size_t i = static_cast<std::size_t>(d);
      r.require(before[i] >= 0 && after[i] >= 0, "padding must not be negative; use slice to cut");
      y[d] += before[i] + after[i];
    }
    return y;
  }
  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    const Index n = r.in[0].shape[-1];
    std::fill_n(y, r.out[0].shape.numel(), static_cast<T>(value));
    each_row_of_window(r.in[0].shape, r.out[0].shape, before, [&](Index row, Index offset) { std::copy_n(x + row * n, n, y + offset); });
  }
  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T* dx = r.din[0];
    const Index n = r.in[0].shape[-1];
    each_row_of_window(r.in[0].shape, r.dout[0].shape, before, [&](Index row, Index offset) { std::copy_n(dy + offset, n, dx + row * n); });
  }
};

// y = x with its axes in another order;  dx = dy with them back
struct Permute {
  OCELLUS_OP("permute(x)", axes)
  std::vector<int> axes;

  Shape infer(const Run& r) const {
    const int rank = r.in[0].shape.rank();
    r.require(static_cast<int>(axes.size()) == rank, "every axis must be named once");
    unsigned seen = 0;
    Shape y;
    for (int a : axes) {
      r.require(a >= 0 && a < rank && !(seen >> a & 1u), "every axis must be named once");
      seen |= 1u << a;
      y.push_back(r.in[0].shape[a]);
    }
    return y;
  }
  template <class T>
  void forward(const Run& r) const {
    move<T>(r.in[0].shape, r.in[0], axes, r.out[0].shape, r.out[0]);
  }
  template <class T>
  void backward(const Run& r) const {
    std::vector<int> back(axes.size());
    for (std::size_t i = 0; i < axes.size(); ++i) back[static_cast<std::size_t>(axes[i])] = static_cast<int>(i);
    move<T>(r.dout[0].shape, r.dout[0], back, r.in[0].shape, r.din[0]);
  }

 private:
  template <class T>
  static void move(const Shape& xs, const T* x, const std::vector<int>& order, const Shape& ys, T* y) {
    const int rank = ys.rank();
    if (ys.numel() == 0) return;
    if (rank == 0) {
      *y = *x;
      return;
    }
    Index stride[Shape::max_rank], x_stride[Shape::max_rank];
    Index step = 1;
    for (int d = rank - 1; d >= 0; --d) {
      x_stride[d] = step;
      step *= xs[d];
    }
    for (int d = 0; d < rank; ++d) stride[d] = x_stride[order[static_cast<std::size_t>(d)]];
    const Index n = ys[-1], inner = stride[rank - 1];
    parallel_for(ys.rows(), std::max<Index>(1, 16384 / n), [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        Index rest = row, offset = 0;
        for (int d = rank - 2; d >= 0; --d) {
          offset += rest % ys[d] * stride[d];
          rest /= ys[d];
        }
        const T* from = x + offset;
        T* to = y + row * n;
        if (inner == 1) {
          std::copy_n(from, n, to);
        } else {
          for (Index i = 0; i < n; ++i) to[i] = from[i * inner];
        }
      }
    });
  }
};

// y = x repeated;  dx = Σ dy over the repetitions
struct BroadcastTo {
  OCELLUS_OP("broadcast_to(x)", shape)
  Shape shape;

  Shape infer(const Run& r) const {
    r.require(broadcast_shape(r, r.in[0].shape, shape) == shape, "x must repeat to the shape asked for");
    return shape;
  }
  template <class T>
  void forward(const Run& r) const {
    const T zero = 0;
    broadcast_map<T>(kernels::Binary::add, shape, r.in[0].shape, r.in[0], Shape{}, &zero, r.out[0]);
  }
  template <class T>
  void backward(const Run& r) const {
    reduce_to<T>(shape, r.dout[0], r.in[0].shape, r.din[0]);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
#include <utility>

namespace ocellus {

template <class T>
BasicTensor<T> concat(const std::vector<BasicTensor<T>>& tensors, int axis) {
  return call(op::Concat{axis}, tensors);
}
OCELLUS_FLOATS(concat)

template <class T>
BasicTensor<T> stack(const std::vector<BasicTensor<T>>& tensors, int axis) {
  std::vector<BasicTensor<T>> rows;
  for (const BasicTensor<T>& t : tensors) {
    Shape s;
    const int at = axis < 0 ? axis + t.rank() + 1 : axis;
    for (int d = 0; d <= t.rank(); ++d) {
      if (d == at) s.push_back(1);
      if (d < t.rank()) s.push_back(t.dim(d));
    }
    rows.push_back(reshape(t, s));
  }
  return concat(rows, axis);
}
OCELLUS_FLOATS(stack)

template <class T>
std::vector<BasicTensor<T>> split(const BasicTensor<T>& x, const std::vector<Index>& sizes, int axis) {
  return call(op::Split{sizes, axis}, x);
}
OCELLUS_FLOATS(split)

template <class T>
BasicTensor<T> slice(const BasicTensor<T>& x, int axis, Index begin, Index end) {
  const Index n = x.dim(axis);
  return call(op::Slice{axis, begin < 0 ? begin + n : begin, end < 0 ? end + n : end}, x);
}
OCELLUS_FLOATS(slice)

template <class T>
BasicTensor<T> pad(const BasicTensor<T>& x, const std::vector<Padding>& padding, double value) {
  op::Pad op;
  for (const Padding& p : padding) {
    op.before.push_back(p.before);
    op.after.push_back(p.after);
  }
  op.value = value;
  return call(op, x);
}
OCELLUS_FLOATS(pad)

template <class T>
BasicTensor<T> permute(const BasicTensor<T>& x, const std::vector<int>& axes) {
  op::Permute op{axes};
  for (int& a : op.axes) a = a < 0 ? a + x.rank() : a;
  return call(op, x);
}
OCELLUS_FLOATS(permute)

template <class T>
BasicTensor<T> transpose(const BasicTensor<T>& x, int a, int b) {
  std::vector<int> axes;
  for (int d = 0; d < x.rank(); ++d) axes.push_back(d);
  (void)x.dim(a), (void)x.dim(b);  // throw for an axis that does not exist
  std::swap(axes[static_cast<std::size_t>(a < 0 ? a + x.rank() : a)], axes[static_cast<std::size_t>(b < 0 ? b + x.rank() : b)]);
  return call(op::Permute{axes}, x);
}
OCELLUS_FLOATS(transpose)

template <class T>
BasicTensor<T> broadcast_to(const BasicTensor<T>& x, const Shape& shape) {
  return call(op::BroadcastTo{shape}, x);
}
OCELLUS_FLOATS(broadcast_to)

}  // namespace ocellus
#endif
