// Depthwise convolution, one filter per channel: vectors run over channels, four pixels x two vectors stay in registers
// over the window, and a block of channels goes down several rows while they are in L1. The packed weight is (kernel_h * kernel_w, channels).
#pragma once

#include <ocellus/kernels/gemm.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

template <class T>
void depthwise_pack(const ConvShape& s, const T* weight, T* packed) {
  const Index taps = s.kernel.h * s.kernel.w;
  for (Index c = 0; c < s.channels; ++c) {
    for (Index t = 0; t < taps; ++t) packed[t * s.channels + c] = weight[c * taps + t];
  }
}

// First and one past the last position in [0, limit) that stay inside [0, size) when stepped by `step` from `start`.
struct Range {
  Index begin = 0, end = 0;
  OCELLUS_INLINE Range(Index start, Index step, Index size, Index limit) {
    begin = start >= 0 ? 0 : ceil_div(-start, step);
    end = start >= size ? 0 : smaller(limit, ceil_div(size - start, step));
    if (end < begin) end = begin;
  }
};

// The window of P neighbouring pixels over V vectors of channels.
template <class T>
struct DepthwiseWindow {
  const T* x;  // pixel (0, 0) of the picture, first channel
  const T* weight;
  Index row, pixel;  // strides of x in elements, dilation included
  Index channels;    // of x, y and the weight's rows
  Index count;       // of them to be done
  Index kernel_w;
  Index rows_begin, rows_end;
};

// K > 0: all K columns of a window are inside and windows step by S columns, so a column of x is loaded once for all
// pixels that it belongs to. K = 0: columns as given.
template <class T, int P, int V, bool Tail, int K, int S>
OCELLUS_INLINE void depthwise_pixels(const DepthwiseWindow<T>& k, Index next, Index columns_begin, Index columns_end,
                                     const T* x, const T* weight, const T* bias, Act light, T* y, Index left) {
  constexpr Index w = vec<T>::size;
  const auto read = [&](const T* p) OCELLUS_INLINE_LAMBDA { return Tail ? load_n(p, left) : load<T>(p); };
  vec<T> sum[std::size_t{P}][std::size_t{V}];
  OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
    const vec<T> start = bias ? read(bias + v * w) : vec<T>(T(0));
    OCELLUS_UNROLL for (int p = 0; p < P; ++p) sum[p][v] = start;
  }
  for (Index i = k.rows_begin; i < k.rows_end; ++i) {
    const T* from = x + i * k.row + columns_begin * k.pixel;
    const T* filter = weight + (i * k.kernel_w + columns_begin) * k.channels;
    if constexpr (K > 0) {
      vec<T> f[std::size_t{K}][std::size_t{V}];
      OCELLUS_UNROLL for (int j = 0; j < K; ++j) {
        OCELLUS_UNROLL for (int v = 0; v < V; ++v) f[j][v] = read(filter + j * k.channels + v * w);
      }
      OCELLUS_UNROLL for (int column = 0; column < (P - 1) * S + K; ++column) {
        OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
          const vec<T> value = read(from + column * k.pixel + v * w);
          OCELLUS_UNROLL for (int p = 0; p < P; ++p) {
            const int j = column - p * S;
            if (j >= 0 && j < K) sum[p][v] = fma<T>(f[j][v], value, sum[p][v]);
          }
        }
      }
    } else {
      for (Index j = columns_begin; j < columns_end; ++j) {
        OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
          const vec<T> f = read(filter + v * w);
          OCELLUS_UNROLL for (int p = 0; p < P; ++p) sum[p][v] = fma<T>(f, read(from + p * next + v * w), sum[p][v]);
        }
        from += k.pixel;
        filter += k.channels;
      }
    }
  }
  OCELLUS_UNROLL for (int p = 0; p < P; ++p) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
      const vec<T> all = light_act<T>(light, sum[p][v]);
      if constexpr (Tail) {
        store_n(y + p * k.channels + v * w, all, left);
      } else {
        store<T>(y + p * k.channels + v * w, all);
      }
    }
  }
}

