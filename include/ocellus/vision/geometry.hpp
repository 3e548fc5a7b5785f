// Movements of pixels: crop, pad, mirror, the eight orientations of EXIF, rotation.
#pragma once

#include <cstdint>

#include <ocellus/vision/image.hpp>

namespace ocellus {

struct Colour {
  std::uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const Colour&, const Colour&) = default;
};

// The window whose upper left pixel is (top, left). What lies outside the image is `fill` (its red for grey images and
// labels), so a crop with negative corners pads.
Image crop(const Image& image, Index top, Index left, Size2 size, Colour fill = {});

// Left and right exchanged.
Image mirror(const Image& image);

// Quarter turns counter-clockwise; negative ones clockwise.
Image rotate90(const Image& image, int quarter_turns);

enum class Sampling : std::uint8_t { nearest, bilinear };

// Turned counter-clockwise around its centre, in a frame of the same size; `fill` where there was nothing. Labels take
// Sampling::nearest.
Image rotate(const Image& image, float degrees, Sampling sampling, Colour fill = {});

// The upright picture of one stored with EXIF orientation 1 to 8 (tag 0x0112, EXIF 2.3 section 4.6.4 A); other values
// count as 1.
Image upright(const Image& image, int orientation);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <cstring>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace vision_detail {

// An image to be written in full; the pixels are not cleared.
OCELLUS_FN Image uninitialised(Size2 size, Index channels) {
  check_image_size("Image", size, channels);
  return Image::own(
      std::shared_ptr<std::uint8_t[]>(new std::uint8_t[static_cast<std::size_t>(size.h * size.w * channels)]), size,
      channels);
}

OCELLUS_FN void fill_pixels(std::uint8_t* to, Index pixels, Index channels, Colour colour) {
  if (channels == 1) {
    std::memset(to, colour.red, static_cast<std::size_t>(pixels));
    return;
  }
  for (Index i = 0; i < pixels; ++i, to += 3) {
    to[0] = colour.red;
    to[1] = colour.green;
    to[2] = colour.blue;
  }
}

// Pixel (y, x) of the result is the source pixel at origin + y * step_y + x * step_x bytes.
template <int channels>
void gather(const std::uint8_t* origin, Index step_y, Index step_x, Size2 size, std::uint8_t* to) {
  for (Index y = 0; y < size.h; ++y) {
    const std::uint8_t* from = origin + y * step_y;
    for (Index x = 0; x < size.w; ++x, from += step_x, to += channels) {
      for (int c = 0; c < channels; ++c) to[c] = from[c];
    }
  }
}

}  // namespace vision_detail

OCELLUS_FN Image crop(const Image& image, Index top, Index left, Size2 size, Colour fill) {
  const Image source = image.packed();
  const Index channels = source.channels();
  Image result = vision_detail::uninitialised(size, channels);
  std::uint8_t* to = result.writable();
  const Index before = std::clamp<Index>(-left, 0, size.w);
  const Index inside = std::clamp<Index>(source.width() - left, before, size.w) - before;
  for (Index y = 0; y < size.h; ++y, to += size.w * channels) {
    const bool exists = top + y >= 0 && top + y < source.height() && inside > 0;
    if (!exists) {
      vision_detail::fill_pixels(to, size.w, channels, fill);
      continue;
    }
    vision_detail::fill_pixels(to, before, channels, fill);
    std::memcpy(to + before * channels, source.at(top + y, left + before), static_cast<std::size_t>(inside * channels));
    vision_detail::fill_pixels(to + (before + inside) * channels, size.w - before - inside, channels, fill);
  }
  return result;
}

OCELLUS_FN Image mirror(const Image& image) { return upright(image, 2); }

OCELLUS_FN Image rotate90(const Image& image, int quarter_turns) {
  constexpr int orientation[4] = {1, 8, 3, 6};
  return upright(image, orientation[((quarter_turns % 4) + 4) % 4]);
}

OCELLUS_FN Image rotate(const Image& image, float degrees, Sampling sampling, Colour fill) {
  const Image source = image.packed();
  const Index channels = source.channels(), h = source.height(), w = source.width();
  Image result = vision_detail::uninitialised(source.size(), channels);
  std::uint8_t* to = result.writable();
  vision_detail::fill_pixels(to, h * w, channels, fill);
  const double angle = static_cast<double>(degrees) * (3.14159265358979323846 / 180.0);
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const double centre_x = static_cast<double>(w) / 2, centre_y = static_cast<double>(h) / 2;
  for (Index y = 0; y < h; ++y) {
    for (Index x = 0; x < w; ++x, to += channels) {
      const double from_centre_x = static_cast<double>(x) + 0.5 - centre_x,
                   from_centre_y = static_cast<double>(y) + 0.5 - centre_y;
      const double source_x = cosine * from_centre_x - sine * from_centre_y + centre_x;
      const double source_y = sine * from_centre_x + cosine * from_centre_y + centre_y;
      if (source_x < 0 || source_y < 0 || source_x >= static_cast<double>(w) || source_y >= static_cast<double>(h))
        continue;
      if (sampling == Sampling::nearest) {
        std::memcpy(to, source.at(static_cast<Index>(source_y), static_cast<Index>(source_x)),
                    static_cast<std::size_t>(channels));
        continue;
      }
      const double left = std::floor(source_x - 0.5), top = std::floor(source_y - 0.5);
      const double right_share = source_x - 0.5 - left, lower_share = source_y - 0.5 - top;
      const Index x0 = std::max<Index>(0, static_cast<Index>(left)), x1 = std::min(w - 1, static_cast<Index>(left) + 1);
      const Index y0 = std::max<Index>(0, static_cast<Index>(top)), y1 = std::min(h - 1, static_cast<Index>(top) + 1);
      for (Index c = 0; c < channels; ++c) {
        const double upper = source.at(y0, x0)[c] * (1 - right_share) + source.at(y0, x1)[c] * right_share;
        const double lower = source.at(y1, x0)[c] * (1 - right_share) + source.at(y1, x1)[c] * right_share;
        to[c] = static_cast<std::uint8_t>(upper * (1 - lower_share) + lower * lower_share + 0.5);
      }
    }
  }
  return result;
}

OCELLUS_FN Image upright(const Image& image, int orientation) {
  if (orientation < 2 || orientation > 8 || image.empty()) return image;
  const Image source = image.packed();
  const Index step = source.channels(), stride = source.stride();
  const Index last_x = (source.width() - 1) * step, last_y = (source.height() - 1) * stride;
  // The stored row 0 and column 0 are, in turn: top left, top right, bottom right, bottom left; from 5 on rows are
  // columns.
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool transposed = orientation >= 5;
  const std::uint8_t* origin = source.data() + (from_right ? last_x : 0) + (from_bottom ? last_y : 0);
  Index step_x = from_right ? -step : step;
  Index step_y = from_bottom ? -stride : stride;
  Size2 size = source.size();
  if (transposed) {
    std::swap(step_x, step_y);
    std::swap(size.h, size.w);
  }
  Image result = vision_detail::uninitialised(size, step);
  const auto gather = step == 1 ? vision_detail::gather<1> : vision_detail::gather<3>;
  gather(origin, step_y, step_x, size, result.writable());
  return result;
}

}  // namespace ocellus
#endif
