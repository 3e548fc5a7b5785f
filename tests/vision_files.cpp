// Picture files: what decodes equals the reference, what is damaged, hostile or foreign is refused by name, nothing
// crashes.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <ocellus/core/error.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/runtime/random.hpp>
#include <ocellus/vision/exif.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image_file.hpp>

#include "io_support.hpp"

using namespace ocellus;

namespace {

using Data = std::vector<std::uint8_t>;

const std::string pictures = OCELLUS_TEST_DIR "/data/images/";

Data load(const std::string& path) {
  const Bytes bytes = read_file(path);
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  return {first, first + bytes.size()};
}

Data text_bytes(std::string_view text) { return {text.begin(), text.end()}; }

void append(Data& to, const Data& more) { to.insert(to.end(), more.begin(), more.end()); }

Data number(std::uint64_t value, int bytes, bool little) {
  Data result;
  for (int i = 0; i < bytes; ++i)
    result.push_back(static_cast<std::uint8_t>(value >> 8 * (little ? i : bytes - 1 - i)));
  return result;
}

// Empty, and says so, without the large data sets.
std::string data_folder() {
  const char* folder = std::getenv("OCELLUS_DATA");
  if (!folder) MESSAGE("SKIPPED: OCELLUS_DATA is not set");
  return folder ? folder : "";
}

std::span<const std::byte> bytes_of(const Data& data) { return std::as_bytes(std::span(data)); }

// What decoding says: the error's text, or "" for a picture.
std::string refusal(const Data& data, const Limits& limits = {}) {
  try {
    decode_image(data, "x", limits);
  } catch (const FileError& error) {
    CHECK(error.path == "x");
    return error.what();
  }
  return "";
}

std::string mask_refusal(const std::string& path) {
  try {
    read_mask(path);
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::uint32_t checksum(const Image& image) {
  return crc32(std::as_bytes(std::span(image.data(), static_cast<std::size_t>(image.height() * image.stride()))));
}

struct Difference {
  double mean = 1e9;
  int most = 256;
};

Difference difference(const Image& a, const Image& b) {
  const Image x = a.to_rgb(), y = b.to_rgb();
  if (!(x.size() == y.size())) return {};
  const Index n = x.height() * x.stride();
  Difference d{0, 0};
  for (Index i = 0; i < n; ++i) {
    const int step = std::abs(x.data()[i] - y.data()[i]);
    d.mean += step;
    d.most = std::max(d.most, step);
  }
  d.mean /= static_cast<double>(n);
  return d;
}

Image noise(Size2 size, Index channels, std::uint64_t seed) {
  Image image(size, channels);
  std::uint8_t* p = image.writable();
  RandomStream random(seed);
  for (Index i = 0; i < size.h * size.w * channels; ++i) p[i] = static_cast<std::uint8_t>(random.bits());
  return image;
}

bool same(const Image& a, const Image& b) {
  return a.size() == b.size() && a.channels() == b.channels() && difference(a, b).most == 0;
}

// A chunk with its right checksum.
Data png_chunk(const std::string& type, const Data& contents) {
  Data checked = text_bytes(type);
  append(checked, contents);
  Data chunk = number(contents.size(), 4, false);
  append(chunk, checked);
  append(chunk, number(crc32(bytes_of(checked)), 4, false));
  return chunk;
}

constexpr std::size_t png_header_end = 8 + 12 + 13;

Data png_header(std::uint32_t width, std::uint32_t height, std::uint8_t depth, std::uint8_t colour_type) {
  Data contents = number(width, 4, false);
  append(contents, number(height, 4, false));
  append(contents, {depth, colour_type, 0, 0, 0});
  Data file = text_bytes("\x89PNG\r\n\x1a\n");
  append(file, png_chunk("IHDR", contents));
  return file;
}

// The file with another header, or with chunks put in behind it.
Data with_png_header(const Data& file, const Data& header) {
  Data result = header;
  result.insert(result.end(), file.begin() + png_header_end, file.end());
  return result;
}

// A TIFF block with one directory entry.
Data tiff(bool little, std::uint64_t value, std::uint64_t type = 3, std::uint64_t count = 1,
          std::uint64_t directory = 8, std::uint64_t entries = 1) {
  Data block = text_bytes(little ? "II" : "MM");
  append(block, number(42, 2, little));
  append(block, number(directory, 4, little));
  append(block, number(entries, 2, little));
  append(block, number(0x0112, 2, little));
  append(block, number(type, 2, little));
  append(block, number(count, 4, little));
  append(block, number(value, type == 3 ? 2 : 4, little));
  append(block, Data(type == 3 ? 2 : 0, 0));
  append(block, number(8, 4, little));  // the next directory is this one again
  return block;
}

Data bmp(std::int32_t width, std::int32_t height, int bits, const Data& palette, const Data& rows) {
  Data file = text_bytes("BM");
  const std::size_t pixels = 14 + 40 + palette.size();
  append(file, number(pixels + rows.size(), 4, true));
  append(file, number(0, 4, true));
  append(file, number(pixels, 4, true));
  append(file, number(40, 4, true));
  append(file, number(static_cast<std::uint32_t>(width), 4, true));
  append(file, number(static_cast<std::uint32_t>(height), 4, true));
  append(file, number(1, 2, true));
  append(file, number(static_cast<std::uint64_t>(bits), 2, true));
  for (int i = 0; i < 4; ++i) append(file, number(0, 4, true));
  append(file, number(palette.size() / 4, 4, true));
  append(file, number(0, 4, true));
  append(file, palette);
  append(file, rows);
  return file;
}

// The first segment of this kind; its marker stands there.
std::size_t jpeg_segment(const Data& file, std::uint8_t marker) {
  for (std::size_t at = 2; at + 4 < file.size() && file[at + 1] != 0xda;) {
    if (file[at + 1] == marker) return at;
    at += 2u + file[at + 2] * 256u + file[at + 3];
  }
  FAIL("no such segment");
  return 0;
}

}  // namespace

TEST_CASE("PngSuite: every valid file equals what Pillow decodes") {
  std::ifstream table(pictures + "pngsuite/expected.txt");
  std::string line;
  int files = 0;
  while (std::getline(table, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string name, crc;
    Index height = 0, width = 0, channels = 0;
    fields >> name >> height >> width >> channels >> crc;
    CAPTURE(name);
    const Image image = read_image(pictures + "pngsuite/" + name);
    CHECK(image.size() == Size2(height, width));
    CHECK(image.channels() == channels);
    CHECK(checksum(image) == std::stoul(crc, nullptr, 16));
    ++files;
  }
  CHECK(files == 161);
}

TEST_CASE("PngSuite: every damaged file is refused") {
  for (const char* name : {"xc1n0g08", "xc9n2c08", "xcrn0g04", "xcsn0g01", "xd0n2c08", "xd3n2c08", "xd9n2c08",
                           "xdtn0g01", "xhdn0g08", "xlfn0g04", "xs1n0g01", "xs2n0g01", "xs4n0g01", "xs7n0g01"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(read_image(pictures + "pngsuite/" + name + ".png"), FileError);
  }
}

TEST_CASE("JPEG: unusual files agree with their references up to rounding") {
  for (const char* name :
       {"16bit-qtables", "extraneous-data", "grayscale_16x24_sampling2x2", "grayscale_square", "jpg-cmyk-1", "jpg-gray",
        "jpg-progressive", "jpg-size-1x1", "jpg-size-9x9", "jpg-size-17x17", "jpg-size-33x33", "non-interleaved-mcu",
        "progressive-missing-ac", "progressive-missing-dc", "restarts"}) {
    CAPTURE(name);
    const Image image = read_image(pictures + "jpeg/" + name + ".jpg");
    const Difference d = difference(image, read_image(pictures + "jpeg/" + name + ".png"));
    CHECK(d.mean < 0.4);
    CHECK(d.most <= 2);
  }
  CHECK_THROWS_AS(read_image(pictures + "jpeg/partial_progressive.jpg"), FileError);
}

TEST_CASE("JPEG: without Huffman tables the standard ones are used") {
  const std::string path = pictures + "jpeg/16bit-qtables.jpg";
  const Image whole = read_image(path);
  Data file = load(path);
  int tables = 0;
  for (std::size_t at = 2; file[at + 1] != 0xda;) {
    const std::size_t length = 2u + file[at + 2] * 256u + file[at + 3];
    if (file[at + 1] == 0xc4) {
      file.erase(file.begin() + static_cast<std::ptrdiff_t>(at),
                 file.begin() + static_cast<std::ptrdiff_t>(at + length));
      ++tables;
    } else {
      at += length;
    }
  }
  CHECK(tables > 0);
  CHECK(same(decode_image(file), whole));
}

TEST_CASE("JPEG: what cannot be decoded is refused by name") {
  const Data file = load(pictures + "jpeg/jpg-size-33x33.jpg");
  const std::size_t frame = jpeg_segment(file, 0xc0), tables = jpeg_segment(file, 0xc4);
  const auto changed = [&](std::size_t at, std::initializer_list<int> values) {
    Data copy = file;
    for (const int v : values) copy[at++] = static_cast<std::uint8_t>(v);
    return refusal(copy);
  };
  CHECK(contains(changed(frame + 1, {0xc9}), "arithmetic"));
  CHECK(contains(changed(frame + 1, {0xc3}), "lossless"));
  CHECK(contains(changed(frame + 4, {12}), "12 bits"));
  CHECK(contains(changed(frame + 5, {0, 0}), "DNL"));
  CHECK(contains(changed(frame + 7, {0, 0}), "0 x 33"));
  CHECK(contains(changed(frame + 5, {0xff, 0xff}), "Limits::image_side"));
  CHECK(contains(changed(frame + 5, {0x20, 0, 0x20, 0}), "cannot hold"));  // 8192 x 8192 in 941 bytes
  CHECK(contains(changed(frame + 9, {2}), "2 colour components"));
  CHECK(contains(changed(frame + 9, {4}), "Adobe"));
  CHECK(contains(changed(tables + 5, {3}), "more codes"));
  CHECK(contains(changed(tables + 4, {0x20}), "malformed"));
  CHECK(contains(changed(file.size() - 2, {0, 0}), "truncated"));
}

TEST_CASE("EXIF: both stored orientations give the same upright picture") {
  const Image upright_one = read_image(pictures + "exif/Landscape_1.jpg"),
              turned = read_image(pictures + "exif/Landscape_6.jpg");
  CHECK(upright_one.size() == Size2(1200, 1800));
  CHECK(difference(upright_one, turned).mean < 4.0);
  CHECK(difference(upright_one, upright(turned, 2)).mean > 20.0);
  CHECK(difference(upright_one, upright(turned, 4)).mean > 20.0);
}

TEST_CASE("JPEG: the larger reference pictures, among them a frame of motion JPEG") {
  const std::string data = data_folder();
  if (data.empty()) return;
  for (const char* name : {"mjpeg", "progressive3", "rgb", "ycck", "blank_800x280", "mozilla/jpg-cmyk-2"}) {
    CAPTURE(name);
    const std::string path = data + "/odd_images/jpeg_reftest/images/" + name;
    CHECK(difference(read_image(path + ".jpg"), read_image(path + ".png")).mean < 0.05);
  }
}

TEST_CASE("EXIF: all nine pictures of the data set") {
  const std::string data = data_folder();
  if (data.empty()) return;
  const std::string folder = data + "/exif_orientation/Landscape_";
  const Image reference = read_image(folder + "1.jpg");
  for (int i = 0; i <= 8; ++i) {
    CAPTURE(i);
    CHECK(difference(reference, read_image(folder + std::to_string(i) + ".jpg")).mean < 4.0);
  }
}

TEST_CASE("EXIF: the parser finds the field in both byte orders and survives everything else") {
  for (const bool little : {true, false}) {
    for (std::uint64_t value = 0; value <= 10; ++value) {
      const int expected = value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
      CHECK(exif_orientation(bytes_of(tiff(little, value))) == expected);
      CHECK(exif_orientation(bytes_of(tiff(little, value, 4))) == expected);
    }
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 2))) == 1);                  // text
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 3, 0))) == 1);               // no value
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 3, 0xffffffffu))) == 1);     // a count that wraps
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 3, 1, 0xffffffffu))) == 1);  // a directory past the end
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 3, 1, 25))) == 1);           // one that begins in the last bytes
    CHECK(exif_orientation(bytes_of(tiff(little, 6, 3, 1, 8, 0xffff))) == 6);    // more entries announced than present
    const Data whole = tiff(little, 6);
    for (std::size_t n = 0; n < whole.size() - 4; ++n) {
      const Data cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
      CHECK(exif_orientation(bytes_of(cut)) == 1);
    }
  }
  CHECK(exif_orientation(bytes_of(text_bytes("IM*\0\0\0\0\0"))) == 1);
}

