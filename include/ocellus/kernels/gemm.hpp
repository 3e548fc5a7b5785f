// Matrix products. B stands in panels of a few vectors, [k][panel width], the last one narrowed to a multiple of a
// vector; A is read in place by scalar broadcasts (packing it never paid). A tile of at most 8 rows stays in registers
// over a block of k; the tile kernel takes its rows by pointer and in segments, so that convolutions run on it without
// im2col (kernels/conv.hpp). Every element of C is one sum over k in ascending order, in blocks fixed by the sizes
// alone: same bits for any number of threads.
#pragma once

#include <cstddef>

#include <ocellus/kernels/elementwise.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// Register tiles: rows x vectors, chosen so that accumulators, one row of B and a broadcast fit the register file.
template <class T>
struct Tiling {
  static constexpr Index width = vec<T>::size;
  // Double has the narrow tiles only: nobody tunes it, and each tile costs compile time.
  static constexpr int vectors = OCELLUS_ISA_REGISTERS == 32 && std::is_same_v<T, float> ? 4 : 2;
  static constexpr std::size_t most_rows = 8;  // of any tile
  static constexpr int rows(int panel_vectors) {
    return panel_vectors == (OCELLUS_ISA_REGISTERS == 32 ? 4 : 2) ? 6 : 8;
  }
};

// How n columns are cut into panels: all `vectors` wide but the last.
template <class T>
struct Panels {
  Index n;
  Index vectors;
  Index count;

  explicit Panels(Index columns) : n(columns) {
    const Index all = ceil_div(columns, Tiling<T>::width);
    vectors = smaller(all, Tiling<T>::vectors);
    if (Tiling<T>::vectors == 4 && all > 4 && all % 4 != 0 && all % 3 == 0) vectors = 3;
    count = columns > 0 ? ceil_div(all, vectors) : 0;
  }
  OCELLUS_INLINE Index width() const { return vectors * Tiling<T>::width; }
  OCELLUS_INLINE Index columns(Index panel) const { return smaller(width(), n - panel * width()); }
  OCELLUS_INLINE Index vectors_of(Index panel) const { return ceil_div(columns(panel), Tiling<T>::width); }
};

// Done on the accumulators.
constexpr bool is_light(Act f) { return f == Act::none || f == Act::relu || f == Act::relu6; }
template <class T>
OCELLUS_INLINE vec<T> light_act(Act f, vec<T> x) {
  if (f == Act::relu) return act<Act::relu, T>(x);
  return f == Act::relu6 ? act<Act::relu6, T>(x) : x;
}

// One tile: C rows (+)= Σ over segments and k of a(row, segment, k) b(k, column), then the epilogue.
// Rows are evenly spaced, or listed: a_rows, c_rows.
template <class T>
struct Tile {
  const T* a = nullptr;  // first row, the next one lda further on
  Index lda = 0;
  const T* const* a_rows = nullptr;  // or [segment][most_rows]: row starts, a_offset to be added to each
  Index a_offset = 0;
  Index step = 1;  // from one k to the next in A: a row's length where A is transposed, and lda is 1
  Index segments = 1;
  Index length = 0;  // elements of a segment
  const T* b = nullptr;
  Index ldb = 0;
  const T* ahead = nullptr;  // may be null: what will be multiplied next, fetched into L2 meanwhile
  Index ahead_step = 0;      // from one k to the next
  T* c = nullptr;
  Index ldc = 0;
  const Index* c_rows = nullptr;  // or offsets of the rows from c
  Index columns = 0;              // to be stored, at most the panel's width
  bool add = false;               // start from C
  bool last = true;               // apply the epilogue
  const T* bias = nullptr;
  const T* residual = nullptr;  // rows as in c
  Act before = Act::none;
  Act after = Act::none;

  OCELLUS_INLINE Index row(Index r) const { return c_rows ? c_rows[r] : r * ldc; }

  // Tile i of `tiles` that share B fetches its part of a panel of `k` rows as wide as B's.
  OCELLUS_INLINE void fetch(const T* next, Index k, Index i, Index tiles) {
    ahead_step = next ? smaller(vec<T>::size, ceil_div(ldb, tiles)) : 0;
    ahead = next ? next + i * k * ahead_step : nullptr;
  }
};

