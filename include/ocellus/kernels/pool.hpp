// Max and average pooling over (N, H, W, C) pictures and their gradients, vectors along the channels. Gradients are
// gathered by the rows they belong to, so every cut over threads gives the same bits.
#pragma once

#include <cmath>
#include <type_traits>

#include <ocellus/kernels/elementwise.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// A window along one axis: [begin, end) clipped to the picture, and its length before clipping to it (but within the
// padding).
struct PoolWindow {
  Index begin, end, padded;
};
OCELLUS_INLINE PoolWindow pool_window(Index out, Index kernel, Index stride, Index padding, Index size) {
  const Index begin = out * stride - padding;
  const Index end = smaller(begin + kernel, size + padding);
  return {larger(begin, 0), smaller(end, size), end - begin};
}
// The outputs [begin, end) whose windows may hold input pixel `in`.
struct PoolReach {
  Index begin, end;
};
OCELLUS_INLINE PoolReach pool_reach(Index in, Index kernel, Index stride, Index padding, Index outs) {
  const Index first = in + padding - kernel + 1;
  return {first <= 0 ? 0 : ceil_div(first, stride), smaller((in + padding) / stride + 1, outs)};
}

// One output row. with_index: the winner's place in its window, kept in lanes of T (exact: windows are small), is
// translated by `pixel` into h * width + w.
template <bool with_index, class T>
void max_pool_row(const PoolShape& s, const T* x, Index out_row, T* y, std::int32_t* argmax, std::int32_t* pixel) {
  const PoolWindow v = pool_window(out_row, s.kernel.h, s.stride.h, s.padding.h, s.height);
  for (Index ow = 0; ow < s.out_width; ++ow) {
    const PoolWindow h = pool_window(ow, s.kernel.w, s.stride.w, s.padding.w, s.width);
    if constexpr (with_index) {
      Index count = 0;
      for (Index i = v.begin; i < v.end; ++i) {
        for (Index j = h.begin; j < h.end; ++j) pixel[count++] = static_cast<std::int32_t>(i * s.width + j);
      }
      if (count == 0) pixel[0] = -1;
    }
    T* out = y + ow * s.channels;
    std::int32_t* index = with_index ? argmax + ow * s.channels : nullptr;
    const Index channels = s.channels;
    const Index width = s.width;
    each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
      vec<T> best(static_cast<T>(-HUGE_VAL));
      vec<T> place(T(0));
      vec<T> now(T(0));
      bool first = true;
      for (Index i = v.begin; i < v.end; ++i) {
        for (Index j = h.begin; j < h.end; ++j) {
          const vec<T> value = load_n(x + (i * width + j) * channels + c, lanes);
          // Not (value <= best): larger or NaN; a NaN that won stays.
          const mask<T> stays = (value <= best) | (best != best);
          if (first) {
            best = value;
            first = false;
          } else {
            if constexpr (with_index) place = select<T>(stays, place, now);
            best = select<T>(stays, best, value);
          }
          if constexpr (with_index) now += vec<T>(T(1));
        }
      }
      store_n(out + c, best, lanes);
      if constexpr (with_index) {
        T places[vec<T>::size];
        store(places, place);
        for (Index k = 0; k < smaller(vec<T>::size, channels - c); ++k)
          index[c + k] = pixel[static_cast<Index>(places[k])];
      }
    });
  }
}

template <class T>
void max_pool(const Pool<T>& p) {
  const PoolShape& s = p.shape;
  const Index row = s.out_width * s.channels;
  parallel_for(s.batch * s.out_height, ceil_div(cheap_grain, larger(1, row * s.kernel.h * s.kernel.w)),
               [&](Index begin, Index end) {
                 Scratch scratch;
                 std::int32_t* pixel = scratch.take<std::int32_t>(s.kernel.h * s.kernel.w + 1);
                 for (Index r = begin; r < end; ++r) {
                   const T* x = p.x + r / s.out_height * s.height * s.width * s.channels;
                   T* y = p.y + r * row;
                   if (p.argmax) {
                     max_pool_row<true>(s, x, r % s.out_height, y, p.argmax + r * row, pixel);
                   } else {
                     max_pool_row<false>(s, x, r % s.out_height, y, p.argmax, pixel);
                   }
                 }
               });
}

// dy in the lanes whose winner is `pixel`, 0 in the others.
template <class T>
OCELLUS_INLINE vec<T> won_by(Index pixel, const std::int32_t* winner, vec<T> dy) {
  typedef std::int32_t lanes __attribute__((vector_size(sizeof(std::int32_t) * vec<T>::size)));
  lanes place;
  __builtin_memcpy(&place, winner, sizeof(place));
  return from_bits<T>(to_bits<T>(dy) & __builtin_convertvector(place == static_cast<std::int32_t>(pixel), bits<T>));
}

