// Vectors of the instruction set this translation unit is compiled for: the only file that includes xsimd (8.1 up to
// 14). Everything lives in a namespace named after that set, so two translation units with different flags never share
// a symbol, and every function is force-inlined: xsimd 8.1's are plain `inline`, which g++ stops inlining in large
// kernels (measured 11 times slower).
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 on its own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wuninitialized"        // the same with -fsanitize
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <ocellus/core/shape.hpp>
#include <ocellus/kernels/activation.hpp>
#include <ocellus/runtime/parallel.hpp>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
// What came after these four serves the low precisions alone (kernels/low_precision.hpp).
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__) && defined(__AMX_TILE__) && defined(__AMX_INT8__) && \
    defined(__AMX_BF16__) && defined(__linux__)
#define OCELLUS_ISA isa_amx
#define OCELLUS_ISA_AMX 1
#elif defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define OCELLUS_ISA isa_avx512_bf16
#elif defined(__AVX512VNNI__)
#define OCELLUS_ISA isa_avx512_vnni
#else
#define OCELLUS_ISA isa_avx512
#endif
#define OCELLUS_ISA_NAME "avx512"
#define OCELLUS_ISA_AVX512 1
#define OCELLUS_ISA_REGISTERS 32
#elif defined(__AVX2__) && defined(__FMA__)
#define OCELLUS_ISA isa_avx2
#define OCELLUS_ISA_NAME "avx2"
#define OCELLUS_ISA_AVX2 1
#define OCELLUS_ISA_REGISTERS 16
#elif defined(__SSE2__)
#define OCELLUS_ISA isa_sse2
#define OCELLUS_ISA_NAME "sse2"
#define OCELLUS_ISA_REGISTERS 16
#elif defined(__aarch64__)
#define OCELLUS_ISA isa_neon
#define OCELLUS_ISA_NAME "neon"
#define OCELLUS_ISA_REGISTERS 32
#else
#error "ocellus needs vectors of float and double: x86-64 (SSE2 and up) or 64-bit Arm"
#endif

// Inlined wherever it is called, with all it calls itself.
#define OCELLUS_INLINE inline __attribute__((always_inline, flatten))
// The same for a lambda: after its parameter list.
#define OCELLUS_INLINE_LAMBDA __attribute__((always_inline))

namespace ocellus::kernels::OCELLUS_ISA {

using Arch = xsimd::default_arch;

// Sizes. Not std::min and std::max: those would be one symbol shared by translation units with different flags.
OCELLUS_INLINE constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
OCELLUS_INLINE constexpr Index larger(Index a, Index b) { return a > b ? a : b; }
OCELLUS_INLINE constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
OCELLUS_INLINE constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

// Calls f(piece) for every piece in [0, pieces) on the pool.
template <class F>
void for_pieces(Index pieces, F&& f) {
  if (pieces == 1) {
    f(Index{0});
    return;
  }
  struct Context {
    std::remove_reference_t<F>* f;
  } context{&f};
  run_pieces(
      pieces, [](void* c, Index piece) { (*static_cast<Context*>(c)->f)(piece); }, &context);
}

// Before a loop of at most 24 rounds over registers: they stay registers.
#if defined(__clang__)
#define OCELLUS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define OCELLUS_UNROLL _Pragma("GCC unroll 24")
#endif

// Lanes of a comparison.
template <class T>
struct mask {
  using batch = xsimd::batch_bool<T, Arch>;
  batch b;

  OCELLUS_INLINE mask(batch value) : b(value) {}
  friend OCELLUS_INLINE mask operator&(mask x, mask y) { return x.b & y.b; }
  friend OCELLUS_INLINE mask operator|(mask x, mask y) { return x.b | y.b; }
  friend OCELLUS_INLINE mask operator~(mask x) { return ~x.b; }
  friend OCELLUS_INLINE bool any(mask x) { return xsimd::any(x.b); }
  friend OCELLUS_INLINE bool all(mask x) { return xsimd::all(x.b); }
};

// One register of floats or doubles. A number converts to a vector of copies of it.
template <class T>
struct vec {
  using batch = xsimd::batch<T, Arch>;
  using reg = typename batch::register_type;
  static constexpr Index size = static_cast<Index>(batch::size);

  reg r;