// `count` cut into `parts` whose sizes differ by one at most, the longer ones first.
struct EvenCut {
  Index size, longer;
  OCELLUS_INLINE EvenCut(Index count, Index parts) : size(count / parts), longer(count % parts) {}
  OCELLUS_INLINE Index operator[](Index part) const { return size + (part < longer ? 1 : 0); }
};

template <class T>
OCELLUS_INLINE void add_row(T* y, const T* x, Index n) {
  constexpr Index w = vec<T>::size;
  Index i = 0;
  for (; i + w <= n; i += w) store<T>(y + i, load<T>(y + i) + load<T>(x + i));
  if (i < n) store_n(y + i, load_n(y + i, n - i) + load_n(x + i, n - i), n - i);
}

template <class T>
OCELLUS_INLINE void copy_row(T* y, const T* x, Index n) {
  constexpr Index w = vec<T>::size;
  Index i = 0;
  for (; i + w <= n; i += w) store<T>(y + i, load<T>(x + i));
  if (i < n) store_n(y + i, load_n(x + i, n - i), n - i);
}
template <class T>
OCELLUS_INLINE void zero_row(T* y, Index n) {
  constexpr Index w = vec<T>::size;
  Index i = 0;
  for (; i + w <= n; i += w) store<T>(y + i, vec<T>(T(0)));
  if (i < n) store_n(y + i, vec<T>(T(0)), n - i);
}

// The part of the epilogue that did not run on the accumulators, on the rows just stored.
template <class T>
[[gnu::noinline]] void finish_tile(const Tile<T>& t, Index rows) {
  for (Index r = 0; r < rows; ++r) {
    T* c = t.c + t.row(r);
    if (!is_light(t.before)) {
      activate<T>(t.before, t.columns, c, c);
      if (t.residual) add_row<T>(c, t.residual + t.row(r), t.columns);
    }
    if (t.after != Act::none && !(is_light(t.after) && is_light(t.before))) activate<T>(t.after, t.columns, c, c);
  }
}

#define OCELLUS_EACH_VECTOR                    \
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) \
      OCELLUS_UNROLL for (int v = 0; v < V; ++v)

template <class T, int R, int V>
void tile_kernel(const Tile<T>& t) {
  constexpr int w = static_cast<int>(vec<T>::size);
  vec<T> sum[std::size_t{R}][std::size_t{V}];
  OCELLUS_EACH_VECTOR sum[r][v] = vec<T>(T(0));

  const Index step = t.step;
  const Index length = t.length;
  const T* b = t.b;
  const Index ldb = t.ldb;
  const T* ahead = t.ahead ? t.ahead : b;
  for (Index s = 0; s < t.segments; ++s) {
    const T* a[std::size_t{R}];
    if (t.a_rows) {
      const T* const* rows = t.a_rows + s * Index{Tiling<T>::most_rows};
      OCELLUS_UNROLL for (int r = 0; r < R; ++r) a[r] = rows[r] + t.a_offset;
    } else {
      OCELLUS_UNROLL for (int r = 0; r < R; ++r) a[r] = t.a + r * t.lda;
    }
    Index at = 0;
#pragma GCC unroll 4
    for (Index k = 0; k < length; ++k) {
      asm("" : "+r"(at));  // one counter for all rows: the compiler would advance a pointer a row
      vec<T> column[std::size_t{V}];
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) column[v] = load<T>(b + v * w);
      OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
        const vec<T> x(a[r][at]);
        OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = fma<T>(x, column[v], sum[r][v]);
      }
      if constexpr (V > 2) {  // narrow tiles have no load to spare
        __builtin_prefetch(ahead, 0, 2);
        ahead += t.ahead_step;
      }
      b += ldb;
      at += step;
    }
  }

  Index row[std::size_t{R}];
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) row[r] = t.row(r);
  const Index tail = t.columns - (V - 1) * w;  // columns of the last vector
  const auto read = [&](const T* p, int v) OCELLUS_INLINE_LAMBDA {
    return v + 1 < V || tail == w ? load<T>(p + v * w) : load_n(p + v * w, tail);
  };
  if (t.add) {
    OCELLUS_EACH_VECTOR sum[r][v] += read(t.c + row[r], v);
  }
  bool unfinished = false;
  if (t.last) {
    if (t.bias) {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
        const vec<T> bias = read(t.bias, v);
        OCELLUS_UNROLL for (int r = 0; r < R; ++r) sum[r][v] += bias;
      }
    }
    const auto light = [&](Act f) OCELLUS_INLINE_LAMBDA {
      if (f == Act::relu) {
        OCELLUS_EACH_VECTOR sum[r][v] = act<Act::relu, T>(sum[r][v]);
      } else if (f == Act::relu6) {
        OCELLUS_EACH_VECTOR sum[r][v] = act<Act::relu6, T>(sum[r][v]);
      }
    };
    if (is_light(t.before)) {
      light(t.before);
      if (t.residual) {
        OCELLUS_EACH_VECTOR sum[r][v] += read(t.residual + row[r], v);
      }
      light(t.after);
    }
    unfinished = !is_light(t.before) || !is_light(t.after);
  }
  OCELLUS_EACH_VECTOR {
    if (v + 1 < V || tail == w) {
      store<T>(t.c + row[r] + v * w, sum[r][v]);
    } else {
      store_n(t.c + row[r] + v * w, sum[r][v], tail);
    }
  }
  if (unfinished) finish_tile<T>(t, R);
}

