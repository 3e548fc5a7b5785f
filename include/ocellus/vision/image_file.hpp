// Pictures in and out of files. PNG, JPEG and BMP are recognised by their first bytes, never by the name, and checked
// before a decoder sees them: size, structure, checksums, whether the data can fill the picture at all. Anything else
// is refused by name. Formats: PNG (W3C Recommendation, third edition), JPEG (ITU-T T.81; Adobe's APP14 for four
// colours), BMP (Windows DIB headers).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/vision/image.hpp>

namespace ocellus {

// A picture as a person sees it: EXIF orientation applied, 1 channel if the file is grey, RGB otherwise. Alpha is
// dropped, palettes are expanded, 16-bit samples keep their high byte, CMYK and YCCK JPEGs become RGB without a colour
// profile, as in Pillow. `source` names the bytes in errors. Throws FileError: unknown or unsupported format, damaged
// or truncated data, too many pixels.
Image decode_image(ByteSpan bytes, const std::string& source = "(memory)", const Limits& limits = {});
inline Image decode_image(std::span<const std::uint8_t> bytes, const std::string& source = "(memory)",
                          const Limits& limits = {}) {
  return decode_image(std::as_bytes(bytes), source, limits);
}
Image read_image(const std::string& path, const Limits& limits = {});
// The size that read_image would give, without decoding.
Size2 read_image_size(const std::string& path, const Limits& limits = {});

// A label mask: one channel, value = class id, exactly the samples that the PNG stores: grey levels, or palette indices
// (as Pascal VOC does); depths below 8 bits are not scaled. Throws FileError for what has no class ids: JPEG, BMP,
// colour, alpha, 16 bits.
Image decode_mask(ByteSpan bytes, const std::string& source = "(memory)", const Limits& limits = {});
inline Image decode_mask(std::span<const std::uint8_t> bytes, const std::string& source = "(memory)",
                         const Limits& limits = {}) {
  return decode_mask(std::as_bytes(bytes), source, limits);
}
Image read_mask(const std::string& path, const Limits& limits = {});

// 8-bit PNG, grey or RGB.
std::vector<std::uint8_t> encode_png(const Image& image);
void write_png(const std::string& path, const Image& image);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <memory>
#include <string_view>

#include <ocellus/core/error.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/vision/exif.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/stb.hpp>

namespace ocellus {
namespace vision_detail {

// The bytes of a picture and the name they go by in errors. Reading outside of them is a FileError.
class PictureBytes {
 public:
  PictureBytes(ByteSpan bytes, const std::string& source) : bytes_(bytes), source_(source) {}

  std::size_t size() const { return bytes_.size(); }
  ByteSpan part(std::size_t at, std::size_t count) const {
    need(at, count);
    return bytes_.subspan(at, count);
  }
  std::uint32_t byte(std::size_t at) const { return big(at, 1); }
  std::uint32_t big(std::size_t at, std::size_t bytes) const {
    need(at, bytes);
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) value = (value << 8) | std::to_integer<std::uint32_t>(bytes_[at + i]);
    return value;
  }
  std::uint32_t little(std::size_t at, std::size_t bytes) const {
    need(at, bytes);
    std::uint32_t value = 0;
    for (std::size_t i = bytes; i-- > 0;) value = (value << 8) | std::to_integer<std::uint32_t>(bytes_[at + i]);
    return value;
  }
  bool starts_with(std::string_view text, std::size_t at = 0) const {
    return at + text.size() <= bytes_.size() && std::memcmp(bytes_.data() + at, text.data(), text.size()) == 0;
  }
  // The next byte of this value at or after `at`, size() if none.
  std::size_t find(std::uint8_t value, std::size_t at) const {
    const void* found = at < size() ? std::memchr(bytes_.data() + at, value, size() - at) : nullptr;
    return found ? static_cast<std::size_t>(static_cast<const std::byte*>(found) - bytes_.data()) : size();
  }
  [[noreturn]] OCELLUS_COLD void fail(std::size_t at, const std::string& what) const {
    throw FileError(source_, what, static_cast<std::int64_t>(at));
  }