  OCELLUS_INLINE vec() = default;
  OCELLUS_INLINE vec(T value) : r(batch(value)) {}
  OCELLUS_INLINE vec(const batch& value) : r(value) {}
  struct raw {
    reg r;
  };
  OCELLUS_INLINE vec(raw value) : r(value.r) {}
  OCELLUS_INLINE batch b() const { return batch(r); }

  friend OCELLUS_INLINE vec operator+(vec x, vec y) { return raw{x.r + y.r}; }
  friend OCELLUS_INLINE vec operator-(vec x, vec y) { return raw{x.r - y.r}; }
  friend OCELLUS_INLINE vec operator*(vec x, vec y) { return raw{x.r * y.r}; }
  friend OCELLUS_INLINE vec operator/(vec x, vec y) { return raw{x.r / y.r}; }
  friend OCELLUS_INLINE vec operator-(vec x) { return raw{-x.r}; }
  OCELLUS_INLINE vec& operator+=(vec y) { return *this = *this + y; }
  OCELLUS_INLINE vec& operator-=(vec y) { return *this = *this - y; }
  OCELLUS_INLINE vec& operator*=(vec y) { return *this = *this * y; }
  OCELLUS_INLINE vec& operator/=(vec y) { return *this = *this / y; }

  friend OCELLUS_INLINE mask<T> operator<(vec x, vec y) { return x.b() < y.b(); }
  friend OCELLUS_INLINE mask<T> operator<=(vec x, vec y) { return x.b() <= y.b(); }
  friend OCELLUS_INLINE mask<T> operator>(vec x, vec y) { return x.b() > y.b(); }
  friend OCELLUS_INLINE mask<T> operator>=(vec x, vec y) { return x.b() >= y.b(); }
  friend OCELLUS_INLINE mask<T> operator==(vec x, vec y) { return x.b() == y.b(); }
  // NaN != NaN is true (xsimd 8.1's own != is ordered on AVX: false).
  friend OCELLUS_INLINE mask<T> operator!=(vec x, vec y) { return ~(x.b() == y.b()); }
};

// Memory. Nothing needs alignment. load_n reads n elements (0 ≤ n ≤ size) and fills up with zeros; store_n writes the
// first n.
template <class T>
OCELLUS_INLINE vec<T> load(const T* p) {
  return xsimd::batch<T, Arch>::load_unaligned(p);
}
template <class T>
OCELLUS_INLINE void store(T* p, vec<T> v) {
  v.b().store_unaligned(p);
}

#if defined(OCELLUS_ISA_AVX512)
OCELLUS_INLINE vec<float> load_n(const float* p, Index n) {
  return vec<float>(vec<float>::raw{_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p)});
}
OCELLUS_INLINE vec<double> load_n(const double* p, Index n) {
  return vec<double>(vec<double>::raw{_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p)});
}
OCELLUS_INLINE void store_n(float* p, vec<float> v, Index n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v.r);
}
OCELLUS_INLINE void store_n(double* p, vec<double> v, Index n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), v.r);
}
#elif defined(OCELLUS_ISA_AVX2)
OCELLUS_INLINE __m256i lanes32(Index n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
OCELLUS_INLINE __m256i lanes64(Index n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
OCELLUS_INLINE vec<float> load_n(const float* p, Index n) {
  return vec<float>(vec<float>::raw{_mm256_maskload_ps(p, lanes32(n))});
}
OCELLUS_INLINE vec<double> load_n(const double* p, Index n) {
  return vec<double>(vec<double>::raw{_mm256_maskload_pd(p, lanes64(n))});
}
OCELLUS_INLINE void store_n(float* p, vec<float> v, Index n) { _mm256_maskstore_ps(p, lanes32(n), v.r); }
OCELLUS_INLINE void store_n(double* p, vec<double> v, Index n) { _mm256_maskstore_pd(p, lanes64(n), v.r); }
#else
template <class T>
OCELLUS_INLINE vec<T> load_n(const T* p, Index n) {
  T all[vec<T>::size] = {};
  for (Index i = 0; i < n; ++i) all[i] = p[i];
  return load<T>(all);
}
template <class T>
OCELLUS_INLINE void store_n(T* p, vec<T> v, Index n) {
  T all[vec<T>::size];
  store<T>(all, v);
  for (Index i = 0; i < n; ++i) p[i] = all[i];
}
#endif

// x y + z, rounded once where the instruction set can.
template <class T>
OCELLUS_INLINE vec<T> fma(vec<T> x, vec<T> y, vec<T> z) {
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm512_fmadd_ps(x.r, y.r, z.r)};
  } else {
    return typename vec<T>::raw{_mm512_fmadd_pd(x.r, y.r, z.r)};
  }
#elif defined(OCELLUS_ISA_AVX2)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm256_fmadd_ps(x.r, y.r, z.r)};
  } else {
    return typename vec<T>::raw{_mm256_fmadd_pd(x.r, y.r, z.r)};
  }
