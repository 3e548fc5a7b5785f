// Random variations of a picture and its label mask, always in step. Each is a plain struct that draws from a
// RandomStream: the same stream makes the same choices on every platform. The mask is moved by copying pixels, so no
// class is invented; where a picture is padded, its mask gets `ignore_id`. `mask` may be null. Throws UsageError if
// mask and picture differ in size.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include <ocellus/runtime/random.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/resize.hpp>

namespace ocellus {

struct RandomHorizontalFlip {
  float probability = 0.5f;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// Quarter turns, each of the four equally likely, with this probability.
struct RandomRotate90 {
  float probability = 0.5f;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// A turn of up to `degrees` to either side.
struct RandomRotation {
  float degrees = 10.0f;
  float probability = 0.5f;
  Colour fill = {};
  std::uint8_t ignore_id = 255;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// Scales both sides by one factor and cuts a window out, which may hang over the picture: by `padding` pixels, and as
// far as needed where the picture is smaller than the window.
// CIFAR's usual crop is {.size = 32, .min_scale = 1, .max_scale = 1, .padding = 4}.
struct RandomScaleCrop {
  Size2 size = 512;
  float min_scale = 0.5f;
  float max_scale = 2.0f;
  Index padding = 0;
  Filter filter = Filter::bilinear;
  Colour fill = {};
  std::uint8_t ignore_id = 255;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// A window of random area and proportions, resized (Szegedy et al., "Going Deeper with Convolutions", 2015, section 6).
struct RandomResizedCrop {
  Size2 size = 224;
  float min_area = 0.08f;  // share of the picture
  float max_area = 1.0f;
  float max_aspect = 4.0f / 3.0f;  // width to height, from its inverse on
  Filter filter = Filter::bilinear;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// As torchvision's ColorJitter: brightness, contrast and saturation are multiplied by a factor from
// [max(0, 1 - x), 1 + x], hue is turned by up to `hue` (at most 0.5) of the circle, in random order. Grey pictures have
// no saturation and no hue.
struct ColourJitter {
  float brightness = 0.2f;
  float contrast = 0.2f;
  float saturation = 0.2f;
  float hue = 0.0f;

