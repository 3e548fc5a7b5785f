// Ops that only move elements: concat, stack, split, slice, pad, permute, transpose, flip, broadcast_to. Negative axes
// count from the last one; an axis that does not exist and shapes that do not fit throw ShapeError.
#pragma once

#include <vector>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Joined along an axis; the other axes must be equal.
template <class T>
BasicTensor<T> concat(const std::vector<BasicTensor<T>>& tensors, int axis = -1);
// Equal shapes, joined along a new axis.
template <class T>
BasicTensor<T> stack(const std::vector<BasicTensor<T>>& tensors, int axis = 0);
// Cut along an axis into pieces of these sizes, which sum to the axis.
template <class T>
std::vector<BasicTensor<T>> split(const BasicTensor<T>& x, const std::vector<Index>& sizes, int axis = -1);
// The entries [begin, end) of an axis; negative numbers count from the end of the axis.
template <class T>
BasicTensor<T> slice(const BasicTensor<T>& x, int axis, Index begin, Index end);

struct Padding {
  Index before = 0;
  Index after = 0;
};
// Surrounded by `value`; one Padding per axis.
template <class T>
BasicTensor<T> pad(const BasicTensor<T>& x, const std::vector<Padding>& padding, double value = 0);

// Axis i of the result is axis axes[i] of x.
template <class T>
BasicTensor<T> permute(const BasicTensor<T>& x, const std::vector<int>& axes);
// Two axes exchanged.
template <class T>
BasicTensor<T> transpose(const BasicTensor<T>& x, int a, int b);
// An axis in reverse order.
template <class T>
BasicTensor<T> flip(const BasicTensor<T>& x, int axis);
// Repeated along axes of size 1 and along new axes in front. Returns x itself if it has the shape.
template <class T>
BasicTensor<T> broadcast_to(const BasicTensor<T>& x, const Shape& shape);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cstring>
#include <string>

#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus::op {

// An axis counted from the front.
inline int checked_axis(const Run& r, int axis, const Shape& shape) {
  r.require(axis >= -shape.rank() && axis < shape.rank(), "the axis must exist");
  return axis < 0 ? axis + shape.rank() : axis;
}

// A dense tensor seen from one of its axes.
struct AxisView {
  Index outer = 1, size = 0, inner = 1;

  AxisView(const Shape& shape, int axis) : size(shape[axis]) {
    for (int d = 0; d < axis; ++d) outer *= shape[d];
    for (int d = axis + 1; d < shape.rank(); ++d) inner *= shape[d];
  }
};

// Copies `count` entries of an axis between dense tensors that are equal in the other axes.
template <class T>
void copy_window(const Shape& from_shape, const T* from, Index from_begin, const Shape& to_shape, T* to, Index to_begin,
                 Index count, int axis) {
  const AxisView source(from_shape, axis), target(to_shape, axis);
  const Index n = count * source.inner;
  if (n == 0) return;
  from += from_begin * source.inner;
  to += to_begin * target.inner;
  parallel_for(source.outer, std::max<Index>(1, 32768 / n), [=](Index begin, Index end) {
    for (Index o = begin; o < end; ++o) {
      std::memcpy(to + o * target.size * target.inner, from + o * source.size * source.inner,
                  static_cast<std::size_t>(n) * sizeof(T));
    }
  });
}

// y = [x₁; x₂; …];  dxᵢ = its part of dy
struct Concat {
  OCELLUS_OP("concat(x)", axis)
  int axis = -1;

  Shape infer(const Run& r) const {
    Shape y = r.in[0].shape;
    const int a = checked_axis(r, axis, y);
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
    const int a = checked_axis(r, axis, r.out[0].shape);
    Index at = 0;
    for (const View& x : r.in) {
      copy_window<T>(x.shape, x, 0, r.out[0].shape, r.out[0], at, x.shape[a], a);
      at += x.shape[a];
    }
  }

