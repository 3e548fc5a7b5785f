// Scaled dot-product attention without the score matrix (FlashAttention: Dao et al., 2022; Dao, 2023). Keys and values
// of a head are packed once; a block of query rows then meets blocks of keys whose scores stay in the second-level
// cache, with the running maximum and sum of the online softmax where there is more than one block.
//
// The gradient recomputes the probabilities from log_sum. A piece of work is a run of query rows of one head: it owns
// its dq rows and sums its own dk and dv, which are then added run by run. The runs depend on the sizes alone, so any
// number of threads gives the same bits.
#pragma once

#include <cmath>

#include <ocellus/kernels/elementwise.hpp>
#include <ocellus/kernels/softmax.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

inline constexpr int attention_tile_rows = 6;
#if defined(OCELLUS_ISA_AVX512)
inline constexpr int attention_tile_vectors = 4;  // 6 x 4 accumulators of 32 registers
#else
inline constexpr int attention_tile_vectors = 2;  // 6 x 2 of 16
#endif
inline constexpr Index attention_rows = 48;  // query rows of a block
// Keys of a block: a multiple of every vector width.
inline constexpr Index attention_keys = 1024;
inline constexpr Index attention_backward_keys =
    576;  // holds two tiles of scores; a multiple of attention_tile_rows too

// How element (r, k) of the left matrix and row k of the right one are reached.
template <class T>
struct AttentionLeft {
  const T* p;
  Index row, step;
};

// c (6 x vectors · width) = or += a b. `add`: onto what c holds.
template <int vectors, bool add, class T>
OCELLUS_INLINE void attention_tile(Index depth, const AttentionLeft<T>& a, const T* b, Index ldb, T* c, Index ldc) {
  constexpr Index width = vec<T>::size;
  vec<T> sum[attention_tile_rows][static_cast<std::size_t>(vectors)];
  OCELLUS_UNROLL for (int r = 0; r < attention_tile_rows; ++r) {
    OCELLUS_UNROLL for (int v = 0; v < vectors; ++v) {
      if constexpr (add) {
        sum[r][v] = load(c + r * ldc + v * width);
      } else {
        sum[r][v] = vec<T>(T(0));
      }
    }
  }
  const T* row = a.p;
  for (Index k = 0; k < depth; ++k) {
    vec<T> right[static_cast<std::size_t>(vectors)];
    OCELLUS_UNROLL for (int v = 0; v < vectors; ++v) right[v] = load(b + v * width);
    OCELLUS_UNROLL for (int r = 0; r < attention_tile_rows; ++r) {
      const vec<T> left(row[r * a.row]);
      OCELLUS_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] = fma<T>(left, right[v], sum[r][v]);
    }
    row += a.step;
    b += ldb;
  }
  OCELLUS_UNROLL for (int r = 0; r < attention_tile_rows; ++r) {
    OCELLUS_UNROLL for (int v = 0; v < vectors; ++v) store(c + r * ldc + v * width, sum[r][v]);
  }
}

template <int vectors, bool add, class T>
[[gnu::noinline]] void attention_column(Index rows, Index depth, AttentionLeft<T> a, const T* b, Index ldb, T* c,
                                        Index ldc) {
  for (Index r = 0; r < rows; r += attention_tile_rows) {
    attention_tile<vectors, add>(depth, a, b, ldb, c + r * ldc, ldc);
    a.p += attention_tile_rows * a.row;
  }
}

// Vectors of the next panel where `left` remain: panels as equal as can be, since one of a single vector runs at half
// speed.
OCELLUS_INLINE Index attention_panel(Index left) { return ceil_div(left, ceil_div(left, attention_tile_vectors)); }