// P pixels, k.count channels; K and S as above.
template <class T, int P, int K = 0, int S = 0>
void depthwise_channels(const DepthwiseWindow<T>& k, Index next, Index columns_begin, Index columns_end, const T* x,
                        const T* bias, Act light, T* y) {
  constexpr Index w = vec<T>::size;
  Index c = 0;
  constexpr int v = P == 1 ? 4 : 2;  // independent sums, so that the latency of one does not count
  const auto at = [&](Index channel) OCELLUS_INLINE_LAMBDA { return bias ? bias + channel : nullptr; };
  for (; c + v * w <= k.count; c += v * w) {
    depthwise_pixels<T, P, v, false, K, S>(k, next, columns_begin, columns_end, x + c, k.weight + c, at(c), light,
                                           y + c, w);
  }
  for (; c + w <= k.count; c += w) {
    depthwise_pixels<T, P, 1, false, K, S>(k, next, columns_begin, columns_end, x + c, k.weight + c, at(c), light,
                                           y + c, w);
  }
  if (c < k.count) {
    depthwise_pixels<T, P, 1, true, K, S>(k, next, columns_begin, columns_end, x + c, k.weight + c, at(c), light, y + c,
                                          k.count - c);
  }
}

template <int Value>
using Fixed = std::integral_constant<int, Value>;

// With the weight packed.
template <class T>
void depthwise_run(const ConvShape& s, const T* x, const T* packed, T* y, const Epilogue<T>& e) {
  const Index rows = s.batch * s.out_height;
  const Index inner_begin = smaller(s.out_width, ceil_div(s.padding.w, s.stride.w));
  const Index room =
      s.width + s.padding.w - (s.kernel.w - 1) * s.dilation.w - 1;  // last start of a window that stays inside
  const Index inner_end = room < 0 ? inner_begin : larger(inner_begin, smaller(s.out_width, room / s.stride.w + 1));
  const Act light = is_light(e.before) ? e.before : Act::none;
  const bool rest = !is_light(e.before) || e.residual || e.after != Act::none;
  Epilogue<T> later;
  later.before = is_light(e.before) ? Act::none : e.before;
  later.after = e.after;
  constexpr Index pair = 2 * vec<T>::size;
  // Channels whose rows of a window stay in L1; all where that is hardly any: the hardware fetches whole rows best.
  const Index in_cache = 32768 / static_cast<Index>(sizeof(T)) / larger(1, s.width * (s.kernel.h + 1));
  const Index block = in_cache < 2 * pair ? larger(1, s.channels) : in_cache / pair * pair;
  constexpr Index band = 8;  // rows whose outputs stay in L2 until the rest of the epilogue
  const auto row = [&](Index r, Index c0) {
    const Index image = r / s.out_height;
    const Index top = r % s.out_height * s.stride.h - s.padding.h;
    const Range rows_in(top, s.dilation.h, s.height, s.kernel.h);
    DepthwiseWindow<T> k;
    k.weight = packed + c0;
    k.row = s.dilation.h * s.width * s.channels;
    k.pixel = s.dilation.w * s.channels;
    k.channels = s.channels;
    k.count = smaller(block, s.channels - c0);
    k.kernel_w = s.kernel.w;
    k.rows_begin = rows_in.begin;
    k.rows_end = rows_in.end;
    const Index next = s.stride.w * s.channels;
    const Index base = (image * s.height + top) * s.width - s.padding.w;
    const T* bias = e.bias ? e.bias + c0 : nullptr;
    const auto run = [&](auto pixels, auto width, auto step, Index ox, Index columns_begin, Index columns_end) {
      depthwise_channels<T, decltype(pixels)::value, decltype(width)::value, decltype(step)::value>(
          k, next, columns_begin, columns_end, x + ((base + ox * s.stride.w) * s.channels + c0), bias, light,
          y + ((r * s.out_width + ox) * s.channels + c0));
    };
    const auto border = [&](Index ox) {
      const Range columns(ox * s.stride.w - s.padding.w, s.dilation.w, s.width, s.kernel.w);
      run(Fixed<1>{}, Fixed<0>{}, Fixed<0>{}, ox, columns.begin, columns.end);
    };
    Index ox = 0;
    for (; ox < inner_begin; ++ox) border(ox);
    const auto inner = [&](auto pixels, auto width, auto step) {
      constexpr int count = decltype(pixels)::value;
      for (; ox + count <= inner_end; ox += count) run(pixels, width, step, ox, 0, s.kernel.w);
    };
    const bool three = s.kernel.w == 3 && s.dilation.w == 1;
    if (three && s.stride.w == 1) inner(Fixed<4>{}, Fixed<3>{}, Fixed<1>{});
    if (three && s.stride.w == 2) inner(Fixed<4>{}, Fixed<3>{}, Fixed<2>{});
    inner(Fixed<4>{}, Fixed<0>{}, Fixed<0>{});
    inner(Fixed<2>{}, Fixed<0>{}, Fixed<0>{});
    for (; ox < s.out_width; ++ox) border(ox);
  };
  const Index row_size = s.out_width * s.channels;
  parallel_for(rows, larger(1, 65536 / larger(1, row_size * s.kernel.h * s.kernel.w)), [&](Index from, Index to) {
    for (Index first = from; first < to; first += band) {
      const Index last = smaller(to, first + band);
      for (Index c0 = 0; c0 < s.channels; c0 += block) {
        for (Index r = first; r < last; ++r) row(r, c0);
      }
      if (!rest) continue;
      Epilogue<T> part = later;
      part.residual = e.residual ? e.residual + first * row_size : nullptr;
      epilogue_rows<T>(part, y + first * row_size, 0, 1, (last - first) * row_size);
    }
  });
}

