// What a person looks at: class colours, overlays of label masks, boxes with captions. Drawing works on the image's own
// pixels (a view or a shared image is copied first) and is cut off at the edges.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>

namespace ocellus {

// Colour of class i at place i.
using Palette = std::vector<Colour>;

// The colours in which CamVid's 11 classes are usually shown: sky, building, pole, road, pavement, tree, sign, fence,
// car, pedestrian, bicyclist.
Palette street_palette();
// As many colours as asked for, hues a golden ratio apart, so that neighbours differ and a longer palette begins with
// the shorter one.
Palette distinct_palette(Index classes);
// The street palette for 11 classes, distinct colours otherwise.
Palette default_palette(Index classes);

// The labels in their colours; `ignore_id` is black. Throws UsageError for an id that the palette lacks.
Image colour_labels(const Image& labels, const Palette& palette, std::uint8_t ignore_id = 255);
// The picture with the colours of the labels laid over it, `alpha` of 1 hides it; where the label is `ignore_id` it
// stays as it is. Throws UsageError if the sizes differ or the palette lacks an id.
Image overlay(const Image& image, const Image& labels, const Palette& palette, float alpha = 0.5f,
              std::uint8_t ignore_id = 255);

// Coordinates are pixels, the corner (x1, y1) of a rectangle included. Grey images become RGB.
void fill_rectangle(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour);
// An outline that grows inwards.
void draw_rectangle(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour, Index thickness = 2);
void draw_line(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour, Index thickness = 1);
// ASCII text whose upper left corner is (x, y), 6 x 8 pixels per character times `scale`; other characters appear as
// '?'.
void draw_text(Image& image, Index x, Index y, std::string_view text, Colour colour, Index scale = 1);
// A box with its caption on a bar of the same colour, black or white letters, whichever reads better.
void draw_box(Image& image, Index x0, Index y0, Index x1, Index y1, std::string_view caption, Colour colour,
              Index thickness = 2);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/vision/colour.hpp>

namespace ocellus {
namespace vision_detail {

inline constexpr Index letter_width = 5, letter_height = 7, letter_advance = 6, line_advance = 8;

// ' ' to '~': seven rows of five pixels, the upper left one in the highest of 35 bits.
inline constexpr std::uint64_t letters[95] = {
    0x000000000, 0x108421004, 0x294000000, 0x295f57d4a, 0x11f4717c4, 0x672222273, 0x32544564d, 0x108000000, 0x088842082,
    0x208210888, 0x009575480, 0x0084f9080, 0x000003188, 0x0000f8000, 0x00000018c, 0x042222210, 0x3a33ae62e, 0x11842108e,
    0x3a211111f, 0x3a213062e, 0x08ca97c42, 0x7e1e0862e, 0x1910f462e, 0x7c2211084, 0x3a317462e, 0x3a317844c, 0x018c03180,
    0x018c03188, 0x088882082, 0x001f07c00, 0x208208888, 0x3a2111004, 0x3a37ade0e, 0x3a31fc631, 0x7a31f463e, 0x3a308422e,
    0x72518c65c, 0x7e10f421f, 0x7e10f4210, 0x3a30bc62f, 0x4631fc631, 0x38842108e, 0x1c4210a4c, 0x4654c5251, 0x42108421f,
    0x4775ac631, 0x4739ace71, 0x3a318c62e, 0x7a31f4210, 0x3a318d64d, 0x7a31f5251, 0x3e107043e, 0x7c8421084, 0x46318c62e,
    0x46318a944, 0x4631ad771, 0x462a22a31, 0x462a21084, 0x7c222221f, 0x39084210e, 0x420820821, 0x38421084e, 0x115100000,
    0x00000001f, 0x208000000, 0x000e0be2f, 0x421e8c63e, 0x000f8420f, 0x042f8c62f, 0x000e8fe0f, 0x191e42108, 0x01f18bc2e,
    0x421e8c631, 0x100c2108e, 0x080610a4c, 0x4212a6292, 0x30842108e, 0x001aad6b5, 0x001e8c631, 0x000e8c62e, 0x03d18fa10,
    0x01f18bc21, 0x0016c4210, 0x000f8383e, 0x211e42106, 0x00118c62f, 0x00118a944, 0x0011ad6aa, 0x001151151, 0x02318bc2e,
    0x001f1111f, 0x0c8441083, 0x108421084, 0x608411098, 0x0008a8800};

OCELLUS_FN void check_labels(const char* where, const Image& labels) {
  if (labels.empty() || labels.channels() != 1) {
    throw UsageError(std::string(where) + ": labels are an image of one channel; got " +
                     std::to_string(labels.channels()) + " and size " + labels.size().str());
  }
}

OCELLUS_FN Colour colour_of(const char* where, const Palette& palette, std::uint8_t id) {
  if (id < palette.size()) return palette[id];
  throw UsageError(std::string(where) + ": the labels have class " + std::to_string(id) + ", the palette " +
                   std::to_string(palette.size()) + " colours");
}

OCELLUS_FN std::uint8_t* rgb_pixels(Image& image) {
  if (image.channels() == 1) image = image.to_rgb();
  return image.writable();
}

}  // namespace vision_detail

OCELLUS_FN Palette street_palette() {
  return {{128, 128, 128}, {128, 0, 0},   {192, 192, 128}, {128, 64, 128}, {60, 40, 222}, {128, 128, 0},
          {192, 128, 128}, {64, 64, 128}, {64, 0, 128},    {64, 64, 0},    {0, 128, 192}};
}

OCELLUS_FN Palette distinct_palette(Index classes) {
  constexpr double golden = 0.61803398874989484820;
  constexpr std::uint8_t saturations[3] = {217, 153, 242}, values[3] = {230, 191, 140};
  Palette palette;
  for (Index i = 0; i < classes; ++i) {
    const double turns = static_cast<double>(i) * golden;
    const auto hue = static_cast<std::uint8_t>((turns - std::floor(turns)) * 255.0);
    const auto ring = static_cast<std::size_t>(i / 7 % 3);
    palette.push_back(to_rgb(Hsv{hue, saturations[ring], values[ring]}));
  }
  return palette;
}

OCELLUS_FN Palette default_palette(Index classes) {
  return classes == 11 ? street_palette() : distinct_palette(classes);
}

OCELLUS_FN Image colour_labels(const Image& labels, const Palette& palette, std::uint8_t ignore_id) {
  return overlay(Image(labels.size(), 3), labels, palette, 1.0f, ignore_id);
}

OCELLUS_FN Image overlay(const Image& image, const Image& labels, const Palette& palette, float alpha,
                         std::uint8_t ignore_id) {
  vision_detail::check_labels("overlay", labels);
  if (!(image.size() == labels.size())) {
    throw UsageError("overlay: the image has " + image.size().str() + " pixels, the labels " + labels.size().str() +
                     "; resize the labels with Filter::nearest");
  }
  if (!(alpha >= 0.0f && alpha <= 1.0f))
    throw UsageError("overlay: alpha must be from 0 to 1; got " + std::to_string(alpha));
  Image result = image;
  std::uint8_t* pixel = vision_detail::rgb_pixels(result);
  const int weight = static_cast<int>(std::lround(alpha * 256.0f));
  const auto mix = [&](std::uint8_t below, std::uint8_t above) {
    return static_cast<std::uint8_t>((below * (256 - weight) + above * weight + 128) >> 8);
  };
  for (Index y = 0; y < image.height(); ++y) {
    const std::uint8_t* id = labels.row(y);
    for (Index x = 0; x < image.width(); ++x, pixel += 3) {
      if (id[x] == ignore_id) continue;
      const Colour colour = vision_detail::colour_of("overlay", palette, id[x]);
      pixel[0] = mix(pixel[0], colour.red);
      pixel[1] = mix(pixel[1], colour.green);
      pixel[2] = mix(pixel[2], colour.blue);
    }
  }
  return result;
}

OCELLUS_FN void fill_rectangle(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour) {
  std::uint8_t* pixels = vision_detail::rgb_pixels(image);
  x0 = std::max<Index>(x0, 0);
  y0 = std::max<Index>(y0, 0);
  x1 = std::min(x1, image.width() - 1);
  y1 = std::min(y1, image.height() - 1);
  if (x0 > x1) return;
  for (Index y = y0; y <= y1; ++y)
    vision_detail::fill_pixels(pixels + (y * image.width() + x0) * 3, x1 - x0 + 1, 3, colour);
}

OCELLUS_FN void draw_rectangle(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour, Index thickness) {
  if (x0 > x1) std::swap(x0, x1);
  if (y0 > y1) std::swap(y0, y1);
  const Index t = std::min({thickness, (x1 - x0) / 2 + 1, (y1 - y0) / 2 + 1}) - 1;
  if (t < 0) return;
  fill_rectangle(image, x0, y0, x1, y0 + t, colour);
  fill_rectangle(image, x0, y1 - t, x1, y1, colour);
  fill_rectangle(image, x0, y0, x0 + t, y1, colour);
  fill_rectangle(image, x1 - t, y0, x1, y1, colour);
}

OCELLUS_FN void draw_line(Image& image, Index x0, Index y0, Index x1, Index y1, Colour colour, Index thickness) {
  const double dx = static_cast<double>(x1 - x0), dy = static_cast<double>(y1 - y0);
  const double longest = std::max(std::abs(dx), std::abs(dy));
  const Index before = (thickness - 1) / 2, after = thickness - 1 - before;
  // Only the part whose points can touch the image is walked.
  double from = 0.0, to = 1.0;
  const auto clip = [&](Index start, double step, Index side) {
    const double low = static_cast<double>(-thickness - start), high = static_cast<double>(side + thickness - start);
    if (step == 0.0) {
      if (low > 0.0 || high < 0.0) to = -1.0;
      return;
    }
    from = std::max(from, std::min(low / step, high / step));
    to = std::min(to, std::max(low / step, high / step));
  };
  clip(x0, dx, image.width());
  clip(y0, dy, image.height());
  if (from > to) return;
  const auto last = static_cast<Index>(std::ceil(to * longest));
  for (auto i = static_cast<Index>(std::floor(from * longest)); i <= last; ++i) {
    const double share = longest == 0.0 ? 0.0 : static_cast<double>(i) / longest;
    const Index x = x0 + std::llround(dx * share), y = y0 + std::llround(dy * share);
    fill_rectangle(image, x - before, y - before, x + after, y + after, colour);
  }
}

OCELLUS_FN void draw_text(Image& image, Index x, Index y, std::string_view text, Colour colour, Index scale) {
  using namespace vision_detail;
  for (const char character : text) {
    const bool known = character >= ' ' && character <= '~';
    const std::uint64_t letter = letters[(known ? character : '?') - ' '];
    const Index drop =
        std::string_view("gjpqy,;").find(character) != std::string_view::npos ? scale : 0;  // below the base line
    for (Index row = 0; row < letter_height; ++row) {
      for (Index column = 0; column < letter_width; ++column) {
        const Index bit = letter_width * letter_height - 1 - (row * letter_width + column);
        if (!(letter >> bit & 1u)) continue;
        const Index left = x + column * scale, top = y + drop + row * scale;
        fill_rectangle(image, left, top, left + scale - 1, top + scale - 1, colour);
      }
    }
    x += letter_advance * scale;
  }
}

OCELLUS_FN void draw_box(Image& image, Index x0, Index y0, Index x1, Index y1, std::string_view caption, Colour colour,
                         Index thickness) {
  using namespace vision_detail;
  draw_rectangle(image, x0, y0, x1, y1, colour, thickness);
  if (caption.empty()) return;
  const Index scale = std::max<Index>(1, std::min(image.width(), image.height()) / 320);
  const Index bar_height = (line_advance + 2) * scale,
              bar_width = (static_cast<Index>(caption.size()) * letter_advance + 3) * scale;
  const Index top = y0 >= bar_height ? y0 - bar_height : y0;  // inside where there is no room above
  const Index left = std::max<Index>(0, std::min(x0, image.width() - bar_width));
  fill_rectangle(image, left, top, left + bar_width - 1, top + bar_height - 1, colour);
  const Colour ink = luminance(colour) > 140 ? Colour{0, 0, 0} : Colour{255, 255, 255};
  draw_text(image, left + 2 * scale, top + 2 * scale, caption, ink, scale);
}

}  // namespace ocellus
#endif