// c (rows x columns) = or += a (rows x depth) b (depth x columns). rows: a multiple of 6, columns: of the vector width;
// all matrices are padded so. ldb = 0: b lies in panels of up to attention_tile_vectors vectors, each (depth, panel
// width).
template <bool add, class T>
void attention_product(Index rows, Index columns, Index depth, const AttentionLeft<T>& a, const T* b, Index ldb, T* c,
                       Index ldc) {
  constexpr Index width = vec<T>::size;
  for (Index j = 0; j < columns;) {
    const Index vectors = attention_panel((columns - j) / width);
    const T* right = ldb ? b + j : b + j * depth;
    const Index stride = ldb ? ldb : vectors * width;
    if (vectors == 1) attention_column<1, add>(rows, depth, a, right, stride, c + j, ldc);
    if (vectors == 2) attention_column<2, add>(rows, depth, a, right, stride, c + j, ldc);
    if constexpr (attention_tile_vectors > 2) {
      if (vectors == 3) attention_column<3, add>(rows, depth, a, right, stride, c + j, ldc);
      if (vectors == 4) attention_column<4, add>(rows, depth, a, right, stride, c + j, ldc);
    }
    j += vectors * width;
  }
}

// x (rows, dim) to the panels of its transpose, (dim, rows rounded up to the vector width), block by block of rows;
// zeros fill up.
template <class T>
void pack_transposed(Index rows, Index block, Index dim, const T* x, Index ldx, T* out) {
  constexpr Index width = vec<T>::size;
  for (Index first = 0; first < rows; first += block) {
    const Index last = smaller(first + block, rows);
    for (Index j = first; j < last;) {
      const Index panel = attention_panel(ceil_div(last - j, width)) * width;
      T* to = out + j * dim;
      for (Index i = 0; i < panel; ++i) {
        const T* from = x + (j + i) * ldx;
        const bool inside = j + i < last;
        for (Index d = 0; d < dim; ++d) to[d * panel + i] = inside ? from[d] : T(0);
      }
      j += panel;
    }
  }
}