 private:
  void need(std::size_t at, std::size_t count) const {
    if (at > size() || count > size() - at)
      fail(size(), "the picture is truncated: its data goes on past the end of the file");
  }

  ByteSpan bytes_;
  const std::string& source_;
};

OCELLUS_FN Size2 checked_picture_size(const PictureBytes& file, std::size_t at, std::int64_t width, std::int64_t height,
                                      const Limits& limits) {
  const std::string size = std::to_string(width) + " x " + std::to_string(height) + " pixels";
  if (width < 1 || height < 1) file.fail(at, "the picture has " + size);
  if (width > limits.image_side || height > limits.image_side) {
    file.fail(at, "the picture has " + size + ", the limit is " + std::to_string(limits.image_side) +
                      " a side (Limits::image_side)");
  }
  if (width > limits.image_pixels / height) {
    file.fail(at, "the picture has " + size + ", the limit is " + std::to_string(limits.image_pixels) +
                      " in all (Limits::image_pixels)");
  }
  return {height, width};
}

[[noreturn]] OCELLUS_COLD OCELLUS_FN void fail_too_little_data(const PictureBytes& file, Size2 size,
                                                               std::size_t bytes) {
  file.fail(file.size(), "announces " + std::to_string(size.w) + " x " + std::to_string(size.h) + " pixels, but its " +
                             std::to_string(bytes) + " bytes of pixel data cannot hold them");
}

// Decodes a file that was checked; every block that stb asks for may have at most `largest_block` bytes.
OCELLUS_FN Image decode_with_stb(const PictureBytes& file, ByteSpan checked, Size2 size, Index channels,
                                 std::size_t largest_block) {
  if (checked.size() > INT_MAX) file.fail(0, "a picture of more than 2 GiB");
  const stb::AllocationLimit limit(largest_block);
  int width = 0, height = 0, stored_channels = 0;
  std::shared_ptr<std::uint8_t[]> pixels(
      stb::decode(reinterpret_cast<const std::uint8_t*>(checked.data()), static_cast<int>(checked.size()), &width,
                  &height, &stored_channels, static_cast<int>(channels)),
      [](std::uint8_t* p) { stb::release(p); });
  if (!pixels) {
    const char* reason = stb::failure();
    file.fail(0, std::string("the picture is damaged: ") + (reason ? reason : "unknown reason"));
  }
  if (width != size.w || height != size.h) file.fail(0, "the picture is damaged: it contradicts its own size");
  return Image::own(std::move(pixels), size, channels);
}

inline constexpr std::string_view png_signature = "\x89PNG\r\n\x1a\n";

struct Png {
  Size2 size;
  std::uint32_t depth = 0;
  std::uint32_t colour_type = 0;
  ByteSpan header;   // the contents of IHDR
  ByteSpan palette;  // of PLTE
  std::vector<ByteSpan> data;
  std::size_t data_bytes = 0;
  int orientation = 1;
};

OCELLUS_FN void check_png_data(const PictureBytes& file, const Png& png) {
  constexpr std::uint64_t deflate_best_ratio = 1032;  // 258 bytes from two bits
  const std::uint64_t samples = png.colour_type == 2 ? 3 : png.colour_type == 4 ? 2 : png.colour_type == 6 ? 4 : 1;
  const auto width = static_cast<std::uint64_t>(png.size.w), height = static_cast<std::uint64_t>(png.size.h);
  const std::uint64_t raw_bytes = ((width * samples * png.depth + 7) / 8 + 1) * height;
  if (raw_bytes / deflate_best_ratio > png.data_bytes) fail_too_little_data(file, png.size, png.data_bytes);
}

// Walks over the chunks: structure, order and checksums of the critical ones.
OCELLUS_FN Png parse_png(const PictureBytes& file, const Limits& limits) {
  constexpr std::size_t frame_bytes = 12;  // length, type, checksum
  Png png;
  bool ended = false;
  for (std::size_t at = png_signature.size(); !ended;) {
    const std::size_t length = file.big(at, 4);
    const std::string type(reinterpret_cast<const char*>(file.part(at + 4, 4).data()), 4);
    const ByteSpan contents = file.part(at + 8, length);
    const std::uint32_t checksum = file.big(at + 8 + length, 4);
    const bool critical = (type[0] & 0x20) == 0;
    if (critical && crc32(file.part(at + 4, 4 + length)) != checksum) {
      file.fail(at + 8 + length, "the PNG is damaged: a chunk does not match its checksum");
    }
    if (png.header.empty() != (type == "IHDR")) {
      file.fail(at, png.header.empty() ? "a PNG begins with an IHDR chunk" : "the PNG has a second IHDR chunk");
    }
    if (type == "IHDR") {
      if (length != 13) file.fail(at, "the IHDR chunk of a PNG has 13 bytes");
      png.header = contents;
      png.size = checked_picture_size(file, at + 8, file.big(at + 8, 4), file.big(at + 12, 4), limits);
      png.depth = file.byte(at + 16);
      png.colour_type = file.byte(at + 17);
    } else if (type == "PLTE") {
      if (length % 3 != 0 || length > 768 || !png.palette.empty()) file.fail(at, "the palette of the PNG is malformed");
      png.palette = contents;
    } else if (type == "IDAT") {
      png.data.push_back(contents);
      png.data_bytes += length;
    } else if (type == "eXIf") {
      png.orientation = exif_orientation(contents);
    } else if (type == "IEND") {
      ended = true;
    } else if (critical) {
      file.fail(at, "the PNG needs a chunk type that is unknown here");
    }
    at += frame_bytes + length;
  }
  constexpr std::uint32_t depths[7] = {1u << 1 | 1u << 2 | 1u << 4 | 1u << 8 | 1u << 16,
                                       0,
                                       1u << 8 | 1u << 16,
                                       1u << 1 | 1u << 2 | 1u << 4 | 1u << 8,
                                       1u << 8 | 1u << 16,
                                       0,
                                       1u << 8 | 1u << 16};
  if (png.colour_type > 6 || png.depth > 16 || !(depths[png.colour_type] >> png.depth & 1u)) {
    file.fail(png_signature.size() + 16, "the PNG has colour type " + std::to_string(png.colour_type) + " at " +
                                             std::to_string(png.depth) + " bits, which does not exist");
  }
  if (png.colour_type == 3 && png.palette.empty()) file.fail(png_signature.size(), "the PNG has no palette");
  if (png.data.empty()) file.fail(file.size(), "the PNG has no pixel data");
  check_png_data(file, png);
  return png;
}

// The samples, from a file of our own making with the critical chunks only. A palette image is handed over as grey,
// which it equals but for the meaning of its values. `as_stored`: samples of less than 8 bits are not stretched to
// 0..255.
OCELLUS_FN Image decode_png_samples(const PictureBytes& file, const Png& png, bool as_stored) {
  std::vector<std::byte> plain;
  plain.reserve(png_signature.size() + 3 * 12 + 13 + png.data_bytes);
  const auto append = [&](ByteSpan bytes) { plain.insert(plain.end(), bytes.begin(), bytes.end()); };
  const auto append_number = [&](std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) plain.push_back(static_cast<std::byte>(value >> shift & 0xff));
  };
  const auto begin_chunk = [&](std::size_t length, std::string_view type) {
    append_number(length);
    append(as_bytes(type));
  };
  constexpr std::size_t no_checksum = 0;  // they were checked; stb skips them
  append(as_bytes(png_signature));
  begin_chunk(png.header.size(), "IHDR");
  append(png.header);
  if (png.colour_type == 3) plain[png_signature.size() + 8 + 9] = std::byte{0};
  append_number(no_checksum);
  begin_chunk(png.data_bytes, "IDAT");
  for (const ByteSpan data : png.data) append(data);
  append_number(no_checksum);
  begin_chunk(0, "IEND");
  append_number(no_checksum);

