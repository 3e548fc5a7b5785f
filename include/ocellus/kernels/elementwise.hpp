// Maps and reductions over whole arrays: activations, unary and broadcast binary functions, sums, maxima, y += a x.
// Ranges are cut at multiples of `vector_cut`, so that an element meets the same code for any number of threads.
#pragma once

#include <cmath>

#include <ocellus/kernels/simd.hpp>
#include <ocellus/kernels/arguments.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

inline constexpr Index vector_cut = 64;        // elements; a multiple of every vector width
inline constexpr Index cheap_grain = 16384;    // elements that one piece should at least have: memory-bound maps
inline constexpr Index function_grain = 4096;  // and maps that compute an exponential

// A count of lanes known to be a whole vector, so that one lambda serves the body and the tail of a loop.
struct WholeVector {};
template <class T>
OCELLUS_INLINE vec<T> load_n(const T* p, WholeVector) {
  return load(p);
}
template <class T>
OCELLUS_INLINE void store_n(T* p, vec<T> v, WholeVector) {
  store(p, v);
}

// Calls f(i, lanes) for the vectors of [begin, end); `lanes` goes to load_n and store_n.
template <class T, class F>
OCELLUS_INLINE void each_vector(Index begin, Index end, F&& f) {
  constexpr Index width = vec<T>::size;
  Index i = begin;
  for (; i + width <= end; i += width) f(i, WholeVector{});
  if (i < end) f(i, end - i);
}

// Calls f(begin, end) on ranges of [0, n) cut at multiples of vector_cut.
template <class F>
OCELLUS_INLINE void parallel_vectors(Index n, Index grain, F&& f) {
  parallel_for(ceil_div(n, vector_cut), ceil_div(grain, vector_cut),
               [&](Index begin, Index end) { f(begin * vector_cut, smaller(end * vector_cut, n)); });
}

// A compile-time value as an argument.
template <auto value>
struct Constant {
  static constexpr decltype(value) get = value;
};

OCELLUS_INLINE Index act_grain(Act f) {
  const bool cheap = f == Act::none || f == Act::relu || f == Act::relu6 || f == Act::leaky_relu ||
                     f == Act::hard_sigmoid || f == Act::hard_swish;
  return cheap ? cheap_grain : function_grain;
}

// y = f(x) on n elements; y may be x. The last few go through a whole vector, so that each function is compiled once.
template <class T>
[[gnu::noinline]] void activate(Act f, Index n, const T* x, T* y) {
  constexpr Index w = vec<T>::size;
  const Index whole = n / w * w;
  with_act(f, [&](auto tag) OCELLUS_INLINE_LAMBDA {
    for (Index i = 0; i < whole; i += w) store<T>(y + i, act<decltype(tag)::value, T>(load<T>(x + i)));
  });
  if (whole == n) return;
  T last[std::size_t{w}];
  store<T>(last, load_n(x + whole, n - whole));
  activate<T>(f, w, last, last);
  store_n(y + whole, load<T>(last), n - whole);
}

// dx = f'(x) dy on n elements; dx may be x or dy.
template <class T>
[[gnu::noinline]] void activate_backward(Act f, Index n, const T* x, const T* dy, T* dx) {
  constexpr Index w = vec<T>::size;
  const Index whole = n / w * w;
  with_act(f, [&](auto tag) OCELLUS_INLINE_LAMBDA {
    for (Index i = 0; i < whole; i += w) {
      store<T>(dx + i, act_slope<decltype(tag)::value, T>(load<T>(x + i)) * load<T>(dy + i));
    }
  });
  if (whole == n) return;
  T last[std::size_t{w}], last_dy[std::size_t{w}];
  store<T>(last, load_n(x + whole, n - whole));
  store<T>(last_dy, load_n(dy + whole, n - whole));
  activate_backward<T>(f, w, last, last_dy, last);
  store_n(dx + whole, load<T>(last), n - whole);
}