  template <class T>
  void backward(const Run& r) const {
    const int a = checked_axis(r, axis, r.dout[0].shape);
    Index at = 0;
    for (std::size_t i = 0; i < r.in.size(); ++i) {
      const Shape& x = r.in[i].shape;
      T* dx = r.din[i];
      if (dx) copy_window<T>(r.dout[0].shape, r.dout[0], at, x, dx, 0, x[a], a);
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
    const Shape& x = r.in[0].shape;
    const int a = checked_axis(r, axis, x);
    std::vector<Shape> parts;
    Index sum = 0;
    for (const Index size : sizes) {
      r.require(size >= 0, "sizes must not be negative");
      parts.push_back(x);
      parts.back()[a] = size;
      sum += size;
    }
    r.require(sum == x[a], "sizes must sum to the axis");
    return parts;
  }

  template <class T>
  void forward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape);
    Index at = 0;
    for (const View& y : r.out) {
      copy_window<T>(r.in[0].shape, r.in[0], at, y.shape, y, 0, y.shape[a], a);
      at += y.shape[a];
    }
  }

  template <class T>
  void backward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape);
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
  Index begin = 0;
  Index end = 0;

  Shape infer(const Run& r) const {
    Shape y = r.in[0].shape;
    const int a = checked_axis(r, axis, y);
    if (begin < 0 || begin > end || end > y[a]) {
      r.fail("[" + std::to_string(begin) + ", " + std::to_string(end) + ") must lie inside of axis " +
             std::to_string(axis));
    }
    y[a] = end - begin;
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape);
    copy_window<T>(r.in[0].shape, r.in[0], begin, r.out[0].shape, r.out[0], 0, end - begin, a);
  }

  template <class T>
  void backward(const Run& r) const {
    const int a = checked_axis(r, axis, r.in[0].shape);
    T* dx = r.din[0];
    std::fill_n(dx, r.in[0].shape.numel(), T(0));
    copy_window<T>(r.dout[0].shape, r.dout[0], 0, r.in[0].shape, dx, begin, end - begin, a);
  }
};

// y = x surrounded by a constant;  dx = the inner part of dy
struct Pad {
  OCELLUS_OP("pad(x)", before, after, value)
  std::vector<Index> before;
  std::vector<Index> after;
  double value = 0;

  Shape infer(const Run& r) const {
    Shape y = r.in[0].shape;
    r.require(y.rank() > 0 && static_cast<int>(before.size()) == y.rank(), "one padding per axis is needed");
    for (int d = 0; d < y.rank(); ++d) {
      const std::size_t i = static_cast<std::size_t>(d);
      r.require(before[i] >= 0 && after[i] >= 0, "padding must not be negative; slice cuts");
      y[d] += before[i] + after[i];
    }
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    const std::size_t row = static_cast<std::size_t>(r.in[0].shape[-1]) * sizeof(T);
    std::fill_n(y, r.out[0].shape.numel(), static_cast<T>(value));
    each_row(r.in[0].shape, r.out[0].shape, [=](Index inner, Index outer) { std::memcpy(y + outer, x + inner, row); });
  }

  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T* dx = r.din[0];
    const std::size_t row = static_cast<std::size_t>(r.in[0].shape[-1]) * sizeof(T);
    each_row(r.in[0].shape, r.dout[0].shape,
             [=](Index inner, Index outer) { std::memcpy(dx + inner, dy + outer, row); });
  }

 private:
  // f(offset in x, offset in y) for each run along the last axis.
  template <class F>
  void each_row(const Shape& x, const Shape& y, F f) const {
    const Index n = x[-1];
    if (x.numel() == 0) return;
    parallel_for(x.rows(), std::max<Index>(1, 32768 / n), [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        Index rest = row, offset = before.back(), stride = y[-1];
        for (int d = x.rank() - 2; d >= 0; --d) {
          offset += (rest % x[d] + before[static_cast<std::size_t>(d)]) * stride;
          rest /= x[d];
          stride *= y[d];
        }
        f(row * n, offset);
      }
    });
  }
};

// y = x with its axes in another order;  dx = dy with them back
struct Permute {
  OCELLUS_OP("permute(x)", axes)
  std::vector<int> axes;  // not negative

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    bool once = static_cast<int>(axes.size()) == x.rank();
    unsigned seen = 0;
    Shape y;
    for (const int a : axes) {
      once = once && a >= 0 && a < x.rank() && (seen & (1u << a)) == 0;
      r.require(once, "every axis must be named once");
      seen |= 1u << a;
      y.push_back(x[a]);
    }
    r.require(once, "every axis must be named once");
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
  static constexpr Index block = 32;  // pixels of a square that is transposed in the cache