template <class T>
void depthwise(const Conv<T>& c) {
  Scratch scratch;
  const T* packed = c.packed_weight;
  if (!packed) {
    T* own = scratch.take<T>(c.shape.kernel.h * c.shape.kernel.w * c.shape.channels);
    depthwise_pack<T>(c.shape, c.weight, own);
    packed = own;
  }
  depthwise_run<T>(c.shape, c.x, packed, c.y, c.epilogue);
}

// dx at stride 1 is the convolution of dy with the filters turned round; other strides gather the windows that hold a
// pixel.
template <class T>
void depthwise_backward_input(const ConvShape& s, const T* weight, const T* dy, T* dx) {
  constexpr Index w = vec<T>::size;
  const Index taps = s.kernel.h * s.kernel.w;
  Scratch scratch;
  T* packed = scratch.take<T>(taps * s.channels);
  const Index pad_h = s.dilation.h * (s.kernel.h - 1) - s.padding.h;
  const Index pad_w = s.dilation.w * (s.kernel.w - 1) - s.padding.w;
  const bool turn = s.stride == Size2(1) && pad_h >= 0 && pad_w >= 0;
  for (Index c = 0; c < s.channels; ++c) {
    for (Index t = 0; t < taps; ++t) packed[(turn ? taps - 1 - t : t) * s.channels + c] = weight[c * taps + t];
  }
  if (turn) {
    ConvShape back = s;
    back.height = s.out_height;
    back.width = s.out_width;
    back.out_height = s.height;
    back.out_width = s.width;
    back.padding = Size2(pad_h, pad_w);
    depthwise_run<T>(back, dy, packed, dx, Epilogue<T>{});
    return;
  }
  parallel_for(
      s.batch * s.height, larger(1, 65536 / larger(1, s.width * s.channels * taps)), [&](Index from, Index to) {
        Scratch local;
        Index* gradient =
            local.take<Index>(taps);  // offsets of the windows that hold a pixel, and of their filter rows
        Index* filter = local.take<Index>(taps);
        for (Index r = from; r < to; ++r) {
          const Index image = r / s.height;
          const Index iy = r % s.height;
          for (Index ix = 0; ix < s.width; ++ix) {
            Index count = 0;
            for (Index kh = 0; kh < s.kernel.h; ++kh) {
              const Index y = iy + s.padding.h - kh * s.dilation.h;
              if (y < 0 || y % s.stride.h != 0 || y / s.stride.h >= s.out_height) continue;
              for (Index kw = 0; kw < s.kernel.w; ++kw) {
                const Index x = ix + s.padding.w - kw * s.dilation.w;
                if (x < 0 || x % s.stride.w != 0 || x / s.stride.w >= s.out_width) continue;
                gradient[count] = ((image * s.out_height + y / s.stride.h) * s.out_width + x / s.stride.w) * s.channels;
                filter[count] = (kh * s.kernel.w + kw) * s.channels;
                ++count;
              }
            }
            T* out = dx + (r * s.width + ix) * s.channels;
            Index c = 0;
            for (; c + 2 * w <= s.channels; c += 2 * w) {
              vec<T> sum0(T(0));
              vec<T> sum1(T(0));
              for (Index i = 0; i < count; ++i) {
                sum0 = fma<T>(load<T>(dy + gradient[i] + c), load<T>(packed + filter[i] + c), sum0);
                sum1 = fma<T>(load<T>(dy + gradient[i] + c + w), load<T>(packed + filter[i] + c + w), sum1);
              }
              store<T>(out + c, sum0);
              store<T>(out + c + w, sum1);
            }
            for (; c < s.channels; c += w) {
              const Index left = smaller(w, s.channels - c);
              vec<T> sum(T(0));
              for (Index i = 0; i < count; ++i)
                sum = fma<T>(load_n(dy + gradient[i] + c, left), load_n(packed + filter[i] + c, left), sum);
              store_n(out + c, sum, left);
            }
          }
        }
      });
}

