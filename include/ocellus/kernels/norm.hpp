// Layer, group and batch normalisation (Ba et al., 2016; Wu and He, 2018; Ioffe and Szegedy, 2015) and their gradients.
// Variances come from squares about the mean, never from E[x²] − E[x]². Sums over rows are cut by sizes alone and
// joined in a fixed order.
#pragma once

#include <cmath>

#include <ocellus/kernels/elementwise.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

template <class T>
struct MeanDeviation {
  T mean;
  T rstd;
  T correction;  // what rounding left out of the mean
};

// Mean and 1 / sqrt(variance + eps) of R neighbouring rows that the first pass leaves in the cache; several, because the
// sums over lanes of one have to wait for each other.
template <int R, class T>
OCELLUS_INLINE void row_statistics(Index n, const T* x, T eps, MeanDeviation<T> (&s)[std::size_t{R}]) {
  constexpr Index width = vec<T>::size;
  constexpr std::size_t rows{R};
  const T count = static_cast<T>(n);
  vec<T> a[rows], b[rows], first[rows], second[rows], centre[rows];
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) a[r] = b[r] = vec<T>(T(0));
  Index i = 0;
  for (; i + 2 * width <= n; i += 2 * width) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      a[r] += load(x + r * n + i);
      b[r] += load(x + r * n + i + width);
    }
  }
  if (i + width <= n) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) a[r] += load(x + r * n + i);
    i += width;
  }
  if (i < n) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) b[r] += load_n(x + r * n + i, n - i);
  }
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
    s[r].mean = reduce_add<T>(a[r] + b[r]) / count;
    centre[r] = vec<T>(s[r].mean);
    a[r] = b[r] = first[r] = second[r] = vec<T>(T(0));
  }
  const auto add = [&](vec<T> x_r, vec<T>& sum, vec<T>& squares) OCELLUS_INLINE_LAMBDA {
    sum += x_r;
    squares = fma<T>(x_r, x_r, squares);
  };
  for (i = 0; i + 2 * width <= n; i += 2 * width) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
      add(load(x + r * n + i) - centre[r], first[r], a[r]);
      add(load(x + r * n + i + width) - centre[r], second[r], b[r]);
    }
  }
  if (i + width <= n) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r) add(load(x + r * n + i) - centre[r], first[r], a[r]);
    i += width;
  }
  if (i < n) {
    OCELLUS_UNROLL for (int r = 0; r < R; ++r)
      add(first_lanes<T>(n - i, load_n(x + r * n + i, n - i) - centre[r], T(0)), second[r], b[r]);
  }
  OCELLUS_UNROLL for (int r = 0; r < R; ++r) {
    s[r].correction = reduce_add<T>(first[r] + second[r]) / count;
    const T variance = reduce_add<T>(a[r] + b[r]) / count - s[r].correction * s[r].correction;
    s[r].rstd = T(1) / std::sqrt(variance + eps);
  }
}

template <int R, class T>
OCELLUS_INLINE void layer_norm_rows(const LayerNorm<T>& p, Index row) {
  const Index n = p.channels;
  const T* weight = p.weight;
  const T* bias = p.bias;
  MeanDeviation<T> s[std::size_t{R}];
  row_statistics<R>(n, p.x + row * n, p.eps, s);
  for (int r = 0; r < R; ++r) {
    const T* x = p.x + (row + r) * n;
    T* y = p.y + (row + r) * n;
    if (p.mean) p.mean[row + r] = s[r].mean + s[r].correction;
    if (p.rstd) p.rstd[row + r] = s[r].rstd;
    const vec<T> centre(s[r].mean);
    const vec<T> scale(s[r].rstd);
    const vec<T> offset(-s[r].correction * s[r].rstd);
    each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      vec<T> v = fma<T>(load_n(x + i, lanes) - centre, scale, offset);
      if (weight) v *= load_n(weight + i, lanes);
      if (bias) v += load_n(bias + i, lanes);
      store_n(y + i, v, lanes);
    });
  }
}

template <class T>
void layer_norm(const LayerNorm<T>& p) {
  const Index n = p.channels;
  if (n == 0) return;
  parallel_for(p.rows, ceil_div(cheap_grain, n), [&](Index begin, Index end) {
    Index r = begin;
    for (; r + 4 <= end; r += 4) layer_norm_rows<4>(p, r);
    for (; r < end; ++r) layer_norm_rows<1>(p, r);
  });
}

// out[c] = Σ over rows r of partial[r * stride + c], summed in double, r ascending.
template <class T>
void norm_sum_rows(Index rows, Index n, const T* partial, Index stride, T* out) {
  parallel_for(n, ceil_div(cheap_grain, larger(rows, 1)), [=](Index begin, Index end) {
    for (Index c = begin; c < end; ++c) {
      double total = 0;
      for (Index r = 0; r < rows; ++r) total += static_cast<double>(partial[r * stride + c]);
      out[c] = static_cast<T>(total);
    }
  });
}

