// Random variations of pictures with boxes, always in step: mosaic (Bochkovskiy, Wang, Liao, "YOLOv4", 2020, section
// 3.4), mixup (Zhang et al., 2018) in its form for detection, random affine, flips and a gain of hue, saturation and
// value. All movements of a picture are one mapping, so each pixel of the result is sampled once, straight from the
// source; where that shrinks a picture to less than half, it is halved by averaging first.
#pragma once

#include <span>
#include <vector>

#include <ocellus/runtime/random.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/object_box.hpp>

namespace ocellus {

struct BoxedImage {
  Image image;
  std::vector<ObjectBox> boxes;  // pixels of the image
};

// The defaults are those that YOLOv8 was published with.
struct DetectionAugmentation {
  Size2 size = 640;               // of the result
  float mosaic = 1.0f;            // probability of four pictures in one
  float mixup = 0.0f;             // probability that such a mosaic is blended with another
  float scale = 0.5f;             // the picture is 1 - scale to 1 + scale times as large
  float translate = 0.1f;         // moved by up to this share of the result
  float degrees = 0.0f;           // turned by up to this to either side
  float shear = 0.0f;             // degrees, of either axis
  float perspective = 0.0f;       // up to this per pixel; 0.001 is much
  float horizontal_flip = 0.5f;   // probability
  float vertical_flip = 0.0f;     // probability
  float hue = 0.015f;             // turned by up to this share of the circle
  float saturation = 0.7f;        // times 1 - x to 1 + x
  float value = 0.4f;             // likewise
  Index last_mosaic_epoch = -1;   // after it no mosaic and no mixup; -1: they never end
  Colour fill = {114, 114, 114};  // where there is no picture

  // Nothing random: the picture as large as it fits, in the middle.
  static DetectionAugmentation none(Size2 size) {
    return {.size = size,
            .mosaic = 0,
            .scale = 0,
            .translate = 0,
            .horizontal_flip = 0,
            .hue = 0,
            .saturation = 0,
            .value = 0};
  }
};

// One picture, or four in a mosaic (0 1 over 2 3), moved, then coloured and flipped as `options` say and `random`
// chooses; RGB of options.size. Boxes follow their objects: each becomes the smallest upright one around what it
// covered, cut off at the edges; those are dropped of which less than 2 pixels in either direction, or a tenth of the
// area, is left, or that are 100 times as long as wide. Throws UsageError for an empty picture or a number of
// pictures other than 1 and 4.
BoxedImage place_pictures(std::span<const BoxedImage> pictures, const DetectionAugmentation& options,
                          RandomStream& random);
BoxedImage colour_and_flip(BoxedImage picture, const DetectionAugmentation& options, RandomStream& random);

// Two results of the same size: their mean, weighted by Beta(32, 32), with the boxes of both. Throws UsageError.
BoxedImage mix(const BoxedImage& a, const BoxedImage& b, RandomStream& random);

// Hue turned by `turn` of the circle, saturation and value times a factor, cut off where they end.
void adjust_hsv(Image& image, float turn, float saturation, float value);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace vision_detail {

// A mapping of the plane, row by row; (x, y) goes to ((m0 x + m1 y + m2) / w, (m3 x + m4 y + m5) / w), w = m6 x + m7 y
// + m8.
using Mapping = std::array<double, 9>;

// First b, then a.
OCELLUS_FN Mapping after(const Mapping& a, const Mapping& b) {
  Mapping c{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j)
      c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  }
  return c;
}

// Up to a factor, which a mapping does not feel.
OCELLUS_FN Mapping inverse(const Mapping& m) {
  return {m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4],
          m[5] * m[6] - m[3] * m[8], m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5],
          m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7], m[0] * m[4] - m[1] * m[3]};
}

// A picture on the canvas: where it lies, and how its pixels are found.
struct Tile {
  Image image;  // RGB
  double left = 0, top = 0;
  double per_pixel = 1;  // pixels of `image` in one of the canvas
};

// Half as wide and high, each pixel the mean of four; of an odd side the last pixel counts twice.
OCELLUS_FN Image halved(const Image& image) {
  const Size2 size = {(image.height() + 1) / 2, (image.width() + 1) / 2};
  Image result = uninitialised(size, 3);
  std::uint8_t* to = result.writable();
  for (Index y = 0; y < size.h; ++y) {
    const std::uint8_t* upper = image.row(2 * y);
    const std::uint8_t* lower = image.row(std::min(2 * y + 1, image.height() - 1));
    for (Index x = 0; x < size.w; ++x, upper += 6, lower += 6, to += 3) {
      const int next = 2 * x + 1 < image.width() ? 3 : 0;
      for (int c = 0; c < 3; ++c)
        to[c] = static_cast<std::uint8_t>((upper[c] + upper[c + next] + lower[c] + lower[c + next] + 2) / 4);
    }
  }
  return result;
}