// The same on the pool.
template <class T>
void activation(Act f, Index n, const T* x, T* y) {
  parallel_vectors(n, act_grain(f), [=](Index begin, Index end) { activate<T>(f, end - begin, x + begin, y + begin); });
}
template <class T>
void activation_backward(Act f, Index n, const T* x, const T* dy, T* dx) {
  parallel_vectors(n, act_grain(f), [=](Index begin, Index end) {
    activate_backward<T>(f, end - begin, x + begin, dy + begin, dx + begin);
  });
}

template <Unary f, class T>
OCELLUS_INLINE vec<T> unary_value(vec<T> x) {
  if constexpr (f == Unary::exp) return exp<T>(x);
  if constexpr (f == Unary::log) return log<T>(x);
  if constexpr (f == Unary::sqrt) return sqrt<T>(x);
  if constexpr (f == Unary::abs) return abs<T>(x);
  if constexpr (f == Unary::neg) return -x;
  if constexpr (f == Unary::square) return x * x;
  if constexpr (f == Unary::reciprocal) return vec<T>(T(1)) / x;
}

template <class T>
[[gnu::noinline]] void unary_vectors(Unary f, Index n, const T* x, T* y) {
  constexpr Index w = vec<T>::size;
  const Index whole = n / w * w;
  const auto run = [&](auto constant) OCELLUS_INLINE_LAMBDA {
    for (Index i = 0; i < whole; i += w) store<T>(y + i, unary_value<decltype(constant)::get, T>(load<T>(x + i)));
  };
  switch (f) {
    case Unary::exp: run(Constant<Unary::exp>{}); break;
    case Unary::log: run(Constant<Unary::log>{}); break;
    case Unary::sqrt: run(Constant<Unary::sqrt>{}); break;
    case Unary::abs: run(Constant<Unary::abs>{}); break;
    case Unary::neg: run(Constant<Unary::neg>{}); break;
    case Unary::square: run(Constant<Unary::square>{}); break;
    case Unary::reciprocal: run(Constant<Unary::reciprocal>{}); break;
  }
  if (whole == n) return;
  T last[std::size_t{w}];
  store<T>(last, load_n(x + whole, n - whole));
  unary_vectors<T>(f, w, last, last);
  store_n(y + whole, load<T>(last), n - whole);
}

// y = f(x); y may be x.
template <class T>
void unary(Unary f, Index n, const T* x, T* y) {
  const Index grain = f == Unary::exp || f == Unary::log ? function_grain : cheap_grain;
  parallel_vectors(n, grain, [=](Index begin, Index end) { unary_vectors<T>(f, end - begin, x + begin, y + begin); });
}

template <Binary op, class V>
OCELLUS_INLINE V binary_value(V a, V b) {
  if constexpr (op == Binary::add) return a + b;
  if constexpr (op == Binary::sub) return a - b;
  if constexpr (op == Binary::mul) return a * b;
  if constexpr (op == Binary::div) return a / b;
}

// One row of a broadcast map: y[i] = a[i * step_a] op b[i * step_b].
template <Binary op, class T>
void binary_row(Index n, const T* a, Index step_a, const T* b, Index step_b, T* y) {
  if (step_a == 1 && step_b == 1) {
    each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(y + i, binary_value<op>(load_n(a + i, lanes), load_n(b + i, lanes)), lanes);
    });
  } else if (step_a == 1 && step_b == 0) {
    const vec<T> right(*b);
    each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(y + i, binary_value<op>(load_n(a + i, lanes), right), lanes);
    });
  } else if (step_a == 0 && step_b == 1) {
    const vec<T> left(*a);
    each_vector<T>(0, n, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(y + i, binary_value<op>(left, load_n(b + i, lanes)), lanes);
    });
  } else {
    for (Index i = 0; i < n; ++i) y[i] = binary_value<op>(a[i * step_a], b[i * step_b]);
  }
}

