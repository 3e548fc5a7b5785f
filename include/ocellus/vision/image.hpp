// Image: 8-bit interleaved pixels, RGB or grey, of its own or a view over the caller's memory. Also a label mask: one
// channel whose value is the class id.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <ocellus/core/shape.hpp>

namespace ocellus {

// What the bytes of a pixel mean. Alpha is never used: to_rgb() drops it, as Pillow's convert("RGB") does.
enum class PixelOrder : std::uint8_t { grey, rgb, bgr, rgba, bgra };

constexpr Index bytes_per_pixel(PixelOrder order) {
  return order == PixelOrder::grey ? 1 : order == PixelOrder::rgb || order == PixelOrder::bgr ? 3 : 4;
}

// Copies share pixels; writable() makes them the image's own first, so nobody sees another's changes. Distinct images
// may be used by distinct threads.
class Image {
 public:
  Image() = default;

  // Packed pixels of its own, grey for one channel and RGB for three, filled with `value`. Throws UsageError.
  Image(Size2 size, Index channels, std::uint8_t value = 0);

  // The caller's pixels, top row first, rows `stride_bytes` apart (at least width * bytes_per_pixel). They are not
  // copied and must outlive the image and its copies. Throws UsageError.
  static Image view(const std::uint8_t* pixels, Index width, Index height, Index stride_bytes, PixelOrder order);

  // Packed pixels that are handed over: size.h * size.w * channels bytes, grey or RGB.
  static Image own(std::shared_ptr<std::uint8_t[]> pixels, Size2 size, Index channels);

  bool empty() const { return data_ == nullptr; }
  Index width() const { return size_.w; }
  Index height() const { return size_.h; }
  Size2 size() const { return size_; }
  // 1 for grey, 3 for every colour order: what packed() and to_rgb() give.
  Index channels() const { return order_ == PixelOrder::grey ? 1 : 3; }
  PixelOrder order() const { return order_; }
  // Bytes from one row to the next.
  Index stride() const { return stride_; }

  const std::uint8_t* data() const { return data_; }
  const std::uint8_t* row(Index y) const { return data_ + y * stride_; }
  // The first byte of a pixel.
  const std::uint8_t* at(Index y, Index x) const { return row(y) + x * bytes_per_pixel(order_); }

  // Grey or RGB without gaps between rows.
  bool is_packed() const {
    return (order_ == PixelOrder::grey || order_ == PixelOrder::rgb) && stride_ == size_.w * bytes_per_pixel(order_);
  }
  // Packed grey or RGB; shares the pixels where they are already so.
  Image packed() const;
  // Packed RGB that does not depend on the caller's memory: alpha dropped, grey replicated.
  Image to_rgb() const;
  // The packed pixels, for writing; copied first if they are shared or the caller's.
  std::uint8_t* writable();

 private:
  Image copy_as(PixelOrder order) const;

  std::shared_ptr<std::uint8_t[]> pixels_;  // null for a view
  const std::uint8_t* data_ = nullptr;
  Size2 size_;
  Index stride_ = 0;
  PixelOrder order_ = PixelOrder::rgb;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <atomic>
#include <cstring>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace vision_detail {

OCELLUS_COLD OCELLUS_FN void check_image_size(const char* where, Size2 size, Index channels) {
  if (size.h < 1 || size.w < 1 || size.h > INT32_MAX || size.w > INT32_MAX) {
    throw UsageError(std::string(where) + ": height and width must be from 1 to 2^31 - 1; got " + size.str());
  }
  if (channels != 1 && channels != 3) {
    throw UsageError(std::string(where) + ": an image has 1 channel (grey, labels) or 3 (RGB); got " +
                     std::to_string(channels));
  }
}

}  // namespace vision_detail

OCELLUS_FN Image::Image(Size2 size, Index channels, std::uint8_t value) {
  vision_detail::check_image_size("Image", size, channels);
  const auto bytes = static_cast<std::size_t>(size.h * size.w * channels);
  std::shared_ptr<std::uint8_t[]> pixels(new std::uint8_t[bytes]);
  std::memset(pixels.get(), value, bytes);
  *this = own(std::move(pixels), size, channels);
}

OCELLUS_FN Image Image::view(const std::uint8_t* pixels, Index width, Index height, Index stride_bytes,
                             PixelOrder order) {
  vision_detail::check_image_size("Image::view", {height, width}, 3);
  if (!pixels) throw UsageError("Image::view: the pixels are a null pointer");
  const Index least = width * bytes_per_pixel(order);
  if (stride_bytes < least) {
    throw UsageError("Image::view: a row of " + std::to_string(width) + " pixels has " + std::to_string(least) +
                     " bytes, the stride is " + std::to_string(stride_bytes));
  }
  Image image;
  image.data_ = pixels;
  image.size_ = {height, width};
  image.stride_ = stride_bytes;
  image.order_ = order;
  return image;
}

OCELLUS_FN Image Image::own(std::shared_ptr<std::uint8_t[]> pixels, Size2 size, Index channels) {
  vision_detail::check_image_size("Image::own", size, channels);
  Image image =
      view(pixels.get(), size.w, size.h, size.w * channels, channels == 1 ? PixelOrder::grey : PixelOrder::rgb);
  image.pixels_ = std::move(pixels);
  return image;
}

OCELLUS_FN Image Image::packed() const {
  if (empty() || is_packed()) return *this;
  return copy_as(channels() == 1 ? PixelOrder::grey : PixelOrder::rgb);
}

OCELLUS_FN Image Image::to_rgb() const {
  if (empty() || (pixels_ && order_ == PixelOrder::rgb)) return *this;
  return copy_as(PixelOrder::rgb);
}

OCELLUS_FN std::uint8_t* Image::writable() {
  if (empty()) throw UsageError("Image::writable: the image is empty");
  if (!pixels_ || pixels_.use_count() > 1) *this = copy_as(channels() == 1 ? PixelOrder::grey : PixelOrder::rgb);
  std::atomic_thread_fence(std::memory_order_acquire);  // after the reads of a copy that another thread just gave up
  return pixels_.get();
}

OCELLUS_FN Image Image::copy_as(PixelOrder order) const {
  const Index channels = bytes_per_pixel(order);
  std::shared_ptr<std::uint8_t[]> pixels(new std::uint8_t[static_cast<std::size_t>(size_.h * size_.w * channels)]);
  const Index step = bytes_per_pixel(order_);
  const bool swapped = order_ == PixelOrder::bgr || order_ == PixelOrder::bgra;
  const Index red = swapped ? 2 : 0, green = step == 1 ? 0 : 1, blue = step == 1 || swapped ? 0 : 2;
  for (Index y = 0; y < size_.h; ++y) {
    const std::uint8_t* from = row(y);
    std::uint8_t* to = pixels.get() + y * size_.w * channels;
    if (order_ == order) {
      std::memcpy(to, from, static_cast<std::size_t>(size_.w * channels));
      continue;
    }
    for (Index x = 0; x < size_.w; ++x, from += step, to += 3) {
      to[0] = from[red];
      to[1] = from[green];
      to[2] = from[blue];
    }
  }
  return own(std::move(pixels), size_, channels);
}

}  // namespace ocellus
#endif
