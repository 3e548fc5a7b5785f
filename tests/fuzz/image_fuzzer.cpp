// Any bytes as a picture, a label mask and an EXIF block: a result or a FileError, never a crash, a hang or more memory
// than the limits allow.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/vision/exif.hpp>
#include <ocellus/vision/image_file.hpp>

namespace {

using Data = std::vector<std::uint8_t>;

void decode(const Data& data) {
  ocellus::Limits limits;
  limits.image_pixels = 1 << 20;
  for (const bool mask : {false, true}) {
    try {
      const ocellus::Image image =
          mask ? ocellus::decode_mask(data, "input", limits) : ocellus::decode_image(data, "input", limits);
      if (image.height() * image.width() > limits.image_pixels) std::abort();
    } catch (const ocellus::FileError&) {
    }
  }
}

// A changed PNG fails its checksums; with right ones the change reaches the decoder.
bool repair_png_checksums(Data& data) {
  constexpr std::size_t signature_bytes = 8, frame_bytes = 12;
  if (data.size() < signature_bytes || data[0] != 0x89) return false;
  for (std::size_t at = signature_bytes; data.size() - at >= frame_bytes;) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | data[at + i];
    if (length > data.size() - at - frame_bytes) return true;
    const std::uint32_t crc = ocellus::crc32(std::as_bytes(std::span(data).subspan(at + 4, 4 + length)));
    for (std::size_t i = 0; i < 4; ++i) data[at + 8 + length + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
    at += frame_bytes + length;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  Data data(bytes, bytes + size);
  const int orientation = ocellus::exif_orientation(std::as_bytes(std::span(data)));
  if (orientation < 1 || orientation > 8) std::abort();
  decode(data);
  if (repair_png_checksums(data)) decode(data);
  return 0;
}