  void operator()(Image& image, Image* mask, RandomStream& random) const;
};

// What ColourJitter is made of. Factor 1 and shift 0 change nothing; factor 0 gives black, the mean grey, a grey
// picture.
Image adjust_brightness(const Image& image, float factor);
Image adjust_contrast(const Image& image, float factor);
Image adjust_saturation(const Image& image, float factor);
Image adjust_hue(const Image& image, float shift);

using Augmentation = std::variant<RandomHorizontalFlip, RandomRotate90, RandomRotation, RandomScaleCrop,
                                  RandomResizedCrop, ColourJitter>;

// One after the other.
void augment(std::span<const Augmentation> steps, Image& image, Image* mask, RandomStream& random);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/vision/colour.hpp>

namespace ocellus {
namespace vision_detail {

OCELLUS_FN void check_mask(const char* where, const Image& image, const Image* mask) {
  if (image.empty()) throw UsageError(std::string(where) + ": the image is empty");
  if (!mask) return;
  if (mask->channels() != 1 || !(mask->size() == image.size())) {
    throw UsageError(std::string(where) + ": the mask must have one channel and the size of the image " +
                     image.size().str() + "; it has " + std::to_string(mask->channels()) + " and " +
                     mask->size().str());
  }
}

OCELLUS_FN Colour label_colour(std::uint8_t id) { return {id, id, id}; }

// first + factor * (second - first), cut off to 0..255. Truncates, as Pillow's blend does.
inline std::uint8_t blend_value(int first, int second, float factor) {
  const auto step =
      static_cast<float>(static_cast<double>(factor) * (second - first));  // rounded here: no fused multiply-add
  return static_cast<std::uint8_t>(std::clamp(static_cast<float>(first) + step, 0.0f, 255.0f));
}

OCELLUS_FN Image blend_with_grey(const Image& image, std::uint8_t grey, float factor) {
  std::uint8_t table[256];
  for (int v = 0; v < 256; ++v) table[v] = blend_value(grey, v, factor);
  Image result = image.packed();
  std::uint8_t* value = result.writable();
  for (Index i = 0; i < result.height() * result.stride(); ++i) value[i] = table[value[i]];
  return result;
}

OCELLUS_FN float jitter_factor(float strength, RandomStream& random) {
  return random.uniform(std::max(0.0f, 1.0f - strength), 1.0f + strength);
}

}  // namespace vision_detail

OCELLUS_FN void RandomHorizontalFlip::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("RandomHorizontalFlip", image, mask);
  if (!random.bernoulli(probability)) return;
  image = mirror(image);
  if (mask) *mask = mirror(*mask);
}

OCELLUS_FN void RandomRotate90::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("RandomRotate90", image, mask);
  const bool wanted = random.bernoulli(probability);
  const int turns = static_cast<int>(random.below(4));
  if (!wanted) return;
  image = rotate90(image, turns);
  if (mask) *mask = rotate90(*mask, turns);
}

OCELLUS_FN void RandomRotation::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("RandomRotation", image, mask);
  const bool wanted = random.bernoulli(probability);
  const float angle = random.uniform(-degrees, degrees);
  if (!wanted) return;
  image = rotate(image, angle, Sampling::bilinear, fill);
  if (mask) *mask = rotate(*mask, angle, Sampling::nearest, vision_detail::label_colour(ignore_id));
}

OCELLUS_FN void RandomScaleCrop::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("RandomScaleCrop", image, mask);
  const float scale = random.uniform(min_scale, max_scale);
  const auto scaled = [&](Index side) { return std::max<Index>(1, std::llround(static_cast<float>(side) * scale)); };
  const Size2 whole = {scaled(image.height()), scaled(image.width())};
  const auto corner = [&](Index side, Index window) {
    const Index slack = side + 2 * padding - window;
    return (slack >= 0 ? random.below(slack + 1) : -random.below(1 - slack)) - padding;
  };
  const Index top = corner(whole.h, size.h), left = corner(whole.w, size.w);
  image = crop(resize(image, whole.h, whole.w, filter), top, left, size, fill);
  if (!mask) return;
  *mask = resize(*mask, whole.h, whole.w, Filter::nearest);
  *mask = crop(*mask, top, left, size, vision_detail::label_colour(ignore_id));
}

OCELLUS_FN void RandomResizedCrop::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("RandomResizedCrop", image, mask);
  constexpr int attempts = 10;
  const auto height = static_cast<float>(image.height()), width = static_cast<float>(image.width());
  const float shorter = std::min(height, width);
  Size2 window = static_cast<Index>(shorter);  // the largest square, should no attempt fit
  Index top = (image.height() - window.h) / 2, left = (image.width() - window.w) / 2;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const float area = height * width * random.uniform(min_area, max_area);
    const float aspect = std::exp(random.uniform(-std::log(max_aspect), std::log(max_aspect)));
    const Size2 tried = {std::llround(std::sqrt(area / aspect)), std::llround(std::sqrt(area * aspect))};
    if (tried.h < 1 || tried.w < 1 || tried.h > image.height() || tried.w > image.width()) continue;
    window = tried;
    top = random.below(image.height() - window.h + 1);
    left = random.below(image.width() - window.w + 1);
    break;
  }
  image = resize(crop(image, top, left, window), size.h, size.w, filter);
  if (mask) *mask = resize(crop(*mask, top, left, window), size.h, size.w, Filter::nearest);
}

OCELLUS_FN Image adjust_brightness(const Image& image, float factor) {
  return vision_detail::blend_with_grey(image, 0, factor);
}

OCELLUS_FN Image adjust_contrast(const Image& image, float factor) {
  const Image grey = to_grey(image);
  const Index pixels = grey.height() * grey.width();
  std::uint64_t sum = 0;
  for (Index i = 0; i < pixels; ++i) sum += grey.data()[i];
  const double mean = pixels ? static_cast<double>(sum) / static_cast<double>(pixels) : 0.0;
  return vision_detail::blend_with_grey(image, static_cast<std::uint8_t>(mean + 0.5), factor);
}

OCELLUS_FN Image adjust_saturation(const Image& image, float factor) {
  Image result = image.packed();
  if (result.channels() == 1) return result;
  std::uint8_t* pixel = result.writable();
  for (Index i = 0; i < result.height() * result.width(); ++i, pixel += 3) {
    const std::uint8_t grey = luminance({pixel[0], pixel[1], pixel[2]});
    for (int c = 0; c < 3; ++c) pixel[c] = vision_detail::blend_value(grey, pixel[c], factor);
  }
  return result;
}

OCELLUS_FN Image adjust_hue(const Image& image, float shift) {
  Image result = image.packed();
  if (result.channels() == 1) return result;
  const int steps = static_cast<int>(shift * 255.0f);
  std::uint8_t* pixel = result.writable();
  for (Index i = 0; i < result.height() * result.width(); ++i, pixel += 3) {
    Hsv colour = to_hsv({pixel[0], pixel[1], pixel[2]});
    colour.hue = static_cast<std::uint8_t>(colour.hue + steps);
    const Colour turned = to_rgb(colour);
    pixel[0] = turned.red;
    pixel[1] = turned.green;
    pixel[2] = turned.blue;
  }
  return result;
}

OCELLUS_FN void ColourJitter::operator()(Image& image, Image* mask, RandomStream& random) const {
  vision_detail::check_mask("ColourJitter", image, mask);
  int order[4] = {0, 1, 2, 3};
  random.shuffle(order, 4);
  const float factors[4] = {vision_detail::jitter_factor(brightness, random),
                            vision_detail::jitter_factor(contrast, random),
                            vision_detail::jitter_factor(saturation, random), random.uniform(-hue, hue)};
  Image (*const adjust[4])(const Image&, float) = {adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue};
  const float strengths[4] = {brightness, contrast, saturation, hue};
  for (const int i : order) {
    if (strengths[i] > 0) image = adjust[i](image, factors[i]);
  }
}

OCELLUS_FN void augment(std::span<const Augmentation> steps, Image& image, Image* mask, RandomStream& random) {
  for (const Augmentation& step : steps) {
    std::visit([&](const auto& s) { s(image, mask, random); }, step);
  }
}

}  // namespace ocellus
#endif