template <class T>
void layer_norm_backward(const LayerNormBackward<T>& p) {
  const Index n = p.channels;
  if (n == 0) return;
  const bool sums = p.dweight || p.dbias;
  // Few enough chunks to make their sums cheap, short enough for float accumulators to stay exact.
  const Index chunk = larger(16, smaller(512, ceil_div(p.rows, 64)));
  const Index chunks = ceil_div(p.rows, chunk);
  Scratch scratch;
  T* partial = sums ? scratch.take<T>(chunks * n * 2) : nullptr;
  parallel_for(chunks, ceil_div(cheap_grain, chunk * n), [&](Index from, Index to) {
    for (Index piece = from; piece < to; ++piece) {
      T* dweight = sums ? partial + piece * n * 2 : nullptr;
      T* dbias = sums ? dweight + n : nullptr;
      if (sums) {
        for (Index i = 0; i < 2 * n; ++i) dweight[i] = 0;
      }
      const T* weight = p.weight;
      for (Index r = piece * chunk; r < smaller((piece + 1) * chunk, p.rows); ++r) {
        const T* x = p.x + r * n;
        const T* dy = p.dy + r * n;
        T* dx = p.dx ? p.dx + r * n : nullptr;
        const vec<T> rstd(p.rstd[r]);
        const vec<T> centre(p.mean[r]);
        vec<T> sum(T(0));
        vec<T> dot(T(0));
        each_vector<T>(0, n, [&](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          const vec<T> d = load_n(dy + i, lanes);
          const vec<T> normal = (load_n(x + i, lanes) - centre) * rstd;
          const vec<T> g = weight ? d * load_n(weight + i, lanes) : d;
          sum += g;
          dot = fma<T>(g, normal, dot);  // the lanes beyond the row have g = 0
          if (sums) {
            store_n(dweight + i, fma<T>(d, normal, load_n(dweight + i, lanes)), lanes);
            store_n(dbias + i, load_n(dbias + i, lanes) + d, lanes);
          }
        });
        if (!dx) continue;
        const T count = static_cast<T>(n);
        const vec<T> mean_g(reduce_add<T>(sum) / count);
        const vec<T> mean_dot(reduce_add<T>(dot) / count);
        each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
          const vec<T> d = load_n(dy + i, lanes);
          const vec<T> normal = (load_n(x + i, lanes) - centre) * rstd;
          const vec<T> g = weight ? d * load_n(weight + i, lanes) : d;
          store_n(dx + i, fnma<T>(normal, mean_dot, g - mean_g) * rstd, lanes);
        });
      }
    }
  });
  if (p.dweight) norm_sum_rows(chunks, n, partial, 2 * n, p.dweight);
  if (p.dbias) norm_sum_rows(chunks, n, partial + n, 2 * n, p.dbias);
}

// Pixels of one chunk of per-channel sums: about a quarter of a second-level cache, so that its second pass does not
// reach memory.
template <class T>
OCELLUS_INLINE Index norm_chunk(Index channels) {
  return larger(8, smaller(256, Index{131072} / static_cast<Index>(sizeof(T)) / larger(channels, 1)));
}

// Mean and Σ (x − mean)² of each channel over `pixels` rows of `channels`.
template <class T>
void chunk_statistics(Index pixels, Index channels, const T* x, double* mean, double* squares) {
  const T count = static_cast<T>(pixels);
  each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
    // About the first pixel, so that a large mean costs no digits.
    const vec<T> origin = load_n(x + c, lanes);
    vec<T> a(T(0));
    vec<T> b(T(0));
    Index r = 0;
    for (; r + 2 <= pixels; r += 2) {
      a += load_n(x + r * channels + c, lanes) - origin;
      b += load_n(x + (r + 1) * channels + c, lanes) - origin;
    }
    if (r < pixels) a += load_n(x + r * channels + c, lanes) - origin;
    const vec<T> shift = (a + b) / vec<T>(count);
    const vec<T> centre = origin + shift;
    vec<T> square_a(T(0));
    vec<T> square_b(T(0));
    a = vec<T>(T(0));
    b = vec<T>(T(0));
    for (r = 0; r + 2 <= pixels; r += 2) {
      const vec<T> u = load_n(x + r * channels + c, lanes) - centre;
      const vec<T> v = load_n(x + (r + 1) * channels + c, lanes) - centre;
      a += u;
      b += v;
      square_a = fma<T>(u, u, square_a);
      square_b = fma<T>(v, v, square_b);
    }
    if (r < pixels) {
      const vec<T> u = load_n(x + r * channels + c, lanes) - centre;
      a += u;
      square_a = fma<T>(u, u, square_a);
    }
    T centres[vec<T>::size];
    T rests[vec<T>::size];
    T sums[vec<T>::size];
    store(centres, centre);
    store(rests, a + b);
    store(sums, square_a + square_b);
    for (Index j = 0; j < smaller(vec<T>::size, channels - c); ++j) {
      const double rest = static_cast<double>(rests[j]) / static_cast<double>(pixels);
      mean[c + j] = static_cast<double>(centres[j]) + rest;
      squares[c + j] = static_cast<double>(sums[j]) - rest * rest * static_cast<double>(pixels);
    }
  });
}