#undef OCELLUS_EACH_VECTOR

// The kernels by panel vectors and rows.
template <class T>
struct TileKernels {
  using Kernel = void (*)(const Tile<T>&);
  Kernel at[std::size_t{Tiling<T>::vectors}][Tiling<T>::most_rows] = {};

  constexpr TileKernels() { fill_panels(std::make_integer_sequence<int, Tiling<T>::vectors>{}); }

 private:
  template <int... V>
  constexpr void fill_panels(std::integer_sequence<int, V...>) {
    (fill_rows<V + 1>(std::make_integer_sequence<int, Tiling<T>::rows(V + 1)>{}), ...);
  }
  template <int V, int... R>
  constexpr void fill_rows(std::integer_sequence<int, R...>) {
    ((at[V - 1][R] = &tile_kernel<T, R + 1, V>), ...);
  }
};
template <class T>
inline constexpr TileKernels<T> tile_kernels{};

template <class T>
Index gemm_packed_size(Index n, Index k) {
  return round_up(n, vec<T>::size) * k;
}

template <class T>
void pack_panel(const Panels<T>& panels, Index panel, Index k, const T* b, Index ldb, bool transpose_b, T* packed) {
  const Index n0 = panel * panels.width();
  const Index columns = panels.columns(panel);
  const Index width = panels.vectors_of(panel) * vec<T>::size;
  T* to = packed + n0 * k;
  if (!transpose_b) {
    for (Index i = 0; i < k; ++i) {
      const T* from = b + i * ldb + n0;
      Index j = 0;
      for (; j + vec<T>::size <= columns; j += vec<T>::size) store<T>(to + i * width + j, load<T>(from + j));
      if (j < columns) store<T>(to + i * width + j, load_n(from + j, columns - j));
    }
    return;
  }
  constexpr Index w = vec<T>::size;
  for (Index j = 0; j < columns; j += w) {
    for (Index i = 0; i < k; i += w) {
      transpose_square<T>(columns - j, smaller(w, k - i), b + (n0 + j) * ldb + i, ldb, to + i * width + j, width);
    }
  }
}

template <class T>
void gemm_pack(Index n, Index k, const T* b, Index ldb, bool transpose_b, T* packed) {
  const Panels<T> panels(n);
  const Index pieces = n * k < 16384 ? 1 : panels.count;
  for_pieces(pieces, [&](Index piece) {
    const Index from = panels.count * piece / larger(pieces, 1);
    const Index to = panels.count * (piece + 1) / larger(pieces, 1);
    for (Index p = from; p < to; ++p) pack_panel<T>(panels, p, k, b, ldb, transpose_b, packed);
  });
}

// One product with B packed, or in place (then n is a multiple of a vector).
template <class T>
struct GemmJob {
  Index m = 0, n = 0, k = 0;
  const T* a = nullptr;
  Index lda = 0;
  bool transpose_a = false;
  const T* packed_b = nullptr;
  const T* b = nullptr;
  Index ldb = 0;
  bool copy_b = false;  // in place, but a panel is copied together before its tiles read it
  T* c = nullptr;
  Index ldc = 0;
  bool accumulate = false;
  Epilogue<T> epilogue = {};
};