  const Index channels = png.colour_type == 2 || png.colour_type == 6 ? 3 : 1;
  constexpr std::size_t most_bytes_per_pixel = 8;  // RGBA at 16 bits
  const std::size_t filtered_bytes = most_bytes_per_pixel * static_cast<std::size_t>(png.size.h * png.size.w) +
                                     16 * static_cast<std::size_t>(png.size.h);
  const std::size_t largest_block = std::max(plain.size(), 2 * filtered_bytes) + 65536;
  Image image = decode_with_stb(file, plain, png.size, channels, largest_block);
  if (as_stored && png.depth < 8) {
    std::uint8_t* index = image.writable();
    const std::uint32_t scale = 255u / ((1u << png.depth) - 1u);  // stb stretches grey levels to 0..255
    for (Index i = 0; i < png.size.h * png.size.w; ++i) index[i] = static_cast<std::uint8_t>(index[i] / scale);
  }
  return image;
}

OCELLUS_FN Image expand_palette(const PictureBytes& file, const Png& png, const Image& indices) {
  Image image = uninitialised(png.size, 3);
  std::uint8_t* to = image.writable();
  const std::size_t colours = png.palette.size() / 3;
  const std::uint8_t* index = indices.data();
  for (Index i = 0; i < png.size.h * png.size.w; ++i, to += 3) {
    if (index[i] >= colours) {
      file.fail(file.size(), "pixel " + std::to_string(i) + " of the PNG has colour " + std::to_string(index[i]) +
                                 " of a palette of " + std::to_string(colours));
    }
    std::memcpy(to, png.palette.data() + 3 * index[i], 3);
  }
  return image;
}

OCELLUS_FN Image decode_png(const PictureBytes& file, const Limits& limits) {
  const Png png = parse_png(file, limits);
  const bool indexed = png.colour_type == 3;
  const Image samples = decode_png_samples(file, png, indexed);
  return upright(indexed ? expand_palette(file, png, samples) : samples, png.orientation);
}

// The Huffman tables that Annex K.3 of T.81 proposes. Cameras that send motion JPEG leave them out.
inline constexpr std::array<std::uint8_t, 420> standard_huffman_segment = {
    0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x00, 0x02, 0x01, 0x03,
    0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7d, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05,
    0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42,
    0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25,
    0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
    0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7,
    0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8,
    0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7,
    0xf8, 0xf9, 0xfa, 0x01, 0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04,
    0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21,
    0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1,
    0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19,
    0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
    0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95,
    0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6,
    0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7,
    0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa};

struct Jpeg {
  Size2 size;
  std::uint32_t components = 0;
  std::size_t frame = 0;  // where the frame header stands, 0: none yet
  bool progressive = false;
  bool adobe_colours = false;
  bool has_huffman_tables = false;
  std::size_t scans = 0;
  std::size_t scan_bytes = 0;
  int orientation = 1;
};

OCELLUS_FN void parse_jpeg_frame(const PictureBytes& file, std::size_t at, std::uint32_t marker, const Limits& limits,
                                 Jpeg& jpeg) {
  if (jpeg.frame) file.fail(at, "the JPEG has more than one frame");
  if (marker > 0xc8) file.fail(at, "JPEG with arithmetic coding is not supported; save it as baseline or progressive");
  if (marker > 0xc2)
    file.fail(at, "lossless or hierarchical JPEG is not supported; save it as baseline or progressive");
  if (file.byte(at + 4) != 8) {
    file.fail(at, "JPEG with " + std::to_string(file.byte(at + 4)) + " bits per sample is not supported, only 8");
  }
  if (file.big(at + 5, 2) == 0) file.fail(at, "JPEG whose height follows the picture (DNL) is not supported");
  jpeg.frame = at;
  jpeg.progressive = marker == 0xc2;
  jpeg.size = checked_picture_size(file, at + 5, file.big(at + 7, 2), file.big(at + 5, 2), limits);
  jpeg.components = file.byte(at + 9);
  if (jpeg.components != 1 && jpeg.components != 3 && jpeg.components != 4) {
    file.fail(at, "JPEG with " + std::to_string(jpeg.components) + " colour components is not supported");
  }
}

// stb trusts the counts of codes; sums beyond what JPEG can use would lead it out of its tables.
OCELLUS_FN void check_huffman_tables(const PictureBytes& file, std::size_t at, std::size_t end) {
  constexpr std::size_t most_codes[2] = {16, 255};  // DC, AC
  while (at < end) {
    const std::uint32_t table_class = file.byte(at) >> 4;
    if (table_class > 1 || at + 17 > end) file.fail(at, "a Huffman table of the JPEG is malformed");
    std::size_t codes = 0;
    std::uint32_t room = 1;
    for (std::size_t length = 1; length <= 16; ++length) {
      const std::uint32_t count = file.byte(at + length);
      room *= 2;
      if (count > room) file.fail(at, "a Huffman table of the JPEG has more codes than its lengths allow");
      room -= count;
      codes += count;
    }
    if (codes > most_codes[table_class] || at + 17 + codes > end)
      file.fail(at, "a Huffman table of the JPEG is malformed");
    at += 17 + codes;
  }
}

// The end of the entropy-coded data that starts here: the next marker that is neither a stuffed zero nor a restart.
OCELLUS_FN std::size_t skip_scan_data(const PictureBytes& file, std::size_t at) {
  for (at = file.find(0xff, at); at < file.size(); at = file.find(0xff, at)) {
    std::size_t code = at + 1;
    while (code < file.size() && file.byte(code) == 0xff) ++code;
    if (code == file.size()) break;
    const std::uint32_t marker = file.byte(code);
    if (marker != 0 && (marker < 0xd0 || marker > 0xd7)) return code - 1;
    at = code + 1;
  }
  file.fail(file.size(), "the picture is truncated: the JPEG has no end marker");
}

// Each block of 8 x 8 samples takes at least one bit for its mean and, unless progressive, one for the rest.
OCELLUS_FN void check_jpeg_data(const PictureBytes& file, const Jpeg& jpeg) {
  const auto blocks = static_cast<std::size_t>((jpeg.size.w + 7) / 8 * ((jpeg.size.h + 7) / 8));
  const std::size_t least_bits = jpeg.components == 1 ? blocks * (jpeg.progressive ? 1 : 2) : blocks;
  if (least_bits / 8 > jpeg.scan_bytes) fail_too_little_data(file, jpeg.size, jpeg.scan_bytes);
}

// Walks over the segments up to the end marker, which a truncated file lacks.
OCELLUS_FN Jpeg parse_jpeg(const PictureBytes& file, const Limits& limits) {
  constexpr std::size_t most_scans = 256;  // each costs a pass over the picture; encoders make about 10
  Jpeg jpeg;
  for (std::size_t at = 2;;) {
    at = file.find(0xff, at);
    while (at + 1 < file.size() && file.byte(at + 1) == 0xff) ++at;
    if (at + 1 >= file.size()) file.fail(file.size(), "the picture is truncated: the JPEG has no end marker");
    const std::uint32_t marker = file.byte(at + 1);
    if (marker == 0xd9) break;
    if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd8))
      file.fail(at, "the JPEG is damaged: a marker out of place");
    const std::size_t length = file.big(at + 2, 2);
    if (length < 2) file.fail(at, "the JPEG is damaged: a segment with an impossible length");
    file.part(at + 2, length);
    const std::size_t contents = at + 4, next = at + 2 + length;
    if (marker == 0xc4) {
      check_huffman_tables(file, contents, next);
      jpeg.has_huffman_tables = true;
    } else if (marker >= 0xc0 && marker <= 0xcf && marker != 0xcc) {
      parse_jpeg_frame(file, at, marker, limits, jpeg);
    } else if (marker == 0xe1 && length > 8 && file.starts_with(std::string_view("Exif\0\0", 6), contents)) {
      jpeg.orientation = exif_orientation(file.part(contents + 6, length - 8));
    } else if (marker == 0xee && length >= 14 && file.starts_with(std::string_view("Adobe\0", 6), contents)) {
      const std::uint32_t transform = file.byte(contents + 11);
      jpeg.adobe_colours = transform == 0 || transform == 2;
    }
    at = next;
    if (marker != 0xda) continue;
    if (!jpeg.frame) file.fail(at, "the JPEG is damaged: pixel data before the frame header");
    if (++jpeg.scans > most_scans) file.fail(at, "the JPEG has more than " + std::to_string(most_scans) + " scans");
    at = skip_scan_data(file, next);
    jpeg.scan_bytes += at - next;
  }
  if (!jpeg.scans) file.fail(file.size(), "the JPEG has no pixel data");
  if (jpeg.components == 4 && !jpeg.adobe_colours) {
    file.fail(jpeg.frame,
              "a JPEG of four components without Adobe's marker does not say what they mean; save it as RGB");
  }
  check_jpeg_data(file, jpeg);
  return jpeg;
}

