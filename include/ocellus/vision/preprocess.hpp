// From pictures to the tensor that a model eats. The fields are those of Hugging Face's preprocessor_config.json (image
// processors of SegFormer and ViT); values agree with them bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <ocellus/core/tensor.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/resize.hpp>

namespace ocellus {

enum class ResizePolicy : std::uint8_t {
  none,           // pictures keep their size
  stretch,        // to `size`, whatever the proportions
  shortest_edge,  // the shorter side becomes `shortest_edge`, proportions stay
  letterbox,      // the largest fit into `size`, proportions stay, the rest is padding
};

struct Preprocess {
  ResizePolicy resize = ResizePolicy::stretch;
  Size2 size = 224;
  Index shortest_edge = 256;
  Filter filter = Filter::bilinear;
  bool do_center_crop = false;  // after the resize; black where the picture is smaller
  Size2 crop_size = 224;
  bool do_rescale = true;
  double rescale_factor = 1.0 / 255.0;
  bool do_normalize = true;  // (x - mean) / std per channel, after the rescale
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};
  std::array<float, 3> std = {0.229f, 0.224f, 0.225f};
  bool flip_channel_order = false;  // the model wants blue first; mean and std stay in the order of the output
  std::uint8_t pad_value = 114;     // of the letterbox
  bool letterbox_may_enlarge = true;
};

// Where a letterbox put the picture: letterboxed = original * scale + pad, per axis, since sizes are whole numbers.
struct Letterbox {
  Size2 original;  // of the picture as it was,
  Size2 scaled;    // and of what became of it, without its padding
  Index pad_left = 0, pad_top = 0;

  double scale_x() const { return static_cast<double>(scaled.w) / static_cast<double>(original.w); }
  double scale_y() const { return static_cast<double>(scaled.h) / static_cast<double>(original.h); }
  double to_original_x(double x) const { return (x - static_cast<double>(pad_left)) / scale_x(); }
  double to_original_y(double y) const { return (y - static_cast<double>(pad_top)) / scale_y(); }

  Box to_letterbox(const Box& b) const {
    const float sx = static_cast<float>(scale_x()), sy = static_cast<float>(scale_y());
    const float x = static_cast<float>(pad_left), y = static_cast<float>(pad_top);
    return {b.x1 * sx + x, b.y1 * sy + y, b.x2 * sx + x, b.y2 * sy + y};
  }
  // Cut off at the edges of the original picture; in float, as Ultralytics' YOLO computes it.
  Box to_original(const Box& b) const {
    const float sx = static_cast<float>(scale_x()), sy = static_cast<float>(scale_y());
    const float x = static_cast<float>(pad_left), y = static_cast<float>(pad_top);
    return clipped(Box{(b.x1 - x) / sx, (b.y1 - y) / sy, (b.x2 - x) / sx, (b.y2 - y) / sy}, original);
  }
};

// The placement that Ultralytics' YOLO uses: centred, sizes rounded half to even, an odd row or column of padding goes
// to the end.
Letterbox letterbox_of(Size2 original, Size2 target, bool may_enlarge = true);
Image letterbox(const Image& image, Index height, Index width, std::uint8_t pad_value = 114, bool may_enlarge = true,
                Filter filter = Filter::bilinear_two_taps);

// A copy of boxes (..., 4) of a letterboxed picture in which those that share no area with the original, because they
// lie in the padding or are flat, are NaN: suppression leaves these out. Throws ShapeError.
Tensor without_padding(const Tensor& boxes, const Letterbox& placement);

// Where prepare() puts a picture. Throws UsageError for what crops: boxes outside of the crop would be lost.
Letterbox placement_of(const Preprocess& options, Size2 original);

// The picture resized and cropped, still 8-bit RGB: what is left for to_tensor is arithmetic.
Image prepare(const Image& image, const Preprocess& options);