// Rows of A that are done at once for every panel of B: less than half of a small L2 cache, so that a B larger than the
// cache is read again as rarely as can be; all of them if they nearly fit.
template <class T>
Index block_rows(Index m, Index k) {
  constexpr Index elements = Index{400 * 1024} / static_cast<Index>(sizeof(T));
  const Index depth = larger(1, smaller(k, 768));
  if (m * depth <= 2 * elements && m <= 256) return larger(1, m);
  return larger(96, smaller(192, elements / depth));
}

// Rows of a transposed A, (k, rows), put close together: a tile would otherwise touch a page for each k, and again for
// every panel.
template <class T>
void gather_rows(Index k, Index rows, const T* a, Index lda, T* packed, Index ld) {
  constexpr Index ahead = 8;
  for (Index i = 0; i < k; ++i) {
    fetch_row(a + smaller(i + ahead, k - 1) * lda, rows);
    copy_row<T>(packed + i * ld, a + i * lda, rows);
  }
}

// Rows [m0, m1) and panels [p0, p1) of a product. While a panel of a packed B is multiplied the next one is fetched, after
// the last one `then`: weights that were not used for a while come from memory, and the first tile would wait for them.
template <class T>
void gemm_block(const GemmJob<T>& g, Index m0, Index m1, Index p0, Index p1, const T* then = nullptr) {
  const Panels<T> panels(g.n);
  const Index most_k = g.transpose_a ? 512 : 768;
  const Index blocks = larger(1, ceil_div(g.k, most_k));
  const Index longest = smaller(g.k, most_k);
  Scratch scratch;
  const Index packed_ld = round_up(m1 - m0, 2 * vec<T>::size) + vec<T>::size;  // off the powers of two
  T* const packed_a = g.transpose_a ? scratch.take<T>(packed_ld * longest) : nullptr;
  T* const panel_b = g.copy_b ? scratch.take<T>(panels.width() * longest) : nullptr;
  Tile<T> t;
  t.lda = g.transpose_a ? 1 : g.lda;
  t.step = g.transpose_a ? packed_ld : 1;
  t.ldc = g.ldc;
  t.before = g.epilogue.before;
  t.after = g.epilogue.after;
  for (Index block = 0; block < blocks; ++block) {
    const Index k0 = g.k * block / blocks;
    const Index k1 = g.k * (block + 1) / blocks;
    t.length = k1 - k0;
    t.add = g.accumulate || block > 0;
    t.last = !g.accumulate && block + 1 == blocks;
    if (g.transpose_a) gather_rows<T>(t.length, m1 - m0, g.a + m0 + k0 * g.lda, g.lda, packed_a, packed_ld);
    for (Index p = p0; p < p1; ++p) {
      const Index n0 = p * panels.width();
      const Index vectors = panels.vectors_of(p);
      t.columns = panels.columns(p);
      t.ldb = g.packed_b || g.copy_b ? vectors * vec<T>::size : g.ldb;
      t.b = g.packed_b ? g.packed_b + n0 * g.k + k0 * t.ldb : g.b + k0 * g.ldb + n0;
      if (g.copy_b) {
        gather_rows<T>(t.length, t.ldb, t.b, g.ldb, panel_b, t.ldb);
        t.b = panel_b;
      }
      t.bias = g.epilogue.bias ? g.epilogue.bias + n0 : nullptr;
      const Index tiles = ceil_div(m1 - m0, Tiling<T>::rows(static_cast<int>(vectors)));
      const EvenCut rows(m1 - m0, tiles);
      const T* next = p + 1 < p1 ? t.b + panels.width() * g.k : then;
      Index row = m0;
      for (Index i = 0; i < tiles; ++i) {
        t.c = g.c + row * g.ldc + n0;
        t.residual = g.epilogue.residual ? g.epilogue.residual + row * g.ldc + n0 : nullptr;
        t.a = g.transpose_a ? packed_a + (row - m0) : g.a + row * g.lda + k0;
        if (g.packed_b) t.fetch(next, t.length, i, tiles);
        for (Index r = 0; t.add && r < rows[i]; ++r) fetch_row(t.c + r * t.ldc, t.columns);  // far away by now
        tile_kernels<T>.at[vectors - 1][rows[i] - 1](t);
        row += rows[i];
      }
    }
  }
}