// Eight fractional bits: the same rounding for every pixel, and products that fit 32 bits.
inline void sample_bilinear(const Image& image, double x, double y, std::uint8_t* to) {
  const Index last_x = image.width() - 1, last_y = image.height() - 1;
  const double px = std::clamp(x - 0.5, 0.0, static_cast<double>(last_x)),
               py = std::clamp(y - 0.5, 0.0, static_cast<double>(last_y));
  const auto fixed_x = static_cast<std::int32_t>(px * 256.0 + 0.5),
             fixed_y = static_cast<std::int32_t>(py * 256.0 + 0.5);
  const Index x0 = fixed_x >> 8, y0 = fixed_y >> 8;
  const std::uint32_t right = static_cast<std::uint32_t>(fixed_x) & 255u,
                      lower = static_cast<std::uint32_t>(fixed_y) & 255u;
  const std::uint8_t* a = image.data() + y0 * image.stride() + 3 * x0;
  const std::uint8_t* b = y0 < last_y ? a + image.stride() : a;
  const int next = x0 < last_x ? 3 : 0;
  const std::uint32_t left = 256 - right, upper = 256 - lower;
  for (int c = 0; c < 3; ++c) {
    const std::uint32_t above = a[c] * left + a[c + next] * right, below = b[c] * left + b[c + next] * right;
    to[c] = static_cast<std::uint8_t>((above * upper + below * lower + 0x8000u) >> 16);
  }
}

// Every pixel of the result from the tile that its place on the canvas belongs to: the one left of `across` or not,
// above `down` or not, where there are four.
OCELLUS_FN void draw_tiles(std::span<const Tile> tiles, double across, double down, const Mapping& to_canvas,
                           Colour fill, Image& result) {
  std::uint8_t* to = result.writable();
  const bool straight = to_canvas[6] == 0 && to_canvas[7] == 0;
  const double norm = 1 / to_canvas[8];
  for (Index y = 0; y < result.height(); ++y) {
    const double py = static_cast<double>(y) + 0.5;
    for (Index x = 0; x < result.width(); ++x, to += 3) {
      const double px = static_cast<double>(x) + 0.5;
      const double w = straight ? norm : 1 / (to_canvas[6] * px + to_canvas[7] * py + to_canvas[8]);
      const double canvas_x = (to_canvas[0] * px + to_canvas[1] * py + to_canvas[2]) * w;
      const double canvas_y = (to_canvas[3] * px + to_canvas[4] * py + to_canvas[5]) * w;
      const std::size_t which = tiles.size() == 1 ? 0 : (canvas_x >= across ? 1u : 0u) + (canvas_y >= down ? 2u : 0u);
      const Tile& tile = tiles[which];
      const double tile_x = (canvas_x - tile.left) * tile.per_pixel, tile_y = (canvas_y - tile.top) * tile.per_pixel;
      const bool inside = tile_x >= 0 && tile_y >= 0 && tile_x < static_cast<double>(tile.image.width()) &&
                          tile_y < static_cast<double>(tile.image.height());
      if (inside) {
        sample_bilinear(tile.image, tile_x, tile_y, to);
      } else {
        to[0] = fill.red;
        to[1] = fill.green;
        to[2] = fill.blue;
      }
    }
  }
}

struct Movement {
  Mapping mapping;  // canvas to result
  double scale;
};

OCELLUS_FN Movement random_movement(const DetectionAugmentation& o, Size2 canvas, RandomStream& random) {
  constexpr double radians = 3.14159265358979323846 / 180.0;
  const auto within = [&](float most) { return static_cast<double>(random.uniform(-most, most)); };
  const double perspective_x = within(o.perspective), perspective_y = within(o.perspective);
  const double angle = within(o.degrees) * radians, scale = 1.0 + within(o.scale);
  const double shear_x = std::tan(within(o.shear) * radians), shear_y = std::tan(within(o.shear) * radians);
  const double move_x = (0.5 + within(o.translate)) * static_cast<double>(o.size.w);
  const double move_y = (0.5 + within(o.translate)) * static_cast<double>(o.size.h);
  const double cosine = scale * std::cos(angle), sine = scale * std::sin(angle);
  const Mapping centre = {1, 0, -static_cast<double>(canvas.w) / 2, 0, 1, -static_cast<double>(canvas.h) / 2, 0, 0, 1};
  const Mapping perspective = {1, 0, 0, 0, 1, 0, perspective_x, perspective_y, 1};
  const Mapping turn = {cosine, sine, 0, -sine, cosine, 0, 0, 0, 1};
  const Mapping slant = {1, shear_x, 0, shear_y, 1, 0, 0, 0, 1};
  const Mapping move = {1, 0, move_x, 0, 1, move_y, 0, 0, 1};
  return {after(move, after(slant, after(turn, after(perspective, centre)))), scale};
}