// (N, H, W, channels), 3 channels or 1. Grey pictures are replicated; one channel is the luminance (ITU-R 601, as
// Pillow's "L"), with the first of mean and std. Throws UsageError if the prepared pictures differ in size, or for none
// at all.
Tensor to_tensor(std::span<const Image> images, const Preprocess& options = {}, Index channels = 3);
inline Tensor to_tensor(const Image& image, const Preprocess& options = {}, Index channels = 3) {
  return to_tensor(std::span(&image, 1), options, channels);
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/vision/geometry.hpp>

namespace ocellus {
namespace vision_detail {

OCELLUS_FN Size2 shortest_edge_size(Size2 size, Index edge) {
  const Index shorter = std::min(size.h, size.w), longer = std::max(size.h, size.w);
  const Index scaled = std::max<Index>(1, edge * longer / shorter);
  return size.h <= size.w ? Size2(edge, scaled) : Size2(scaled, edge);
}

// What each of the 256 sample values becomes. Double and float alternate as they do in the reference.
using ValueTable = std::array<std::array<float, 256>, 3>;

OCELLUS_FN ValueTable value_table(const Preprocess& options) {
  ValueTable table;
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t v = 0; v < 256; ++v) {
      float x = static_cast<float>(v);
      if (options.do_rescale) x = static_cast<float>(static_cast<double>(v) * options.rescale_factor);
      if (options.do_normalize) x = (x - options.mean[c]) / options.std[c];
      table[c][v] = x;
    }
  }
  return table;
}

}  // namespace vision_detail

OCELLUS_FN Letterbox letterbox_of(Size2 original, Size2 target, bool may_enlarge) {
  vision_detail::check_image_size("letterbox", original, 3);
  vision_detail::check_image_size("letterbox", target, 3);
  const auto ratio = [](Index to, Index from) { return static_cast<double>(to) / static_cast<double>(from); };
  Letterbox box;
  box.original = original;
  double scale = std::min(ratio(target.h, original.h), ratio(target.w, original.w));
  if (!may_enlarge) scale = std::min(scale, 1.0);
  const auto scaled = [&](Index side) { return std::max<Index>(1, std::llrint(static_cast<double>(side) * scale)); };
  box.scaled = {scaled(original.h), scaled(original.w)};
  box.pad_top = (target.h - box.scaled.h) / 2;
  box.pad_left = (target.w - box.scaled.w) / 2;
  return box;
}

OCELLUS_FN Image letterbox(const Image& image, Index height, Index width, std::uint8_t pad_value, bool may_enlarge,
                           Filter filter) {
  const Letterbox box = letterbox_of(image.size(), {height, width}, may_enlarge);
  const Image scaled = resize(image, box.scaled.h, box.scaled.w, filter);
  return crop(scaled, -box.pad_top, -box.pad_left, {height, width}, {pad_value, pad_value, pad_value});
}

OCELLUS_FN Tensor without_padding(const Tensor& boxes, const Letterbox& placement) {
  if (boxes.rank() < 1 || boxes.dim(-1) != 4)
    throw ShapeError("without_padding: boxes must be (..., 4); got " + boxes.shape().str());
  const Tensor result = boxes.clone();
  for (float* v = result.begin(); v != result.end(); v += 4) {
    const Box inside = placement.to_original({v[0], v[1], v[2], v[3]});
    if (!(inside.width() > 0 && inside.height() > 0)) std::fill_n(v, 4, std::numeric_limits<float>::quiet_NaN());
  }
  return result;
}

OCELLUS_FN Letterbox placement_of(const Preprocess& options, Size2 original) {
  if (options.do_center_crop) throw UsageError("placement_of: boxes need the whole picture; this preprocessing crops it");
  switch (options.resize) {
    case ResizePolicy::letterbox: return letterbox_of(original, options.size, options.letterbox_may_enlarge);
    case ResizePolicy::stretch: return {original, options.size};
    case ResizePolicy::shortest_edge: return {original, vision_detail::shortest_edge_size(original, options.shortest_edge)};
    case ResizePolicy::none: break;
  }
  return {original, original};
}