// A map with axes of size 1 dropped and neighbours that both operands walk as one axis merged.
template <class T>
BinaryMap<T> merge_axes(const BinaryMap<T>& map) {
  BinaryMap<T> m = map;
  m.rank = 0;
  for (int i = 0; i < map.rank; ++i) {
    if (map.size[i] == 1) continue;
    const int last = m.rank - 1;
    if (last >= 0 && m.stride_a[last] == map.stride_a[i] * map.size[i] &&
        m.stride_b[last] == map.stride_b[i] * map.size[i]) {
      m.size[last] *= map.size[i];
      m.stride_a[last] = map.stride_a[i];
      m.stride_b[last] = map.stride_b[i];
    } else {
      m.size[m.rank] = map.size[i];
      m.stride_a[m.rank] = map.stride_a[i];
      m.stride_b[m.rank] = map.stride_b[i];
      ++m.rank;
    }
  }
  if (m.rank == 0) {
    m.rank = 1;
    m.size[0] = 1;
    m.stride_a[0] = 1;
    m.stride_b[0] = 1;
  }
  return m;
}

// The rows [begin, end) of a merged map; a row is its last axis.
template <Binary op, class T>
void binary_rows(const BinaryMap<T>& m, Index begin, Index end) {
  const int inner = m.rank - 1;
  const Index n = m.size[inner];
  Index at[8] = {};
  Index offset_a = 0;
  Index offset_b = 0;
  Index rest = begin;
  for (int i = inner - 1; i >= 0; --i) {
    at[i] = rest % m.size[i];
    rest /= m.size[i];
    offset_a += at[i] * m.stride_a[i];
    offset_b += at[i] * m.stride_b[i];
  }
  for (Index row = begin; row < end; ++row) {
    binary_row<op>(n, m.a + offset_a, m.stride_a[inner], m.b + offset_b, m.stride_b[inner], m.y + row * n);
    for (int i = inner - 1; i >= 0; --i) {
      offset_a += m.stride_a[i];
      offset_b += m.stride_b[i];
      if (++at[i] < m.size[i]) break;
      offset_a -= at[i] * m.stride_a[i];
      offset_b -= at[i] * m.stride_b[i];
      at[i] = 0;
    }
  }
}

inline constexpr Index short_row = 64;

// Rows of a few elements against one row for all, as dense maps against copies of that row.
template <Binary op, class T>
void binary_short_rows(Index rows, Index n, const T* a, const T* b, bool row_is_a, T* y) {
  T copies[short_row * short_row];
  const T* row = row_is_a ? a : b;
  for (Index i = 0; i < short_row; ++i) {
    for (Index j = 0; j < n; ++j) copies[i * n + j] = row[j];
  }
  parallel_for(ceil_div(rows, short_row), ceil_div(cheap_grain, short_row * n), [&](Index begin, Index end) {
    for (Index i = begin * short_row; i < smaller(end * short_row, rows); i += short_row) {
      const Index count = smaller(short_row, rows - i) * n;
      binary_row<op>(count, row_is_a ? copies : a + i * n, Index{1}, row_is_a ? b + i * n : copies, Index{1},
                     y + i * n);
    }
  });
}

template <Binary op, class T>
void binary_map(const BinaryMap<T>& m) {
  const int inner = m.rank - 1;
  const Index n = m.size[inner];
  Index rows = 1;
  for (int i = 0; i < inner; ++i) rows *= m.size[i];
  if (rows == 1) {
    const Index step_a = m.stride_a[inner];
    const Index step_b = m.stride_b[inner];
    parallel_vectors(n, cheap_grain, [&](Index begin, Index end) {
      binary_row<op>(end - begin, m.a + begin * step_a, step_a, m.b + begin * step_b, step_b, m.y + begin);
    });
  } else if (m.rank == 2 && n < short_row && m.stride_a[0] == n && m.stride_a[1] == 1 && m.stride_b[0] == 0 &&
             m.stride_b[1] == 1) {
    binary_short_rows<op>(rows, n, m.a, m.b, false, m.y);
  } else if (m.rank == 2 && n < short_row && m.stride_b[0] == n && m.stride_b[1] == 1 && m.stride_a[0] == 0 &&
             m.stride_a[1] == 1) {
    binary_short_rows<op>(rows, n, m.a, m.b, true, m.y);
  } else if (rows < 64 && n > cheap_grain) {
    for (Index row = 0; row < rows; ++row) {
      BinaryMap<T> one = m;
      Index rest = row;
      for (int i = inner - 1; i >= 0; --i) {
        one.a += rest % m.size[i] * m.stride_a[i];
        one.b += rest % m.size[i] * m.stride_b[i];
        rest /= m.size[i];
      }
      one.y += row * n;
      one.rank = 1;
      one.size[0] = n;
      one.stride_a[0] = m.stride_a[inner];
      one.stride_b[0] = m.stride_b[inner];
      binary_map<op>(one);
    }
  } else {
    parallel_for(rows, ceil_div(cheap_grain, n), [&](Index begin, Index end) { binary_rows<op>(m, begin, end); });
  }
}