OCELLUS_FN Image decode_jpeg(const PictureBytes& file, const Limits& limits) {
  const Jpeg jpeg = parse_jpeg(file, limits);
  const Index channels = jpeg.components == 1 ? 1 : 3;
  constexpr std::size_t coefficient_bytes = 2;
  const auto padded = [](Index side) {
    return static_cast<std::size_t>(side + 31) / 32 * 32;
  };  // whole blocks of 4 x 4 sampling
  const std::size_t largest_block = std::max<std::size_t>(
      padded(jpeg.size.w) * padded(jpeg.size.h) * std::max<std::size_t>(coefficient_bytes, 3) + 4096, 65536);
  ByteSpan bytes = file.part(0, file.size());
  std::vector<std::byte> completed;
  if (!jpeg.has_huffman_tables) {
    completed.assign(bytes.begin(), bytes.end());
    const ByteSpan tables = std::as_bytes(std::span(standard_huffman_segment));
    completed.insert(completed.begin() + 2, tables.begin(), tables.end());
    bytes = completed;
  }
  return upright(decode_with_stb(file, bytes, jpeg.size, channels, largest_block), jpeg.orientation);
}

inline constexpr std::size_t bmp_header = 14;

OCELLUS_FN Size2 parse_bmp(const PictureBytes& file, const Limits& limits) {
  const std::size_t header_bytes = file.little(bmp_header, 4);
  if (header_bytes < 40 || header_bytes > 124)
    file.fail(bmp_header, "BMP of OS/2 or an unknown version is not supported");
  const auto width = static_cast<std::int32_t>(file.little(18, 4)),
             height = static_cast<std::int32_t>(file.little(22, 4));
  return checked_picture_size(file, 18, width, height < 0 ? -std::int64_t{height} : height, limits);
}