// x (rows, dim) to (padded_rows, ld) with zeros around it.
template <class T>
void pack_rows(Index rows, Index dim, const T* x, Index ldx, Index padded_rows, Index ld, T* out) {
  for (Index r = 0; r < padded_rows; ++r) {
    T* to = out + r * ld;
    const Index valid = r < rows ? dim : 0;
    const T* from = x + r * ldx;
    each_vector<T>(0, valid,
                   [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA { store_n(to + i, load_n(from + i, lanes), lanes); });
    for (Index i = valid; i < ld; ++i) to[i] = 0;
  }
}

// Where a head starts: batch b, head h.
struct AttentionHead {
  Index b, h;
};
template <class T>
OCELLUS_INLINE AttentionHead attention_head(const Attention<T>& p, Index index) {
  return {index / p.heads, index % p.heads};
}

template <class T>
struct PackedHead {
  T* keys_transposed;    // panels of (dim, keys)
  T* values;             // (keys, padded dim)
  T* values_transposed;  // backward: panels of (dim, keys)
  T* keys;               // backward: (keys, padded dim)
};

template <class T>
struct AttentionSizes {
  Index dim;         // padded to the vector width
  Index keys;        // padded likewise
  Index key_blocks;  // of attention_keys
  Index row_blocks;  // of attention_rows
  Index score_ld;    // of a tile of scores; off the multiples of 4096 bytes
};

template <class T>
AttentionSizes<T> attention_sizes(const Attention<T>& p) {
  constexpr Index width = vec<T>::size;
  const Index block = round_up(smaller(p.keys, attention_keys), width);
  return {round_up(p.dim, width), round_up(p.keys, width), ceil_div(p.keys, attention_keys),
          ceil_div(p.queries, attention_rows), round_up(block, attention_tile_rows * width) + width};
}

// Query rows [first, first + rows) of one head.
template <class T>
void attention_block(const Attention<T>& p, const AttentionSizes<T>& z, const PackedHead<T>& packed, AttentionHead at,
                     Index first, Index rows) {
  const Index tiles = round_up(rows, attention_tile_rows);
  Scratch scratch;
  T* scores = scratch.take<T>(tiles * z.score_ld);
  T* sum = scratch.take<T>(tiles * z.dim);  // Σ exp(score) v
  T top[attention_rows];
  T total[attention_rows];
  AttentionLeft<T> queries{p.q + at.b * p.batch_q + at.h * p.dim + first * p.row_q, p.row_q, 1};
  if (tiles != rows) {
    T* q = scratch.take<T>(tiles * p.dim);
    pack_rows(rows, p.dim, queries.p, p.row_q, tiles, p.dim, q);
    queries = {q, p.dim, 1};
  }

  for (Index block = 0; block < z.key_blocks; ++block) {
    const Index first_key = block * attention_keys;
    const Index keys = smaller(attention_keys, p.keys - first_key);
    attention_product<false>(tiles, round_up(keys, vec<T>::size), p.dim, queries,
                             packed.keys_transposed + first_key * p.dim, Index{0}, scores, z.score_ld);
    for (Index r = 0; r < rows; ++r) {
      T* row = scores + r * z.score_ld;
      const T block_top = row_max(keys, row) * p.scale;
      if (block == 0) {
        top[r] = block_top;
        total[r] = row_exp<true>(keys, row, p.scale, block_top, row);
        continue;
      }
      const T new_top = block_top > top[r] ? block_top : top[r];
      const T shrink = std::exp(top[r] - new_top);
      total[r] = total[r] * shrink + row_exp<true>(keys, row, p.scale, new_top, row);
      top[r] = new_top;
      const vec<T> factor(shrink);
      for (Index i = 0; i < z.dim; i += vec<T>::size) store<T>(sum + r * z.dim + i, load(sum + r * z.dim + i) * factor);
    }
    const AttentionLeft<T> probabilities{scores, z.score_ld, 1};
    const T* values = packed.values + first_key * z.dim;
    if (block == 0) {
      attention_product<false>(tiles, z.dim, keys, probabilities, values, z.dim, sum, z.dim);
    } else {
      attention_product<true>(tiles, z.dim, keys, probabilities, values, z.dim, sum, z.dim);
    }
  }
  for (Index r = 0; r < rows; ++r) {
    T* y = p.y + at.b * p.batch_y + at.h * p.dim + (first + r) * p.row_y;
    const T* from = sum + r * z.dim;
    const vec<T> scale(T(1) / total[r]);
    each_vector<T>(0, p.dim, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(y + i, load_n(from + i, lanes) * scale, lanes);
    });
    if (p.log_sum) p.log_sum[(at.b * p.heads + at.h) * p.queries + first + r] = top[r] + std::log(total[r]);
  }
}

inline constexpr Index attention_memory = Index{1} << 24;  // elements of packed heads held at a time

template <class T>
void attention(const Attention<T>& p) {
  if (p.dim == 0 || p.queries == 0 || p.keys == 0) return;
  const AttentionSizes<T> z = attention_sizes(p);
  const Index heads = p.batch * p.heads;
  const Index transposed_size = z.keys * p.dim;
  const Index head_size = transposed_size + z.keys * z.dim;
  const Index group = larger(1, smaller(heads, attention_memory / head_size));
  Scratch scratch;
  T* memory = scratch.take<T>(group * head_size);
  const auto packed_head = [=](Index i) {
    T* at = memory + i * head_size;
    return PackedHead<T>{at, at + transposed_size, nullptr, nullptr};
  };
  for (Index from = 0; from < heads; from += group) {
    const Index count = smaller(group, heads - from);
    parallel_for(count, ceil_div(cheap_grain, head_size), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const AttentionHead at = attention_head(p, from + i);
        const PackedHead<T> packed = packed_head(i);
        pack_transposed(p.keys, attention_keys, p.dim, p.k + at.b * p.batch_k + at.h * p.dim, p.row_k,
                        packed.keys_transposed);
        pack_rows(p.keys, p.dim, p.v + at.b * p.batch_v + at.h * p.dim, p.row_v, p.keys, z.dim, packed.values);
      }
    });
    const Index cost = attention_rows * p.keys * (p.dim / 8 + 1);
    parallel_for(count * z.row_blocks, ceil_div(cheap_grain, cost), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index first = i % z.row_blocks * attention_rows;
        attention_block(p, z, packed_head(i / z.row_blocks), attention_head(p, from + i / z.row_blocks), first,
                        smaller(attention_rows, p.queries - first));
      }
    });
  }
}