// y = a op b with broadcasting; y may be a dense a or b.
template <class T>
void binary(const BinaryMap<T>& map) {
  for (int i = 0; i < map.rank; ++i) {
    if (map.size[i] == 0) return;
  }
  const BinaryMap<T> m = merge_axes(map);
  switch (map.op) {
    case Binary::add: return binary_map<Binary::add>(m);
    case Binary::sub: return binary_map<Binary::sub>(m);
    case Binary::mul: return binary_map<Binary::mul>(m);
    case Binary::div: return binary_map<Binary::div>(m);
  }
}

// The accumulator's step: NaN wins over every number, as in PyTorch's amax and amin.
template <Reduction op, class T>
OCELLUS_INLINE vec<T> reduce_step(vec<T> best, vec<T> x) {
  if constexpr (op == Reduction::sum) return best + x;
  if constexpr (op == Reduction::max) return select(x > best, x, select(x == x, best, x));
  if constexpr (op == Reduction::min) return select(x < best, x, select(x == x, best, x));
}
template <Reduction op>
OCELLUS_INLINE double reduce_scalar(double best, double x) {
  if constexpr (op == Reduction::sum) return best + x;
  if constexpr (op == Reduction::max) return x > best || x != x ? x : best;
  if constexpr (op == Reduction::min) return x < best || x != x ? x : best;
}
template <Reduction op>
constexpr double reduce_start = op == Reduction::sum   ? 0.0
                                : op == Reduction::max ? -HUGE_VAL
                                                       : HUGE_VAL;

inline constexpr Index reduce_chunk = 8192;  // elements whose sum one set of float accumulators may hold

// The reduction of a contiguous range; at most reduce_chunk elements, so that float sums stay exact to a few ulp.
template <Reduction op, class T>
double reduce_range(Index n, const T* x) {
  constexpr Index width = vec<T>::size;
  if (n < width) {
    double total = reduce_start<op>;
    for (Index i = 0; i < n; ++i) total = reduce_scalar<op>(total, static_cast<double>(x[i]));
    return total;
  }
  const vec<T> start(static_cast<T>(reduce_start<op>));
  vec<T> sum[4] = {start, start, start, start};
  Index i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    for (int u = 0; u < 4; ++u) sum[u] = reduce_step<op>(sum[u], load(x + i + u * width));
  }
  for (; i + width <= n; i += width) sum[0] = reduce_step<op>(sum[0], load(x + i));
  const vec<T> both = reduce_step<op>(reduce_step<op>(sum[0], sum[1]), reduce_step<op>(sum[2], sum[3]));
  T lane[vec<T>::size];
  store(lane, both);
  double total = static_cast<double>(lane[0]);
  for (Index j = 1; j < width; ++j) total = reduce_scalar<op>(total, static_cast<double>(lane[j]));
  for (; i < n; ++i) total = reduce_scalar<op>(total, static_cast<double>(x[i]));
  return total;
}