// Cuts rows into blocks that stay in L2, and panels where rows alone give the threads too little to share.
template <class T>
void gemm_blocks(const GemmJob<T>& g) {
  const Index panels = Panels<T>(g.n).count;
  const Index threads = g.m * g.n * g.k < 65536 ? 1 : num_threads();
  Index row_blocks = ceil_div(g.m, block_rows<T>(g.m, g.k));
  const Index wanted = (g.transpose_a ? 4 : 8) * threads;
  Index panel_groups = threads == 1 ? 1 : smaller(panels, ceil_div(wanted, row_blocks));
  if (threads > 1 && g.transpose_a) {  // each group packs its rows of A anew: rather more blocks than groups
    const Index most_blocks = ceil_div(g.m, 48);
    row_blocks = smaller(round_up(row_blocks, threads), most_blocks);
    panel_groups = smaller(ceil_div(wanted, row_blocks), larger(1, panels / 6));
    row_blocks = larger(row_blocks, smaller(ceil_div(wanted, panel_groups), most_blocks));
  }
  const Index pieces = row_blocks * panel_groups;
  const Index width = Panels<T>(g.n).width();
  const auto block = [&](Index piece) {
    const Index i = piece / panel_groups;
    const Index j = piece % panel_groups;
    const Index soon = piece + threads;  // probably this thread's next piece
    const T* then = g.packed_b && soon < pieces ? g.packed_b + panels * (soon % panel_groups) / panel_groups * width * g.k : nullptr;
    gemm_block<T>(g, g.m * i / row_blocks, g.m * (i + 1) / row_blocks, panels * j / panel_groups,
                  panels * (j + 1) / panel_groups, then);
  };
  if (threads == 1) {
    for (Index piece = 0; piece < pieces; ++piece) block(piece);
  } else {
    for_pieces(pieces, block);
  }
}

// The epilogue over whole rows of C, where it could not run on a tile.
template <class T>
void epilogue_rows(const Epilogue<T>& e, T* c, Index ldc, Index rows, Index n) {
  for (Index r = 0; r < rows; ++r) {
    T* row = c + r * ldc;
    if (e.bias) add_row<T>(row, e.bias, n);
    if (e.before != Act::none) activate<T>(e.before, n, row, row);
    if (e.residual) add_row<T>(row, e.residual + r * ldc, n);
    if (e.after != Act::none) activate<T>(e.after, n, row, row);
  }
}

// Sums `count` buffers of m x n in order into C, then the epilogue.
template <class T>
void sum_partials(const T* partial, Index count, Index m, Index n, T* c, Index ldc, bool accumulate,
                  const Epilogue<T>& e) {
  constexpr Index w = vec<T>::size;
  const Index pieces = m * n * count < 65536 ? 1 : smaller(m, 16);
  for_pieces(pieces, [&](Index piece) {
    const Index from = m * piece / pieces;
    const Index to = m * (piece + 1) / pieces;
    for (Index r = from; r < to; ++r) {
      for (Index j = 0; j < n; j += w) {
        const Index left = smaller(w, n - j);
        const T* p = partial + r * n + j;
        vec<T> sum = accumulate ? load_n(c + r * ldc + j, left) : vec<T>(T(0));
        for (Index i = 0; i < count; ++i) sum += load_n(p + i * m * n, left);
        store_n(c + r * ldc + j, sum, left);
      }
    }
    if (!accumulate) {
      Epilogue<T> rows = e;
      if (rows.residual) rows.residual += from * ldc;
      epilogue_rows<T>(rows, c + from * ldc, ldc, to - from, n);
    }
  });
}

// Few outputs, long sums (the gradient of a weight over all tokens): k is cut by its size alone and the parts are
// summed in order.
template <class T>
void gemm_split_k(const Gemm<T>& g) {
  const Index chunks = smaller(32, ceil_div(g.k, 2048));
  const bool in_place = !g.transpose_b && g.n % vec<T>::size == 0;
  Scratch scratch;
  T* partial = scratch.take<T>(chunks * g.m * g.n);
  for_pieces(chunks, [&](Index chunk) {
    const Index k0 = g.k * chunk / chunks;
    const Index k1 = g.k * (chunk + 1) / chunks;
    Scratch local;
    GemmJob<T> job;
    job.m = g.m;
    job.n = g.n;
    job.k = k1 - k0;
    job.a = g.a + (g.transpose_a ? k0 * g.lda : k0);
    job.lda = g.lda;
    job.transpose_a = g.transpose_a;
    const T* b = g.b + (g.transpose_b ? k0 : k0 * g.ldb);
    if (in_place) {
      job.b = b;
      job.ldb = g.ldb;
      job.copy_b = Panels<T>(g.n).count > 1 && g.m >= 64;
    } else {
      T* packed = local.take<T>(gemm_packed_size<T>(g.n, job.k));
      gemm_pack<T>(g.n, job.k, b, g.ldb, g.transpose_b, packed);
      job.packed_b = packed;
    }
    job.c = partial + chunk * g.m * g.n;
    job.ldc = g.n;
    const Index row_blocks = ceil_div(g.m, block_rows<T>(g.m, 512));
    for (Index i = 0; i < row_blocks; ++i)
      gemm_block<T>(job, g.m * i / row_blocks, g.m * (i + 1) / row_blocks, 0, Panels<T>(g.n).count);
  });
  sum_partials<T>(partial, chunks, g.m, g.n, g.c, g.ldc, g.accumulate, g.epilogue);
}

