// 3x3 convolution at stride 1 by Winograd's minimal filtering F(MxM, 3x3) (Lavin and Gray, 2016): a tile of M x M outputs
// is Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A of its (M + 2)² inputs d, so that the multiplications become (M + 2)² matrix products
// over channels: 4 (M = 4) or 2.25 (M = 2) times fewer than 9 M². A block of tiles is transformed for all channels, then
// per panel of outputs multiplied and transformed back, so that only V and one panel of products are ever held.
//
// The points of F(4x4) are 0, ±3/4, ±3/2, ∞: exact binary fractions, with half the error of the usual 0, ±1, ±2, ∞. The
// filters are transformed in double and rounded once. Relative rms error: M = 4 about 2.5 times the direct sum's, M = 2
// below it.
#pragma once

#include <ocellus/kernels/gemm.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// Position in a list of pictures, row by row.
struct Pixel {
  Index image, y, x;
  Index height, width;

  OCELLUS_INLINE Pixel(Index index, Index h, Index w)
      : image(index / (h * w)), y(index / w % h), x(index % w), height(h), width(w) {}
  OCELLUS_INLINE void step() {
    if (++x < width) return;
    x = 0;
    if (++y < height) return;
    y = 0;
    ++image;
  }
};

// One-dimensional transforms of F(M, 3). Rows of Bᵀ come in pairs that share their terms: pair 0 is the points 0 and ∞
// (first and last row), pair k the points ±p (rows 2k − 1 and 2k). d(i), m(i), g(i) read the i-th element.
template <int M>
struct Winograd;

template <>
struct Winograd<2> {
  static constexpr int points = 4;

  template <class T, int Pair, class D>
  static OCELLUS_INLINE void input(const D& d, vec<T>& first, vec<T>& second) {
    if constexpr (Pair == 0) {
      first = d(2) - d(0);
      second = d(3) - d(1);
    } else {
      const vec<T> even = d(2);
      const vec<T> odd = d(1);
      first = even + odd;
      second = even - odd;
    }
  }
  template <class T, class In>
  static OCELLUS_INLINE void output(const In& m, vec<T> (&y)[2]) {
    y[0] = m(0) + (m(1) + m(2));
    y[1] = m(1) - m(2) + m(3);
  }
  template <class G>
  static OCELLUS_INLINE void filter(const G& g, double (&u)[4]) {
    const double even = 0.5 * (g(0) + g(2));
    const double odd = 0.5 * g(1);
    u[0] = -g(0);
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g(2);
  }
};

template <>
struct Winograd<4> {
  static constexpr int points = 6;
  static constexpr double a = 0.75, b = 1.5;

  template <class T, int Pair, class D>
  static OCELLUS_INLINE void input(const D& d, vec<T>& first, vec<T>& second) {
    if constexpr (Pair == 0) {
      const vec<T> sum(T(a * a + b * b));
      const vec<T> product(T(a * a * b * b));
      first = fma<T>(product, d(0), fnma<T>(sum, d(2), d(4)));
      second = fma<T>(product, d(1), fnma<T>(sum, d(3), d(5)));
    } else {
      constexpr double p = Pair == 1 ? a : b;
      constexpr double q = Pair == 1 ? b : a;
      const vec<T> square(T(q * q));
      const vec<T> even = fnma<T>(square, d(2), d(4));
      const vec<T> odd = vec<T>(T(p)) * fnma<T>(square, d(1), d(3));
      first = even + odd;
      second = even - odd;
    }
  }
  template <class T, class In>
  static OCELLUS_INLINE void output(const In& m, vec<T> (&y)[4]) {
    const vec<T> sum_a = m(1) + m(2);
    const vec<T> sum_b = m(3) + m(4);
    const vec<T> difference_a = m(1) - m(2);
    const vec<T> difference_b = m(3) - m(4);
    y[0] = m(0) + (sum_a + sum_b);
    y[1] = fma<T>(T(a), difference_a, T(b) * difference_b);
    y[2] = fma<T>(T(a * a), sum_a, T(b * b) * sum_b);
    y[3] = fma<T>(T(a * a * a), difference_a, fma<T>(T(b * b * b), difference_b, m(5)));
  }
  template <class G>
  static OCELLUS_INLINE void filter(const G& g, double (&u)[6]) {
    constexpr double at_a = 1 / (2 * a * a * (a * a - b * b));  // 1 / Π (p − other points)
    constexpr double at_b = 1 / (2 * b * b * (b * b - a * a));
    const double even_a = at_a * (g(0) + a * a * g(2));
    const double even_b = at_b * (g(0) + b * b * g(2));
    const double odd_a = at_a * a * g(1);
    const double odd_b = at_b * b * g(1);
    u[0] = g(0) * (1 / (a * a * b * b));
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g(2);
  }
};

