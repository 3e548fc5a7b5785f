// Elementwise arithmetic: + - * / with NumPy's broadcasting, with a number, and functions of one tensor.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// a (op) b. Shapes are aligned at the last axis, a size of 1 repeats; anything else throws ShapeError.
template <class T>
BasicTensor<T> add(const BasicTensor<T>& a, const BasicTensor<T>& b);
template <class T>
BasicTensor<T> sub(const BasicTensor<T>& a, const BasicTensor<T>& b);
template <class T>
BasicTensor<T> mul(const BasicTensor<T>& a, const BasicTensor<T>& b);
template <class T>
BasicTensor<T> div(const BasicTensor<T>& a, const BasicTensor<T>& b);

// scale · x + shift
template <class T>
BasicTensor<T> affine(const BasicTensor<T>& x, double scale, double shift = 0);

template <class T>
BasicTensor<T> neg(const BasicTensor<T>& x);
template <class T>
BasicTensor<T> exp(const BasicTensor<T>& x);
// Natural; NaN below zero.
template <class T>
BasicTensor<T> log(const BasicTensor<T>& x);
template <class T>
BasicTensor<T> sqrt(const BasicTensor<T>& x);
template <class T>
BasicTensor<T> abs(const BasicTensor<T>& x);
template <class T>
BasicTensor<T> square(const BasicTensor<T>& x);
template <class T>
BasicTensor<T> reciprocal(const BasicTensor<T>& x);
// x to a constant power.
template <class T>
BasicTensor<T> pow(const BasicTensor<T>& x, double exponent);
// min(max(x, low), high); NaN stays NaN. Throws ShapeError unless low ≤ high.
template <class T>
BasicTensor<T> clamp(const BasicTensor<T>& x, double low, double high);

template <class T>
BasicTensor<T> operator+(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return add(a, b);
}
template <class T>
BasicTensor<T> operator-(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return sub(a, b);
}
template <class T>
BasicTensor<T> operator*(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return mul(a, b);
}
template <class T>
BasicTensor<T> operator/(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return div(a, b);
}
template <class T>
BasicTensor<T> operator-(const BasicTensor<T>& x) {
  return neg(x);
}

// With a number on one side.
template <class T>
BasicTensor<T> operator+(const BasicTensor<T>& x, double number) {
  return affine(x, 1, number);
}
template <class T>
BasicTensor<T> operator+(double number, const BasicTensor<T>& x) {
  return affine(x, 1, number);
}
template <class T>
BasicTensor<T> operator-(const BasicTensor<T>& x, double number) {
  return affine(x, 1, -number);
}
template <class T>
BasicTensor<T> operator-(double number, const BasicTensor<T>& x) {
  return affine(x, -1, number);
}
template <class T>
BasicTensor<T> operator*(const BasicTensor<T>& x, double number) {
  return affine(x, number);
}
template <class T>
BasicTensor<T> operator*(double number, const BasicTensor<T>& x) {
  return affine(x, number);
}
template <class T>
BasicTensor<T> operator/(const BasicTensor<T>& x, double number) {
  return affine(x, 1 / number);
}
template <class T>
BasicTensor<T> operator/(double number, const BasicTensor<T>& x) {
  return affine(reciprocal(x), number);
}

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

inline constexpr Index map_grain = 16384;  // elements that a thread's share of a plain loop should at least have

// y[i] = f(i) over [0, n).
template <class T, class F>
void map_elements(Index n, T* y, F f) {
  parallel_for(n, map_grain, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) y[i] = f(i);
  });
}

// da = Σ dy (op) b over the axes along which a was repeated.
template <class T>
void binary_gradient(kernels::Binary f, const View& dy, const Shape& b_shape, const T* b, const Shape& a_shape, T* da) {
  if (a_shape.numel() == dy.shape.numel()) {
    broadcast_map<T>(f, dy.shape, dy.shape, dy, b_shape, b, da);
    return;
  }
  Scratch frame;
  T* whole = frame.take<T>(dy.shape.numel());
  broadcast_map<T>(f, dy.shape, dy.shape, dy, b_shape, b, whole);
  reduce_to<T>(dy.shape, whole, a_shape, da);
}

template <class T>
void negate(Index n, T* x) {
  kernels::table<T>().unary(kernels::Unary::neg, n, x, x);
}