template <class T>
void group_norm_statistics(const GroupNorm<T>& p) {
  const Index channels = p.channels;
  const Index chunk = norm_chunk<T>(channels);
  const Index chunks = ceil_div(p.pixels, chunk);
  const Index each = channels / larger(p.groups, 1);
  Scratch scratch;
  double* mean = scratch.take<double>(p.outer * chunks * channels);
  double* squares = scratch.take<double>(p.outer * chunks * channels);
  parallel_for(p.outer * chunks, ceil_div(cheap_grain, smaller(chunk, larger(p.pixels, 1)) * larger(channels, 1)),
               [&](Index begin, Index end) {
                 for (Index i = begin; i < end; ++i) {
                   const Index first = i % chunks * chunk;
                   chunk_statistics(smaller(chunk, p.pixels - first), channels,
                                    p.x + (i / chunks * p.pixels + first) * channels, mean + i * channels,
                                    squares + i * channels);
                 }
               });
  // Joins the chunks and the channels of a group (Chan et al., 1983).
  parallel_for(p.outer * p.groups, ceil_div(cheap_grain, larger(2 * chunks * each, 1)), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index o = i / p.groups;
      const Index from = i % p.groups * each;
      const double count = static_cast<double>(p.pixels * each);
      double sum = 0;
      for (Index k = 0; k < chunks; ++k) {
        const double weight = static_cast<double>(smaller(chunk, p.pixels - k * chunk));
        const double* m = mean + (o * chunks + k) * channels + from;
        for (Index c = 0; c < each; ++c) sum += weight * m[c];
      }
      const double centre = sum / count;
      double total = 0;
      for (Index k = 0; k < chunks; ++k) {
        const double weight = static_cast<double>(smaller(chunk, p.pixels - k * chunk));
        const double* m = mean + (o * chunks + k) * channels + from;
        const double* s = squares + (o * chunks + k) * channels + from;
        for (Index c = 0; c < each; ++c) total += s[c] + weight * (m[c] - centre) * (m[c] - centre);
      }
      p.mean[i] = static_cast<T>(centre);
      p.rstd[i] = static_cast<T>(1.0 / std::sqrt(total / count + static_cast<double>(p.eps)));
    }
  });
}

// Per-channel constants of one picture, spread from its groups.
template <class T>
void spread_groups(Index channels, Index groups, const T* value, T* out) {
  const Index each = channels / larger(groups, 1);
  for (Index c = 0; c < channels; ++c) out[c] = value[c / each];
}

template <class T>
void group_norm_apply(const GroupNorm<T>& p) {
  const Index channels = p.channels;
  if (channels == 0) return;
  Scratch scratch;
  T* mean = scratch.take<T>(p.outer * channels);
  T* scale = scratch.take<T>(p.outer * channels);
  for (Index o = 0; o < p.outer; ++o) {
    spread_groups(channels, p.groups, p.mean + o * p.groups, mean + o * channels);
    spread_groups(channels, p.groups, p.rstd + o * p.groups, scale + o * channels);
    if (!p.weight) continue;
    for (Index c = 0; c < channels; ++c) scale[o * channels + c] *= p.weight[c];
  }
  parallel_for(p.outer * p.pixels, ceil_div(cheap_grain, channels), [&](Index begin, Index end) {
    const T* bias = p.bias;
    for (Index r = begin; r < end; ++r) {
      const Index o = r / p.pixels * channels;
      const T* x = p.x + r * channels;
      T* y = p.y + r * channels;
      const T* m = mean + o;
      const T* s = scale + o;
      each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
        vec<T> v = (load_n(x + c, lanes) - load_n(m + c, lanes)) * load_n(s + c, lanes);
        if (bias) v += load_n(bias + c, lanes);
        store_n(y + c, v, lanes);
      });
    }
  });
}

// dy_sum = Σ dy and dot = Σ dy (x − mean) of each channel over `pixels` rows.
template <class T>
void chunk_gradients(Index pixels, Index channels, const T* x, const T* dy, const T* mean, T* dy_sum, T* dot) {
  each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
    const vec<T> centre = load_n(mean + c, lanes);
    vec<T> sum(T(0));
    vec<T> product(T(0));
    for (Index r = 0; r < pixels; ++r) {
      const vec<T> d = load_n(dy + r * channels + c, lanes);
      sum += d;
      product = fma<T>(d, load_n(x + r * channels + c, lanes) - centre, product);
    }
    store_n(dy_sum + c, sum, lanes);
    store_n(dot + c, product, lanes);
  });
}