// (M + 2)²
template <int M>
inline constexpr Index winograd_points = Index{Winograd<M>::points} * Winograd<M>::points;

// The filters as products see them: element (out, tap, in) lies at first[out * by_out + tap * by_tap + in * by_in].
template <class T>
struct Filters {
  const T* first = nullptr;
  Index out = 0, in = 0;
  Index by_out = 0, by_tap = 0, by_in = 0;

  // Of the convolution itself.
  static Filters forward(const ConvShape& s, const T* weight) {
    return {weight, s.out_channels, s.channels, 9 * s.channels, s.channels, 1};
  }
  // Of its input's gradient, a convolution of dy with the filters turned round.
  static Filters backward(const ConvShape& s, const T* weight) {
    return {weight + 8 * s.channels, s.channels, s.out_channels, 1, -s.channels, 9 * s.channels};
  }
};

template <class T, int M>
Index winograd_packed_size(Index out, Index in) {
  return winograd_points<M> * gemm_packed_size<T>(out, in);
}

// Per point the filters packed as the B of a product.
template <class T, int M>
void winograd_pack(const Filters<T>& f, T* packed) {
  constexpr int points = Winograd<M>::points;
  constexpr auto most = static_cast<std::size_t>(Tiling<T>::vectors * vec<T>::size);
  const Index size = gemm_packed_size<T>(f.out, f.in);
  const Panels<T> panels(f.out);
  const Index chunks = ceil_div(f.in, 32);
  for_pieces(panels.count * chunks, [&](Index piece) {
    const Index panel = piece / chunks;
    const Index chunk = piece % chunks;
    const Index n0 = panel * panels.width();
    const Index columns = panels.columns(panel);
    const Index width = panels.vectors_of(panel) * vec<T>::size;
    constexpr Index group = 8;  // filters read at once: whole cache lines where `in` is contiguous
    T g[group][9][most] = {};
    double half[std::size_t{3 * points}][most];
    const Index begin = f.in * chunk / chunks;
    const Index end = f.in * (chunk + 1) / chunks;
    for (Index i = begin; i < end; ++i) {
      const Index at = (i - begin) % group;
      if (at == 0) {
        const Index count = smaller(group, end - i);
        for (Index tap = 0; tap < 9; ++tap) {
          const T* from = f.first + n0 * f.by_out + tap * f.by_tap + i * f.by_in;
          for (Index o = 0; o < columns; ++o) {
            for (Index j = 0; j < count; ++j) g[j][tap][o] = from[o * f.by_out + j * f.by_in];
          }
        }
      }
      for (int k = 0; k < 3; ++k) {
        for (Index o = 0; o < width; ++o) {
          double u[std::size_t{points}];
          Winograd<M>::filter([&](int r) OCELLUS_INLINE_LAMBDA { return static_cast<double>(g[at][3 * r + k][o]); }, u);
          for (int r = 0; r < points; ++r) half[3 * r + k][o] = u[r];
        }
      }
      T* to = packed + n0 * f.in + i * width;
      for (int r = 0; r < points; ++r) {
        for (Index o = 0; o < width; ++o) {
          double u[std::size_t{points}];
          Winograd<M>::filter([&](int k) OCELLUS_INLINE_LAMBDA { return half[3 * r + k][o]; }, u);
          for (int k = 0; k < points; ++k) to[(r * points + k) * size + o] = static_cast<T>(u[k]);
        }
      }
    }
  });
}