// y = a − b;  da = Σ dy, db = −Σ dy
struct Sub {
  OCELLUS_OP("sub(a, b)")
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return broadcast_shape(r, r.in[0].shape, r.in[1].shape); }

  template <class T>
  void forward(const Run& r) const {
    broadcast_map<T>(kernels::Binary::sub, r.out[0].shape, r.in[0].shape, r.in[0], r.in[1].shape, r.in[1], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T *da = r.din[0], *db = r.din[1];
    if (da) reduce_to<T>(r.dout[0].shape, dy, r.in[0].shape, da);
    if (db) {
      reduce_to<T>(r.dout[0].shape, dy, r.in[1].shape, db);
      negate(r.in[1].shape.numel(), db);
    }
  }
};

// y = a b;  da = Σ dy b, db = Σ dy a
struct Mul {
  OCELLUS_OP("mul(a, b)")
  static constexpr unsigned keeps = input(0) | input(1);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return broadcast_shape(r, r.in[0].shape, r.in[1].shape); }

  template <class T>
  void forward(const Run& r) const {
    broadcast_map<T>(kernels::Binary::mul, r.out[0].shape, r.in[0].shape, r.in[0], r.in[1].shape, r.in[1], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    T *da = r.din[0], *db = r.din[1];
    if (da) binary_gradient<T>(kernels::Binary::mul, r.dout[0], r.in[1].shape, r.in[1], r.in[0].shape, da);
    if (db) binary_gradient<T>(kernels::Binary::mul, r.dout[0], r.in[0].shape, r.in[0], r.in[1].shape, db);
  }
};

// y = a / b;  da = Σ dy / b, db = −Σ dy y / b
struct Div {
  OCELLUS_OP("div(a, b)")
  static constexpr unsigned keeps = input(1) | output(0);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return broadcast_shape(r, r.in[0].shape, r.in[1].shape); }

  template <class T>
  void forward(const Run& r) const {
    broadcast_map<T>(kernels::Binary::div, r.out[0].shape, r.in[0].shape, r.in[0], r.in[1].shape, r.in[1], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    const Shape& whole = r.dout[0].shape;
    T *da = r.din[0], *db = r.din[1];
    if (da) binary_gradient<T>(kernels::Binary::div, r.dout[0], r.in[1].shape, r.in[1], r.in[0].shape, da);
    if (db) {
      Scratch frame;
      T* product = frame.take<T>(whole.numel());
      broadcast_map<T>(kernels::Binary::mul, whole, whole, r.dout[0], whole, r.out[0], product);
      broadcast_map<T>(kernels::Binary::div, whole, whole, product, r.in[1].shape, r.in[1], product);
      reduce_to<T>(whole, product, r.in[1].shape, db);
      negate(r.in[1].shape.numel(), db);
    }
  }
};

// y = scale x + shift;  dx = scale dy
struct Affine {
  OCELLUS_OP("affine(x)", scale, shift)
  double scale = 1;
  double shift = 0;
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return r.in[0].shape; }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    const T a = static_cast<T>(scale), b = static_cast<T>(shift);
    map_elements<T>(r.in[0].shape.numel(), r.out[0], [=](Index i) { return a * x[i] + b; });
  }

  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    const T a = static_cast<T>(scale);
    map_elements<T>(r.in[0].shape.numel(), r.din[0], [=](Index i) { return a * dy[i]; });
  }
};

// y = f(x);  dx = f'(x) dy: exp' = exp, log' = 1/x, √' = 1/(2√), |x|' = ±1 (0 at 0), (x²)' = 2x, (1/x)' = −1/x²
struct Unary {
  OCELLUS_OP("unary(x)", function)
  kernels::Unary function = kernels::Unary::exp;
  static constexpr unsigned keeps = input(0);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return r.in[0].shape; }

  template <class T>
  void forward(const Run& r) const {
    kernels::table<T>().unary(function, r.in[0].shape.numel(), r.in[0], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    using enum kernels::Unary;
    const T *x = r.in[0], *dy = r.dout[0];
    T* dx = r.din[0];
    const Index n = r.in[0].shape.numel();
    switch (function) {
      case exp:
        kernels::table<T>().unary(exp, n, x, dx);
        return map_elements(n, dx, [=](Index i) { return dx[i] * dy[i]; });
      case log: return map_elements(n, dx, [=](Index i) { return dy[i] / x[i]; });
      case sqrt: return map_elements(n, dx, [=](Index i) { return dy[i] / (2 * std::sqrt(x[i])); });
      case abs: return map_elements(n, dx, [=](Index i) { return x[i] > 0 ? dy[i] : (x[i] < 0 ? -dy[i] : x[i] * 0); });
      case neg: return kernels::table<T>().unary(neg, n, dy, dx);
      case square: return map_elements(n, dx, [=](Index i) { return 2 * x[i] * dy[i]; });
      case reciprocal: return map_elements(n, dx, [=](Index i) { return -dy[i] / (x[i] * x[i]); });
    }
  }
};