// One row: V vectors of columns, k in four interleaved sums so that the chain of additions is not the limit.
template <class T, int V>
void row_kernel(Index k, const T* a, const T* b, Index ldb, Index columns, T* c, bool accumulate) {
  constexpr Index w = vec<T>::size;
  constexpr Index ways = 4;
  vec<T> sum[std::size_t{ways}][std::size_t{V}];
  OCELLUS_UNROLL for (int i = 0; i < ways; ++i) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[i][v] = vec<T>(T(0));
  }
  const Index tail = columns - (V - 1) * w;
  const auto run = [&](auto&& last) OCELLUS_INLINE_LAMBDA {
    const auto step = [&](int i, const T* x, const T* row) OCELLUS_INLINE_LAMBDA {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
        const vec<T> y = v + 1 < V ? load<T>(row + v * w) : last(row + v * w);
        sum[i][v] = fma<T>(vec<T>(*x), y, sum[i][v]);
      }
    };
    Index j = 0;
    for (; j + ways <= k; j += ways) {
      OCELLUS_UNROLL for (int i = 0; i < ways; ++i) step(i, a + j + i, b + (j + i) * ldb);
    }
    for (; j < k; ++j) step(0, a + j, b + j * ldb);
  };
  if (tail == w || ldb == V * w) {
    run([](const T* p) OCELLUS_INLINE_LAMBDA { return load<T>(p); });
  } else {
    run([&](const T* p) OCELLUS_INLINE_LAMBDA { return load_n(p, tail); });
  }
  OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
    const Index left = v + 1 < V ? w : tail;
    vec<T> y = (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]);
    if (accumulate) y += load_n(c + v * w, left);
    store_n(c + v * w, y, left);
  }
}

// One element of C for each of R rows of a transposed B.
template <class T, int R>
OCELLUS_INLINE void dot_rows(Index k, const T* a, const T* b, Index ldb, T* c, bool accumulate) {
  constexpr Index w = vec<T>::size;
  vec<T> sum[2][std::size_t{R}];
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) sum[0][r] = sum[1][r] = vec<T>(T(0));
  Index j = 0;
  for (; j + 2 * w <= k; j += 2 * w) {
    OCELLUS_UNROLL for (int i = 0; i < 2; ++i) {
      const vec<T> x = load<T>(a + j + i * w);
      OCELLUS_UNROLL for (int r = 0; r < R; ++r) sum[i][r] = fma<T>(x, load<T>(b + r * ldb + j + i * w), sum[i][r]);
    }
  }
  for (; j < k; j += w) {
    const Index left = smaller(w, k - j);
    const vec<T> x = load_n(a + j, left);
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) sum[0][r] = fma<T>(x, load_n(b + r * ldb + j, left), sum[0][r]);
  }
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
    const T y = reduce_add<T>(sum[0][r] + sum[1][r]);
    c[r] = accumulate ? c[r] + y : y;
  }
}