// Bᵀ d B of one tile, one vector of channels: element (i, j) of d stands at d[i * row + j * pixel], point k goes to
// v[k * stride].
template <class T, int M, bool Tail>
OCELLUS_INLINE void winograd_input(const T* d, Index row, Index pixel, T* v, Index stride, Index left) {
  constexpr int points = Winograd<M>::points;
  const auto rows = [&](auto pair) OCELLUS_INLINE_LAMBDA {
    constexpr int p = decltype(pair)::value;
    vec<T> half[2][std::size_t{points}];  // two rows of Bᵀ d
    OCELLUS_UNROLL for (int j = 0; j < points; ++j) {
      const auto read = [&](int i) OCELLUS_INLINE_LAMBDA {
        const T* from = d + i * row + j * pixel;
        return Tail ? load_n(from, left) : load<T>(from);
      };
      Winograd<M>::template input<T, p>(read, half[0][j], half[1][j]);
    }
    OCELLUS_UNROLL for (int h = 0; h < 2; ++h) {
      const int r = p == 0 ? h * (points - 1) : 2 * p - 1 + h;
      T* to = v + r * points * stride;
      const auto columns = [&](auto other) OCELLUS_INLINE_LAMBDA {
        constexpr int q = decltype(other)::value;
        vec<T> first, second;
        Winograd<M>::template input<T, q>([&](int j) OCELLUS_INLINE_LAMBDA { return half[h][j]; }, first, second);
        store<T>(to + (q == 0 ? 0 : 2 * q - 1) * stride, first);
        store<T>(to + (q == 0 ? points - 1 : 2 * q) * stride, second);
      };
      columns(std::integral_constant<int, 0>{});
      columns(std::integral_constant<int, 1>{});
      if constexpr (points == 6) columns(std::integral_constant<int, 2>{});
    }
  };
  rows(std::integral_constant<int, 0>{});
  rows(std::integral_constant<int, 1>{});
  if constexpr (points == 6) rows(std::integral_constant<int, 2>{});
}

// Where the results of one panel go: bias, residual, columns and activations as in a Tile, c the picture's first pixel.
template <class T>
struct WinogradOutput {
  Tile<T> tile;
  Index row = 0, pixel = 0;         // strides of c
  Index height = 0, width = 0;      // pixels of this tile that exist
};

// Aᵀ m A of one vector of channels, then the light part of the epilogue.
template <class T, int M>
OCELLUS_INLINE void winograd_output(const T* m, Index stride, const WinogradOutput<T>& out, Index column, Index left) {
  constexpr int points = Winograd<M>::points;
  const Tile<T>& t = out.tile;
  const bool full = left == vec<T>::size;
  const auto read = [&](const T* p) OCELLUS_INLINE_LAMBDA { return full ? load<T>(p) : load_n(p, left); };
  vec<T> half[std::size_t{M}][std::size_t{points}];
  OCELLUS_UNROLL for (int j = 0; j < points; ++j) {
    vec<T> y[std::size_t{M}];
    Winograd<M>::template output<T>(
        [&](int i) OCELLUS_INLINE_LAMBDA { return load<T>(m + (i * points + j) * stride + column); }, y);
    OCELLUS_UNROLL for (int i = 0; i < M; ++i) half[i][j] = y[i];
  }
  const vec<T> bias = t.bias ? read(t.bias + column) : vec<T>(T(0));
  OCELLUS_UNROLL for (int i = 0; i < M; ++i) {
    if (i < out.height) {
      vec<T> y[std::size_t{M}];
      Winograd<M>::template output<T>([&](int j) OCELLUS_INLINE_LAMBDA { return half[i][j]; }, y);
      const Index at = i * out.row + column;
      const auto light = [&](Act f) OCELLUS_INLINE_LAMBDA {
        if (f == Act::relu) {
          OCELLUS_UNROLL for (int j = 0; j < M; ++j) y[j] = act<Act::relu, T>(y[j]);
        } else if (f == Act::relu6) {
          OCELLUS_UNROLL for (int j = 0; j < M; ++j) y[j] = act<Act::relu6, T>(y[j]);
        }
      };
      OCELLUS_UNROLL for (int j = 0; j < M; ++j) y[j] += bias;
      if (is_light(t.before)) {
        light(t.before);
        if (t.residual) {
          OCELLUS_UNROLL for (int j = 0; j < M; ++j) {
            if (j < out.width) y[j] += read(t.residual + at + j * out.pixel);
          }
        }
        light(t.after);
      }
      OCELLUS_UNROLL for (int j = 0; j < M; ++j) {
        if (j < out.width) {
          T* to = t.c + at + j * out.pixel;
          if (full) {
            store<T>(to, y[j]);
          } else {
            store_n(to, y[j], left);
          }
        }
      }
    }
  }
}