TEST_CASE("EXIF: in a PNG and in a JPEG that had none") {
  const Image image = noise({3, 5}, 3, 1);
  const Data png = encode_png(image);
  Data header(png.begin(), png.begin() + png_header_end);
  append(header, png_chunk("eXIf", tiff(false, 8)));
  CHECK(same(decode_image(with_png_header(png, header)), upright(image, 8)));

  const Data jpeg = load(pictures + "jpeg/grayscale_16x24_sampling2x2.jpg");
  Data exif = text_bytes(std::string_view("Exif\0\0", 6));
  append(exif, tiff(true, 5));
  Data file = {0xff, 0xd8, 0xff, 0xe1};
  append(file, number(exif.size() + 2, 2, false));
  append(file, exif);
  file.insert(file.end(), jpeg.begin() + 2, jpeg.end());
  CHECK(same(decode_image(file), upright(decode_image(jpeg), 5)));
}

TEST_CASE("BMP: bottom-up and top-down, colours and palettes") {
  const Data rows24 = {3, 2, 1, 6, 5, 4, 0, 0, 9, 8, 7, 12, 11, 10, 0, 0};
  const Image up = decode_image(bmp(2, 2, 24, {}, rows24)), down = decode_image(bmp(2, -2, 24, {}, rows24));
  const Data expected = {7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6};
  CHECK(std::memcmp(up.data(), expected.data(), expected.size()) == 0);
  CHECK(same(down, upright(up, 4)));

  const Data palette = {0, 0, 10, 0, 0, 20, 0, 0, 30, 0, 0, 0};
  const Image eight = decode_image(bmp(3, 1, 8, palette, {2, 0, 1, 0}));
  const Data expected_eight = {0, 0, 30, 10, 0, 0, 0, 20, 0};
  CHECK(std::memcmp(eight.data(), expected_eight.data(), expected_eight.size()) == 0);
  const Image one = decode_image(bmp(2, 1, 1, {1, 2, 3, 0, 4, 5, 6, 0}, {0x40, 0, 0, 0}));
  CHECK(std::memcmp(one.data(), Data({3, 2, 1, 6, 5, 4}).data(), 6) == 0);
  const Image four = decode_image(bmp(2, 1, 4, {1, 2, 3, 0, 4, 5, 6, 0}, {0x10, 0, 0, 0}));
  CHECK(std::memcmp(four.data(), Data({6, 5, 4, 3, 2, 1}).data(), 6) == 0);
  const Image full = decode_image(bmp(1, 1, 32, {}, {1, 2, 3, 4}));
  CHECK(std::memcmp(full.data(), Data({3, 2, 1}).data(), 3) == 0);

  CHECK(contains(refusal(bmp(3, 1, 8, palette, {3, 0, 1, 0})), "palette lacks"));
  CHECK(contains(refusal(bmp(2, 3, 24, {}, rows24)), "truncated"));
  CHECK(contains(refusal(bmp(0, 2, 24, {}, rows24)), "0 x 2"));
  CHECK(contains(refusal(bmp(2, INT32_MIN, 24, {}, rows24)), "Limits::image_side"));
  CHECK(contains(refusal(bmp(2, 2, 16, {}, rows24)), "16 bits"));
  CHECK(contains(refusal(bmp(2, 2, 8, Data(4 * 300, 0), rows24)), "300 colours"));
}

