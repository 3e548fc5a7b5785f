// Scaled dot-product attention without the score matrix (FlashAttention: Dao et al., 2022; Dao, 2023). A thread packs
// keys and values of a head once; blocks of query rows then meet blocks of keys whose scores stay in the second-level
// cache, with the running maximum and sum of the online softmax where there is more than one block. Scores are kept in
// units of log 2, the factor in the packed queries, so that the softmax is a power of two.
//
// The gradient recomputes the probabilities from log_sum. A piece of work is a run of query rows of one head: it owns
// its dq rows and sums its own dk and dv, which are then added run by run. The runs depend on the sizes alone, so any
// number of threads gives the same bits.
#pragma once

#include <cmath>

#include <ocellus/kernels/elementwise.hpp>
#include <ocellus/kernels/softmax.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

inline constexpr int attention_tile_rows = 6;  // what rows are padded to
template <class T>
inline constexpr int attention_tile_vectors = OCELLUS_ISA_REGISTERS == 32 && std::is_same_v<T, float> ? 4 : 2;
inline constexpr Index attention_rows = 48;  // query rows of a block
// Keys of a block: a multiple of every vector width.
inline constexpr Index attention_keys = 1024;
inline constexpr Index attention_backward_keys = 576;  // holds two tiles of scores
inline constexpr double log2_e = 1.44269504088896340736;
inline constexpr double ln_2 = 0.69314718055994530942;

// c (rows x columns) = or += a (rows x depth) b (depth x columns). rows: a multiple of 6, columns: of the vector width;
// all matrices are padded so.
template <class T>
struct AttentionProduct {
  Index rows, columns, depth;
  const T* a;  // element (r, k) at a[r a_row + k a_step]
  Index a_row, a_step;
  const T* b;  // rows, or where ldb = 0 panels of up to attention_tile_vectors vectors, each (depth, panel width)
  Index ldb;
  T* c;
  Index ldc;
  bool add = false;  // onto what c holds
  T* top = nullptr;  // (rows, vector width): raised to the largest score that a lane met
};

// The sums stay in registers: R x V of them.
template <int R, int V, class T>
OCELLUS_INLINE void attention_tile(const AttentionProduct<T>& p, Index row) {
  constexpr Index width = vec<T>::size;
  T* c = p.c + row * p.ldc;
  vec<T> sum[std::size_t{R}][std::size_t{V}];
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = vec<T>(T(0));
  }
  constexpr int half = R > attention_tile_rows ? R / 2 : R;  // two starting points: fewer multiples of the row length
  const T* b = p.b;
  const T* low = p.a + row * p.a_row;
  const T* high = low + half * p.a_row;
  for (Index k = 0; k < p.depth; ++k) {
    vec<T> right[std::size_t{V}];
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) right[v] = load(b + v * width);
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      const vec<T> left(r < half ? low[r * p.a_row] : high[(r - half) * p.a_row]);
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = fma<T>(left, right[v], sum[r][v]);
    }
    low += p.a_step;
    high += p.a_step;
    b += p.ldb;
  }
  if (p.add) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[r][v] += load(c + r * p.ldc + v * width);
    }
  }
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) store(c + r * p.ldc + v * width, sum[r][v]);
  }
  if (p.top) {
    T* top = p.top + row * width;
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      vec<T> most = load(top + r * width);
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) most = max<T>(sum[r][v], most);
      store(top + r * width, most);
    }
  }
}

template <int V, class T>
[[gnu::noinline]] void attention_column(const AttentionProduct<T> p) {
  constexpr int tall = 12;
  Index row = 0;
  if constexpr (V == 2 && attention_tile_vectors<T> == 4) {
    for (; row + tall <= p.rows; row += tall) attention_tile<tall, V>(p, row);
  }
  for (; row < p.rows; row += attention_tile_rows) attention_tile<attention_tile_rows, V>(p, row);
}

// Vectors of the next panel where `left` remain: panels as equal as can be, since one of a single vector runs at half
// speed.
template <class T>
OCELLUS_INLINE Index attention_panel(Index left) {
  return ceil_div(left, ceil_div(left, attention_tile_vectors<T>));
}