// The convolution of x with packed filters; s.channels and s.out_channels are those of the filters.
template <class T, int M>
class WinogradConv {
 public:
  WinogradConv(const ConvShape& s, const T* x, const T* packed, T* y, const Epilogue<T>& e)
      : s_(s), x_(x), packed_(packed), y_(y), epilogue_(e), panels_(s.out_channels) {}

  void run() {
    const Index tiles = s_.batch * rows_ * columns_;
    if (tiles == 0 || panels_.count == 0) return;
    const Index threads = num_threads();
    const Index blocks = ceil_div(tiles, block_tiles());
    if (blocks < threads || tiles * (s_.channels + s_.out_channels) < s_.channels * s_.out_channels) {
      run_shared(tiles, threads);
      return;
    }
    const Index pieces = blocks < 8 * threads ? smaller(tiles, round_up(blocks, threads)) : blocks;
    for_pieces(pieces, [&](Index piece) {
      const Index first = tiles * piece / pieces;
      Scratch scratch;
      const Block block(*this, scratch, first, tiles * (piece + 1) / pieces - first);
      transform(block, 0, block.count);
      for (Index k = 0; k < winograd_points<M>; ++k) multiply(block, k, 0, panels_.count);
      finish(block, 0, block.count);
    });
  }

 private:
  static constexpr int points = Winograd<M>::points;
  static constexpr Index pad = 64 / static_cast<Index>(sizeof(T));  // keeps point strides off multiples of 4096 bytes

  // Tiles [first, first + count): their transformed inputs [point][tile][v_pitch], and products [point][tile][m_pitch].
  struct Block {
    Index first, count;
    Index v_pitch, m_pitch, v_stride, m_stride;
    T* v;
    T* m;

    Block(const WinogradConv& c, Scratch& scratch, Index first_tile, Index tiles) : first(first_tile), count(tiles) {
      v_pitch = round_up(c.s_.channels, vec<T>::size);
      m_pitch = round_up(c.s_.out_channels, vec<T>::size);
      v_stride = count * v_pitch + pad;
      m_stride = count * m_pitch + pad;
      v = scratch.take<T>(winograd_points<M> * v_stride);
      m = scratch.take<T>(winograd_points<M> * m_stride);
    }
  };

  // Few tiles: the filters are the larger part. They are read once for all tiles, and the threads share the points.
  void run_shared(Index tiles, Index threads) const {
    Scratch scratch;
    const Block block(*this, scratch, 0, tiles);
    const Index parts = smaller(tiles, 4 * threads);
    for_pieces(parts, [&](Index part) { transform(block, tiles * part / parts, tiles * (part + 1) / parts); });
    const Index groups = smaller(panels_.count, ceil_div(4 * threads, winograd_points<M>));
    for_pieces(winograd_points<M> * groups, [&](Index piece) {
      const Index group = piece % groups;
      multiply(block, piece / groups, panels_.count * group / groups, panels_.count * (group + 1) / groups);
    });
    for_pieces(parts, [&](Index part) { finish(block, tiles * part / parts, tiles * (part + 1) / parts); });
  }

  // Tiles of a block: V and the products stay in a small L2 cache, yet each filter read serves some rows of tiles.
  Index block_tiles() const {
    constexpr Index elements = Index{1024} * 1024 / static_cast<Index>(sizeof(T));
    const Index one = winograd_points<M> * (s_.channels + s_.out_channels);
    return larger(24, smaller(64, elements / one));
  }

  // V of tiles [begin, end) of the block.
  void transform(const Block& b, Index begin, Index end) const {
    constexpr Index w = vec<T>::size;
    const Index in = s_.channels;
    Scratch scratch;
    T* border = scratch.take<T>(winograd_points<M> * in);
    Pixel at(b.first + begin, rows_, columns_);
    for (Index tile = begin; tile < end; ++tile, at.step()) {
      const Index top = at.y * M - s_.padding.h;
      const Index left = at.x * M - s_.padding.w;
      const T* d = x_ + ((at.image * s_.height + top) * s_.width + left) * in;
      Index row = s_.width * in;
      if (top < 0 || left < 0 || top + points > s_.height || left + points > s_.width) {
        copy_border(d, row, top, left, border);
        d = border;
        row = points * in;
      }
      T* v = b.v + tile * b.v_pitch;
      Index c = 0;
      for (; c + w <= in; c += w) winograd_input<T, M, false>(d + c, row, in, v + c, b.v_stride, w);
      if (c < in) winograd_input<T, M, true>(d + c, row, in, v + c, b.v_stride, in - c);
    }
  }