#else
  return xsimd::fma(x.b(), y.b(), z.b());
#endif
}
// z − x y
template <class T>
OCELLUS_INLINE vec<T> fnma(vec<T> x, vec<T> y, vec<T> z) {
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm512_fnmadd_ps(x.r, y.r, z.r)};
  } else {
    return typename vec<T>::raw{_mm512_fnmadd_pd(x.r, y.r, z.r)};
  }
#else
  return fma<T>(-x, y, z);
#endif
}

template <class T>
OCELLUS_INLINE vec<T> select(mask<T> m, std::type_identity_t<vec<T>> yes, std::type_identity_t<vec<T>> no) {
  return xsimd::select(m.b, yes.b(), no.b());
}
// The second argument where either is NaN (as maxps has it).
template <class T>
OCELLUS_INLINE vec<T> max(vec<T> x, vec<T> y) {
  // By intrinsics: g++ does not always see the one instruction in the comparison.
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm512_maskz_max_ps(0xffff, x.r, y.r)};
  } else {
    return typename vec<T>::raw{_mm512_maskz_max_pd(0xff, x.r, y.r)};
  }
#elif defined(OCELLUS_ISA_AVX2)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm256_max_ps(x.r, y.r)};
  } else {
    return typename vec<T>::raw{_mm256_max_pd(x.r, y.r)};
  }
#else
  return typename vec<T>::raw{x.r > y.r ? x.r : y.r};
#endif
}
template <class T>
OCELLUS_INLINE vec<T> min(vec<T> x, vec<T> y) {
  // By intrinsics: g++ does not always see the one instruction in the comparison.
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm512_maskz_min_ps(0xffff, x.r, y.r)};
  } else {
    return typename vec<T>::raw{_mm512_maskz_min_pd(0xff, x.r, y.r)};
  }
#elif defined(OCELLUS_ISA_AVX2)
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm256_min_ps(x.r, y.r)};
  } else {
    return typename vec<T>::raw{_mm256_min_pd(x.r, y.r)};
  }
#else
  return typename vec<T>::raw{x.r < y.r ? x.r : y.r};
#endif
}
template <class T>
OCELLUS_INLINE vec<T> abs(vec<T> x) {
  return xsimd::abs(x.b());
}
template <class T>
OCELLUS_INLINE vec<T> sqrt(vec<T> x) {
#if defined(OCELLUS_ISA_AVX512)
  // The masked form: g++ 12 warns of an uninitialised register in the plain one.
  if constexpr (std::is_same_v<T, float>) {
    return typename vec<T>::raw{_mm512_maskz_sqrt_ps(static_cast<__mmask16>(-1), x.r)};
  } else {
    return typename vec<T>::raw{_mm512_maskz_sqrt_pd(static_cast<__mmask8>(-1), x.r)};
  }
#else
  return xsimd::sqrt(x.b());
#endif
}
template <class T>
OCELLUS_INLINE vec<T> log(vec<T> x) {
  return xsimd::log(x.b());
}