// Adds to gradient[kw .. kw + K) the products of one row of dy with one row of x, for V vectors of channels, or the
// first `left` of one.
template <class T, int K, int V, bool Tail>
OCELLUS_INLINE void depthwise_weight_row(const ConvShape& s, const T* x, const T* dy, Index kw, Index left,
                                         T* gradient) {
  constexpr Index w = vec<T>::size;
  const auto read = [&](const T* p) OCELLUS_INLINE_LAMBDA { return Tail ? load_n(p, left) : load<T>(p); };
  vec<T> sum[std::size_t{K}][std::size_t{V}];
  OCELLUS_UNROLL for (int j = 0; j < K; ++j) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) sum[j][v] = read(gradient + (kw + j) * s.channels + v * w);
  }
  Index inner_begin = 0;
  Index inner_end = s.out_width;
  for (Index j = 0; j < K; ++j) {
    const Range valid((kw + j) * s.dilation.w - s.padding.w, s.stride.w, s.width, s.out_width);
    inner_begin = larger(inner_begin, valid.begin);
    inner_end = smaller(inner_end, valid.end);
  }
  inner_begin = smaller(inner_begin, s.out_width);
  inner_end = larger(inner_begin, inner_end);
  const auto border = [&](Index ox) OCELLUS_INLINE_LAMBDA {
    OCELLUS_UNROLL for (int j = 0; j < K; ++j) {
      const Index ix = ox * s.stride.w + (kw + j) * s.dilation.w - s.padding.w;
      if (ix < 0 || ix >= s.width) continue;
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
        sum[j][v] = fma<T>(read(dy + ox * s.channels + v * w), read(x + ix * s.channels + v * w), sum[j][v]);
      }
    }
  };
  Index ox = 0;
  for (; ox < inner_begin; ++ox) border(ox);
  for (; ox < inner_end; ++ox) {
    vec<T> d[std::size_t{V}];
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) d[v] = read(dy + ox * s.channels + v * w);
    const T* from = x + (ox * s.stride.w + kw * s.dilation.w - s.padding.w) * s.channels;
    OCELLUS_UNROLL for (int j = 0; j < K; ++j) {
      OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
        sum[j][v] = fma<T>(d[v], read(from + j * s.dilation.w * s.channels + v * w), sum[j][v]);
      }
    }
  }
  for (; ox < s.out_width; ++ox) border(ox);
  OCELLUS_UNROLL for (int j = 0; j < K; ++j) {
    OCELLUS_UNROLL for (int v = 0; v < V; ++v) {
      T* to = gradient + (kw + j) * s.channels + v * w;
      if constexpr (Tail) {
        store_n(to, sum[j][v], left);
      } else {
        store<T>(to, sum[j][v]);
      }
    }
  }
}