template <class T>
void attention_product(AttentionProduct<T> p) {
  constexpr Index width = vec<T>::size;
  const bool panels = p.ldb == 0;
  for (Index left = p.columns / width; left > 0;) {
    const Index vectors = attention_panel<T>(left);
    if (panels) p.ldb = vectors * width;
    if (vectors == 1) attention_column<1>(p);
    if (vectors == 2) attention_column<2>(p);
    if constexpr (attention_tile_vectors<T> > 2) {
      if (vectors == 3) attention_column<3>(p);
      if (vectors == 4) attention_column<4>(p);
    }
    left -= vectors;
    p.b += panels ? vectors * width * p.depth : vectors * width;
    p.c += vectors * width;
  }
}

inline constexpr Index fetch_ahead = 8;  // rows

// x (rows, dim) to the panels of its transpose, (dim, rows rounded up to the vector width), block by block of rows. The
// last row stands for those that fill up: a maximum over all is one over the true ones.
template <class T>
void pack_transposed(Index rows, Index block, Index dim, const T* x, Index ldx, T* out) {
  constexpr Index width = vec<T>::size;
  for (Index first = 0; first < rows; first += block) {
    const Index last = smaller(first + block, rows);
    for (Index j = first; j < last;) {
      const Index panel = attention_panel<T>(ceil_div(last - j, width)) * width;
      T* to = out + j * dim;
      for (Index i = 0; i < panel; i += width) {
        for (Index r = 0; r < width; ++r) fetch_row(x + smaller(j + i + r + fetch_ahead, rows - 1) * ldx, dim);
        for (Index d = 0; d < dim; d += width) {
          transpose_square<T>(last - j - i, smaller(width, dim - d), x + (j + i) * ldx + d, ldx, to + d * panel + i,
                              panel);
        }
      }
      j += panel;
    }
  }
}

// factor times x (rows, dim) to (padded_rows, ld) with zeros around it.
template <class T>
void pack_rows(Index rows, Index dim, const T* x, Index ldx, T factor, Index padded_rows, Index ld, T* out) {
  const vec<T> scale(factor);
  for (Index r = 0; r < padded_rows; ++r) {
    T* to = out + r * ld;
    const Index valid = r < rows ? dim : 0;
    const T* from = x + r * ldx;
    fetch_row(x + smaller(r + fetch_ahead, rows - 1) * ldx, dim);
    each_vector<T>(0, valid, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(to + i, load_n(from + i, lanes) * scale, lanes);
    });
    for (Index i = valid; i < ld; ++i) to[i] = 0;
  }
}

template <class T>
OCELLUS_INLINE void scaled_row(Index n, const T* x, T factor, T* y) {
  const vec<T> scale(factor);
  each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
    store_n(y + i, load_n(x + i, lanes) * scale, lanes);
  });
}

// Elements between the rows of a tile of scores: off the multiples of 4096 bytes.
template <class T>
OCELLUS_INLINE Index score_row(Index keys, Index block) {
  return round_up(smaller(keys, block), vec<T>::size) + 2 * vec<T>::size;
}

