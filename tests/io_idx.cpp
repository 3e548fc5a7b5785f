// IDX files and the gzip around them.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/idx.hpp>
#include <ocellus/io/inflate.hpp>

#include "io_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

std::string idx(const std::vector<std::uint32_t>& sizes, const std::string& data, int type = 8) {
  std::string file{'\0', '\0', static_cast<char>(type), static_cast<char>(sizes.size())};
  for (const std::uint32_t size : sizes) file += big(size);
  return file + data;
}

std::string counting_text(std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += static_cast<char>(i * 7);
  return text;
}

std::string stored_blocks(const std::string& content) {
  std::string stream;
  std::size_t at = 0;
  do {
    const std::size_t n = std::min<std::size_t>(content.size() - at, 1000);
    const auto length = static_cast<std::uint16_t>(n);
    stream += at + n == content.size() ? '\1' : '\0';
    stream += little(length) + little(static_cast<std::uint16_t>(~length)) + content.substr(at, n);
    at += n;
  } while (at < content.size());
  return stream;
}

std::string gzip(const std::string& content, char flags = 0, const std::string& fields = "") {
  return std::string("\x1f\x8b\x08", 3) + flags + std::string(6, '\0') + fields + stored_blocks(content) +
         little(crc32(as_bytes(content))) + little(static_cast<std::uint32_t>(content.size()));
}

std::string error_of(const std::string& file) {
  return file_error_of([&] { touch(read_idx(bytes_of(file), "x.idx")); });
}

}  // namespace

TEST_CASE("images and labels are read, plain and packed, from memory and file") {
  const TemporaryFolder folder;
  const std::string data = counting_text(2 * 3 * 400);
  const std::string plain = idx({2, 3, 400}, data);
  const BasicTensor<std::uint8_t> images = read_idx(bytes_of(plain), "x");
  CHECK(images.shape() == Shape{2, 3, 400});
  CHECK(std::memcmp(images.data(), data.data(), data.size()) == 0);
  CHECK(same(images, read_idx(bytes_of(gzip(plain)), "x")));
  CHECK(same(images, read_idx(folder.write("x", plain))));
  CHECK(same(images, read_idx(folder.write("x.gz", gzip(plain)))));
  CHECK(read_idx(bytes_of(idx({4}, "abcd")), "x").shape() == Shape{4});
  CHECK(read_idx(bytes_of(idx({0, 28, 28}, "")), "x").shape() == Shape{0, 28, 28});
  CHECK(read_idx(bytes_of(idx({1, 1, 1, 1, 1, 1, 1, 2}, "ab")), "x").rank() == 8);
}

TEST_CASE("every optional field of the gzip header is skipped") {
  const std::string plain = idx({4}, "abcd");
  const std::string name("name\0", 5);
  const std::string extra = little(std::uint16_t{3}) + "xyz";
  for (const auto& [flags, fields] : std::vector<std::pair<char, std::string>>{{1, ""},
                                                                               {2, "cc"},
                                                                               {4, extra},
                                                                               {8, name},
                                                                               {16, name},
                                                                               {24, name + name},
                                                                               {31, extra + name + name + "cc"}}) {
    CHECK(read_idx(bytes_of(gzip(plain, flags, fields)), "x").shape() == Shape{4});
  }
}

TEST_CASE("what gzip -9 packed is read: Huffman blocks, long matches") {
  // printf '\0\0\10\3' and sizes 10, 20, 30 big-endian, then 6000 bytes i * i % 251
  const std::string file = from_hex(
      "1f8b08000000000002036360e060666060e00262112096636064e11490543174084ca99cb0f2c8435635cfbca9fb5e4a7b55"
      "af7b2c1f31f98248e88cbb9a457bf9e3d6b3c76c16cc39a9dbf731fa90c16cde9ab7a9b7c2cefb9f09b818792feb73b3e812"
      "abb3e9cc736c6ed62a1f2b90395aaa7eadc7e5e7d662e30f5baa9c782e2f2c74167f716056598889d8d7db87d7ce6c2fcf8c"
      "0df67675b4b77774f50e8ecd2c6f9fb9f6f0edaf62262165b30ebc10772e5c7899c7a96acb07e3e2ad3f5d7aaea9971e9529"
      "38a65c7bd3660e73fa59ab25a2cd9fb3ee455e0c38e37f3eec56eadb1aded90687a23ff6e99ecc11dc1cc3be3e8e7f6f91e6"
      "dd19a122172647c83f5e57ed25fd72dfd43c4f35d68747564ea84c097430549114e064611cf5faa8d747bd3eeaf551af8f7a"
      "7dd4eba35e1ff5faa8d747bd3eeaf551af8f7a7dd4eba35e1ff5faa8d747bd3eeaf551af8f7a9d6a5e0700fa19b748801700"
      "00");
  const BasicTensor<std::uint8_t> x = read_idx(bytes_of(file), "x");
  CHECK(x.shape() == Shape{10, 20, 30});
  int wrong = 0;
  for (Index i = 0; i < x.numel(); ++i) wrong += x[i] != i * i % 251;
  CHECK(wrong == 0);
}

