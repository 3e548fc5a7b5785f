// Convolutions and linear maps in bf16 and int8. The weight stands in panels of 32 columns, [depth][32] dwords of 2 or 4
// numbers that follow each other in k: what one instruction multiplies and sums, and two tiles of AMX side by side. A
// block of rows is converted once, into a buffer, and then meets every panel; only the arithmetic differs between
// instruction sets (the paths below), sums go through a small buffer to one epilogue. Every element of y is computed from
// its own row alone: same bits for any number of threads.
#pragma once

#include <cfloat>
#include <cstring>

#include <ocellus/kernels/arguments.hpp>
#include <ocellus/kernels/conv.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

constexpr Index panel_columns = 32;
constexpr int dot_rows_of_tile = OCELLUS_ISA_REGISTERS == 32 ? 12 : 4;  // times two vectors of sums

// A vector of dwords, and one of the unsigned.
using Dwords = bits<float>;
typedef std::uint32_t UnsignedDwords __attribute__((vector_size(sizeof(Dwords))));

OCELLUS_INLINE Dwords load_dwords(const void* p) {
  Dwords v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
// One dword in all lanes.
OCELLUS_INLINE Dwords repeat_dword(const void* p) {
  std::int32_t x;
  __builtin_memcpy(&x, p, sizeof x);
  return Dwords{} + x;
}
template <class To>
OCELLUS_INLINE void store_narrowed(To* to, Dwords x) {
  if constexpr (sizeof(To) == 4) {
    __builtin_memcpy(to, &x, sizeof x);
  } else {
    typedef To narrow __attribute__((vector_size(sizeof(To) * vec<float>::size)));
    const narrow y = __builtin_convertvector(x, narrow);
    __builtin_memcpy(to, &y, sizeof y);
  }
}

// Rounded to bf16 (to nearest even, NaN stays NaN), in the upper half of each dword; the lower half is to be cut off.
OCELLUS_INLINE UnsignedDwords round_to_bf16(vec<float> x) {
  const UnsignedDwords u = (UnsignedDwords)to_bits<float>(x);
  const UnsignedDwords rounded = u + 0x7fffu + ((u >> 16) & 1u);
  return (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : rounded;
}

OCELLUS_INLINE void store_as_bf16(float* to, vec<float> x) {
  store_narrowed(to, (Dwords)(round_to_bf16(x) & 0xffff0000u));
}
OCELLUS_INLINE void store_as_bf16(std::uint16_t* to, vec<float> x) {
#if defined(OCELLUS_ISA_AVX512) && defined(__AVX512BF16__)
  const __m256bh y = _mm512_cvtneps_pbh(x.r);
  __builtin_memcpy(to, &y, sizeof y);
#else
  store_narrowed(to, (Dwords)(round_to_bf16(x) >> 16));
#endif
}

// The paths. `group`: numbers in a dword of weights. `depth_step`: dwords of k that are taken at once, rows are filled up
// to whole steps; `most_steps`: dwords of k between one store of the sums and the next. `rows`: of a tile.
// `block_bytes`: of converted rows that stay in the cache while panels pass by. `offset`: what a stored activation lacks
// of its unsigned value. `Session`: the state of a thread that calculates.
// sums(session, a, pitch, rows, b, steps, sums, add): rows of a times one panel as [rows][panel_columns], added or new.

template <class Dot, int R>
void dot_tile(const typename Dot::Activation* a, Index pitch, const std::int32_t* b, Index depth,
              typename Dot::Sum* sums) {
  constexpr int V = 2;
  constexpr int w = static_cast<int>(vec<float>::size);
  for (int column = 0; column < panel_columns; column += V * w) {
    typename Dot::Sums sum[std::size_t{R}][std::size_t{V}];
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = typename Dot::Sums{};
    }
    const std::int32_t* step = b + column;
    Index at = 0;
#pragma GCC unroll 1
    for (Index i = 0; i < depth; ++i) {
      asm("" : "+r"(at));  // one counter for all rows
      typename Dot::Column y[std::size_t{V}];
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) y[v] = Dot::column(step + v * w);
      OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
        const typename Dot::Column x = Dot::repeat(a + r * pitch + at);
        OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = Dot::dot(sum[r][v], x, y[v]);
      }
      step += panel_columns;
      at += Dot::group;
    }
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v)
        __builtin_memcpy(sums + r * panel_columns + column + v * w, &sum[r][v], sizeof sum[r][v]);
    }
  }
}