// Uncompressed, with a palette of 1, 4 or 8 bits or with 24 or 32 bits of colour.
OCELLUS_FN Image decode_bmp(const PictureBytes& file, const Limits& limits) {
  const Size2 size = parse_bmp(file, limits);
  const std::size_t pixels = file.little(10, 4), header_bytes = file.little(bmp_header, 4);
  const bool top_down = static_cast<std::int32_t>(file.little(22, 4)) < 0;
  const std::uint32_t bits = file.little(28, 2), compression = file.little(30, 4);
  const bool usual_masks = compression == 3 && bits == 32 && file.little(54, 4) == 0x00ff0000u &&
                           file.little(58, 4) == 0x0000ff00u && file.little(62, 4) == 0x000000ffu;
  const bool indexed = bits == 1 || bits == 4 || bits == 8;
  if (!(indexed || bits == 24 || bits == 32) || (compression != 0 && !usual_masks)) {
    file.fail(28, "BMP with " + std::to_string(bits) + " bits and compression " + std::to_string(compression) +
                      " is not supported; save it as PNG");
  }
  const std::size_t stride = (static_cast<std::size_t>(size.w) * bits + 31) / 32 * 4;
  const ByteSpan rows = file.part(pixels, stride * static_cast<std::size_t>(size.h));
  const std::uint32_t used = file.little(46, 4);
  const std::uint32_t colours = used ? used : 1u << std::min(bits, 8u);
  if (indexed && colours > 1u << bits)
    file.fail(46, "the BMP has a palette of " + std::to_string(colours) + " colours");
  const ByteSpan palette = indexed ? file.part(bmp_header + header_bytes, 4 * std::size_t{colours}) : ByteSpan();

  Image image = uninitialised(size, 3);
  std::uint8_t* to = image.writable();
  for (Index y = 0; y < size.h; ++y) {
    const std::byte* row = rows.data() + stride * static_cast<std::size_t>(top_down ? y : size.h - 1 - y);
    for (Index x = 0; x < size.w; ++x, to += 3) {
      const std::byte* bgr = row + x * (bits / 8);
      if (indexed) {
        const auto bit = static_cast<std::size_t>(x) * bits;
        const std::uint32_t byte = std::to_integer<std::uint32_t>(row[bit / 8]);
        const std::uint32_t index = byte >> (8 - bits - bit % 8) & ((1u << bits) - 1u);
        if (index >= colours) file.fail(pixels, "a pixel of the BMP has a colour that its palette lacks");
        bgr = palette.data() + 4 * index;
      }
      to[0] = std::to_integer<std::uint8_t>(bgr[2]);
      to[1] = std::to_integer<std::uint8_t>(bgr[1]);
      to[2] = std::to_integer<std::uint8_t>(bgr[0]);
    }
  }
  return image;
}

