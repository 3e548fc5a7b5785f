// Brightness and hue of 8-bit colours, with the rounding of Pillow, on which torchvision's jitter is defined.
#pragma once

#include <cstdint>

#include <ocellus/core/config.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>

namespace ocellus {

// ITU-R BT.601 luma in 16-bit fixed point, 0 to 255.
inline std::uint8_t luminance(Colour c) {
  return static_cast<std::uint8_t>((c.red * 19595u + c.green * 38470u + c.blue * 7471u + 0x8000u) >> 16);
}

// Hue, saturation and value, each 0 to 255; 256 steps of hue are the full circle, red is 0.
struct Hsv {
  std::uint8_t hue = 0, saturation = 0, value = 0;
  friend bool operator==(const Hsv&, const Hsv&) = default;
};

// Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978.
Hsv to_hsv(Colour c);
Colour to_rgb(Hsv c);

// One channel of luminance; a grey image comes back as it is.
Image to_grey(const Image& image);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>

namespace ocellus {

OCELLUS_FN Hsv to_hsv(Colour c) {
  const int most = std::max({c.red, c.green, c.blue}), least = std::min({c.red, c.green, c.blue});
  if (most == least) return {0, 0, static_cast<std::uint8_t>(most)};
  const float range = static_cast<float>(most - least);
  const float red = static_cast<float>(most - c.red) / range;
  const float green = static_cast<float>(most - c.green) / range;
  const float blue = static_cast<float>(most - c.blue) / range;
  const float sextant = c.red == most     ? blue - green
                        : c.green == most ? static_cast<float>(2.0 + red - blue)
                                          : static_cast<float>(4.0 + green - red);
  const auto turn = static_cast<float>(std::fmod(sextant / 6.0 + 1.0, 1.0));
  const float saturation = range / static_cast<float>(most);
  return {static_cast<std::uint8_t>(static_cast<int>(turn * 255.0)),
          static_cast<std::uint8_t>(static_cast<int>(saturation * 255.0)), static_cast<std::uint8_t>(most)};
}

OCELLUS_FN Colour to_rgb(Hsv c) {
  if (c.saturation == 0) return {c.value, c.value, c.value};
  const double sextants = c.hue * 6.0 / 255.0, sextant = std::floor(sextants);
  const auto within = static_cast<float>(sextants - sextant);
  const float saturation = static_cast<float>(c.saturation / 255.0);
  const auto level = [&](double share) {
    const double x = std::round(c.value * (1.0 - share));
    return static_cast<std::uint8_t>(std::clamp(x, 0.0, 255.0));
  };
  const std::uint8_t low = level(saturation);
  const std::uint8_t falling = level(saturation * within);
  const std::uint8_t rising = level(saturation * (1.0 - within));
  switch (static_cast<int>(sextant) % 6) {
    case 0: return {c.value, rising, low};
    case 1: return {falling, c.value, low};
    case 2: return {low, c.value, rising};
    case 3: return {low, falling, c.value};
    case 4: return {rising, low, c.value};
    default: return {c.value, low, falling};
  }
}

OCELLUS_FN Image to_grey(const Image& image) {
  const Image source = image.packed();
  if (source.empty() || source.channels() == 1) return source;
  Image result = vision_detail::uninitialised(source.size(), 1);
  std::uint8_t* to = result.writable();
  const std::uint8_t* from = source.data();
  for (Index i = 0; i < source.height() * source.width(); ++i, from += 3)
    to[i] = luminance({from[0], from[1], from[2]});
  return result;
}

}  // namespace ocellus
#endif