// Query rows [first, last) of head h of problem b.
template <class T>
void attention_head_rows(const Attention<T>& p, Index b, Index h, Index first, Index last) {
  constexpr Index width = vec<T>::size;
  const Index dim = round_up(p.dim, width);
  const Index ld = score_row<T>(p.keys, attention_keys);
  Scratch scratch;
  T* keys_transposed = scratch.take<T>(round_up(p.keys, width) * p.dim);
  T* values = scratch.take<T>(p.keys * dim);
  T* q = scratch.take<T>(attention_rows * p.dim);
  T* scores = scratch.take<T>(attention_rows * ld);
  T* sum = scratch.take<T>(attention_rows * dim);    // Σ exp(score) v
  T* tops = scratch.take<T>(attention_rows * width);  // largest score by lane
  T top[attention_rows];
  T total[attention_rows];
  pack_transposed(p.keys, attention_keys, p.dim, p.k + b * p.batch_k + h * p.dim, p.row_k, keys_transposed);
  pack_rows(p.keys, p.dim, p.v + b * p.batch_v + h * p.dim, p.row_v, T(1), p.keys, dim, values);

  for (Index start = first; start < last; start += attention_rows) {
    const Index rows = smaller(attention_rows, last - start);
    const Index tiles = round_up(rows, attention_tile_rows);
    const T* queries = p.q + b * p.batch_q + h * p.dim + start * p.row_q;
    T* y = p.y + b * p.batch_y + h * p.dim + start * p.row_y;
    pack_rows(rows, p.dim, queries, p.row_q, static_cast<T>(log2_e * p.scale), tiles, p.dim, q);
    for (Index i = 0; i < tiles * width; ++i) tops[i] = -static_cast<T>(HUGE_VAL);
    for (Index key = 0; key < p.keys; key += attention_keys) {
      const Index keys = smaller(attention_keys, p.keys - key);
      attention_product<T>({tiles, round_up(keys, width), p.dim, q, p.dim, 1, keys_transposed + key * p.dim, 0, scores,
                            ld, false, tops});
      for (Index r = 0; r < rows; ++r) {
        if (key == 0) {
          fetch_row(y + r * p.row_y, p.dim);
          if (start + attention_rows + r < last) fetch_row(queries + (attention_rows + r) * p.row_q, p.dim);
        }
        const T new_top = reduce_max<T>(load(tops + r * width));
        const T part = row_exp2(keys, scores + r * ld, new_top);
        if (key == 0) {
          total[r] = part;
        } else {
          const T shrink = std::exp2(top[r] - new_top);
          total[r] = total[r] * shrink + part;
          scaled_row(dim, sum + r * dim, shrink, sum + r * dim);
        }
        top[r] = new_top;
      }
      attention_product<T>({tiles, dim, keys, scores, ld, 1, values + key * dim, dim, sum, dim, key > 0});
    }
    for (Index r = 0; r < rows; ++r) scaled_row(p.dim, sum + r * dim, T(1) / total[r], y + r * p.row_y);
    if (p.log_sum) {
      T* log_sum = p.log_sum + (b * p.heads + h) * p.queries + start;
      each_vector<T>(0, rows, [&](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
        store_n(log_sum + i, fma<T>(load_n(top + i, lanes), T(ln_2), log<T>(load_n(total + i, lanes))), lanes);
      });
    }
  }
}

// Calls f(piece) for every piece on the pool, or on this thread alone where there is little to compute.
template <class F>
OCELLUS_INLINE void attention_pieces(Index pieces, Index multiply_adds, F&& f) {
  if (multiply_adds >= 65536) return for_pieces(pieces, f);
  for (Index piece = 0; piece < pieces; ++piece) f(piece);
}

template <class T>
void attention(const Attention<T>& p) {
  if (p.dim == 0 || p.queries == 0 || p.keys == 0) return;
  const Index heads = p.batch * p.heads;
  const Index blocks = ceil_div(p.queries, attention_rows);
  const Index parts = smaller(ceil_div(4 * num_threads(), heads), blocks);  // of a head, each packs its keys again
  attention_pieces(heads * parts, heads * p.queries * p.keys * p.dim, [&](Index piece) {
    const Index head = piece / parts;
    const Index part = piece % parts;
    attention_head_rows(p, head / p.heads, head % p.heads, blocks * part / parts * attention_rows,
                        smaller(blocks * (part + 1) / parts * attention_rows, p.queries));
  });
}