// What the first bytes say it is, for the refusal.
OCELLUS_COLD OCELLUS_FN std::string name_of_other_format(const PictureBytes& file) {
  struct Magic {
    std::size_t at;
    std::string_view bytes;
    const char* name;
  };
  static constexpr Magic known[] = {
      {0, "GIF8", "a GIF"},
      {0, "8BPS", "a Photoshop file"},
      {8, "WEBP", "a WebP picture"},
      {0, {"II*\0", 4}, "a TIFF"},
      {0, {"MM\0*", 4}, "a TIFF"},
      {4, "ftypavi", "an AVIF picture"},
      {4, "ftyphei", "a HEIF picture"},
      {4, "ftypmif1", "a HEIF picture"},
      {4, "jP  ", "a JPEG 2000 picture"},
      {0, "\xff\x0a", "a JPEG XL picture"},
      {4, "JXL ", "a JPEG XL picture"},
      {0, "#?", "a Radiance HDR picture"},
      {0, "P5\n", "a PGM picture"},
      {0, "P6\n", "a PPM picture"},
      {0, "%PDF", "a PDF"},
      {0, "<svg", "an SVG drawing"},
      {0, "<?xml", "an XML file"},
      {0, "<!DOCTYPE", "a web page"},
      {0, "version https://git-lfs", "a Git LFS pointer (the picture itself was never fetched)"},
  };
  if (file.size() == 0) return "empty";
  for (const Magic& magic : known) {
    if (file.starts_with(magic.bytes, magic.at)) return magic.name;
  }
  return "none that is known here";
}