TEST_CASE("the size of a picture is known without decoding it") {
  const io_test::TemporaryFolder folder;
  const auto size_of = [&](const Data& data) {
    return read_image_size(folder.write("picture", {reinterpret_cast<const char*>(data.data()), data.size()}));
  };
  const Data rows24 = {1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0};
  const Data samples[] = {bmp(2, -2, 24, {}, rows24),
                          load(pictures + "exif/Landscape_1.jpg"),
                          load(pictures + "exif/Landscape_6.jpg"),
                          load(pictures + "jpeg/jpg-progressive.jpg"),
                          load(pictures + "jpeg/grayscale_16x24_sampling2x2.jpg"),
                          encode_png(Image({3, 5}, 1))};
  for (const Data& data : samples) CHECK(size_of(data) == decode_image(data).size());
  CHECK_THROWS_AS(size_of({1, 2, 3}), FileError);
}

TEST_CASE("limits are checked before anything is decoded, bombs end early") {
  const Data small = encode_png(noise({4, 6}, 1, 2));
  Limits limits;
  limits.image_side = 5;
  CHECK(contains(refusal(small, limits), "Limits::image_side"));
  limits = {};
  limits.image_pixels = 23;
  CHECK(contains(refusal(small, limits), "Limits::image_pixels"));

  CHECK(contains(refusal(with_png_header(small, png_header(20000, 20000, 8, 2))), "Limits::image_side"));
  CHECK(contains(refusal(with_png_header(small, png_header(16384, 16384, 8, 0))), "Limits::image_pixels"));
  CHECK(contains(refusal(with_png_header(small, png_header(9000, 9000, 8, 0))), "cannot hold"));
  CHECK(contains(refusal(with_png_header(small, png_header(0, 4, 8, 0))), "0 x 4"));
  CHECK(contains(refusal(with_png_header(small, png_header(0xffffffffu, 0xffffffffu, 8, 0))), "Limits::image_side"));
  CHECK(contains(refusal(with_png_header(small, png_header(6, 5, 8, 0))), "damaged"));  // a row more than there is

  const Data bomb = encode_png(Image({1000, 2000}, 1));
  CHECK(contains(refusal(with_png_header(bomb, png_header(8, 8, 8, 0))), "damaged"));
}