// m = 1.
template <class T>
void gemv(const Gemm<T>& g) {
  Scratch scratch;
  const T* a = g.a;
  if (g.transpose_a) {
    T* row = scratch.take<T>(g.k);
    for (Index i = 0; i < g.k; ++i) row[i] = g.a[i * g.lda];
    a = row;
  }
  const bool dots = !g.packed_b && g.transpose_b;
  const Panels<T> panels(g.n);
  const Index width = dots ? 16 : panels.width();
  const Index units = ceil_div(g.n, width);
  const Index pieces = g.n * g.k < 65536 ? 1 : smaller(units, 4 * num_threads());
  for_pieces(pieces, [&](Index piece) {
    for (Index p = units * piece / pieces; p < units * (piece + 1) / pieces; ++p) {
      const Index n0 = p * width;
      const Index columns = smaller(width, g.n - n0);
      T* c = g.c + n0;
      if (dots) {
        Index j = 0;
        for (; j + 4 <= columns; j += 4) dot_rows<T, 4>(g.k, a, g.b + (n0 + j) * g.ldb, g.ldb, c + j, g.accumulate);
        for (; j < columns; ++j) dot_rows<T, 1>(g.k, a, g.b + (n0 + j) * g.ldb, g.ldb, c + j, g.accumulate);
      } else {
        const Index vectors = panels.vectors_of(p);
        const Index ldb = g.packed_b ? vectors * vec<T>::size : g.ldb;
        const T* b = g.packed_b ? g.packed_b + n0 * g.k : g.b + n0;
        if (vectors == 1) row_kernel<T, 1>(g.k, a, b, ldb, columns, c, g.accumulate);
        if (vectors == 2) row_kernel<T, 2>(g.k, a, b, ldb, columns, c, g.accumulate);
        if constexpr (Tiling<T>::vectors == 4) {
          if (vectors == 3) row_kernel<T, 3>(g.k, a, b, ldb, columns, c, g.accumulate);
          if (vectors == 4) row_kernel<T, 4>(g.k, a, b, ldb, columns, c, g.accumulate);
        }
      }
      if (!g.accumulate) {
        Epilogue<T> e = g.epilogue;
        if (e.bias) e.bias += n0;
        if (e.residual) e.residual += n0;
        epilogue_rows<T>(e, c, g.ldc, 1, columns);
      }
    }
  });
}

// One problem of the batch.
template <class T>
void gemm_one(const Gemm<T>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.m == 1) {
    gemv<T>(g);
    return;
  }
  if (!g.packed_b && g.k >= 4096 && g.m * g.n <= 512 * 512) {
    gemm_split_k<T>(g);
    return;
  }
  Scratch scratch;
  GemmJob<T> job;
  job.m = g.m;
  job.n = g.n;
  job.k = g.k;
  job.a = g.a;
  job.lda = g.lda;
  job.transpose_a = g.transpose_a;
  job.packed_b = g.packed_b;
  job.c = g.c;
  job.ldc = g.ldc;
  job.accumulate = g.accumulate;
  job.epilogue = g.epilogue;
  if (!g.packed_b) {
    if (!g.transpose_b && g.n % vec<T>::size == 0 && (g.m <= 16 || g.n <= 2 * Tiling<T>::vectors * vec<T>::size)) {
      job.b = g.b;
      job.ldb = g.ldb;
    } else {
      T* packed = scratch.take<T>(gemm_packed_size<T>(g.n, g.k));
      gemm_pack<T>(g.n, g.k, g.b, g.ldb, g.transpose_b, packed);
      job.packed_b = packed;
    }
  }
  gemm_blocks<T>(job);
}

// With a batch and stride_b ≠ 0, packed_b holds the problems' packed matrices one after the other.
template <class T>
void gemm(const Gemm<T>& g) {
  if (g.batch == 1) {
    gemm_one<T>(g);
    return;
  }
  Scratch scratch;
  Gemm<T> all = g;
  if (!g.packed_b && g.stride_b == 0 && g.m > 1 && g.k < 4096) {
    T* packed = scratch.take<T>(gemm_packed_size<T>(g.n, g.k));
    gemm_pack<T>(g.n, g.k, g.b, g.ldb, g.transpose_b, packed);
    all.packed_b = packed;
  }
  const auto problem = [&](Index i) {
    Gemm<T> one = all;
    one.batch = 1;
    one.a += i * g.stride_a;
    if (all.packed_b) {
      one.packed_b += g.stride_b == 0 ? 0 : i * gemm_packed_size<T>(g.n, g.k);
    } else {
      one.b += i * g.stride_b;
    }
    one.c += i * g.stride_c;
    if (one.epilogue.residual) one.epilogue.residual += i * g.stride_c;
    gemm_one<T>(one);
  };
  if (g.batch >= num_threads()) {
    for_pieces(g.batch, problem);
  } else {
    for (Index i = 0; i < g.batch; ++i) problem(i);
  }
}

}  // namespace ocellus::kernels::OCELLUS_ISA
