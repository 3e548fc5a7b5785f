// Dual numbers: a value and its derivatives, carried through a formula together (Wengert, 1964). A loss whose formula
// serves elsewhere too (boxes) is differentiated as it stands.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>

namespace ocellus {

// log(1 + eˣ) without overflow.
template <class T>
  requires std::is_floating_point_v<T>
T softplus(T x) {
  return std::log1p(std::exp(-std::abs(x))) + (x > T(0) ? x : T(0));
}

template <class T, std::size_t N>
struct Dual {
  T value{};
  T slope[N] = {};

  Dual() = default;
  Dual(T constant) : value(constant) {}  // NOLINT: a number has no slope
  // The i-th of the N variables.
  Dual(T at, std::size_t i) : value(at) { slope[i] = T(1); }

  // f(a) with f'(a), and the same of two.
  static Dual chain(T value, const Dual& a, T da) {
    Dual r(value);
    for (std::size_t i = 0; i < N; ++i) r.slope[i] = da * a.slope[i];
    return r;
  }
  static Dual chain(T value, const Dual& a, T da, const Dual& b, T db) {
    Dual r(value);
    for (std::size_t i = 0; i < N; ++i) r.slope[i] = da * a.slope[i] + db * b.slope[i];
    return r;
  }

  friend Dual operator+(const Dual& a, const Dual& b) { return chain(a.value + b.value, a, T(1), b, T(1)); }
  friend Dual operator-(const Dual& a, const Dual& b) { return chain(a.value - b.value, a, T(1), b, T(-1)); }
  friend Dual operator*(const Dual& a, const Dual& b) { return chain(a.value * b.value, a, b.value, b, a.value); }
  friend Dual operator/(const Dual& a, const Dual& b) {
    const T quotient = a.value / b.value;
    return chain(quotient, a, T(1) / b.value, b, -quotient / b.value);
  }
  friend Dual min(const Dual& a, const Dual& b) { return b.value < a.value ? b : a; }
  friend Dual max(const Dual& a, const Dual& b) { return a.value < b.value ? b : a; }
  friend Dual atan(const Dual& a) { return chain(std::atan(a.value), a, T(1) / (T(1) + a.value * a.value)); }
  friend Dual pow(const Dual& a, T exponent) {
    const T power = std::pow(a.value, exponent);
    return chain(power, a, exponent == T(0) ? T(0) : exponent * std::pow(a.value, exponent - T(1)));
  }
  friend Dual without_gradient(const Dual& a) { return Dual(a.value); }

  // 1 / (1 + e⁻ˣ)
  friend Dual sigmoid(const Dual& a) {
    const T s = T(1) / (T(1) + std::exp(-a.value));
    return chain(s, a, s * (T(1) - s));
  }
  friend Dual softplus(const Dual& a) { return chain(softplus(a.value), a, T(1) / (T(1) + std::exp(-a.value))); }
};

}  // namespace ocellus