// What paths without tiles in hardware share.
template <class Dot>
struct DotPath {
  static constexpr Index depth_step = 1;
  static constexpr Index most_steps = Index{1} << 40;  // registers hold the sums of all
  static constexpr Index rows = dot_rows_of_tile;
  static constexpr Index block_bytes = 320 * 1024;
  static constexpr std::int32_t offset = 0;
  struct Session {};

  template <class Activation, class Sum>
  static void sums(Session&, const Activation* a, Index pitch, Index count, const std::int32_t* b, Index depth,
                   Sum* to, bool) {
    choose<Activation, Sum>(std::make_integer_sequence<int, dot_rows_of_tile>{}, count, a, pitch, b, depth, to);
  }

 private:
  template <class Activation, class Sum, int... R>
  static void choose(std::integer_sequence<int, R...>, Index count, const Activation* a, Index pitch,
                     const std::int32_t* b, Index depth, Sum* to) {
    using Kernel = void (*)(const Activation*, Index, const std::int32_t*, Index, Sum*);
    static constexpr Kernel kernels[] = {&dot_tile<Dot, R + 1>...};
    kernels[count - 1](a, pitch, b, depth, to);
  }
};

// bf16 without instructions for it: a bf16 is the upper half of a float. Activations stand as floats, already rounded.
struct Bf16AsFloats : DotPath<Bf16AsFloats> {
  using Activation = float;
  using Weight = std::uint16_t;
  using Sum = float;
  using Sums = vec<float>;
  static constexpr Index group = 2;
  struct Column {
    vec<float> low, high;
  };

  static OCELLUS_INLINE Column column(const void* p) {
    const Dwords pair = load_dwords(p);
    return {from_bits<float>(pair << 16), from_bits<float>(pair & std::int32_t{-65536})};
  }
  static OCELLUS_INLINE Column repeat(const float* a) { return {vec<float>(a[0]), vec<float>(a[1])}; }
  static OCELLUS_INLINE Sums dot(Sums sum, const Column& x, const Column& y) {
    return fma<float>(x.high, y.high, fma<float>(x.low, y.low, sum));
  }
};

// int8 without instructions for bytes: numbers stand as words of 16 bits, two products and their sum are one instruction
// that cannot overflow. (Products of bytes with words as sums, maddubs, saturate: another result.)
struct Int8AsWords : DotPath<Int8AsWords> {
  using Activation = std::int16_t;
  using Weight = std::int16_t;
  using Sum = std::int32_t;
  using Sums = Dwords;
  using Column = Dwords;
  static constexpr Index group = 2;

  static OCELLUS_INLINE Column column(const void* p) { return load_dwords(p); }
  static OCELLUS_INLINE Column repeat(const Activation* a) { return repeat_dword(a); }
  static OCELLUS_INLINE Sums dot(Sums sum, Column x, Column y) {
#if defined(OCELLUS_ISA_AVX512)
    return sum + (Dwords)_mm512_madd_epi16((__m512i)x, (__m512i)y);
#elif defined(OCELLUS_ISA_AVX2)
    return sum + (Dwords)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#elif defined(__SSE2__)
    return sum + (Dwords)_mm_madd_epi16((__m128i)x, (__m128i)y);
#else
    const int16x8_t a = (int16x8_t)x;
    const int16x8_t b = (int16x8_t)y;
    return sum + (Dwords)vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
#endif
  }
};

// bf16 with an instruction for it: two products and their sum.
#if defined(OCELLUS_ISA_AVX512) && defined(__AVX512BF16__)
#define OCELLUS_ISA_BF16_DOT 1
struct Bf16Pairs : DotPath<Bf16Pairs> {
  using Activation = std::uint16_t;
  using Weight = std::uint16_t;
  using Sum = float;
  using Sums = vec<float>;
  using Column = Dwords;
  static constexpr Index group = 2;

  static OCELLUS_INLINE Column column(const void* p) { return load_dwords(p); }
  static OCELLUS_INLINE Column repeat(const Activation* a) { return repeat_dword(a); }
  static OCELLUS_INLINE Sums dot(Sums sum, Column x, Column y) {
    // Not _mm512_dpbf16_ps: clang 16 crashes over vectors of bf16.
    asm("vdpbf16ps\t%2, %1, %0" : "+v"(sum.r) : "v"(x), "v"(y));
    return sum;
  }
};
#endif

