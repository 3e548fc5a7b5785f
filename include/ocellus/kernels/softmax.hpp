// Softmax and log-softmax over rows, and their gradients. A row whose entries are all -inf, or that holds +inf or NaN,
// gives NaN.
#pragma once

#include <cmath>

#include <ocellus/kernels/elementwise.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// Largest element of x[0, n), n ≥ 1; NaN may be passed over (the sum of exponentials then carries it).
template <class T>
OCELLUS_INLINE T row_max(Index n, const T* x) {
  constexpr Index width = vec<T>::size;
  if (n < width) return reduce_max<T>(first_lanes<T>(n, load_n(x, n), vec<T>(x[0])));
  vec<T> a = load(x);
  vec<T> b = a;
  Index i = width;
  for (; i + 2 * width <= n; i += 2 * width) {
    a = max<T>(load(x + i), a);
    b = max<T>(load(x + i + width), b);
  }
  if (i + width <= n) a = max<T>(load(x + i), a);
  b = max<T>(load(x + n - width), b);  // overlaps what was seen: harmless for a maximum
  return reduce_max<T>(max<T>(a, b));
}

// y = exp(x scale - shift), returns its sum; y may be x. Only the sum unless `keep`.
template <bool keep, class T>
OCELLUS_INLINE T row_exp(Index n, const T* x, T scale, T shift, T* y) {
  constexpr Index width = vec<T>::size;
  const vec<T> factor(scale);
  const vec<T> offset(-shift);
  vec<T> a(T(0));
  vec<T> b(T(0));
  Index i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    const vec<T> u = exp<T>(fma<T>(load(x + i), factor, offset));
    const vec<T> v = exp<T>(fma<T>(load(x + i + width), factor, offset));
    if constexpr (keep) {
      store(y + i, u);
      store(y + i + width, v);
    }
    a += u;
    b += v;
  }
  for (; i + width <= n; i += width) {
    const vec<T> u = exp<T>(fma<T>(load(x + i), factor, offset));
    if constexpr (keep) store(y + i, u);
    a += u;
  }
  if (i < n) {
    const vec<T> u = exp<T>(fma<T>(load_n(x + i, n - i), factor, offset));
    if constexpr (keep) store_n(y + i, u, n - i);
    b += first_lanes<T>(n - i, u, T(0));
  }
  return reduce_add<T>(a + b);
}

// 2ˣ for x up to the largest exponent of T: 2ⁿ 2ʳ with a minimax polynomial of degree 5 for 2ʳ (float: relative error
// 2e-7 in all). Below -126 float may give 2⁻¹²⁶ instead of less. NaN stays.
template <class T>
OCELLUS_INLINE vec<T> exp2(vec<T> x) {
  if constexpr (!std::is_same_v<T, float>) {
    return exp<T>(x * vec<T>(T(0.69314718055994530942)));
  } else {
#if defined(OCELLUS_ISA_AVX512)
    const vec<T> r = typename vec<T>::raw{_mm512_maskz_reduce_ps(0xffff, x.r, 1)};  // x - ⌊x⌋, and scalef takes ⌊x⌋
    const vec<T> y =
        polynomial<T>(r, 1.0f, 0.693151295f, 0.240164444f, 0.0557999127f, 0.00901703071f, 0.00186713005f);
    return typename vec<T>::raw{_mm512_maskz_scalef_ps(0xffff, y.r, x.r)};
#else
    const vec<T> to_integer(12582912.0f);  // 1.5 * 2^23: adding it rounds
    x = max<T>(vec<T>(-126.0f), x);        // in this order NaN stays
    const vec<T> shifted = x + to_integer;
    const vec<T> r = x - (shifted - to_integer);
    const vec<T> y =
        polynomial<T>(r, 1.0f, 0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f);
    return y * from_bits<T>((to_bits<T>(shifted) << 23) + to_bits<T>(vec<T>(1.0f)));
#endif
  }
}

// x = 2^(x - shift), returns its sum.
template <class T>
OCELLUS_INLINE T row_exp2(Index n, T* x, T shift) {
  constexpr Index width = vec<T>::size;
  const vec<T> offset(shift);
  vec<T> a(T(0));
  vec<T> b(T(0));
  Index i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    const vec<T> u = exp2<T>(load(x + i) - offset);
    const vec<T> v = exp2<T>(load(x + i + width) - offset);
    store(x + i, u);
    store(x + i + width, v);
    a += u;
    b += v;
  }
  for (; i < n; i += width) {
    const Index left = smaller(width, n - i);
    const vec<T> u = exp2<T>(load_n(x + i, left) - offset);
    store_n(x + i, u, left);
    b += first_lanes<T>(left, u, T(0));
  }
  return reduce_add<T>(a + b);
}

// Σ f over the vectors of a row, zeros filling up the last: f must map them to zero.
template <class T, class F>
OCELLUS_INLINE T row_sum(Index n, F&& f) {
  vec<T> sum(T(0));
  each_vector<T>(0, n, [&](Index i, auto lanes) OCELLUS_INLINE_LAMBDA { sum += f(i, lanes); });
  return reduce_add<T>(sum);
}

template <class T>
void softmax(Index rows, Index n, const T* x, T* y, bool log) {
  if (n == 0) return;
  parallel_for(rows, ceil_div(function_grain, n), [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* in = x + r * n;
      T* out = y + r * n;
      const T top = row_max(n, in);
      if (log) {
        const vec<T> shift(top);
        const vec<T> logarithm(std::log(row_exp<false>(n, in, T(1), top, out)));
        each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          store_n(out + i, load_n(in + i, lanes) - shift - logarithm, lanes);
        });
      } else {
        const vec<T> scale(T(1) / row_exp<true>(n, in, T(1), top, out));
        each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          store_n(out + i, load_n(out + i, lanes) * scale, lanes);
        });
      }
    }
  });
}

template <class T>
void softmax_backward(Index rows, Index n, const T* y, const T* dy, T* dx, bool log) {
  if (n == 0) return;
  parallel_for(rows, ceil_div(function_grain, n), [=](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* p = y + r * n;
      const T* g = dy + r * n;
      T* out = dx + r * n;
      if (log) {
        const vec<T> sum(
            row_sum<T>(n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA { return load_n(g + i, lanes); }));
        each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          store_n(out + i, fnma<T>(exp<T>(load_n(p + i, lanes)), sum, load_n(g + i, lanes)), lanes);
        });
      } else {
        const vec<T> sum(row_sum<T>(
            n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA { return load_n(p + i, lanes) * load_n(g + i, lanes); }));
        each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          store_n(out + i, load_n(p + i, lanes) * (load_n(g + i, lanes) - sum), lanes);
        });
      }
    }
  });
}

}  // namespace ocellus::kernels::OCELLUS_ISA