// x in the first n lanes, `rest` in the others.
inline constexpr float lane_numbers_float[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
inline constexpr double lane_numbers_double[] = {0, 1, 2, 3, 4, 5, 6, 7};
template <class T>
OCELLUS_INLINE vec<T> first_lanes(Index n, vec<T> x, std::type_identity_t<vec<T>> rest) {
  if constexpr (std::is_same_v<T, float>) {
    return select<T>(load(lane_numbers_float) < vec<T>(static_cast<T>(n)), x, rest);
  } else {
    return select<T>(load(lane_numbers_double) < vec<T>(static_cast<T>(n)), x, rest);
  }
}

// One lane from all: f joins the lower and the upper half again and again, always in the same order.
template <class T, int N, class V, class F, int... I>
OCELLUS_INLINE T fold_lanes(const V& v, F f, std::integer_sequence<int, I...>) {
  constexpr int half = N / 2;
  if constexpr (half * sizeof(T) >= 16) {
    const auto next = f(__builtin_shufflevector(v, v, I...), __builtin_shufflevector(v, v, (I + half)...));
    return fold_lanes<T, half>(next, f, std::make_integer_sequence<int, (half * sizeof(T) > 16 ? half / 2 : half)>{});
  } else if constexpr (N == 4) {
    const auto next = f(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
    return f(next, __builtin_shufflevector(next, next, 1, 0, 3, 2))[0];
  } else {
    return f(v, __builtin_shufflevector(v, v, 1, 0))[0];
  }
}
template <class T, class F>
OCELLUS_INLINE T fold_lanes(vec<T> x, F f) {
  constexpr int lanes = static_cast<int>(vec<T>::size);
  // The compiler's own vector type, which its comparisons and shuffles return: NEON's is another one.
  typedef T plain __attribute__((vector_size(sizeof(T) * vec<T>::size)));
  return fold_lanes<T, lanes>((plain)x.r, f,
                              std::make_integer_sequence<int, (lanes * sizeof(T) > 16 ? lanes / 2 : lanes)>{});
}

// Sum and largest of the lanes. The largest may pass over NaN.
template <class T>
OCELLUS_INLINE T reduce_add(vec<T> x) {
  return fold_lanes<T>(x, [](const auto& a, const auto& b) OCELLUS_INLINE_LAMBDA { return a + b; });
}
template <class T>
OCELLUS_INLINE T reduce_max(vec<T> x) {
  return fold_lanes<T>(x, [](const auto& a, const auto& b) OCELLUS_INLINE_LAMBDA { return a > b ? a : b; });
}
// Asks for n elements that are read or written soon: rows lie too far apart for the processor to see them come.
template <class T>
OCELLUS_INLINE void fetch_row(const T* x, Index n) {
  for (Index i = 0; i < n; i += Index{64} / static_cast<Index>(sizeof(T))) __builtin_prefetch(x + i);
}

// A square of vectors transposed in registers: round s = 1, 2, 4... swaps the off-diagonal quarters of blocks of 2 s by
// 2 s.
template <int s, class V, int... I>
OCELLUS_INLINE void transpose_rounds(V* x, std::integer_sequence<int, I...> numbers) {
  constexpr int lanes = static_cast<int>(sizeof...(I));
  OCELLUS_UNROLL for (int r = 0; r < lanes; ++r) {
    if ((r & s) != 0) continue;
    const V a = x[r];
    const V b = x[r + s];
    x[r] = __builtin_shufflevector(a, b, (I & s ? lanes + I - s : I)...);
    x[r + s] = __builtin_shufflevector(a, b, (I & s ? lanes + I : I + s)...);
  }
  if constexpr (2 * s < lanes) transpose_rounds<2 * s>(x, numbers);
}

// to[j ldo + i] = from[i ldx + j] for a vector of i and the first `columns` (at most a vector) of j. The last of `rows`
// stands for those that are missing.
template <class T>
[[gnu::noinline]] void transpose_square(Index rows, Index columns, const T* from, Index ldx, T* to, Index ldo) {
  constexpr int lanes = static_cast<int>(vec<T>::size);
  if constexpr (std::is_same_v<T, float>) {
    typedef T plain __attribute__((vector_size(sizeof(T) * vec<T>::size)));
    plain x[std::size_t{lanes}];
    OCELLUS_UNROLL for (int r = 0; r < lanes; ++r) {
      const T* row = from + smaller(r, rows - 1) * ldx;
      x[r] = (plain)(columns == lanes ? load(row) : load_n(row, columns)).r;
    }
    transpose_rounds<1>(x, std::make_integer_sequence<int, lanes>{});
    OCELLUS_UNROLL for (int r = 0; r < lanes; ++r) {
      if (r < columns) store<T>(to + r * ldo, typename vec<T>::raw{(typename vec<T>::reg)x[r]});
    }
  } else {  // nobody tunes it
    for (Index i = 0; i < lanes; ++i) {
      for (Index j = 0; j < columns; ++j) to[j * ldo + i] = from[smaller(i, rows - 1) * ldx + j];
    }
  }
}

// Signed integers as wide as T, lane by lane the bits of a vector.
template <class T>
struct bits_of {
  using integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef integer type __attribute__((vector_size(sizeof(T) * vec<T>::size)));
};
template <class T>
using bits = typename bits_of<T>::type;
template <class T>
OCELLUS_INLINE bits<T> to_bits(vec<T> x) {
  return (bits<T>)x.r;
}
template <class T>
OCELLUS_INLINE vec<T> from_bits(bits<T> x) {
  return typename vec<T>::raw{(typename vec<T>::reg)x};
}

// Nearest integers, ties to even. Beyond 2³¹ and NaN: anything.
OCELLUS_INLINE bits<float> round_to_integer(vec<float> x) {
#if defined(OCELLUS_ISA_AVX512)
  return (bits<float>)_mm512_maskz_cvtps_epi32(0xffff, x.r);
#elif defined(OCELLUS_ISA_AVX2)
  return (bits<float>)_mm256_cvtps_epi32(x.r);
#elif defined(__SSE2__)
  return (bits<float>)_mm_cvtps_epi32(x.r);
#else
  return (bits<float>)vcvtnq_s32_f32(x.r);
#endif
}

// 1 / x for 2⁻¹²⁶ ≤ |x| ≤ 2¹²⁶ within 2 ulp: with AVX-512 an estimate of 14 bits and a Newton step, a third of the
// time of a division.
template <class T>
OCELLUS_INLINE vec<T> reciprocal(vec<T> x) {
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    const vec<T> guess = typename vec<T>::raw{_mm512_maskz_rcp14_ps(0xffff, x.r)};
    return fma<T>(guess, fnma<T>(x, guess, T(1)), guess);
  }
#endif
  return vec<T>(T(1)) / x;
}

// Polynomial with the constant term first.
template <class T, class... C>
OCELLUS_INLINE vec<T> polynomial(vec<T> x, T first, C... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return vec<T>(first);
  } else {
    return fma<T>(polynomial<T>(x, rest...), x, vec<T>(first));
  }
}