// The smallest upright box around the four corners of another; empty (reversed) where the mapping folds the plane.
OCELLUS_FN Box mapped(const Box& box, const Mapping& m) {
  double x1 = 1e30, y1 = 1e30, x2 = -1e30, y2 = -1e30;
  for (const float x : {box.x1, box.x2}) {
    for (const float y : {box.y1, box.y2}) {
      const double px = static_cast<double>(x), py = static_cast<double>(y), w = m[6] * px + m[7] * py + m[8];
      if (!(w > 1e-6)) return {1, 1, 0, 0};
      const double moved_x = (m[0] * px + m[1] * py + m[2]) / w, moved_y = (m[3] * px + m[4] * py + m[5]) / w;
      x1 = std::min(x1, moved_x);
      y1 = std::min(y1, moved_y);
      x2 = std::max(x2, moved_x);
      y2 = std::max(y2, moved_y);
    }
  }
  return {static_cast<float>(x1), static_cast<float>(y1), static_cast<float>(x2), static_cast<float>(y2)};
}

// Whether enough is left of a box that had this area before it was moved.
OCELLUS_FN bool is_worth_keeping(const Box& box, float area_before) {
  constexpr float least_side = 2, least_share = 0.1f, most_aspect = 100, tiny = 1e-16f;
  const float width = box.x2 - box.x1, height = box.y2 - box.y1;
  return width > least_side && height > least_side && width * height > least_share * area_before &&
         std::max(width / (height + tiny), height / (width + tiny)) < most_aspect;
}

}  // namespace vision_detail

OCELLUS_FN BoxedImage place_pictures(std::span<const BoxedImage> pictures, const DetectionAugmentation& options,
                                     RandomStream& random) {
  using namespace vision_detail;
  if (pictures.size() != 1 && pictures.size() != 4) {
    throw UsageError("place_pictures: takes one picture or four; got " + std::to_string(pictures.size()));
  }
  check_image_size("place_pictures", options.size, 3);
  const bool mosaic = pictures.size() == 4;
  const Size2 size = options.size, canvas = mosaic ? Size2(2 * size.h, 2 * size.w) : size;
  // The four meet somewhere in the middle half of the canvas.
  const auto meeting = [&](Index side) {
    return std::round(static_cast<double>(side) * (0.5 + static_cast<double>(random.uniform())));
  };
  const double across = mosaic ? meeting(size.w) : 0, down = mosaic ? meeting(size.h) : 0;
  const Movement movement = random_movement(options, canvas, random);

  std::vector<Tile> tiles;
  BoxedImage result;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const Image& image = pictures[i].image;
    if (image.empty()) throw UsageError("place_pictures: a picture is empty");
    const double fit = std::min(static_cast<double>(size.h) / static_cast<double>(image.height()),
                                static_cast<double>(size.w) / static_cast<double>(image.width()));
    const double width = fit * static_cast<double>(image.width()), height = fit * static_cast<double>(image.height());
    Tile tile{image.to_rgb()};
    tile.left = !mosaic ? (static_cast<double>(size.w) - width) / 2 : i % 2 == 0 ? across - width : across;
    tile.top = !mosaic ? (static_cast<double>(size.h) - height) / 2 : i < 2 ? down - height : down;
    tile.per_pixel = 1 / fit;
    while (tile.per_pixel > 2 * movement.scale && tile.image.width() > 1 && tile.image.height() > 1) {
      tile.image = halved(tile.image);
      tile.per_pixel /= 2;
    }
    for (const ObjectBox& object : pictures[i].boxes) {
      const auto on_canvas = [&](float v, double begin) {
        return static_cast<float>(static_cast<double>(v) * fit + begin);
      };
      const Box there = clipped(Box{on_canvas(object.box.x1, tile.left), on_canvas(object.box.y1, tile.top),
                                 on_canvas(object.box.x2, tile.left), on_canvas(object.box.y2, tile.top)},
                                canvas);
      const Box moved = clipped(mapped(there, movement.mapping), size);
      const auto area = [](const Box& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); };
      if (!is_worth_keeping(moved, area(there) * static_cast<float>(movement.scale * movement.scale))) continue;
      ObjectBox kept = object;
      kept.box = moved;
      kept.area = area(moved);
      result.boxes.push_back(kept);
    }
    tiles.push_back(std::move(tile));
  }
  result.image = uninitialised(size, 3);
  draw_tiles(tiles, across, down, inverse(movement.mapping), options.fill, result.image);
  return result;
}