TEST_CASE("PNG structure") {
  const Data file = encode_png(noise({4, 6}, 3, 3));
  Data doubled(file.begin(), file.begin() + png_header_end);
  append(doubled, png_chunk("IHDR", Data(13, 1)));
  CHECK(contains(refusal(with_png_header(file, doubled)), "second IHDR"));
  Data unknown(file.begin(), file.begin() + png_header_end);
  append(unknown, png_chunk("ABCD", {1, 2}));
  CHECK(contains(refusal(with_png_header(file, unknown)), "unknown"));
  Data ancillary(file.begin(), file.begin() + png_header_end);
  append(ancillary, png_chunk("abCd", {1, 2}));
  CHECK(refusal(with_png_header(file, ancillary)) == "");
  Data trailing = file;
  append(trailing, text_bytes("appended data"));
  CHECK(refusal(trailing) == "");
  CHECK(contains(refusal(with_png_header(file, png_header(6, 4, 8, 3))), "no palette"));

  const Data indexed = load(pictures + "pngsuite/basn3p08.png");
  Data damaged = indexed;
  const std::string name = "PLTE";
  const auto palette = std::search(damaged.begin(), damaged.end(), name.begin(), name.end()) - damaged.begin();
  const Data short_palette = png_chunk("PLTE", {1, 2, 3});
  damaged.erase(damaged.begin() + palette - 4, damaged.begin() + palette + 8 + 768);
  damaged.insert(damaged.begin() + palette - 4, short_palette.begin(), short_palette.end());
  CHECK(contains(refusal(damaged), "of a palette of 1"));
}