  // In squares over the last axis of y and that of x. Where they are the same, a square is `block` entries of the axis
  // before.
  template <class T>
  static void move(const Shape& xs, const T* x, const std::vector<int>& order, const Shape& ys, T* y) {
    const int rank = ys.rank();
    if (ys.numel() == 0) return;
    if (rank < 2) {
      std::memcpy(y, x, static_cast<std::size_t>(ys.numel()) * sizeof(T));
      return;
    }
    Index from[Shape::max_rank], to[Shape::max_rank];  // elements between neighbours along the axes of y
    for (int d = rank - 1; d >= 0; --d) {
      to[d] = d == rank - 1 ? 1 : to[d + 1] * ys[d + 1];
      from[d] = AxisView(xs, order[static_cast<std::size_t>(d)]).inner;
    }
    const int last = rank - 1;
    const bool rows = order.back() == last;
    int across = last - 1;
    for (int d = 0; !rows && d < last; ++d) {
      if (order[static_cast<std::size_t>(d)] == last) across = d;
    }
    const Index n = ys[last], squares = (ys[across] + block - 1) / block, work = std::min(block, ys[across]) * n;
    parallel_for(ys.numel() / (n * ys[across]) * squares, std::max<Index>(1, 16384 / work),
                 [&](Index begin, Index end) {
                   for (Index piece = begin; piece < end; ++piece) {
                     const Index first = piece % squares * block, count = std::min(block, ys[across] - first);
                     Index rest = piece / squares;
                     const T* source = x + first * from[across];
                     T* target = y + first * to[across];
                     for (int d = last - 1; d >= 0; --d) {
                       if (d == across) continue;
                       source += rest % ys[d] * from[d];
                       target += rest % ys[d] * to[d];
                       rest /= ys[d];
                     }
                     for (Index j = 0; j < n; j += rows ? n : block) {
                       const Index width = rows ? n : std::min(block, n - j);
                       for (Index i = 0; i < count; ++i) {
                         copy_strided(width, source + i * from[across] + j * from[last], from[last],
                                      target + i * to[across] + j);
                       }
                     }
                   }
                 });
  }

  template <class T>
  static void copy_strided(Index n, const T* from, Index step, T* to) {
    if (step == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
      return;
    }
    for (Index i = 0; i < n; ++i) to[i] = from[i * step];
  }
};

// y = x backwards along an axis;  dx = dy backwards
struct Flip {
  OCELLUS_OP("flip(x)", axis)
  int axis = -1;

  Shape infer(const Run& r) const {
    checked_axis(r, axis, r.in[0].shape);
    return r.in[0].shape;
  }

  template <class T>
  void forward(const Run& r) const {
    reverse<T>(r, r.in[0], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    reverse<T>(r, r.dout[0], r.din[0]);
  }

 private:
  template <class T>
  void reverse(const Run& r, const T* x, T* y) const {
    const AxisView view(r.in[0].shape, checked_axis(r, axis, r.in[0].shape));
    if (view.size * view.inner == 0) return;
    parallel_for(view.outer, std::max<Index>(1, 32768 / (view.size * view.inner)), [=](Index begin, Index end) {
      for (Index row = begin * view.size; row < end * view.size; ++row) {
        const Index mirrored = row - row % view.size + view.size - 1 - row % view.size;
        std::copy_n(x + mirrored * view.inner, view.inner, y + row * view.inner);
      }
    });
  }
};

// y = x repeated;  dx = Σ dy over the repetitions
struct BroadcastTo {
  OCELLUS_OP("broadcast_to(x)", shape)
  Shape shape;

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    bool fits = x.rank() <= shape.rank();
    for (int d = 1; fits && d <= x.rank(); ++d) fits = x[-d] == shape[-d] || x[-d] == 1;
    if (!fits) r.fail("x must repeat to " + shape.str());
    return shape;
  }

  template <class T>
  void forward(const Run& r) const {
    const T one = 1;  // 1 x = x for every x, also −0
    broadcast_map<T>(kernels::Binary::mul, shape, r.in[0].shape, r.in[0], Shape{}, &one, r.out[0]);
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
    const int at = axis < 0 ? axis + t.rank() + 1 : axis;
    Shape shape;
    for (int d = 0; d <= t.rank(); ++d) {
      if (d == at) shape.push_back(1);
      if (d < t.rank()) shape.push_back(t.dim(d));
    }
    rows.push_back(reshape(t, shape));
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
  for (int& a : op.axes) {
    if (a < 0) a += x.rank();
  }
  return call(op, x);
}
OCELLUS_FLOATS(permute)

template <class T>
BasicTensor<T> transpose(const BasicTensor<T>& x, int a, int b) {
  static_cast<void>(x.dim(a));  // throws where there is no such axis
  static_cast<void>(x.dim(b));
  op::Permute op;
  for (int d = 0; d < x.rank(); ++d) op.axes.push_back(d);
  const std::size_t first = static_cast<std::size_t>(a < 0 ? a + x.rank() : a);
  const std::size_t second = static_cast<std::size_t>(b < 0 ? b + x.rank() : b);
  std::swap(op.axes[first], op.axes[second]);
  return call(op, x);
}
OCELLUS_FLOATS(transpose)

template <class T>
BasicTensor<T> flip(const BasicTensor<T>& x, int axis) {
  return call(op::Flip{axis}, x);
}
OCELLUS_FLOATS(flip)

template <class T>
BasicTensor<T> broadcast_to(const BasicTensor<T>& x, const Shape& shape) {
  return x.shape() == shape ? x : call(op::BroadcastTo{shape}, x);
}
OCELLUS_FLOATS(broadcast_to)

}  // namespace ocellus
#endif