// int8 with an instruction for it: four products and their sum, without saturation.
#if defined(OCELLUS_ISA_AVX512) && defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define OCELLUS_ISA_INT8_DOT 1
struct Int8Quads : DotPath<Int8Quads> {
  using Weight = std::int8_t;
  using Sum = std::int32_t;
  using Sums = Dwords;
  using Column = Dwords;
  static constexpr Index group = 4;
#if defined(__ARM_FEATURE_DOTPROD)  // both factors signed
  using Activation = std::int8_t;
  static constexpr std::int32_t offset = 128;
#else
  using Activation = std::uint8_t;
#endif

  static OCELLUS_INLINE Column column(const void* p) { return load_dwords(p); }
  static OCELLUS_INLINE Column repeat(const Activation* a) { return repeat_dword(a); }
  static OCELLUS_INLINE Sums dot(Sums sum, Column x, Column y) {
#if defined(__ARM_FEATURE_DOTPROD)
    return (Dwords)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)y);
#else
    return (Dwords)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
#endif
  }
};
#endif

// The paths of this instruction set.
struct Dots {
#if defined(OCELLUS_ISA_BF16_DOT)
  using Bf16 = Bf16Pairs;
#else
  using Bf16 = Bf16AsFloats;
#endif
#if defined(OCELLUS_ISA_INT8_DOT)
  using Int8 = Int8Quads;
#else
  using Int8 = Int8AsWords;
#endif
#if defined(OCELLUS_ISA_BF16_DOT) && defined(OCELLUS_ISA_INT8_DOT)
  static constexpr const char* name = "avx512_bf16";
#elif defined(OCELLUS_ISA_AVX512) && defined(OCELLUS_ISA_INT8_DOT)
  static constexpr const char* name = "avx512_vnni";
#else
  static constexpr const char* name = OCELLUS_ISA_NAME;
#endif
};

#if defined(OCELLUS_ISA_AMX)
// Tiles of 16 rows of 64 bytes: two of rows times two of columns, summed in four.
template <class A, class W, class S>
struct TilePath {
  using Activation = A;
  using Weight = W;
  using Sum = S;
  static constexpr Index group = 4 / static_cast<Index>(sizeof(Activation));
  static constexpr Index tile = 16;
  static constexpr Index depth_step = tile;
  static constexpr Index most_steps = 8 * tile;  // 16 KiB of a panel and as much of two tiles of rows: both stay in L1
  static constexpr Index rows = 2 * tile;
  static constexpr Index block_bytes = 1280 * 1024;  // whoever has tiles has 2 MiB of L2
  static constexpr std::int32_t offset = 0;

  // The shapes of the tiles: 0 to 3 sums, 4 and 5 rows of activations, 6 and 7 weights.
  class Session {
   public:
    Session() = default;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() {
      if (rows_ > 0) _tile_release();
    }
    OCELLUS_INLINE void configure(Index count) {
      if (count == rows_) return;
      rows_ = count;
      struct alignas(64) {
        std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
        std::uint16_t bytes[16] = {};
        std::uint8_t rows[16] = {};
      } shapes;
      const auto upper = static_cast<std::uint8_t>(smaller(count, tile));
      const auto lower = static_cast<std::uint8_t>(count > tile ? count - tile : 1);
      const std::uint8_t of[] = {upper, upper, lower, lower, upper, lower, tile, tile};
      for (int i = 0; i < 8; ++i) {
        shapes.bytes[i] = 64;
        shapes.rows[i] = of[i];
      }
      // g++'s _tile_loadconfig says that it reads 8 bytes, its _tile_loadd that it reads none.
      asm volatile("" ::: "memory");
      _tile_loadconfig(&shapes);
    }

   private:
    Index rows_ = 0;
  };