// y = xᵖ;  dx = p xᵖ⁻¹ dy
struct Pow {
  OCELLUS_OP("pow(x)", exponent)
  double exponent = 1;
  static constexpr unsigned keeps = input(0);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return r.in[0].shape; }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    const T p = static_cast<T>(exponent);
    map_elements<T>(r.in[0].shape.numel(), r.out[0], [=](Index i) { return std::pow(x[i], p); });
  }

  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *dy = r.dout[0];
    const T p = static_cast<T>(exponent);
    // A zeroth power is constant, at 0 too, where p xᵖ⁻¹ would be 0 · ∞.
    map_elements<T>(r.in[0].shape.numel(), r.din[0],
                    [=](Index i) { return p == 0 ? T(0) : p * std::pow(x[i], p - 1) * dy[i]; });
  }
};

// y = min(max(x, low), high);  dx = dy where low ≤ x ≤ high, else 0
struct Clamp {
  OCELLUS_OP("clamp(x)", low, high)
  double low = 0;
  double high = 1;
  static constexpr unsigned keeps = input(0);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const {
    r.require(low <= high, "low must not exceed high");
    return r.in[0].shape;
  }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    const T a = static_cast<T>(low), b = static_cast<T>(high);
    map_elements<T>(r.in[0].shape.numel(), r.out[0], [=](Index i) { return x[i] < a ? a : (x[i] > b ? b : x[i]); });
  }

  template <class T>
  void backward(const Run& r) const {
    const T *x = r.in[0], *dy = r.dout[0];
    const T a = static_cast<T>(low), b = static_cast<T>(high);
    map_elements<T>(r.in[0].shape.numel(), r.din[0], [=](Index i) { return x[i] >= a && x[i] <= b ? dy[i] : T(0); });
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> add(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return call(op::Add{}, a, b);
}
OCELLUS_FLOATS(add)

template <class T>
BasicTensor<T> sub(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return call(op::Sub{}, a, b);
}
OCELLUS_FLOATS(sub)

template <class T>
BasicTensor<T> mul(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return call(op::Mul{}, a, b);
}
OCELLUS_FLOATS(mul)

template <class T>
BasicTensor<T> div(const BasicTensor<T>& a, const BasicTensor<T>& b) {
  return call(op::Div{}, a, b);
}
OCELLUS_FLOATS(div)

template <class T>
BasicTensor<T> affine(const BasicTensor<T>& x, double scale, double shift) {
  return call(op::Affine{scale, shift}, x);
}
OCELLUS_FLOATS(affine)

template <class T>
BasicTensor<T> neg(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::neg}, x);
}
OCELLUS_FLOATS(neg)

template <class T>
BasicTensor<T> exp(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::exp}, x);
}
OCELLUS_FLOATS(exp)

template <class T>
BasicTensor<T> log(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::log}, x);
}
OCELLUS_FLOATS(log)

template <class T>
BasicTensor<T> sqrt(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::sqrt}, x);
}
OCELLUS_FLOATS(sqrt)

template <class T>
BasicTensor<T> abs(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::abs}, x);
}
OCELLUS_FLOATS(abs)

template <class T>
BasicTensor<T> square(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::square}, x);
}
OCELLUS_FLOATS(square)

template <class T>
BasicTensor<T> reciprocal(const BasicTensor<T>& x) {
  return call(op::Unary{kernels::Unary::reciprocal}, x);
}
OCELLUS_FLOATS(reciprocal)

template <class T>
BasicTensor<T> pow(const BasicTensor<T>& x, double exponent) {
  return call(op::Pow{exponent}, x);
}
OCELLUS_FLOATS(pow)

template <class T>
BasicTensor<T> clamp(const BasicTensor<T>& x, double low, double high) {
  return call(op::Clamp{low, high}, x);
}
OCELLUS_FLOATS(clamp)

}  // namespace ocellus
#endif