// eˣ = 2ⁿ eʳ with |r| ≤ ln 2 / 2: a polynomial for eʳ (float: minimax of degree 6, relative error 2e-7 in all; double:
// Taylor of degree 13, 4e-16), and 2ⁿ as two powers so that it neither overflows nor underflows early. Denormals, 0,
// infinity and NaN as std::exp; x is brought into [least, most] first.
template <class T>
OCELLUS_INLINE vec<T> exp(vec<T> x, T least = std::is_same_v<T, float> ? T(-104) : T(-746),
                          T most = std::is_same_v<T, float> ? T(89) : T(710)) {
  constexpr bool single = std::is_same_v<T, float>;
  constexpr T to_integer = single ? T(12582912.0) : T(6755399441055744.0);  // 1.5 * 2^(mantissa bits): x + it rounds x
  constexpr T ln2_high = single ? T(0.693359375) : T(0x1.62e42fee00000p-1);
  constexpr T ln2_low = single ? T(-2.12194440e-4) : T(0x1.a39ef35793c76p-33);
  x = min<T>(vec<T>(most), x);  // in this order NaN stays
  x = max<T>(vec<T>(least), x);
  const vec<T> n = fma<T>(x, T(1.44269504088896340736), to_integer) - vec<T>(to_integer);
  const vec<T> r = fnma<T>(n, ln2_low, fnma<T>(n, ln2_high, x));
  vec<T> y;
  if constexpr (single) {
    y = fma<T>(polynomial<T>(r, T(0.4999999272), T(0.1666652048), T(0.0416683906), T(0.0083687808), T(0.0013814487)),
               r * r, r) +
        vec<T>(1);
  } else {
    y = polynomial<T>(r, T(1), T(1), T(1.0 / 2), T(1.0 / 6), T(1.0 / 24), T(1.0 / 120), T(1.0 / 720), T(1.0 / 5040),
                      T(1.0 / 40320), T(1.0 / 362880), T(1.0 / 3628800), T(1.0 / 39916800), T(1.0 / 479001600),
                      T(1.0 / 6227020800.0));
  }
#if defined(OCELLUS_ISA_AVX512)
  if constexpr (single) {
    return typename vec<T>::raw{
        _mm512_maskz_scalef_ps(0xffff, y.r, n.r)};  // all lanes; g++ 12 warns about the unmasked one
  } else {
    return typename vec<T>::raw{_mm512_maskz_scalef_pd(0xff, y.r, n.r)};
  }
#else
  constexpr int mantissa = single ? 23 : 52;
  const bits<T> one = to_bits<T>(vec<T>(T(1)));
  const vec<T> shifted = fma<T>(n, T(0.5), to_integer);  // n / 2 in its low bits
  const vec<T> rest = (n - (shifted - vec<T>(to_integer))) + vec<T>(to_integer);
  const vec<T> power1 = from_bits<T>((to_bits<T>(shifted) << mantissa) + one);
  const vec<T> power2 = from_bits<T>((to_bits<T>(rest) << mantissa) + one);
  return y * power1 * power2;
#endif
}