  [[gnu::noinline]] static void sums(Session& session, const Activation* a, Index pitch, Index count,
                                     const std::int32_t* b, Index steps, Sum* to, bool add) {
    session.configure(count);
    asm volatile("" ::: "memory");
    const long row = pitch * static_cast<long>(sizeof(Activation));
    constexpr long column = panel_columns * 4;
    const char* upper = reinterpret_cast<const char*>(a);
    const char* lower = upper + tile * row;
    const Index blocks = ceil_div(steps, tile);
    if (add) {
      _tile_loadd(0, to, column);
      _tile_loadd(1, to + tile, column);
    } else {
      _tile_zero(0);
      _tile_zero(1);
    }
    if (count <= tile) {
      for (Index i = 0; i < blocks; ++i, upper += 64, b += tile * panel_columns) {
        _tile_loadd(4, upper, row);
        _tile_loadd(6, b, column);
        _tile_loadd(7, b + tile, column);
        if constexpr (std::is_same_v<Sum, float>) {
          _tile_dpbf16ps(0, 4, 6);
          _tile_dpbf16ps(1, 4, 7);
        } else {
          _tile_dpbusd(0, 4, 6);
          _tile_dpbusd(1, 4, 7);
        }
      }
    } else {
      if (add) {
        _tile_loadd(2, to + tile * panel_columns, column);
        _tile_loadd(3, to + tile * panel_columns + tile, column);
      } else {
        _tile_zero(2);
        _tile_zero(3);
      }
      for (Index i = 0; i < blocks; ++i, upper += 64, lower += 64, b += tile * panel_columns) {
        _tile_loadd(6, b, column);
        _tile_loadd(4, upper, row);
        _tile_loadd(5, lower, row);
        _tile_loadd(7, b + tile, column);
        if constexpr (std::is_same_v<Sum, float>) {
          _tile_dpbf16ps(0, 4, 6);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(1, 4, 7);
          _tile_dpbf16ps(3, 5, 7);
        } else {
          _tile_dpbusd(0, 4, 6);
          _tile_dpbusd(2, 5, 6);
          _tile_dpbusd(1, 4, 7);
          _tile_dpbusd(3, 5, 7);
        }
      }
      _tile_stored(2, to + tile * panel_columns, column);
      _tile_stored(3, to + tile * panel_columns + tile, column);
    }
    _tile_stored(0, to, column);
    _tile_stored(1, to + tile, column);
  }
};

struct Tiles {
  static constexpr const char* name = "amx";
  using Bf16 = TilePath<std::uint16_t, std::uint16_t, float>;
  using Int8 = TilePath<std::uint8_t, std::int8_t, std::int32_t>;
};
using BestPaths = Tiles;
#else
using BestPaths = Dots;
#endif

// The weight (n, k) as packed: panels, then for int8 each column's scale and sum.
template <class Path>
struct PackedWeight {
  static constexpr bool quantised = std::is_same_v<typename Path::Sum, std::int32_t>;
  Index panels, steps, depth;  // dwords of k: of the numbers, and filled up

  PackedWeight(Index n, Index k)
      : panels(ceil_div(n, panel_columns)), steps(ceil_div(k, Path::group)), depth(round_up(steps, Path::depth_step)) {}
  Index columns() const { return panels * panel_columns; }
  Index dwords() const { return columns() * depth; }
  Index bytes() const { return 4 * (dwords() + (quantised ? 2 * columns() : 0)); }
  OCELLUS_INLINE const std::int32_t* panel(const void* packed, Index p) const {
    return static_cast<const std::int32_t*>(packed) + p * panel_columns * depth;
  }
  OCELLUS_INLINE const float* scales(const void* packed) const { return static_cast<const float*>(packed) + dwords(); }
  OCELLUS_INLINE const std::int32_t* sums(const void* packed) const {
    return static_cast<const std::int32_t*>(packed) + dwords() + columns();
  }
};

// Smallest and largest of 0 and x, lane by lane; finite: whether all are.
struct ValueRange {
  vec<float> low = vec<float>(0.0f);
  vec<float> high = vec<float>(0.0f);
  bool finite = true;

  OCELLUS_INLINE ValueRange() = default;
  OCELLUS_INLINE ValueRange(const float* x, Index n) {
    constexpr Index w = vec<float>::size;
    vec<float> poison(0.0f);  // NaN as soon as 0 x is
    const auto add = [&](vec<float> v) OCELLUS_INLINE_LAMBDA {
      low = min<float>(v, low);  // in this order NaN is passed over
      high = max<float>(v, high);
      poison = fma<float>(v, 0.0f, poison);
    };
    Index i = 0;
    for (; i + w <= n; i += w) add(load(x + i));
    if (i < n) add(load_n(x + i, n - i));
    finite = !any(poison != poison);
  }
};

template <int... I>
OCELLUS_INLINE void interleave(vec<float> x, vec<float> y, vec<float>& low, vec<float>& high,
                               std::integer_sequence<int, I...>) {
  constexpr int w = sizeof...(I);
  const Dwords a = to_bits<float>(x);
  const Dwords b = to_bits<float>(y);
  low = from_bits<float>(__builtin_shufflevector(a, b, (I / 2 + I % 2 * w)...));
  high = from_bits<float>(__builtin_shufflevector(a, b, (I / 2 + w / 2 + I % 2 * w)...));
}
// Lane i of the result joins all lanes of x[i] by f. Overwrites x.
template <class F>
OCELLUS_INLINE vec<float> join_lanes(vec<float>* x, F f) {
  constexpr int w = static_cast<int>(vec<float>::size);
  OCELLUS_UNROLL for (int half = w / 2; half > 0; half /= 2) {
    OCELLUS_UNROLL for (int i = 0; i < half; ++i) {
      vec<float> low, high;
      interleave(x[i], x[i + half], low, high, std::make_integer_sequence<int, w>{});
      x[i] = f(low, high);
    }
  }
  return x[0];
}