TEST_CASE("foreign formats are refused by name") {
  const struct {
    std::string_view bytes;
    const char* name;
  } rows[] = {
      {"GIF89a\x01\0\x01\0", "GIF"},
      {"8BPS\0\1", "Photoshop"},
      {{"RIFF\0\0\0\0WEBPVP8 ", 16}, "WebP"},
      {{"II*\0\x08\0\0\0", 8}, "TIFF"},
      {{"MM\0*\0\0\0\x08", 8}, "TIFF"},
      {{"\0\0\0\x20"
        "ftypavif",
        12},
       "AVIF"},
      {{"\0\0\0\x20"
        "ftypheic",
        12},
       "HEIF"},
      {"P6\n1 1\n255\n", "PPM"},
      {"<!DOCTYPE html>", "web page"},
      {"version https://git-lfs.github.com/spec/v1", "Git LFS"},
      {"", "empty"},
      {"\xff", "none"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.name);
    CHECK(contains(refusal(text_bytes(row.bytes)), row.name));
  }
  CHECK_THROWS_AS(read_image("no/such/file.png"), FileError);
  CHECK_THROWS_AS(read_image(OCELLUS_TEST_DIR), FileError);
}

TEST_CASE("masks keep the stored samples") {
  const Image ids = noise({7, 5}, 1, 4);
  CHECK(same(decode_mask(encode_png(ids)), ids));

  const struct {
    const char* file;
    int most;
  } rows[] = {{"basn0g01", 1}, {"basn0g02", 3},  {"basn0g04", 15}, {"basn0g08", 255}, {"basn3p01", 1},
              {"basn3p02", 3}, {"basn3p04", 15}, {"basi0g04", 15}, {"basi3p08", 255}};
  for (const auto& row : rows) {
    CAPTURE(row.file);
    const Image mask = read_mask(pictures + "pngsuite/" + row.file + ".png");
    CHECK(mask.channels() == 1);
    CHECK(*std::max_element(mask.data(), mask.data() + mask.height() * mask.width()) <= row.most);
  }
  // A grey picture of few bits is stretched as a picture, not as a mask.
  const Image stretched = read_image(pictures + "pngsuite/basn0g04.png"),
              stored = read_mask(pictures + "pngsuite/basn0g04.png");
  bool scaled = true;
  for (Index i = 0; i < stored.height() * stored.width(); ++i) scaled &= stretched.data()[i] == 17 * stored.data()[i];
  CHECK(scaled);

  CHECK(contains(mask_refusal(pictures + "pngsuite/basn2c08.png"), "colour type 2"));
  CHECK(contains(mask_refusal(pictures + "pngsuite/basn4a08.png"), "colour type 4"));
  CHECK(contains(mask_refusal(pictures + "pngsuite/basn0g16.png"), "16 bits"));
  CHECK(contains(mask_refusal(pictures + "jpeg/jpg-gray.jpg"), "JPEG does not keep class ids"));
}

