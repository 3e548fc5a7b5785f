// Reductions over axes: sum, mean, max, min, argmax.
#pragma once

#include <cstdint>
#include <vector>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

struct ReduceOptions {
  std::vector<int> axes = {};  // negative ones count from the last; none: all axes
  bool keep_axes = false;      // reduced axes stay with size 1
};

// Throw ShapeError for an axis that does not exist or is named twice. An empty sum is 0, an empty mean NaN.
template <class T>
BasicTensor<T> sum(const BasicTensor<T>& x, const ReduceOptions& options = {});
template <class T>
BasicTensor<T> mean(const BasicTensor<T>& x, const ReduceOptions& options = {});
// NaN wins. The gradient goes to the first of several equal extremes.
template <class T>
BasicTensor<T> max(const BasicTensor<T>& x, const ReduceOptions& options = {});
template <class T>
BasicTensor<T> min(const BasicTensor<T>& x, const ReduceOptions& options = {});

// The place of the maximum along one axis, which disappears; NaN wins, else the first of several.
template <class T>
BasicTensor<std::int64_t> argmax(const BasicTensor<T>& x, int axis = -1);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

// The axes that a reduction removes: bit i is axis i.
struct AxisSet {
  unsigned bits = 0;

  AxisSet() = default;
  AxisSet(const std::vector<int>& axes, int rank) : bits(axes.empty() ? (1u << rank) - 1 : 0) {
    for (int axis : axes) {
      const int i = axis < 0 ? axis + rank : axis;
      bits |= i < 0 || i >= rank || has(i) ? invalid : 1u << i;
    }
  }

  bool has(int axis) const { return bits >> axis & 1u; }

  // x with size 1 on every reduced axis.
  Shape kept(const Shape& x) const {
    Shape y = x;
    for (int i = 0; i < x.rank(); ++i) {
      if (has(i)) y[i] = 1;
    }
    return y;
  }
  Shape result(const Run& r, bool keep_axes) const {
    r.require((bits & invalid) == 0, "an axis is named twice or lies outside of [-rank, rank)");
    const Shape& x = r.in[0].shape;
    if (keep_axes) return kept(x);
    Shape y;
    for (int i = 0; i < x.rank(); ++i) {
      if (!has(i)) y.push_back(x[i]);
    }
    return y;
  }
  std::string str() const {
    std::string s;
    for (int i = 0; i < Shape::max_rank; ++i) {
      if (has(i)) s += (s.empty() ? "" : " ") + std::to_string(i);
    }
    return s;
  }

 private:
  static constexpr unsigned invalid = 1u << 31;
};

// y = reduction of x over the axes where `to` has size 1, times scale.
template <class T>
void reduce_axes(kernels::Reduction f, const Shape& from, const T* x, const Shape& to, T* y, double scale) {
  Scratch frame;
  Shape shape = from;
  const T* now = x;
  autograd_detail::ReduceStep step{};
  while (autograd_detail::next_reduction(shape, to, step)) {
    const bool last = shape == to;
    kernels::Reduce<T> reduce;
    reduce.op = f;
    reduce.outer = step.outer;
    reduce.reduced = step.reduced;
    reduce.inner = step.inner;
    reduce.x = now;
    reduce.y = last ? y : frame.take<T>(step.outer * step.inner);
    if (last) reduce.scale = static_cast<T>(scale);
    kernels::table<T>().reduce(reduce);
    now = reduce.y;
  }
  if (now != y) std::memcpy(y, now, static_cast<std::size_t>(to.numel()) * sizeof(T));
}

// y = s Σ x over the axes, s = 1 or 1 / (number of terms);  dx = s dy, repeated
struct Sum {
  OCELLUS_OP("sum(x)", axes, keep_axes, mean)
  AxisSet axes;
  bool keep_axes = false;
  bool mean = false;

  Shape infer(const Run& r) const { return axes.result(r, keep_axes); }

  double scale(const Run& r) const {
    const Shape& x = r.in[0].shape;
    return mean ? static_cast<double>(axes.kept(x).numel()) / static_cast<double>(x.numel()) : 1.0;
  }

  template <class T>
  void forward(const Run& r) const {
    reduce_axes<T>(kernels::Reduction::sum, r.in[0].shape, r.in[0], axes.kept(r.in[0].shape), r.out[0], scale(r));
  }