// erf: float: x times a minimax quotient in x² (relative error 4e-7, exactly ±1 from 3.92 on); double: xsimd's.
template <class T>
OCELLUS_INLINE vec<T> erf(vec<T> x) {
  if constexpr (std::is_same_v<T, float>) {
    const vec<T> z = x * x;
    const vec<T> p =
        polynomial<T>(z, 1.1283791f, 0.19040564f, 0.05274862f, 3.7655837e-3f, 2.8488238e-4f, 2.0500986e-6f);
    const vec<T> q = polynomial<T>(z, 1.0f, 0.5020754f, 0.11410878f, 0.01496915f, 1.1625282e-3f, 3.8091814e-5f);
    const vec<T> one = select<T>(x > vec<T>(0.0f), vec<T>(1.0f), vec<T>(-1.0f));
    return select<T>(abs<T>(x) >= vec<T>(3.92f), one, x * p * reciprocal<T>(q));
  } else {
    return xsimd::erf(x.b());
  }
}

// tanh: float: x times a minimax quotient in x² (relative error 4e-7, exactly ±1 from 9.01 on); double: xsimd's.
template <class T>
OCELLUS_INLINE vec<T> tanh(vec<T> x) {
  if constexpr (std::is_same_v<T, float>) {
    const vec<T> z = x * x;
    const vec<T> p = polynomial<T>(z, 1.0f, 0.13380374f, 3.494814e-3f, 2.0596319e-5f, 1.3336905e-8f);
    const vec<T> q = polynomial<T>(z, 1.0f, 0.4671369f, 0.02587404f, 3.2843678e-4f, 7.769307e-7f);
    const vec<T> one = select<T>(x > vec<T>(0.0f), vec<T>(1.0f), vec<T>(-1.0f));
    return select<T>(abs<T>(x) >= vec<T>(9.01f), one, x * p * reciprocal<T>(q));
  } else {
    return xsimd::tanh(x.b());
  }
}

// Further out e⁻ˣ or the result would be a denormal number, which costs a hundred times a normal one, and 1 + e⁻ˣ leave
// the range of reciprocal().
template <class T>
OCELLUS_INLINE vec<T> sigmoid(vec<T> x) {
  constexpr T reach = std::is_same_v<T, float> ? T(87) : T(708);
  return reciprocal<T>(vec<T>(T(1)) + exp<T>(-x, -reach, reach));
}

// An activation as a type, so that a loop holds one function and no switch.
template <Act F>
struct ActTag {
  static constexpr Act value = F;
};

// Calls body(ActTag<f>{}).
template <class Body>
OCELLUS_INLINE void with_act(Act f, Body&& body) {
  switch (f) {
    case Act::none: body(ActTag<Act::none>{}); return;
    case Act::relu: body(ActTag<Act::relu>{}); return;
    case Act::relu6: body(ActTag<Act::relu6>{}); return;
    case Act::leaky_relu: body(ActTag<Act::leaky_relu>{}); return;
    case Act::gelu: body(ActTag<Act::gelu>{}); return;
    case Act::gelu_tanh: body(ActTag<Act::gelu_tanh>{}); return;
    case Act::silu: body(ActTag<Act::silu>{}); return;
    case Act::sigmoid: body(ActTag<Act::sigmoid>{}); return;
    case Act::tanh: body(ActTag<Act::tanh>{}); return;
    case Act::hard_sigmoid: body(ActTag<Act::hard_sigmoid>{}); return;
    case Act::hard_swish: body(ActTag<Act::hard_swish>{}); return;
  }
}