OCELLUS_INLINE Dwords clamp(Dwords x, std::int32_t low, std::int32_t high) {
  const Dwords least = Dwords{} + low;
  const Dwords most = Dwords{} + high;
  x = x < least ? least : x;
  return x > most ? most : x;
}

// Column n of the weight into its place in a panel. Returns the sum of its integers and sets its scale.
template <class Path>
std::int32_t pack_column(const float* weight, Index k, typename Path::Weight* to, float& scale) {
  constexpr Index w = vec<float>::size;
  constexpr Index group = Path::group;
  float inverse = 1;
  if constexpr (PackedWeight<Path>::quantised) {
    const ValueRange range(weight, k);
    scale = reduce_max<float>(max<float>(range.high, -range.low)) / 127;
    scale = scale > FLT_MIN ? scale : FLT_MIN;  // its inverse is to be finite
    inverse = 1 / scale;
    if (!range.finite) {
      scale = __builtin_nanf("");
      return 0;
    }
  }
  std::int32_t sum = 0;
  for (Index i = 0; i < k; i += w) {
    const Index left = smaller(w, k - i);
    const vec<float> x = load_n(weight + i, left);
    Dwords q;
    if constexpr (PackedWeight<Path>::quantised) {
      q = clamp(round_to_integer(x * vec<float>(inverse)), -127, 127);
    } else {
      q = (Dwords)(round_to_bf16(x) >> 16);
    }
    for (Index j = 0; j < left; ++j) {
      const Index at = i + j;
      to[at / group * panel_columns * group + at % group] = static_cast<typename Path::Weight>(q[j]);
      sum += q[j];
    }
  }
  return sum;
}

template <class Path>
void pack_weight(Index n, Index k, const float* weight, void* packed) {
  const PackedWeight<Path> p(n, k);
  std::memset(packed, 0, static_cast<std::size_t>(p.bytes()));
  for_pieces(p.panels, [&](Index panel) {
    for (Index column = panel * panel_columns; column < smaller(n, (panel + 1) * panel_columns); ++column) {
      auto* to = reinterpret_cast<typename Path::Weight*>(const_cast<std::int32_t*>(p.panel(packed, panel)));
      float scale = 1;
      const std::int32_t sum =
          pack_column<Path>(weight + column * k, k, to + column % panel_columns * Path::group, scale);
      if constexpr (PackedWeight<Path>::quantised) {
        const_cast<float*>(p.scales(packed))[column] = scale;
        const_cast<std::int32_t*>(p.sums(packed))[column] = sum;
      }
    }
  });
}

// Converted rows: y = scale (a − zero), both of the row, for int8.
template <class Path>
struct Rows {
  typename Path::Activation* a = nullptr;
  Index pitch = 0;
  float* scale = nullptr;
  std::int32_t* zero = nullptr;

  static Index pitch_of(const PackedWeight<Path>& weight) {
    constexpr Index line = 64 / static_cast<Index>(sizeof(typename Path::Activation));
    // One line more: rows that are powers of two long would share cache sets.
    return round_up(weight.depth * Path::group, line) + line;
  }
  Rows(Scratch& scratch, Index rows, Index row_pitch) : pitch(row_pitch) {
    a = scratch.take<typename Path::Activation>(rows * pitch);
    if constexpr (PackedWeight<Path>::quantised) {
      scale = scratch.take<float>(rows);
      zero = scratch.take<std::int32_t>(rows);
    }
  }
  OCELLUS_INLINE Rows from(Index row) const {
    Rows r = *this;
    r.a += row * pitch;
    if constexpr (PackedWeight<Path>::quantised) {
      r.scale += row;
      r.zero += row;
    }
    return r;
  }
};