TEST_CASE("PNG: what is written is read back, through a file and from views") {
  for (const Size2 size : {Size2(1, 1), Size2(1, 7), Size2(9, 1), Size2(17, 33)}) {
    for (const Index channels : {1, 3}) {
      const Image image = noise(size, channels, static_cast<std::uint64_t>(size.h * 10 + channels));
      CHECK(same(decode_image(encode_png(image)), image));
    }
  }
  const Image image = noise({5, 4}, 3, 5);
  const Image window = Image::view(image.at(1, 1), 2, 3, image.stride(), PixelOrder::bgr);
  CHECK(same(decode_image(encode_png(window)), window.to_rgb()));
  const std::string path =
      std::string(std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") + "/ocellus_vision_files.png";
  write_png(path, image);
  CHECK(same(read_image(path), image));
  std::remove(path.c_str());
  CHECK_THROWS_AS(write_png("/no/such/folder/x.png", image), FileError);
  CHECK_THROWS_AS(encode_png(Image()), UsageError);
}

TEST_CASE("every truncation is an error, every mutation an error or a picture") {
  std::vector<Data> files = {load(pictures + "pngsuite/basi3p04.png"), load(pictures + "pngsuite/tbbn3p08.png"),
                             load(pictures + "jpeg/restarts.jpg"),     load(pictures + "jpeg/jpg-progressive.jpg"),
                             load(pictures + "jpeg/jpg-cmyk-1.jpg"),   bmp(2, 2, 8, Data(12, 7), Data(8, 1))};
  for (std::size_t k = 0; k < files.size(); ++k) {
    CAPTURE(k);
    bool refused = true;
    for (std::size_t n = 0; n < files[k].size(); ++n) {
      refused &= refusal(Data(files[k].begin(), files[k].begin() + static_cast<std::ptrdiff_t>(n))) != "";
    }
    CHECK(refused);
  }
  RandomStream random(6);
  int pictures_seen = 0;
  for (int round = 0; round < 3000; ++round) {
    Data file = files[static_cast<std::size_t>(round) % files.size()];
    const Index changes = 1 + random.below(4);
    for (Index i = 0; i < changes; ++i) {
      file[static_cast<std::size_t>(random.below(static_cast<Index>(file.size())))] =
          static_cast<std::uint8_t>(random.bits());
    }
    pictures_seen += refusal(file) == "";
  }
  CHECK(pictures_seen > 0);
}