[[noreturn]] OCELLUS_COLD OCELLUS_FN void refuse_format(const PictureBytes& file) {
  file.fail(0,
            "a PNG, JPEG or BMP picture was expected; by its first bytes this file is " + name_of_other_format(file));
}

inline constexpr std::string_view jpeg_signature = "\xff\xd8\xff";
inline constexpr std::string_view bmp_signature = "BM";

}  // namespace vision_detail

OCELLUS_FN Image decode_image(ByteSpan bytes, const std::string& source, const Limits& limits) {
  const vision_detail::PictureBytes file(bytes, source);
  if (file.starts_with(vision_detail::png_signature)) return vision_detail::decode_png(file, limits);
  if (file.starts_with(vision_detail::jpeg_signature)) return vision_detail::decode_jpeg(file, limits);
  if (file.starts_with(vision_detail::bmp_signature)) return vision_detail::decode_bmp(file, limits);
  vision_detail::refuse_format(file);
}

OCELLUS_FN Image decode_mask(ByteSpan bytes, const std::string& source, const Limits& limits) {
  const vision_detail::PictureBytes file(bytes, source);
  if (!file.starts_with(vision_detail::png_signature)) {
    const bool lossy = file.starts_with(vision_detail::jpeg_signature);
    if (!lossy && !file.starts_with(vision_detail::bmp_signature)) vision_detail::refuse_format(file);
    file.fail(0, lossy ? "a label mask must be a PNG: JPEG does not keep class ids"
                       : "a label mask must be a PNG, this is a BMP");
  }
  const vision_detail::Png png = vision_detail::parse_png(file, limits);
  const bool has_ids = (png.colour_type == 0 || png.colour_type == 3) && png.depth <= 8;
  if (!has_ids) {
    file.fail(
        vision_detail::png_signature.size(),
        "a label mask must be an 8-bit grey or palette PNG whose value is the class id; this one has colour type " +
            std::to_string(png.colour_type) + " at " + std::to_string(png.depth) + " bits");
  }
  return vision_detail::decode_png_samples(file, png, true);
}