// At most a vector of rows of k numbers, filled up with zeros to `filled`.
template <class Path>
void convert_rows(const float* x, Index rows, Index k, Index filled, const Rows<Path>& to) {
  using Activation = typename Path::Activation;
  constexpr Index w = vec<float>::size;
  const auto each = [&](Index row, auto&& convert) OCELLUS_INLINE_LAMBDA {
    const float* from = x + row * k;
    Activation* a = to.a + row * to.pitch;
    Index i = 0;
    for (; i + w <= k; i += w) convert(a + i, load(from + i));
    if (i < k) {
      convert(a + i, load_n(from + i, k - i));
      i += w;
    }
    for (; i < filled; i += w) store_narrowed(a + i, Dwords{});
  };
  if constexpr (!PackedWeight<Path>::quantised) {
    for (Index row = 0; row < rows; ++row)
      each(row, [](Activation* p, vec<float> v) OCELLUS_INLINE_LAMBDA { store_as_bf16(p, v); });
  } else {
    vec<float> low[std::size_t{w}];
    vec<float> high[std::size_t{w}];
    bool finite[std::size_t{w}];
    for (Index row = 0; row < w; ++row) {
      const ValueRange range = row < rows ? ValueRange(x + row * k, k) : ValueRange();
      low[row] = range.finite ? range.low : vec<float>(0.0f);  // what has no range must not overflow the integers below
      high[row] = range.finite ? range.high : vec<float>(0.0f);
      finite[row] = range.finite;
    }
    // Steps and zero points of all rows at once.
    const vec<float> least =
        join_lanes(low, [](vec<float> a, vec<float> b) OCELLUS_INLINE_LAMBDA { return min<float>(a, b); });
    const vec<float> most =
        join_lanes(high, [](vec<float> a, vec<float> b) OCELLUS_INLINE_LAMBDA { return max<float>(a, b); });
    const vec<float> step = max<float>(most / vec<float>(255.0f) - least / vec<float>(255.0f), vec<float>(FLT_MIN));
    const vec<float> inverse = vec<float>(1.0f) / step;
    const Dwords zero = -round_to_integer(least * inverse);
    store_n(to.scale, step, rows);
    for (Index row = 0; row < rows; ++row) {
      to.zero[row] = zero[row] - Path::offset;
      if (!finite[row]) to.scale[row] = __builtin_nanf("");  // whatever the integers are
      const vec<float> factor(inverse.r[row]);
      each(row, [&](Activation* p, vec<float> v) OCELLUS_INLINE_LAMBDA {
        store_narrowed(p, clamp(round_to_integer(v * factor) + zero[row], 0, 255) - Path::offset);
      });
    }
  }
}

// Output pixels [m0, m1) with their windows.
template <class Path>
void convert_windows(const LowPrecisionConv& c, const PackedWeight<Path>& weight, Index m0, Index m1,
                     const Rows<Path>& to) {
  const ConvShape& s = c.shape;
  const Index taps = s.kernel.h * s.kernel.w;
  const Index k = taps * s.channels;
  const Index filled = weight.depth * Path::group;
  const bool pointwise = is_pointwise(s);
  Scratch scratch;
  float* windows = pointwise ? nullptr : scratch.take<float>(vec<float>::size * k);
  for (Index m = m0; m < m1; m += vec<float>::size) {
    const Index end = smaller(m1, m + vec<float>::size);
    if (!pointwise) window_rows<float>(s, c.x, 0, 0, taps, m, end, windows, k);
    convert_rows<Path>(pointwise ? c.x + m * k : windows, end - m, k, filled, to.from(m - m0));
  }
}