OCELLUS_FN Image prepare(const Image& image, const Preprocess& options) {
  const auto limited = [](Size2 size) {
    if (size.h * size.w > Limits{}.image_pixels) {
      throw UsageError("prepare: the preprocessing asks for " + size.str() + " pixels; at most " +
                       std::to_string(Limits{}.image_pixels) + " are made");
    }
    return size;
  };
  if (options.resize == ResizePolicy::stretch || options.resize == ResizePolicy::letterbox) limited(options.size);
  if (options.do_center_crop) limited(options.crop_size);
  Image result = image.packed();
  switch (options.resize) {
    case ResizePolicy::none: break;
    case ResizePolicy::stretch: result = resize(result, options.size.h, options.size.w, options.filter); break;
    case ResizePolicy::shortest_edge: {
      const Size2 size = limited(vision_detail::shortest_edge_size(image.size(), options.shortest_edge));
      result = resize(result, size.h, size.w, options.filter);
      break;
    }
    case ResizePolicy::letterbox:
      result = letterbox(result, options.size.h, options.size.w, options.pad_value, options.letterbox_may_enlarge,
                         options.filter);
      break;
  }
  if (options.do_center_crop) {
    const auto half_down = [](Index x) { return (x - (x < 0 && x % 2 != 0)) / 2; };
    result = crop(result, half_down(result.height() - options.crop_size.h),
                  half_down(result.width() - options.crop_size.w), options.crop_size);
  }
  return result.channels() == 3 ? result : result.to_rgb();
}

OCELLUS_FN Tensor to_tensor(std::span<const Image> images, const Preprocess& options, Index channels) {
  if (channels != 1 && channels != 3)
    throw UsageError("to_tensor: a picture gives 1 or 3 channels; " + std::to_string(channels) + " were asked for");
  if (images.empty()) throw UsageError("to_tensor: no images");
  std::vector<Image> prepared;
  for (const Image& image : images) {
    if (image.empty()) throw UsageError("to_tensor: image " + std::to_string(prepared.size()) + " is empty");
    prepared.push_back(prepare(image, options));
    if (!(prepared.back().size() == prepared.front().size())) {
      throw UsageError("to_tensor: image " + std::to_string(prepared.size() - 1) + " has " +
                       prepared.back().size().str() + " pixels after resizing, the first one " +
                       prepared.front().size().str() +
                       "; a batch has one size: use ResizePolicy::stretch or letterbox, or do_center_crop");
    }
  }
  const Size2 size = prepared.front().size();
  const Tensor result{AnyTensor(Spec{{static_cast<Index>(images.size()), size.h, size.w, channels}, DType::f32})};
  const vision_detail::ValueTable table = vision_detail::value_table(options);
  const Index red = options.flip_channel_order ? 2 : 0, blue = 2 - red;
  float* values = result.data();
  constexpr Index grain_pixels = 1 << 14;
  parallel_for(static_cast<Index>(images.size()) * size.h, std::max<Index>(1, grain_pixels / size.w),
               [&](Index begin, Index end) {
                 for (Index y = begin; y < end; ++y) {
                   const std::uint8_t* from = prepared[static_cast<std::size_t>(y / size.h)].row(y % size.h);
                   float* to = values + y * size.w * channels;
                   if (channels == 1) {
                     for (Index x = 0; x < size.w; ++x, from += 3)
                       to[x] = table[0][(19595u * from[0] + 38470u * from[1] + 7471u * from[2] + 0x8000u) >> 16];
                     continue;
                   }
                   for (Index x = 0; x < size.w; ++x, from += 3, to += 3) {
                     to[0] = table[0][from[red]];
                     to[1] = table[1][from[1]];
                     to[2] = table[2][from[blue]];
                   }
                 }
               });
  return result;
}

}  // namespace ocellus
#endif