TEST_CASE("every bad IDX file is refused with its reason") {
  struct Row {
    std::string file, expected;
  };
  const std::string good = idx({2, 3}, "abcdef");
  std::vector<Row> rows = {
      {"\1" + good.substr(1), "is no IDX file"},
      {std::string("\0\1", 2) + good.substr(2), "is no IDX file"},
      {idx({}, "a"), "an IDX file of 0 axes"},
      {idx({1, 1, 1, 1, 1, 1, 1, 1, 1}, "a"), "an IDX file of 9 axes"},
      {idx({2, 3}, "abcde"), "needs 6 bytes of data, the file has 5"},
      {idx({2, 3}, "abcdefg"), "needs 6 bytes of data, the file has 7"},
      {idx({2, 0}, "a"), "needs 0 bytes of data, the file has 1"},
      {idx({UINT32_MAX}, "a"), "needs 4294967295 bytes"},
      {idx({UINT32_MAX, UINT32_MAX}, "a"), "the number of elements overflows"},
      {idx({65536, 65536, 65536, 65536}, ""), "the number of elements overflows"},
      {idx({65536, 65536, 65536, 32768}, ""), "the number of elements overflows"},
      {idx({UINT32_MAX, UINT32_MAX, UINT32_MAX, 0}, ""), "the number of elements overflows"},
      {gzip(gzip(good)), "packed with gzip twice"},
      {gzip("junk"), "is no IDX file"},
      {gzip(""), "inside of the magic number"},
      {gzip(good) + "x", "x.idx"},
      {gzip(good) + gzip(good), "the deflate stream ends after 23 of 64 bytes"},
      {gzip(good, static_cast<char>(0x20)), "reserved gzip flags"},
      {gzip(good, 4, little(std::uint16_t{60000})), "inside of the gzip extra field"},
      {gzip(good, 8, std::string(30, 'n')), "x.idx"},
  };
  for (const int type : {0, 7, 9, 11, 12, 13, 14, 255}) {
    rows.push_back({idx({2, 3}, "abcdef", type), "IDX elements of type " + std::to_string(type)});
  }
  for (std::size_t n = 0; n < good.size(); ++n) {
    rows.push_back({good.substr(0, n), n < 4    ? "inside of the magic number"
                                       : n < 12 ? "inside of the sizes"
                                                : "needs 6 bytes"});
  }
  std::string packed = gzip(good);
  for (std::size_t n = 2; n < packed.size(); ++n) rows.push_back({packed.substr(0, n), "x.idx"});
  const std::size_t trailer = packed.size() - 8;
  const auto changed = [&](std::size_t at, const std::string& bytes) {
    return std::string(packed).replace(at, bytes.size(), bytes);
  };
  rows.push_back({changed(2, "\7"), "gzip method other than deflate"});
  rows.push_back({changed(trailer, "x"), "does not match its CRC-32"});
  rows.push_back({changed(trailer - 1, "x"), "does not match its CRC-32"});
  rows.push_back({changed(trailer + 4, little(std::uint32_t{17})), "unpacks to more than the 17 bytes announced"});
  rows.push_back({changed(trailer + 4, little(std::uint32_t{19})), "unpacks to 18 bytes, 19 were announced"});
  rows.push_back({changed(trailer + 4, little(std::uint32_t{1'000'000})), "more than its"});
  rows.push_back({changed(trailer + 4, little(UINT32_MAX)), "(Limits::inflated_bytes)"});
  rows.push_back({changed(10, "\7"), "the deflate stream is damaged"});
  rows.push_back({changed(13, "\7"), "the deflate stream is damaged"});
  for (const Row& row : rows) {
    CAPTURE(row.file.size());
    const std::string error = error_of(row.file);
    CAPTURE(error);
    CHECK(contains(error, row.expected));
    CHECK(error.starts_with("x.idx"));
  }
  std::printf("idx: %zu bad files refused\n", rows.size());
}

TEST_CASE("one flipped bit anywhere in the packed data is noticed") {
  const std::string good = gzip(idx({30, 10}, counting_text(300)));
  int unnoticed = 0;
  for (std::size_t bit = 80; bit < good.size() * 8; ++bit) {
    std::string file = good;
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << (bit % 8)));
    unnoticed += error_of(file).empty();
  }
  CHECK(unnoticed == 5);  // the unused bits that pad the block's header to a byte
}

TEST_CASE("MNIST") {
  const char* root = std::getenv("OCELLUS_DATA");
  const std::string folder = root ? std::string(root) + "/mnist/" : "";
  if (!root || !std::filesystem::exists(folder + "t10k-images-idx3-ubyte.gz")) {
    std::printf("SKIPPED MNIST: $OCELLUS_DATA/mnist is not there\n");
    return;
  }
  CHECK(read_idx(folder + "train-images-idx3-ubyte.gz").shape() == Shape{60000, 28, 28});
  const BasicTensor<std::uint8_t> images = read_idx(folder + "t10k-images-idx3-ubyte.gz");
  CHECK(images.shape() == Shape{10000, 28, 28});
  const BasicTensor<std::uint8_t> labels = read_idx(folder + "t10k-labels-idx1-ubyte.gz");
  CHECK(labels.shape() == Shape{10000});
  std::vector<int> counts(10);
  for (const std::uint8_t label : labels) ++counts.at(label);
  CHECK(counts == std::vector<int>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
}