// The sums of rows [m, m + rows) and one panel, into y.
template <class Path>
void finish_sums(const LowPrecisionConv& c, const PackedWeight<Path>& weight, const typename Path::Sum* sums, Index m,
                 Index rows, Index panel, const Rows<Path>& row) {
  constexpr Index w = vec<float>::size;
  const Index n = c.shape.out_channels;
  const Index n0 = panel * panel_columns;
  Tile<float> t;
  t.c = c.y + m * n + n0;
  t.ldc = n;
  t.columns = smaller(panel_columns, n - n0);
  t.residual = c.epilogue.residual ? c.epilogue.residual + m * n + n0 : nullptr;
  t.before = c.epilogue.before;
  t.after = c.epilogue.after;
  const float* bias = c.epilogue.bias ? c.epilogue.bias + n0 : nullptr;
  const Act before = is_light(t.before) ? t.before : Act::none;
  const Act after = is_light(t.before) && is_light(t.after) ? t.after : Act::none;
  const float* residual = is_light(t.before) ? t.residual : nullptr;
  const auto finish = [&](Index column, auto&& read, auto&& write) OCELLUS_INLINE_LAMBDA {
    const vec<float> shift = bias ? read(bias + column) : vec<float>(0.0f);
    for (Index r = 0; r < rows; ++r) {
      vec<float> y;
      if constexpr (PackedWeight<Path>::quantised) {
        const Dwords column_sum = load_dwords(weight.sums(c.packed_weight) + n0 + column);
        const Dwords sum = load_dwords(sums + r * panel_columns + column) - column_sum * row.zero[r];
        typedef float Floats __attribute__((vector_size(sizeof(Dwords))));
        const vec<float> exact = from_bits<float>((Dwords)__builtin_convertvector(sum, Floats));
        const vec<float> scaled = exact * load(weight.scales(c.packed_weight) + n0 + column);
        y = fma<float>(scaled, row.scale[r], shift);
      } else {
        y = load(sums + r * panel_columns + column) + shift;
      }
      y = light_act<float>(before, y);
      if (residual) y += read(residual + r * n + column);
      y = light_act<float>(after, y);
      write(t.c + r * n + column, y);
    }
  };
  Index column = 0;
  for (; column + w <= t.columns; column += w) {
    finish(column, [](const float* p) OCELLUS_INLINE_LAMBDA { return load(p); },
           [](float* p, vec<float> y) OCELLUS_INLINE_LAMBDA { store(p, y); });
  }
  if (const Index left = t.columns - column; left > 0) {
    finish(column, [&](const float* p) OCELLUS_INLINE_LAMBDA { return load_n(p, left); },
           [&](float* p, vec<float> y) OCELLUS_INLINE_LAMBDA { store_n(p, y, left); });
  }
  if (!is_light(t.before) || !is_light(t.after)) finish_tile<float>(t, rows);
}

// What the hardware does not foresee: the next panel, a share of it with every tile, and where a tile's sums will go.
template <class Path>
OCELLUS_INLINE void prefetch_panel(const PackedWeight<Path>& weight, const void* packed, Index panel, Index part,
                                   Index parts) {
  const std::int32_t* p = weight.panel(packed, panel);
  constexpr Index line = 16;
  const Index lines = weight.depth * panel_columns / line;
  for (Index i = lines * part / parts; i < lines * (part + 1) / parts; ++i) __builtin_prefetch(p + i * line, 0, 2);
}
OCELLUS_INLINE void prefetch_output(const LowPrecisionConv& c, Index m, Index rows, Index panel) {
  const float* y = c.y + m * c.shape.out_channels + panel * panel_columns;
  for (Index r = 0; r < rows; ++r, y += c.shape.out_channels) {
    __builtin_prefetch(y, 1);
    __builtin_prefetch(y + panel_columns / 2, 1);
  }
}

// Converted rows [m0, m1) times panels [p0, p1).
template <class Path>
void multiply_rows(const LowPrecisionConv& c, const PackedWeight<Path>& weight, const Rows<Path>& rows, Index m0,
                   Index m1, Index p0, Index p1) {
  typename Path::Session session;
  const Index tiles = ceil_div(m1 - m0, Path::rows);
  const EvenCut cut(m1 - m0, tiles);
  Scratch scratch;
  auto* sums = scratch.take<typename Path::Sum>(tiles * Path::rows * panel_columns);
  for (Index p = p0; p < p1; ++p) {
    const std::int32_t* panel = weight.panel(c.packed_weight, p);
    Index step = 0;
    do {
      const Index steps = smaller(weight.steps - step, Path::most_steps);
      const bool last = step + steps == weight.steps;
      Index m = m0;
      for (Index i = 0; i < tiles; ++i) {
        const Rows<Path> tile = rows.from(m - m0);
        auto* to = sums + i * Path::rows * panel_columns;
        if (step == 0 && p + 1 < p1) prefetch_panel<Path>(weight, c.packed_weight, p + 1, i, tiles);
        if (last) prefetch_output(c, m, cut[i], p);
        Path::sums(session, tile.a + step * Path::group, tile.pitch, cut[i], panel + step * panel_columns, steps, to,
                   step > 0);
        if (last) finish_sums<Path>(c, weight, to, m, cut[i], p, tile);
        m += cut[i];
      }
      step += steps;
    } while (step < weight.steps);
  }
}

