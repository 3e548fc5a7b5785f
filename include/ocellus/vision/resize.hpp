// Resizing of 8-bit images, bit for bit as Pillow 13 does it: a separable convolution whose filter widens when the
// picture shrinks (so that nothing aliases), weights in fixed point with 22 fractional bits, rounded to 8 bits between
// the two passes. Bicubic: Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, with a = -0.5.
// The width comes first, unless the picture loses more than twice as many rows as columns. Before version 13 Pillow
// always began with the width; there such pictures differ, on photographs by a rounding of 1.
#pragma once

#include <ocellus/core/shape.hpp>
#include <ocellus/vision/image.hpp>

namespace ocellus {

// The first five are Pillow's, with its numbers (the field `resample` of preprocessor_config.json).
enum class Filter : int {
  nearest = 0,
  lanczos = 1,
  bilinear = 2,
  bicubic = 3,
  box = 4,
  bilinear_two_taps =
      100,  // never widens: what OpenCV calls INTER_LINEAR and YOLO was trained with, up to a rounding of 1
};

// The picture at another size: RGB, or one channel for grey images. Label masks take Filter::nearest, which invents no
// class. The work is shared among the threads of the pool. Throws UsageError for an empty image or size.
Image resize(const Image& image, Index height, Index width, Filter filter = Filter::bilinear);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/vision/geometry.hpp>

namespace ocellus {
namespace vision_detail {

inline constexpr int weight_bits = 32 - 8 - 2;  // 8 for the sample, 2 for weights that overshoot 1

// Output i is the sum over t < count[i] of weight[i * stride + t] times the input at first[i] + t.
struct Taps {
  std::vector<Index> first;
  std::vector<int> count;
  std::vector<std::int32_t> weight;
  Index stride = 0;
};

OCELLUS_FN double filter_support(Filter filter) {
  switch (filter) {
    case Filter::lanczos: return 3.0;
    case Filter::bicubic: return 2.0;
    case Filter::box: return 0.5;
    default: return 1.0;
  }
}

OCELLUS_FN double filter_value(Filter filter, double x) {
  const auto sinc = [](double z) { return z == 0.0 ? 1.0 : std::sin(z) / z; };
  constexpr double pi = 3.14159265358979323846, a = -0.5;
  const double distance = std::abs(x);
  switch (filter) {
    case Filter::lanczos: return -3.0 <= x && x < 3.0 ? sinc(x * pi) * sinc(x * pi / 3.0) : 0.0;
    case Filter::bicubic:
      if (distance < 1.0) return ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0;
      if (distance < 2.0) return (((distance - 5.0) * distance + 8.0) * distance - 4.0) * a;
      return 0.0;
    case Filter::box: return -0.5 < x && x <= 0.5 ? 1.0 : 0.0;
    default: return distance < 1.0 ? 1.0 - distance : 0.0;
  }
}

OCELLUS_FN Taps make_taps(Index in, Index out, Filter filter) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double widening = filter == Filter::bilinear_two_taps ? 1.0 : std::max(scale, 1.0);
  const double support = filter_support(filter) * widening;
  Taps taps;
  taps.stride = static_cast<Index>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<std::size_t>(out));
  taps.count.resize(static_cast<std::size_t>(out));
  taps.weight.assign(static_cast<std::size_t>(out * taps.stride), 0);
  std::vector<double> exact(static_cast<std::size_t>(taps.stride));
  for (Index i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const Index first = std::max<Index>(0, static_cast<Index>(centre - support + 0.5));
    const Index count = std::min<Index>(in, static_cast<Index>(centre + support + 0.5)) - first;
    double sum = 0.0;
    for (Index t = 0; t < count; ++t) {
      const double distance = static_cast<double>(t + first) - centre + 0.5;
      exact[static_cast<std::size_t>(t)] = filter_value(filter, distance * (1.0 / widening));
      sum += exact[static_cast<std::size_t>(t)];
    }
    for (Index t = 0; t < count; ++t) {
      double weight = exact[static_cast<std::size_t>(t)];
      if (sum != 0.0) weight /= sum;
      const double fixed = weight * static_cast<double>(1 << weight_bits);
      taps.weight[static_cast<std::size_t>(i * taps.stride + t)] =
          static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    taps.first[static_cast<std::size_t>(i)] = first;
    taps.count[static_cast<std::size_t>(i)] = static_cast<int>(count);
  }
  return taps;
}

inline std::uint8_t from_fixed(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> weight_bits, 0, 255));
}

inline constexpr std::int32_t fixed_half = 1 << (weight_bits - 1);

template <std::size_t channels>
void resample_row(const std::uint8_t* from, std::uint8_t* to, const Taps& taps) {
  const std::int32_t* weight = taps.weight.data();
  for (std::size_t i = 0; i < taps.first.size(); ++i, weight += taps.stride, to += channels) {
    const std::uint8_t* pixel = from + static_cast<std::size_t>(taps.first[i]) * channels;
    const int count = taps.count[i];
    std::int32_t sum[channels];
    for (std::size_t c = 0; c < channels; ++c) sum[c] = fixed_half;
    for (int t = 0; t < count; ++t, pixel += channels) {
      for (std::size_t c = 0; c < channels; ++c) sum[c] += pixel[c] * weight[t];
    }
    for (std::size_t c = 0; c < channels; ++c) to[c] = from_fixed(sum[c]);
  }
}