// Every tap of one kernel row.
template <class T, int V, bool Tail>
void depthwise_weight_taps(const ConvShape& s, const T* x, const T* dy, Index left, T* gradient) {
  Index kw = 0;
  for (; kw + 5 <= s.kernel.w; kw += 5) depthwise_weight_row<T, 5, V, Tail>(s, x, dy, kw, left, gradient);
  for (; kw + 3 <= s.kernel.w; kw += 3) depthwise_weight_row<T, 3, V, Tail>(s, x, dy, kw, left, gradient);
  for (; kw < s.kernel.w; ++kw) depthwise_weight_row<T, 1, V, Tail>(s, x, dy, kw, left, gradient);
}

// Output rows are cut into chunks by the sizes alone; each chunk has its own sum, and the sums are added in order.
template <class T>
void depthwise_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dweight) {
  constexpr Index w = vec<T>::size;
  const Index taps = s.kernel.h * s.kernel.w;
  const Index rows = s.batch * s.out_height;
  const Index chunks = larger(1, smaller(32, smaller(rows, ceil_div(rows * s.out_width, 512))));
  Scratch scratch;
  T* partial = scratch.take<T>(chunks * taps * s.channels);
  for_pieces(chunks, [&](Index chunk) {
    T* sum = partial + chunk * taps * s.channels;
    for (Index i = 0; i < taps * s.channels; ++i) sum[i] = T(0);
    for (Index r = rows * chunk / chunks; r < rows * (chunk + 1) / chunks; ++r) {
      const Index image = r / s.out_height;
      const Index top = r % s.out_height * s.stride.h - s.padding.h;
      const Range rows_in(top, s.dilation.h, s.height, s.kernel.h);
      for (Index kh = rows_in.begin; kh < rows_in.end; ++kh) {
        const T* from = x + (image * s.height + top + kh * s.dilation.h) * s.width * s.channels;
        const T* gradient = dy + r * s.out_width * s.channels;
        T* to = sum + kh * s.kernel.w * s.channels;
        Index c = 0;
        for (; c + 2 * w <= s.channels; c += 2 * w)
          depthwise_weight_taps<T, 2, false>(s, from + c, gradient + c, w, to + c);
        for (; c + w <= s.channels; c += w) depthwise_weight_taps<T, 1, false>(s, from + c, gradient + c, w, to + c);
        if (c < s.channels) depthwise_weight_taps<T, 1, true>(s, from + c, gradient + c, s.channels - c, to + c);
      }
    }
  });
  for (Index c = 0; c < s.channels; ++c) {
    for (Index t = 0; t < taps; ++t) {
      T sum = 0;
      for (Index chunk = 0; chunk < chunks; ++chunk) sum += partial[(chunk * taps + t) * s.channels + c];
      dweight[c * taps + t] = sum;
    }
  }
}

}  // namespace ocellus::kernels::OCELLUS_ISA