// Query rows [first, last) of head h of problem b: writes their dq and sums their dk / ln 2 and dv (keys rounded up to
// 6, padded dim); those that p does not want are left out.
template <class T>
void attention_backward_rows(const AttentionBackward<T>& p, Index b, Index h, Index first, Index last, T* dk, T* dv) {
  constexpr Index width = vec<T>::size;
  const Attention<T>& f = p.forward;
  const Index dim = round_up(f.dim, width);
  const Index ld = score_row<T>(f.keys, attention_backward_keys);
  const Index at_k = b * f.batch_k + h * f.dim;
  Scratch scratch;
  T* keys_transposed = scratch.take<T>(round_up(f.keys, width) * f.dim);
  T* values_transposed = scratch.take<T>(round_up(f.keys, width) * f.dim);
  T* key_rows = scratch.take<T>(f.keys * dim);
  T* q = scratch.take<T>(attention_rows * dim);
  T* dy = scratch.take<T>(attention_rows * dim);
  T* dq = scratch.take<T>(attention_rows * dim);
  T* probability = scratch.take<T>(attention_rows * ld);
  T* gradient = scratch.take<T>(attention_rows * ld);
  pack_transposed(f.keys, attention_backward_keys, f.dim, f.k + at_k, f.row_k, keys_transposed);
  pack_transposed(f.keys, attention_backward_keys, f.dim, f.v + b * f.batch_v + h * f.dim, f.row_v, values_transposed);
  pack_rows(f.keys, f.dim, f.k + at_k, f.row_k, f.scale, f.keys, dim, key_rows);

  for (Index start = first; start < last; start += attention_rows) {
    const Index rows = smaller(attention_rows, last - start);
    const Index tiles = round_up(rows, attention_tile_rows);
    const Index at_y = b * f.batch_y + h * f.dim + start * f.row_y;
    const Index at_q = b * f.batch_q + h * f.dim + start * f.row_q;
    const T* log_sum = f.log_sum + (b * f.heads + h) * f.queries + start;
    pack_rows(rows, f.dim, f.q + at_q, f.row_q, static_cast<T>(log2_e * f.scale), tiles, dim, q);
    pack_rows(rows, f.dim, p.dy + at_y, f.row_y, T(1), tiles, dim, dy);
    T dot[attention_rows];  // Σ dy y
    for (Index r = 0; r < rows; ++r) {
      const T* g = dy + r * dim;
      const T* y = f.y + at_y + r * f.row_y;
      dot[r] = row_sum<T>(f.dim, [=](Index i, auto lanes)
                                     OCELLUS_INLINE_LAMBDA { return load_n(g + i, lanes) * load_n(y + i, lanes); });
    }
    for (Index key = 0; key < f.keys; key += attention_backward_keys) {
      const Index keys = smaller(attention_backward_keys, f.keys - key);
      const Index padded = round_up(keys, width);
      const Index key_tiles = round_up(keys, attention_tile_rows);
      attention_product<T>({tiles, padded, f.dim, q, dim, 1, keys_transposed + key * f.dim, 0, probability, ld});
      attention_product<T>({tiles, padded, f.dim, dy, dim, 1, values_transposed + key * f.dim, 0, gradient, ld});
      for (Index r = 0; r < rows; ++r) {
        if (key == 0) {
          fetch_row(p.dq + at_q + r * f.row_q, f.dim);
          if (start + attention_rows + r < last) {
            fetch_row(f.q + at_q + (attention_rows + r) * f.row_q, f.dim);
            fetch_row(p.dy + at_y + (attention_rows + r) * f.row_y, f.dim);
            fetch_row(f.y + at_y + (attention_rows + r) * f.row_y, f.dim);
          }
        }
        T* score = probability + r * ld;
        T* g = gradient + r * ld;
        const vec<T> shift(static_cast<T>(log2_e * log_sum[r]));
        const vec<T> rest(dot[r]);
        for (Index i = 0; i < padded; i += width) {
          const vec<T> e = exp2<T>(load(score + i) - shift);
          store<T>(score + i, e);
          store<T>(g + i, e * (load(g + i) - rest));
        }
      }
      if (p.dq) attention_product<T>({tiles, dim, keys, gradient, ld, 1, key_rows + key * dim, dim, dq, dim, key > 0});
      const bool add = start > first;
      if (p.dv) attention_product<T>({key_tiles, dim, rows, probability, 1, ld, dy, dim, dv + key * dim, dim, add});
      if (p.dk) attention_product<T>({key_tiles, dim, rows, gradient, 1, ld, q, dim, dk + key * dim, dim, add});
    }
    for (Index r = 0; p.dq && r < rows; ++r) scaled_row(f.dim, dq + r * dim, T(1), p.dq + at_q + r * f.row_q);
  }
}