// One output row: the weighted sum of whole input rows.
OCELLUS_FN void blend_rows(const std::uint8_t* from, Index row_bytes, const std::int32_t* weight, int count,
                           std::uint8_t* to) {
  constexpr Index block = 64;  // a fixed length, so that it becomes vector code
  std::int32_t sum[block];
  Index at = 0;
  for (; at + block <= row_bytes; at += block) {
    for (Index i = 0; i < block; ++i) sum[i] = fixed_half;
    for (int t = 0; t < count; ++t) {
      const std::uint8_t* row = from + t * row_bytes + at;
      const std::int32_t w = weight[t];
      for (Index i = 0; i < block; ++i) sum[i] += row[i] * w;
    }
    for (Index i = 0; i < block; ++i) to[at + i] = from_fixed(sum[i]);
  }
  for (; at < row_bytes; ++at) {
    std::int32_t rest = fixed_half;
    for (int t = 0; t < count; ++t) rest += from[t * row_bytes + at] * weight[t];
    to[at] = from_fixed(rest);
  }
}

inline constexpr Index resize_grain_bytes = 1 << 15;

inline Index row_grain(Index row_bytes) { return std::max<Index>(1, resize_grain_bytes / row_bytes); }

// The rows from `first` on, `count` of them, at another width.
OCELLUS_FN Image convolve_width(const Image& source, Index first, Index count, Index width, Filter filter) {
  const Taps columns = make_taps(source.width(), width, filter);
  const Index channels = source.channels(), row_bytes = width * channels;
  Image result = uninitialised({count, width}, channels);
  std::uint8_t* to = result.writable();
  const auto one_row = channels == 1 ? resample_row<1> : resample_row<3>;
  parallel_for(count, row_grain(source.stride()), [&](Index begin, Index end) {
    for (Index y = begin; y < end; ++y) one_row(source.row(first + y), to + y * row_bytes, columns);
  });
  return result;
}

// `top`: the row of the whole picture that `source` begins with.
OCELLUS_FN Image convolve_height(const Image& source, Index top, const Taps& rows, Index height) {
  const Index row_bytes = source.stride();
  Image result = uninitialised({height, source.width()}, source.channels());
  std::uint8_t* to = result.writable();
  parallel_for(height, row_grain(row_bytes), [&](Index begin, Index end) {
    for (Index y = begin; y < end; ++y) {
      const auto i = static_cast<std::size_t>(y);
      blend_rows(source.row(rows.first[i] - top), row_bytes, rows.weight.data() + y * rows.stride, rows.count[i],
                 to + y * row_bytes);
    }
  });
  return result;
}

OCELLUS_FN Image convolve(const Image& source, Index height, Index width, Filter filter) {
  if (height == source.height()) return convolve_width(source, 0, height, width, filter);
  const Taps rows = make_taps(source.height(), height, filter);
  if (width == source.width()) return convolve_height(source, 0, rows, height);
  const Index lost_rows = source.height() - height, lost_columns = source.width() - width;
  const bool height_first = lost_rows > 0 && lost_rows > 2 * lost_columns;
  if (height_first) return convolve_width(convolve_height(source, 0, rows, height), 0, height, width, filter);
  const Index first = rows.first.front(), count = rows.first.back() + rows.count.back() - first;
  return convolve_height(convolve_width(source, first, count, width, filter), first, rows, height);
}

// The input that each output is a copy of. The position is summed up step by step, because rounding along the way is
// part of the answer that Pillow gives.
OCELLUS_FN std::vector<Index> nearest_sources(Index in, Index out) {
  const double step = static_cast<double>(in) / static_cast<double>(out);
  std::vector<Index> sources(static_cast<std::size_t>(out));
  double position = step * 0.5;
  for (Index& source : sources) {
    source = std::min<Index>(in - 1, static_cast<Index>(position));
    position += step;
  }
  return sources;
}

template <Index channels>
void copy_nearest(const Image& source, const std::vector<Index>& columns, const std::vector<Index>& rows,
                  std::uint8_t* to) {
  const std::size_t row_bytes = columns.size() * channels;
  for (std::size_t y = 0; y < rows.size(); ++y, to += row_bytes) {
    if (y > 0 && rows[y] == rows[y - 1]) {
      std::memcpy(to, to - row_bytes, row_bytes);
      continue;
    }
    const std::uint8_t* from = source.row(rows[y]);
    std::uint8_t* pixel = to;
    for (const Index column : columns) {
      for (Index c = 0; c < channels; ++c) pixel[c] = from[column * channels + c];
      pixel += channels;
    }
  }
}

}  // namespace vision_detail

OCELLUS_FN Image resize(const Image& image, Index height, Index width, Filter filter) {
  if (image.empty()) throw UsageError("resize: the image is empty");
  vision_detail::check_image_size("resize", {height, width}, image.channels());
  const Image source = image.packed();
  if (source.size() == Size2(height, width)) return source;
  if (filter != Filter::nearest) return vision_detail::convolve(source, height, width, filter);
  Image result = vision_detail::uninitialised({height, width}, source.channels());
  const auto copy = source.channels() == 1 ? vision_detail::copy_nearest<1> : vision_detail::copy_nearest<3>;
  copy(source, vision_detail::nearest_sources(source.width(), width),
       vision_detail::nearest_sources(source.height(), height), result.writable());
  return result;
}

}  // namespace ocellus
#endif