// act_value of kernels/activation.hpp.
template <Act F, class T>
OCELLUS_INLINE vec<T> act(vec<T> x) {
  using V = vec<T>;
  if constexpr (F == Act::relu) {
    return max<T>(V(T(0)), x);  // in this order NaN stays
  } else if constexpr (F == Act::relu6) {
    return min<T>(V(T(6)), max<T>(V(T(0)), x));
  } else if constexpr (F == Act::leaky_relu) {
    return select<T>(x > V(T(0)), x, x * V(T(leaky_relu_slope)));
  } else if constexpr (F == Act::gelu) {
    const V half = x * V(T(0.5));
    return fma<T>(half, erf<T>(x * V(T(0.70710678118654752440))), half);
  } else if constexpr (F == Act::gelu_tanh) {
    const V u = V(T(0.79788456080286535588)) * fma<T>(x * x * x, T(0.044715), x);
    const V half = x * V(T(0.5));
    return fma<T>(half, tanh<T>(u), half);
  } else if constexpr (F == Act::silu) {
    return x * sigmoid<T>(x);
  } else if constexpr (F == Act::sigmoid) {
    return sigmoid<T>(x);
  } else if constexpr (F == Act::tanh) {
    return tanh<T>(x);
  } else if constexpr (F == Act::hard_sigmoid) {
    const V line = fma<T>(x, T(1.0 / 6), T(0.5));
    return select<T>(x >= V(T(3)), V(T(1)), select<T>(x <= V(T(-3)), V(T(0)), line));
  } else if constexpr (F == Act::hard_swish) {
    const V line = x * (x + V(T(3))) * V(T(1.0 / 6));
    return select<T>(x >= V(T(3)), x, select<T>(x <= V(T(-3)), V(T(0)), line));
  } else {
    return x;
  }
}

// ocellus::act_slope of kernels/activation.hpp.
template <Act F, class T>
OCELLUS_INLINE vec<T> act_slope(vec<T> x) {
  using V = vec<T>;
  const V zero(T(0));
  const V one(T(1));
  if constexpr (F == Act::relu) {
    return select<T>(x > zero, one, zero);
  } else if constexpr (F == Act::relu6) {
    return select<T>((x > zero) & (x < V(T(6))), one, zero);
  } else if constexpr (F == Act::leaky_relu) {
    return select<T>(x > zero, one, V(T(leaky_relu_slope)));
  } else if constexpr (F == Act::gelu) {
    const V cdf = fma<T>(erf<T>(x * V(T(0.70710678118654752440))), T(0.5), T(0.5));
    return fma<T>(x * exp<T>(x * x * V(T(-0.5))), T(0.39894228040143267794), cdf);
  } else if constexpr (F == Act::gelu_tanh) {
    const V c(T(0.79788456080286535588));
    const V t = tanh<T>(c * fma<T>(x * x * x, T(0.044715), x));
    const V inner = c * fma<T>(x * x, T(3 * 0.044715), one);
    return V(T(0.5)) * (one + t) + V(T(0.5)) * x * fnma<T>(t, t, one) * inner;
  } else if constexpr (F == Act::silu) {
    const V s = sigmoid<T>(x);
    return s * fma<T>(x, one - s, one);
  } else if constexpr (F == Act::sigmoid) {
    const V s = sigmoid<T>(x);
    return s * (one - s);
  } else if constexpr (F == Act::tanh) {
    const V t = tanh<T>(x);
    return fnma<T>(t, t, one);
  } else if constexpr (F == Act::hard_sigmoid) {
    return select<T>((x > V(T(-3))) & (x < V(T(3))), V(T(1.0 / 6)), zero);
  } else if constexpr (F == Act::hard_swish) {
    const V line = fma<T>(x, T(1.0 / 3), T(0.5));
    return select<T>(x >= V(T(3)), one, select<T>(x <= V(T(-3)), zero, line));
  } else {
    return one;
  }
}

// The same, chosen at run time: for code that is not in an inner loop.
template <class T>
OCELLUS_INLINE vec<T> act(Act f, vec<T> x) {
  vec<T> y = x;
  with_act(f, [&](auto tag) OCELLUS_INLINE_LAMBDA { y = act<decltype(tag)::value, T>(x); });
  return y;
}
template <class T>
OCELLUS_INLINE vec<T> act_slope(Act f, vec<T> x) {
  vec<T> y = x;
  with_act(f, [&](auto tag) OCELLUS_INLINE_LAMBDA { y = act_slope<decltype(tag)::value, T>(x); });
  return y;
}

}  // namespace ocellus::kernels::OCELLUS_ISA