// Query rows of a run. Runs make work for many threads where heads are few and queries many; each costs one dk and one
// dv.
template <class T>
OCELLUS_INLINE Index attention_run(const Attention<T>& p) {
  const Index wanted = ceil_div(32, p.batch * p.heads);
  const Index shortest = larger(256, p.keys / 4);
  return round_up(larger(ceil_div(p.queries, wanted), shortest), attention_rows);
}

inline constexpr Index attention_memory = Index{1} << 24;  // elements of all runs' dk and dv held at a time

template <class T>
void attention_backward(const AttentionBackward<T>& p) {
  const Attention<T>& f = p.forward;
  if (f.dim == 0 || f.queries == 0 || f.keys == 0) return;
  const Index dim = round_up(f.dim, vec<T>::size);
  const Index heads = f.batch * f.heads;
  const Index run = attention_run(f);
  const Index runs = ceil_div(f.queries, run);
  const Index partial_size = round_up(f.keys, attention_tile_rows) * dim;  // dk or dv of a run
  const auto run_rows = [&](Index head, Index i, T* partial) {
    attention_backward_rows(p, head / f.heads, head % f.heads, i * run, smaller((i + 1) * run, f.queries), partial,
                            partial + partial_size);
  };
  // dk and dv of keys [begin, end) of a head from those of its runs.
  const auto finish = [&](Index head, Index begin, Index end, const T* partial) {
    const Index b = head / f.heads, h = head % f.heads;
    const auto sum_runs = [=](const T* first, T factor, T* out) {
      each_vector<T>(0, f.dim, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
        vec<T> sum(T(0));
        for (Index r = 0; r < runs; ++r) sum += load_n(first + r * 2 * partial_size + c, lanes);
        store_n(out + c, sum * vec<T>(factor), lanes);
      });
    };
    for (Index key = begin; key < end; ++key) {
      const Index soon = smaller(key + fetch_ahead, end - 1);
      if (p.dk) fetch_row(p.dk + b * f.batch_k + h * f.dim + soon * f.row_k, f.dim);
      if (p.dv) fetch_row(p.dv + b * f.batch_v + h * f.dim + soon * f.row_v, f.dim);
      const T* first = partial + key * dim;
      if (p.dk) sum_runs(first, static_cast<T>(ln_2), p.dk + b * f.batch_k + h * f.dim + key * f.row_k);
      if (p.dv) sum_runs(first + partial_size, T(1), p.dv + b * f.batch_v + h * f.dim + key * f.row_v);
    }
  };

  const Index cost = heads * f.queries * f.keys * f.dim;
  if (runs == 1) {
    attention_pieces(heads, cost, [&](Index head) {
      Scratch scratch;
      T* partial = scratch.take<T>(2 * partial_size);
      run_rows(head, 0, partial);
      finish(head, 0, f.keys, partial);
    });
    return;
  }
  const Index head_size = runs * 2 * partial_size;
  const Index group = larger(1, smaller(heads, attention_memory / head_size));
  Scratch scratch;
  T* memory = scratch.take<T>(group * head_size);
  for (Index from = 0; from < heads; from += group) {
    const Index count = smaller(group, heads - from);
    attention_pieces(count * runs, cost, [&](Index i) {
      run_rows(from + i / runs, i % runs, memory + i / runs * head_size + i % runs * 2 * partial_size);
    });
    constexpr Index slice = 32;  // keys
    const Index slices = ceil_div(f.keys, slice);
    attention_pieces(count * slices, cost, [&](Index i) {
      const Index first = i % slices * slice;
      finish(from + i / slices, first, smaller(first + slice, f.keys), memory + i / slices * head_size);
    });
  }
}

}  // namespace ocellus::kernels::OCELLUS_ISA