// Query rows [first, last) of one head: writes their dq, adds to dk and dv (keys rounded up to 6, padded dim); those that
// p does not want are left out.
template <class T>
void attention_backward_rows(const AttentionBackward<T>& p, const AttentionSizes<T>& z, const PackedHead<T>& packed,
                             AttentionHead at, Index first, Index last, T* dk, T* dv) {
  const Attention<T>& f = p.forward;
  constexpr Index width = vec<T>::size;
  const Index score_ld = round_up(smaller(f.keys, attention_backward_keys), attention_tile_rows * width) + width;
  Scratch scratch;
  const Index most_rows = round_up(attention_rows, attention_tile_rows);
  T* q = scratch.take<T>(most_rows * z.dim);
  T* dy = scratch.take<T>(most_rows * z.dim);
  T* dq = scratch.take<T>(most_rows * z.dim);
  T* probability = scratch.take<T>(most_rows * score_ld);
  T* gradient = scratch.take<T>(most_rows * score_ld);
  T dot[attention_rows];  // Σ dy y
  const vec<T> scale(f.scale);
  for (Index start = first; start < last; start += attention_rows) {
    const Index rows = smaller(attention_rows, last - start);
    const Index tiles = round_up(rows, attention_tile_rows);
    const Index at_y = at.b * f.batch_y + at.h * f.dim + start * f.row_y;
    const Index at_q = at.b * f.batch_q + at.h * f.dim + start * f.row_q;
    pack_rows(rows, f.dim, f.q + at_q, f.row_q, tiles, z.dim, q);
    pack_rows(rows, f.dim, p.dy + at_y, f.row_y, tiles, z.dim, dy);
    for (Index r = 0; r < rows; ++r) {
      const T* g = dy + r * z.dim;
      const T* y = f.y + at_y + r * f.row_y;
      dot[r] = row_sum<T>(f.dim, [=](Index i, auto lanes)
                                     OCELLUS_INLINE_LAMBDA { return load_n(g + i, lanes) * load_n(y + i, lanes); });
    }
    for (Index i = 0; i < tiles * z.dim; ++i) dq[i] = 0;
    const T* log_sum = f.log_sum + (at.b * f.heads + at.h) * f.queries + start;

    for (Index key = 0; key < f.keys; key += attention_backward_keys) {
      const Index keys = smaller(attention_backward_keys, f.keys - key);
      const Index padded = round_up(keys, width);
      attention_product<false>(tiles, padded, f.dim, AttentionLeft<T>{q, z.dim, 1},
                               packed.keys_transposed + key * f.dim, Index{0}, probability, score_ld);
      attention_product<false>(tiles, padded, f.dim, AttentionLeft<T>{dy, z.dim, 1},
                               packed.values_transposed + key * f.dim, Index{0}, gradient, score_ld);
      for (Index r = 0; r < rows; ++r) {
        T* score = probability + r * score_ld;
        T* g = gradient + r * score_ld;
        const vec<T> shift(-log_sum[r]);
        const vec<T> rest(dot[r]);
        for (Index i = 0; i < padded; i += width) {
          const vec<T> e = exp<T>(fma<T>(load(score + i), scale, shift));
          store<T>(score + i, e);
          store<T>(g + i, e * (load(g + i) - rest));
        }
      }
      if (p.dq) {
        attention_product<true>(tiles, z.dim, keys, AttentionLeft<T>{gradient, score_ld, 1}, packed.keys + key * z.dim,
                                z.dim, dq, z.dim);
      }
      const Index key_tiles = round_up(keys, attention_tile_rows);
      if (p.dv) {
        attention_product<true>(key_tiles, z.dim, rows, AttentionLeft<T>{probability, 1, score_ld}, dy, z.dim,
                                dv + key * z.dim, z.dim);
      }
      if (p.dk) {
        attention_product<true>(key_tiles, z.dim, rows, AttentionLeft<T>{gradient, 1, score_ld}, q, z.dim,
                                dk + key * z.dim, z.dim);
      }
    }
    for (Index r = 0; p.dq && r < rows; ++r) {
      T* out = p.dq + at_q + r * f.row_q;
      const T* from = dq + r * z.dim;
      each_vector<T>(0, f.dim, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
        store_n(out + i, load_n(from + i, lanes) * scale, lanes);
      });
    }
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

template <class T>
void attention_backward(const AttentionBackward<T>& p) {
  const Attention<T>& f = p.forward;
  if (f.dim == 0 || f.queries == 0 || f.keys == 0) return;
  const AttentionSizes<T> z = attention_sizes(f);
  const Index heads = f.batch * f.heads;
  const Index run = attention_run(f);
  const Index runs = ceil_div(f.queries, run);
  const Index transposed_size = z.keys * f.dim;
  const Index row_size = z.keys * z.dim;
  const Index partial_size = round_up(f.keys, attention_tile_rows) * z.dim;  // dk or dv of a run
  const Index head_size = 2 * transposed_size + row_size + runs * 2 * partial_size;
  const Index group = larger(1, smaller(heads, attention_memory / head_size));
  Scratch scratch;
  T* memory = scratch.take<T>(group * head_size);
  const auto packed_head = [=](Index i) {
    T* at = memory + i * head_size;
    return PackedHead<T>{at, nullptr, at + transposed_size, at + 2 * transposed_size};
  };
  const auto partial = [=](Index i, Index r) {
    return memory + i * head_size + 2 * transposed_size + row_size + r * 2 * partial_size;
  };

  for (Index from = 0; from < heads; from += group) {
    const Index count = smaller(group, heads - from);
    parallel_for(count, ceil_div(cheap_grain, head_size), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const AttentionHead at = attention_head(f, from + i);
        const PackedHead<T> packed = packed_head(i);
        const T* k = f.k + at.b * f.batch_k + at.h * f.dim;
        pack_transposed(f.keys, attention_backward_keys, f.dim, k, f.row_k, packed.keys_transposed);
        pack_transposed(f.keys, attention_backward_keys, f.dim, f.v + at.b * f.batch_v + at.h * f.dim, f.row_v,
                        packed.values_transposed);
        pack_rows(f.keys, f.dim, k, f.row_k, f.keys, z.dim, packed.keys);
      }
    });
    const Index cost = smaller(run, f.queries) * f.keys * (f.dim / 4 + 1);
    parallel_for(count * runs, ceil_div(cheap_grain, cost), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index head = i / runs;
        const Index first = i % runs * run;
        T* dk = partial(head, i % runs);
        T* dv = dk + partial_size;
        for (Index j = 0; j < 2 * partial_size; ++j) dk[j] = 0;
        attention_backward_rows(p, z, packed_head(head), attention_head(f, from + head), first,
                                smaller(first + run, f.queries), dk, dv);
      }
    });
    parallel_for(count * f.keys, ceil_div(cheap_grain, 2 * runs * z.dim), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Index head = i / f.keys;
        const Index key = i % f.keys;
        const AttentionHead at = attention_head(f, from + head);
        const auto sum_runs = [=](const T* first, T scale, T* out) {
          each_vector<T>(0, f.dim, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
            vec<T> sum(T(0));
            for (Index r = 0; r < runs; ++r) sum += load_n(first + r * 2 * partial_size + c, lanes);
            store_n(out + c, sum * vec<T>(scale), lanes);
          });
        };
        const T* first = partial(head, 0) + key * z.dim;
        if (p.dk) sum_runs(first, f.scale, p.dk + at.b * f.batch_k + at.h * f.dim + key * f.row_k);
        if (p.dv) sum_runs(first + partial_size, T(1), p.dv + at.b * f.batch_v + at.h * f.dim + key * f.row_v);
      }
    });
  }
}

}  // namespace ocellus::kernels::OCELLUS_ISA
