// The activation functions: one enum, one scalar definition of value and slope, used by the op, by every epilogue's twin and in double.
#pragma once

#include <cmath>
#include <cstdint>

#include <ocellus/core/config.hpp>

namespace ocellus {

// gelu: x Φ(x) with erf (Hendrycks and Gimpel, 2016); gelu_tanh: its tanh form; silu: x σ(x); hard_*: Howard et al., 2019 (MobileNetV3).
enum class Act : std::uint8_t { none, relu, relu6, leaky_relu, gelu, gelu_tanh, silu, sigmoid, tanh, hard_sigmoid, hard_swish };

inline constexpr const char* act_names[] = {"none", "relu", "relu6", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh",
                                            "hard_sigmoid", "hard_swish"};

inline constexpr double leaky_relu_slope = 0.01;  // PyTorch's default; the op takes no other

// f(x). NaN stays NaN for every function.
template <class T>
T act_value(Act f, T x) {
  switch (f) {
    case Act::none: return x;
    case Act::relu: return x > T(0) ? x : (x <= T(0) ? T(0) : x);
    case Act::relu6: return x > T(6) ? T(6) : (x <= T(0) ? T(0) : x);
    case Act::leaky_relu: return x > T(0) ? x : x * T(leaky_relu_slope);
    case Act::gelu: return x * T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752440)));
    case Act::gelu_tanh: {
      const T u = T(0.79788456080286535588) * (x + T(0.044715) * x * x * x);
      return x * T(0.5) * (T(1) + std::tanh(u));
    }
    case Act::silu: return x / (T(1) + std::exp(-x));
    case Act::sigmoid: return T(1) / (T(1) + std::exp(-x));
    case Act::tanh: return std::tanh(x);
    case Act::hard_sigmoid: return x >= T(3) ? T(1) : (x <= T(-3) ? T(0) : x / T(6) + T(0.5));
    case Act::hard_swish: return x >= T(3) ? x : (x <= T(-3) ? T(0) : x * (x + T(3)) / T(6));
  }
  return x;
}

// f'(x), at kinks as PyTorch has it.
template <class T>
T act_slope(Act f, T x) {
  switch (f) {
    case Act::none: return T(1);
    case Act::relu: return x > T(0) ? T(1) : T(0);
    case Act::relu6: return x > T(0) && x < T(6) ? T(1) : T(0);
    case Act::leaky_relu: return x > T(0) ? T(1) : T(leaky_relu_slope);
    case Act::gelu:
      return T(0.5) * (T(1) + std::erf(x * T(0.70710678118654752440))) + x * std::exp(-x * x / 2) * T(0.39894228040143267794);
    case Act::gelu_tanh: {
      const T c = T(0.79788456080286535588);
      const T t = std::tanh(c * (x + T(0.044715) * x * x * x));
      return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * c * (T(1) + T(3 * 0.044715) * x * x);
    }
    case Act::silu: {
      const T s = T(1) / (T(1) + std::exp(-x));
      return s * (T(1) + x * (T(1) - s));
    }
    case Act::sigmoid: {
      const T s = T(1) / (T(1) + std::exp(-x));
      return s * (T(1) - s);
    }
    case Act::tanh: {
      const T t = std::tanh(x);
      return T(1) - t * t;
    }
    case Act::hard_sigmoid: return x > T(-3) && x < T(3) ? T(1) / T(6) : T(0);
    case Act::hard_swish: return x >= T(3) ? T(1) : (x <= T(-3) ? T(0) : (T(2) * x + T(3)) / T(6));
  }
  return T(1);
}

}  // namespace ocellus
