// One step of Adam, AdamW (Loshchilov and Hutter, 2019) and SGD with momentum, each in one pass over its arrays, as
// PyTorch orders the arithmetic.
#pragma once

#include <cmath>

#include <ocellus/kernels/elementwise.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

template <class T>
void adam_step(const AdamStep<T>& p) {
  const T decay = static_cast<T>(p.decoupled ? 1.0 - p.learning_rate * p.weight_decay : 1.0);
  const T l2 = static_cast<T>(p.decoupled ? 0.0 : p.weight_decay);
  const T step = static_cast<T>(-p.learning_rate / p.correction1);
  const T root = static_cast<T>(1.0 / std::sqrt(p.correction2));
  const T eps = static_cast<T>(p.eps);
  const T rate1 = static_cast<T>(1.0 - p.beta1);
  const T rate2 = static_cast<T>(1.0 - p.beta2);
  const T beta2 = static_cast<T>(p.beta2);
  parallel_vectors(p.n, function_grain, [&, p](Index begin, Index end) {
    each_vector<T>(begin, end, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      using V = vec<T>;
      const V w = load_n(p.weight + i, lanes) * V(decay);
      const V g = fma<T>(w, l2, load_n(p.gradient + i, lanes));
      const V m0 = load_n(p.first + i, lanes);
      const V m = fma<T>(g - m0, rate1, m0);
      const V v = fma<T>(g * V(rate2), g, load_n(p.second + i, lanes) * V(beta2));
      store_n(p.first + i, m, lanes);
      store_n(p.second + i, v, lanes);
      const V denominator = fma<T>(sqrt<T>(v), root, eps);
      store_n(p.weight + i, fma<T>(m / denominator, step, w), lanes);
    });
  });
}

template <bool momentum, class T>
void sgd_range(const SgdStep<T>& p, Index begin, Index end) {
  using V = vec<T>;
  const V l2(static_cast<T>(p.weight_decay));
  const V rate(static_cast<T>(-p.learning_rate));
  const V keep(static_cast<T>(p.first_step ? 0.0 : p.momentum));
  const V take(static_cast<T>(p.first_step ? 1.0 : 1.0 - p.dampening));
  const V ahead(static_cast<T>(p.nesterov ? p.momentum : 1.0));
  const V now(static_cast<T>(p.nesterov ? 1.0 : 0.0));
  const bool first = p.first_step;
  each_vector<T>(begin, end, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
    const V w = load_n(p.weight + i, lanes);
    V g = fma<T>(w, l2, load_n(p.gradient + i, lanes));
    if constexpr (momentum) {
      const V old =
          first ? V(T(0)) : load_n(p.velocity + i, lanes);  // before the first step it may hold anything, NaN too
      const V v = fma<T>(old, keep, g * take);
      store_n(p.velocity + i, v, lanes);
      g = fma<T>(v, ahead, g * now);
    }
    store_n(p.weight + i, fma<T>(g, rate, w), lanes);
  });
}

template <class T>
void sgd_step(const SgdStep<T>& p) {
  parallel_vectors(p.n, cheap_grain, [&](Index begin, Index end) {
    if (p.velocity) {
      sgd_range<true>(p, begin, end);
    } else {
      sgd_range<false>(p, begin, end);
    }
  });
}

}  // namespace ocellus::kernels::OCELLUS_ISA