template <class T>
void max_pool_backward(const PoolBackward<T>& p) {
  const PoolShape& s = p.shape;
  const Index channels = s.channels;
  const Index row = s.out_width * channels;
  const Index in_row = s.width * channels;
  parallel_for(s.batch * s.height, ceil_div(cheap_grain, larger(1, in_row * 2)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index h = r % s.height;
      const PoolReach rows = pool_reach(h, s.kernel.h, s.stride.h, s.padding.h, s.out_height);
      const Index picture = r / s.height * s.out_height * row;
      for (Index w = 0; w < s.width; ++w) {
        const PoolReach columns = pool_reach(w, s.kernel.w, s.stride.w, s.padding.w, s.out_width);
        const Index pixel = h * s.width + w;
        T* dx = p.dx + r * in_row + w * channels;
        const T* dy = p.dy + picture;
        const std::int32_t* winner = p.argmax + picture;
        each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
          vec<T> sum(T(0));
          for (Index oh = rows.begin; oh < rows.end; ++oh) {
            for (Index ow = columns.begin; ow < columns.end; ++ow) {
              const Index at = oh * row + ow * channels + c;
              if constexpr (std::is_same_v<decltype(lanes), WholeVector>) {
                sum += won_by<T>(pixel, winner + at, load(dy + at));
              } else {
                std::int32_t tail[vec<T>::size];
                for (Index k = 0; k < vec<T>::size; ++k) tail[k] = k < lanes ? winner[at + k] : -1;
                sum += won_by<T>(pixel, tail, load_n(dy + at, lanes));
              }
            }
          }
          store_n(dx + c, sum, lanes);
        });
      }
    }
  });
}

template <class T>
OCELLUS_INLINE T average_divisor(const PoolShape& s, const PoolWindow& v, const PoolWindow& h) {
  const Index area =
      s.count_include_pad ? v.padded * h.padded : larger(0, v.end - v.begin) * larger(0, h.end - h.begin);
  return static_cast<T>(larger(area, 1));
}

template <class T>
void average_pool(const Pool<T>& p) {
  const PoolShape& s = p.shape;
  const Index channels = s.channels;
  const Index row = s.out_width * channels;
  parallel_for(s.batch * s.out_height, ceil_div(cheap_grain, larger(1, row * s.kernel.h * s.kernel.w)),
               [&](Index begin, Index end) {
                 for (Index r = begin; r < end; ++r) {
                   const T* x = p.x + r / s.out_height * s.height * s.width * channels;
                   const PoolWindow v = pool_window(r % s.out_height, s.kernel.h, s.stride.h, s.padding.h, s.height);
                   for (Index ow = 0; ow < s.out_width; ++ow) {
                     const PoolWindow h = pool_window(ow, s.kernel.w, s.stride.w, s.padding.w, s.width);
                     const vec<T> divisor(average_divisor<T>(s, v, h));
                     T* y = p.y + r * row + ow * channels;
                     const Index width = s.width;
                     each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
                       vec<T> sum(T(0));
                       for (Index i = v.begin; i < v.end; ++i) {
                         for (Index j = h.begin; j < h.end; ++j)
                           sum += load_n(x + (i * width + j) * channels + c, lanes);
                       }
                       store_n(y + c, sum / divisor, lanes);
                     });
                   }
                 }
               });
}

template <class T>
void average_pool_backward(const PoolBackward<T>& p) {
  const PoolShape& s = p.shape;
  const Index channels = s.channels;
  const Index row = s.out_width * channels;
  const Index in_row = s.width * channels;
  parallel_for(s.batch * s.height, ceil_div(cheap_grain, larger(1, in_row * 2)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index at = r % s.height;
      const PoolReach rows = pool_reach(at, s.kernel.h, s.stride.h, s.padding.h, s.out_height);
      const T* dy = p.dy + r / s.height * s.out_height * row;
      for (Index w = 0; w < s.width; ++w) {
        const PoolReach columns = pool_reach(w, s.kernel.w, s.stride.w, s.padding.w, s.out_width);
        T* dx = p.dx + r * in_row + w * channels;
        for (Index c = 0; c < channels; ++c) dx[c] = 0;
        for (Index oh = rows.begin; oh < rows.end; ++oh) {
          const PoolWindow v = pool_window(oh, s.kernel.h, s.stride.h, s.padding.h, s.height);
          for (Index ow = columns.begin; ow < columns.end; ++ow) {
            const PoolWindow h = pool_window(ow, s.kernel.w, s.stride.w, s.padding.w, s.width);
            const vec<T> scale(T(1) / average_divisor<T>(s, v, h));
            const T* up = dy + oh * row + ow * channels;
            each_vector<T>(0, channels, [=](Index c, auto lanes) OCELLUS_INLINE_LAMBDA {
              store_n(dx + c, fma<T>(load_n(up + c, lanes), scale, load_n(dx + c, lanes)), lanes);
            });
          }
        }
      }
    }
  });
}

}  // namespace ocellus::kernels::OCELLUS_ISA