template <class Path>
void low_precision_conv(const LowPrecisionConv& c) {
  const ConvShape& s = c.shape;
  const Index m = s.batch * s.out_height * s.out_width;
  const Index k = s.kernel.h * s.kernel.w * s.channels;
  const PackedWeight<Path> weight(s.out_channels, k);
  if (m == 0 || weight.panels == 0) return;
  const Index pitch = Rows<Path>::pitch_of(weight);
  const Index threads = m * s.out_channels * larger(1, k) < 262144 ? 1 : num_threads();
  // A weight that stays in L2 may be read as often as one likes.
  const Index most_bytes = weight.bytes() <= 512 * 1024 ? 128 * 1024 : Path::block_bytes;
  const Index row_bytes = pitch * static_cast<Index>(sizeof(typename Path::Activation));
  const Index most_rows = larger(Path::rows, most_bytes / row_bytes);
  Index blocks = ceil_div(m, most_rows);
  if (threads > 1) blocks = larger(blocks, smaller(4 * threads, m / 128));
  if (threads == 1 || blocks >= threads) {  // each block for itself
    for_pieces(blocks, [&](Index i) {
      const Index m0 = m * i / blocks;
      const Index m1 = m * (i + 1) / blocks;
      Scratch scratch;
      const Rows<Path> rows(scratch, m1 - m0, pitch);
      convert_windows<Path>(c, weight, m0, m1, rows);
      multiply_rows<Path>(c, weight, rows, m0, m1, 0, weight.panels);
    });
    return;
  }
  Scratch scratch;  // few rows: all threads share them and cut the panels
  const Rows<Path> rows(scratch, m, pitch);
  const Index row_groups = smaller(m, 4 * threads);
  for_pieces(row_groups, [&](Index i) {
    const Index m0 = m * i / row_groups;
    convert_windows<Path>(c, weight, m0, m * (i + 1) / row_groups, rows.from(m0));
  });
  const Index panel_groups = smaller(weight.panels, 4 * threads);
  for_pieces(blocks * panel_groups, [&](Index piece) {
    const Index i = piece / panel_groups;
    const Index j = piece % panel_groups;
    const Index m0 = m * i / blocks;
    multiply_rows<Path>(c, weight, rows.from(m0), m0, m * (i + 1) / blocks, weight.panels * j / panel_groups,
                        weight.panels * (j + 1) / panel_groups);
  });
}

// The table of a pair of paths. Templates: compiled where they are asked for, not with every include.
template <class Paths>
Index packed_bytes(DType type, Index n, Index k) {
  return type == DType::i8 ? PackedWeight<typename Paths::Int8>(n, k).bytes()
                           : PackedWeight<typename Paths::Bf16>(n, k).bytes();
}
template <class Paths>
void pack_low_precision(DType type, Index n, Index k, const float* weight, void* packed) {
  (type == DType::i8 ? &pack_weight<typename Paths::Int8> : &pack_weight<typename Paths::Bf16>)(n, k, weight, packed);
}
template <class Paths>
void conv_low_precision(const LowPrecisionConv& c) {
  (c.type == DType::i8 ? &low_precision_conv<typename Paths::Int8> : &low_precision_conv<typename Paths::Bf16>)(c);
}
template <class Paths>
inline constexpr LowPrecisionTable low_precision_paths = {Paths::name, &packed_bytes<Paths>, &pack_low_precision<Paths>,
                                                          &conv_low_precision<Paths>};

}  // namespace ocellus::kernels::OCELLUS_ISA

// Split mode: one table per translation unit, named after its instruction set.
#if defined(OCELLUS_IMPL_KERNEL_SET)
#if defined(OCELLUS_ISA_AMX)
#define OCELLUS_LOW_PRECISION_TABLE table_low_amx
#elif defined(OCELLUS_ISA_BF16_DOT) && defined(OCELLUS_ISA_INT8_DOT)
#define OCELLUS_LOW_PRECISION_TABLE table_low_avx512_bf16
#elif defined(OCELLUS_ISA_AVX512) && defined(OCELLUS_ISA_INT8_DOT)
#define OCELLUS_LOW_PRECISION_TABLE table_low_avx512_vnni
#elif defined(OCELLUS_ISA_AVX512)
#define OCELLUS_LOW_PRECISION_TABLE table_low_avx512
#elif defined(OCELLUS_ISA_AVX2)
#define OCELLUS_LOW_PRECISION_TABLE table_low_avx2
#else
#define OCELLUS_LOW_PRECISION_TABLE table_low_baseline
#endif
namespace ocellus::kernels {
extern const LowPrecisionTable OCELLUS_LOW_PRECISION_TABLE;
constinit const LowPrecisionTable OCELLUS_LOW_PRECISION_TABLE =
    OCELLUS_ISA::low_precision_paths<OCELLUS_ISA::BestPaths>;
}  // namespace ocellus::kernels
#undef OCELLUS_LOW_PRECISION_TABLE
#endif