OCELLUS_FN void adjust_hsv(Image& image, float turn, float saturation, float value) {
  if (image.channels() == 1) return;
  std::uint8_t* pixel = image.writable();
  const float steps = 6 * (turn - std::floor(turn));  // sextants
  for (Index i = 0; i < image.height() * image.width(); ++i, pixel += 3) {
    const int r = pixel[0], g = pixel[1], b = pixel[2];
    const int most = std::max({r, g, b}), range = most - std::min({r, g, b});
    const float v = std::min(static_cast<float>(most) * value, 255.0f);
    if (range == 0) {
      pixel[0] = pixel[1] = pixel[2] = static_cast<std::uint8_t>(v + 0.5f);
      continue;
    }
    const float inverse = 1.0f / static_cast<float>(range);
    float hue = r == most   ? static_cast<float>(g - b) * inverse
                : g == most ? static_cast<float>(b - r) * inverse + 2
                            : static_cast<float>(r - g) * inverse + 4;
    hue += hue < 0 ? 6 + steps : steps;
    const float chroma = v * std::min(static_cast<float>(range) / static_cast<float>(most) * saturation, 1.0f);
    // A channel is at full value within one sextant of its own hue, at its lowest from two on.
    const auto level = [&](float own) {
      float distance = hue + own;
      if (distance >= 12) distance -= 12;
      if (distance >= 6) distance -= 6;
      const float share = std::clamp(std::min(distance, 4 - distance), 0.0f, 1.0f);
      return static_cast<std::uint8_t>(v - chroma * share + 0.5f);
    };
    pixel[0] = level(5);
    pixel[1] = level(3);
    pixel[2] = level(1);
  }
}

OCELLUS_FN BoxedImage colour_and_flip(BoxedImage picture, const DetectionAugmentation& options, RandomStream& random) {
  if (picture.image.empty()) throw UsageError("colour_and_flip: the picture is empty");
  const float turn = random.uniform(-options.hue, options.hue);
  const float saturation = 1 + random.uniform(-options.saturation, options.saturation);
  const float value = 1 + random.uniform(-options.value, options.value);
  if (options.hue > 0 || options.saturation > 0 || options.value > 0) {
    adjust_hsv(picture.image, turn, std::max(saturation, 0.0f), std::max(value, 0.0f));
  }
  const bool across = random.bernoulli(options.horizontal_flip), down = random.bernoulli(options.vertical_flip);
  if (!across && !down) return picture;
  picture.image = upright(picture.image, across && down ? 3 : across ? 2 : 4);
  const auto width = static_cast<float>(picture.image.width()), height = static_cast<float>(picture.image.height());
  for (ObjectBox& object : picture.boxes) {
    const Box b = object.box;
    if (across) object.box.x1 = width - b.x2, object.box.x2 = width - b.x1;
    if (down) object.box.y1 = height - b.y2, object.box.y2 = height - b.y1;
  }
  return picture;
}

OCELLUS_FN BoxedImage mix(const BoxedImage& a, const BoxedImage& b, RandomStream& random) {
  if (!(a.image.size() == b.image.size()) || a.image.channels() != b.image.channels() || a.image.empty()) {
    throw UsageError("mix: the pictures differ in size: " + a.image.size().str() + " and " + b.image.size().str());
  }
  // The 32nd smallest of 63 uniform numbers is distributed as Beta(32, 32).
  float draws[63];
  for (float& draw : draws) draw = random.uniform();
  std::nth_element(draws, draws + 31, draws + 63);
  const auto share = static_cast<int>(draws[31] * 256.0f);
  BoxedImage result{a.image.packed(), a.boxes};
  const Image other = b.image.packed();
  std::uint8_t* to = result.image.writable();
  const std::uint8_t* from = other.data();
  for (Index i = 0; i < other.height() * other.stride(); ++i) {
    to[i] = static_cast<std::uint8_t>((to[i] * share + from[i] * (256 - share) + 128) >> 8);
  }
  result.boxes.insert(result.boxes.end(), b.boxes.begin(), b.boxes.end());
  return result;
}

}  // namespace ocellus
#endif