  template <class T>
  void backward(const Run& r) const {
    const Shape& x = r.in[0].shape;
    const T s = static_cast<T>(scale(r));
    broadcast_map<T>(kernels::Binary::mul, x, {}, &s, axes.kept(x), r.dout[0], r.din[0]);
  }
};

// y = max or min of x over the axes;  dx = dy at the first extreme, else 0
struct Extreme {
  OCELLUS_OP("extreme(x)", axes, keep_axes, minimum)
  AxisSet axes;
  bool keep_axes = false;
  bool minimum = false;
  static constexpr unsigned keeps = input(0) | output(0);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape.numel() > 0, "an empty tensor has no extreme");
    return axes.result(r, keep_axes);
  }

  template <class T>
  void forward(const Run& r) const {
    const auto f = minimum ? kernels::Reduction::min : kernels::Reduction::max;
    reduce_axes<T>(f, r.in[0].shape, r.in[0], axes.kept(r.in[0].shape), r.out[0], 1);
  }

  template <class T>
  void backward(const Run& r) const {
    const Shape& shape = r.in[0].shape;
    const Shape reduced = axes.kept(shape);
    const T *x = r.in[0], *y = r.out[0], *dy = r.dout[0];
    T* dx = r.din[0];
    Index stride[Shape::max_rank], at[Shape::max_rank] = {};
    autograd_detail::broadcast_strides(shape, reduced, stride);
    Scratch frame;
    bool* given = frame.take<bool>(reduced.numel());
    std::fill_n(given, reduced.numel(), false);
    Index o = 0;  // the output that element i is reduced into
    for (Index i = 0; i < shape.numel(); ++i) {
      const bool extreme = x[i] == y[o] || (std::isnan(x[i]) && std::isnan(y[o]));
      dx[i] = extreme && !given[o] ? dy[o] : T(0);
      given[o] |= extreme;
      for (int a = shape.rank() - 1; a >= 0; --a) {
        o += stride[a];
        if (++at[a] < shape[a]) break;
        o -= at[a] * stride[a];
        at[a] = 0;
      }
    }
  }
};

// y = the first place of the maximum along an axis
struct ArgMax {
  OCELLUS_OP("argmax(x)", axis)
  int axis = -1;
  using Result = std::int64_t;
  static constexpr bool not_differentiable = true;

  int place(const Shape& x) const { return axis < 0 ? axis + x.rank() : axis; }

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(axis >= -x.rank() && axis < x.rank(), "the axis must exist");
    r.require(x[axis] > 0, "the axis must not be empty");
    Shape y;
    for (int i = 0; i < x.rank(); ++i) {
      if (i != place(x)) y.push_back(x[i]);
    }
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const Shape& shape = r.in[0].shape;
    const Index n = shape[axis];
    Index inner = 1;
    for (int i = place(shape) + 1; i < shape.rank(); ++i) inner *= shape[i];
    const T* x = r.in[0];
    std::int64_t* y = r.out[0];
    parallel_for(shape.numel() / n, std::max<Index>(1, 16384 / n), [=](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T* line = x + i / inner * n * inner + i % inner;
        Index best = 0;
        for (Index j = 1; j < n && !std::isnan(line[best * inner]); ++j) {
          if (!(line[j * inner] <= line[best * inner])) best = j;
        }
        y[i] = best;
      }
    });
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> sum(const BasicTensor<T>& x, const ReduceOptions& options) {
  return call(op::Sum{op::AxisSet(options.axes, x.rank()), options.keep_axes, false}, x);
}
OCELLUS_FLOATS(sum)

template <class T>
BasicTensor<T> mean(const BasicTensor<T>& x, const ReduceOptions& options) {
  return call(op::Sum{op::AxisSet(options.axes, x.rank()), options.keep_axes, true}, x);
}
OCELLUS_FLOATS(mean)

template <class T>
BasicTensor<T> max(const BasicTensor<T>& x, const ReduceOptions& options) {
  return call(op::Extreme{op::AxisSet(options.axes, x.rank()), options.keep_axes, false}, x);
}
OCELLUS_FLOATS(max)

template <class T>
BasicTensor<T> min(const BasicTensor<T>& x, const ReduceOptions& options) {
  return call(op::Extreme{op::AxisSet(options.axes, x.rank()), options.keep_axes, true}, x);
}
OCELLUS_FLOATS(min)

template <class T>
BasicTensor<std::int64_t> argmax(const BasicTensor<T>& x, int axis) {
  return call(op::ArgMax{axis}, x);
}
OCELLUS_FLOATS(argmax)

}  // namespace ocellus
#endif