template <class T>
void group_norm_backward(const GroupNormBackward<T>& p) {
  const Index channels = p.channels;
  const Index groups = p.groups;
  if (channels == 0) return;
  const Index each = channels / groups;
  const Index chunk = norm_chunk<T>(channels);
  const Index chunks = ceil_div(p.pixels, chunk);
  Scratch scratch;
  T* mean = scratch.take<T>(p.outer * channels);
  for (Index o = 0; o < p.outer; ++o) spread_groups(channels, groups, p.mean + o * groups, mean + o * channels);

  double* sum = scratch.take<double>(p.outer * channels);  // Σ dy
  double* dot = scratch.take<double>(p.outer * channels);  // Σ dy (x − mean)
  if (p.dweight || p.dbias || !p.constant_statistics) {
    T* partial = scratch.take<T>(p.outer * chunks * channels * 2);
    parallel_for(p.outer * chunks, ceil_div(cheap_grain, smaller(chunk, larger(p.pixels, 1)) * channels),
                 [&](Index begin, Index end) {
                   for (Index i = begin; i < end; ++i) {
                     const Index o = i / chunks;
                     const Index first = i % chunks * chunk;
                     const Index at = (o * p.pixels + first) * channels;
                     T* out = partial + i * channels * 2;
                     chunk_gradients(smaller(chunk, p.pixels - first), channels, p.x + at, p.dy + at,
                                     mean + o * channels, out, out + channels);
                   }
                 });
    parallel_for(p.outer * channels, ceil_div(cheap_grain, larger(2 * chunks, 1)), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T* in = partial + i / channels * chunks * channels * 2 + i % channels;
        double s = 0;
        double d = 0;
        for (Index k = 0; k < chunks; ++k) {
          s += static_cast<double>(in[k * channels * 2]);
          d += static_cast<double>(in[k * channels * 2 + channels]);
        }
        sum[i] = s;
        dot[i] = d;
      }
    });
    for (Index c = 0; c < channels; ++c) {
      double s = 0;
      double d = 0;
      for (Index o = 0; o < p.outer; ++o) {
        s += sum[o * channels + c];
        d += dot[o * channels + c] * static_cast<double>(p.rstd[o * groups + c / each]);
      }
      if (p.dbias) p.dbias[c] = static_cast<T>(s);
      if (p.dweight) p.dweight[c] = static_cast<T>(d);
    }
  }
  if (!p.dx) return;

  // dx = γ rstd dy − offset − slope (x − mean), with offset and slope per group from the sums; both 0 for constant
  // statistics.
  T* scale = scratch.take<T>(p.outer * channels);
  T* offset = scratch.take<T>(p.outer * channels);
  T* slope = scratch.take<T>(p.outer * channels);
  const double count = static_cast<double>(p.pixels * each);
  for (Index i = 0; i < p.outer * groups; ++i) {
    const double rstd = static_cast<double>(p.rstd[i]);
    const Index first = i / groups * channels + i % groups * each;
    double g = 0;
    double g_dot = 0;
    for (Index c = 0; c < each; ++c) {
      const double weight = p.weight ? static_cast<double>(p.weight[i % groups * each + c]) : 1.0;
      scale[first + c] = static_cast<T>(weight * rstd);
      if (p.constant_statistics) continue;
      g += weight * sum[first + c];
      g_dot += weight * dot[first + c];
    }
    for (Index c = 0; c < each; ++c) {
      offset[first + c] = static_cast<T>(g * rstd / count);
      slope[first + c] = static_cast<T>(g_dot * rstd * rstd * rstd / count);
    }
  }
  parallel_for(p.outer * p.pixels, ceil_div(cheap_grain, channels), [&](Index begin, Index end) {
    const bool constant = p.constant_statistics;
    for (Index r = begin; r < end; ++r) {
      const Index o = r / p.pixels * channels;
      const T* x = p.x + r * channels;
      const T* dy = p.dy + r * channels;
      T* dx = p.dx + r * channels;
      const T* m = mean + o;
      const T* a = scale + o;
      const T* b = offset + o;
      const T* s = slope + o;
      each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
        vec<T> v = load_n(dy + c, lanes) * load_n(a + c, lanes);
        if (!constant)
          v = fnma<T>(load_n(x + c, lanes) - load_n(m + c, lanes), load_n(s + c, lanes), v - load_n(b + c, lanes));
        store_n(dx + c, v, lanes);
      });
    }
  });
}

}  // namespace ocellus::kernels::OCELLUS_ISA