// partial[j] = reduction over r of x[r * stride + j] for j in [begin, end).
template <Reduction op, class T>
void reduce_columns(Index rows, const T* x, Index stride, Index begin, Index end, T* partial) {
  constexpr Index width = vec<T>::size;
  const vec<T> start(static_cast<T>(reduce_start<op>));
  Index j = begin;
  for (; j + 4 * width <= end; j += 4 * width) {
    vec<T> sum[4] = {start, start, start, start};
    for (Index r = 0; r < rows; ++r) {
      for (int u = 0; u < 4; ++u) sum[u] = reduce_step<op>(sum[u], load(x + r * stride + j + u * width));
    }
    for (int u = 0; u < 4; ++u) store(partial + j + u * width, sum[u]);
  }
  each_vector<T>(j, end, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
    vec<T> sum = start;
    for (Index r = 0; r < rows; ++r) sum = reduce_step<op>(sum, load_n(x + r * stride + i, lanes));
    store_n(partial + i, sum, lanes);
  });
}

template <Reduction op, class T>
void reduce_map(const Reduce<T>& p) {
  const double scale = op == Reduction::sum ? static_cast<double>(p.scale) : 1.0;
  if (p.inner == 1) {
    const Index chunks = larger(1, ceil_div(p.reduced, reduce_chunk));
    Scratch scratch;
    double* partial = scratch.take<double>(p.outer * chunks);
    parallel_for(p.outer * chunks, larger(1, cheap_grain / larger(1, smaller(p.reduced, reduce_chunk))),
                 [&](Index begin, Index end) {
                   for (Index i = begin; i < end; ++i) {
                     const Index from = i % chunks * reduce_chunk;
                     const Index to = smaller(from + reduce_chunk, p.reduced);
                     partial[i] = reduce_range<op>(to - from, p.x + i / chunks * p.reduced + from);
                   }
                 });
    for (Index o = 0; o < p.outer; ++o) {
      double total = partial[o * chunks];
      for (Index c = 1; c < chunks; ++c) total = reduce_scalar<op>(total, partial[o * chunks + c]);
      p.y[o] = static_cast<T>(total * scale);
    }
    return;
  }
  const Index chunk = 128;  // rows
  const Index chunks = larger(1, ceil_div(p.reduced, chunk));
  const Index column_block = 512;
  const Index blocks = ceil_div(p.inner, column_block);
  Scratch scratch;
  T* partial = scratch.take<T>(p.outer * chunks * p.inner);
  const Index piece = smaller(p.reduced, chunk) * smaller(p.inner, column_block);
  parallel_for(p.outer * chunks * blocks, larger(1, cheap_grain / larger(1, piece)), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index from = i % blocks * column_block;
      const Index c = i / blocks % chunks;
      const Index o = i / blocks / chunks;
      const Index rows = smaller(chunk, p.reduced - c * chunk);
      reduce_columns<op>(rows, p.x + (o * p.reduced + c * chunk) * p.inner, p.inner, from,
                         smaller(from + column_block, p.inner), partial + (o * chunks + c) * p.inner);
    }
  });
  parallel_for(p.outer * p.inner, larger(1, cheap_grain / chunks), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const T* first = partial + (i / p.inner * chunks) * p.inner + i % p.inner;
      double total = static_cast<double>(*first);
      for (Index c = 1; c < chunks; ++c) total = reduce_scalar<op>(total, static_cast<double>(first[c * p.inner]));
      p.y[i] = static_cast<T>(total * scale);
    }
  });
}

// y[o, i] = reduction over r of x[o, r, i]. An empty sum is 0, an empty maximum -inf.
template <class T>
void reduce(const Reduce<T>& p) {
  switch (p.op) {
    case Reduction::sum: return reduce_map<Reduction::sum>(p);
    case Reduction::max: return reduce_map<Reduction::max>(p);
    case Reduction::min: return reduce_map<Reduction::min>(p);
  }
}

// y += alpha x.
template <class T>
void axpy(Index n, T alpha, const T* x, T* y) {
  parallel_vectors(n, cheap_grain, [=](Index begin, Index end) {
    const vec<T> factor(alpha);
    each_vector<T>(begin, end, [=](Index i, auto lanes) OCELLUS_INLINE_LAMBDA {
      store_n(y + i, fma(factor, load_n(x + i, lanes), load_n(y + i, lanes)), lanes);
    });
  });
}

}  // namespace ocellus::kernels::OCELLUS_ISA