OCELLUS_FN Image read_image(const std::string& path, const Limits& limits) {
  return decode_image(read_file(path, limits).span(), path, limits);
}

OCELLUS_FN Size2 read_image_size(const std::string& path, const Limits& limits) {
  const Bytes bytes = map_file(path, limits);
  const vision_detail::PictureBytes file(bytes.span(), path);
  const auto upright = [](Size2 size, int orientation) { return orientation >= 5 ? Size2(size.w, size.h) : size; };
  if (file.starts_with(vision_detail::png_signature)) {
    const vision_detail::Png png = vision_detail::parse_png(file, limits);
    return upright(png.size, png.orientation);
  }
  if (file.starts_with(vision_detail::jpeg_signature)) {
    const vision_detail::Jpeg jpeg = vision_detail::parse_jpeg(file, limits);
    return upright(jpeg.size, jpeg.orientation);
  }
  if (file.starts_with(vision_detail::bmp_signature)) return vision_detail::parse_bmp(file, limits);
  vision_detail::refuse_format(file);
}

OCELLUS_FN Image read_mask(const std::string& path, const Limits& limits) {
  return decode_mask(read_file(path, limits).span(), path, limits);
}

OCELLUS_FN std::vector<std::uint8_t> encode_png(const Image& image) {
  if (image.empty()) throw UsageError("encode_png: the image is empty");
  const Image packed = image.packed();
  int bytes = 0;
  const std::unique_ptr<std::uint8_t, void (*)(void*)> file(
      vision_detail::stb::encode(packed.data(), static_cast<int>(packed.stride()), static_cast<int>(packed.width()),
                                 static_cast<int>(packed.height()), static_cast<int>(packed.channels()), &bytes),
      std::free);
  if (!file) throw Error("encode_png: not enough memory for a picture of " + packed.size().str());
  return {file.get(), file.get() + bytes};
}

OCELLUS_FN void write_png(const std::string& path, const Image& image) {
  const std::vector<std::uint8_t> bytes = encode_png(image);
  const ByteSpan pieces[] = {std::as_bytes(std::span(bytes))};
  write_file_atomically(path, pieces);
}

}  // namespace ocellus
#endif