  // A tile that crosses the border, filled up with zeros.
  void copy_border(const T* d, Index row, Index top, Index left, T* border) const {
    const Index in = s_.channels;
    const Index begin = smaller(points, larger(0, -left));
    const Index end = larger(begin, smaller(points, s_.width - left));
    for (Index i = 0; i < points; ++i, border += points * in) {
      if (top + i < 0 || top + i >= s_.height) {
        zero_row<T>(border, points * in);
        continue;
      }
      zero_row<T>(border, begin * in);
      copy_row<T>(border + begin * in, d + (i * row + begin * in), (end - begin) * in);
      zero_row<T>(border + end * in, (points - end) * in);
    }
  }

  // Products of one point, panels [p0, p1).
  void multiply(const Block& b, Index point, Index p0, Index p1) const {
    GemmJob<T> job;
    job.m = b.count;
    job.n = s_.out_channels;
    job.k = s_.channels;
    job.a = b.v + point * b.v_stride;
    job.lda = b.v_pitch;
    job.packed_b = packed_ + point * gemm_packed_size<T>(job.n, job.k);
    job.c = b.m + point * b.m_stride;
    job.ldc = b.m_pitch;
    gemm_block<T>(job, 0, b.count, p0, p1);
  }

  // Outputs of tiles [begin, end) of the block.
  void finish(const Block& b, Index begin, Index end) const {
    constexpr Index w = vec<T>::size;
    WinogradOutput<T> out;
    out.pixel = s_.out_channels;
    out.row = s_.out_width * s_.out_channels;
    Tile<T>& t = out.tile;
    t.columns = s_.out_channels;
    t.bias = epilogue_.bias;
    t.before = epilogue_.before;
    t.after = epilogue_.after;
    const bool unfinished = !is_light(t.before) || !is_light(t.after);
    Pixel at(b.first + begin, rows_, columns_);
    for (Index tile = begin; tile < end; ++tile, at.step()) {
      const Index y = at.y * M;
      const Index x = at.x * M;
      const Index offset = ((at.image * s_.out_height + y) * s_.out_width + x) * s_.out_channels;
      t.c = y_ + offset;
      t.residual = epilogue_.residual ? epilogue_.residual + offset : nullptr;
      out.height = smaller(M, s_.out_height - y);
      out.width = smaller(M, s_.out_width - x);
      const T* m = b.m + tile * b.m_pitch;
      for (Index c = 0; c < t.columns; c += w) winograd_output<T, M>(m, b.m_stride, out, c, smaller(w, t.columns - c));
      if (!unfinished) continue;
      Index pixels[std::size_t{M * M}];
      for (Index i = 0; i < out.height * out.width; ++i)
        pixels[i] = i / out.width * out.row + i % out.width * out.pixel;
      t.c_rows = pixels;
      finish_tile<T>(t, out.height * out.width);
    }
  }

  const ConvShape& s_;
  const T* x_;
  const T* packed_;
  T* y_;
  const Epilogue<T>& epilogue_;
  Panels<T> panels_;
  Index rows_ = ceil_div(s_.out_height, M);  // tiles of a picture
  Index columns_ = ceil_div(s_.out_width, M);
};

// y = x ∗ filters; packed null: they are packed for this call.
template <class T, int M>
void winograd(const ConvShape& s, const T* x, const Filters<T>& filters, const T* packed, T* y, const Epilogue<T>& e) {
  Scratch scratch;
  if (!packed) {
    T* own = scratch.take<T>(winograd_packed_size<T, M>(filters.out, filters.in));
    winograd_pack<T, M>(filters, own);
    packed = own;
  }
  WinogradConv<T, M>(s, x, packed, y, e).run();
}

}  // namespace ocellus::kernels::OCELLUS_ISA
