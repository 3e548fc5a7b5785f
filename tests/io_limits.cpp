// A hostile file costs an exception: never more memory than twice its size and 64 MB, never long.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <new>
#include <string>
#include <vector>

#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/idx.hpp>
#include <ocellus/io/inflate.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/io/torch_file.hpp>

#include "io_support.hpp"
#include "torch_support.hpp"

namespace {

// What this program holds, and the most it held: every block carries its size in front.
std::atomic<std::size_t> held{0};
std::atomic<std::size_t> most{0};
constexpr std::size_t front = 64;

void* take(std::size_t size) {
  void* block = std::aligned_alloc(front, (size + 2 * front - 1) / front * front);
  if (!block) return nullptr;
  *static_cast<std::size_t*>(block) = size;
  held += size;
  if (held > most) most = held.load();
  return static_cast<char*>(block) + front;
}

void give(void* pointer) noexcept {
  if (!pointer) return;
  void* block = static_cast<char*>(pointer) - front;
  held -= *static_cast<std::size_t*>(block);
  std::free(block);
}

void* take_or_throw(std::size_t size) {
  if (void* pointer = take(size)) return pointer;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return take_or_throw(size); }
void* operator new[](std::size_t size) { return take_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new(std::size_t size, std::align_val_t) { return take_or_throw(size); }
void* operator new(std::size_t size, std::align_val_t, const std::nothrow_t&) noexcept { return take(size); }
void operator delete(void* p) noexcept { give(p); }
void operator delete[](void* p) noexcept { give(p); }
void operator delete(void* p, std::size_t) noexcept { give(p); }
void operator delete[](void* p, std::size_t) noexcept { give(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { give(p); }
void operator delete(void* p, std::align_val_t) noexcept { give(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { give(p); }

using namespace ocellus;
using namespace io_test;

namespace {

std::string repeated(const std::string& text, std::size_t bytes) {
  std::string all;
  all.reserve(bytes + text.size());
  while (all.size() < bytes) all += text;
  return all;
}

std::string safetensors(const std::string& header) { return little(std::uint64_t{header.size()}) + header; }

// A deflate stream of fixed Huffman codes: one zero byte, then runs of 258. Every run is 13 bits: length code 285,
// distance 1.
std::string zeros_stream(std::size_t runs) {
  std::string stream;
  unsigned bits = 0;
  int count = 0;
  const auto put = [&](unsigned value, int width) {
    bits |= value << count;
    for (count += width; count >= 8; count -= 8, bits >>= 8) stream += static_cast<char>(bits & 0xff);
  };
  const auto put_code = [&](unsigned code, int width) {
    for (int i = width - 1; i >= 0; --i) put((code >> i) & 1u, 1);
  };
  put(1, 1);
  put(1, 2);
  put_code(0x30, 8);
  for (std::size_t i = 0; i < runs; ++i) {
    put_code(0xc5, 8);
    put_code(0, 5);
  }
  put_code(0, 7);
  put(0, 7);
  return stream;
}

struct Cost {
  std::string error;
  std::size_t bytes;
  double seconds;  // of this processor, whatever else it does
};

template <class F>
Cost cost_of(F&& f) {
  const std::size_t before = held;
  most = before;
  const std::clock_t start = std::clock();
  Cost cost;
  cost.error = file_error_of(f);
  cost.seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  cost.bytes = most - before;
  return cost;
}

}  // namespace

TEST_CASE("claims that the file does not keep cost next to nothing") {
  const auto read = [](std::string_view file) { read_safetensors(bytes_of(file), "x"); };
  const std::string entry = R"({"a":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}})";
  const std::string npy = std::string("\x93NUMPY\1\0\x50\0", 10) +
                          "{'descr': '<f4', 'fortran_order': True, 'shape': (250000000000,)}" + std::string(14, ' ') +
                          "\n";
  const std::string gzip = std::string("\x1f\x8b\x08\0\0\0\0\0\0\0\1\0\0\xff\xff", 15) + little(std::uint32_t{0}) +
                           little(std::uint32_t{1'000'000'000});
  const std::size_t limit = 1 << 20;
  CHECK(cost_of([&] { read(little(std::uint64_t{16} << 20)); }).bytes < limit);
  CHECK(cost_of([&] { read(little(UINT64_MAX) + "{}"); }).bytes < limit);
  CHECK(cost_of([&] { read(safetensors(entry)); }).bytes < limit);
  CHECK(cost_of([&] { read_npy(bytes_of(npy), "x"); }).bytes < limit);
  CHECK(cost_of([&] { read_idx(bytes_of(from_hex("00000803ffffffff0000000100000001")), "x"); }).bytes < limit);
  CHECK(cost_of([&] { read_idx(bytes_of(gzip), "x"); }).bytes < limit);
}

TEST_CASE("a header made to swell stays within twice the file and 64 MB") {
  const std::size_t size = std::size_t{8} << 20;
  const std::vector<std::string> headers = {
      "{\"a\":[" + repeated("0,", size) + "0]}",
      "{\"a\":[" + repeated("[],", size) + "0]}",
      "{\"a\":[" + repeated("{},", size) + "0]}",
      "{\"a\":[" + repeated("\"\",", size) + "0]}",
      "{\"a\":{\"shape\":[" + repeated("1,", size) + "1]}}",
      "{" + repeated("\"\":0,", size) + "\"\":0}",
      "{\"" + repeated("\\n", size) + "\":0}",
      "{\"a\":\"" + repeated("\\u0001", size) + "\"}",
      "{" + repeated(" ", size) + "x",
      repeated("{\"a\":", size),
      repeated("[", size).replace(0, 1, "{"),
  };
  for (const std::string& header : headers) {
    CAPTURE(header.substr(0, 20));
    const std::string file = safetensors(header);
    const Bytes bytes = bytes_of(file);
    const Cost cost = cost_of([&] { read_safetensors(bytes, "x"); });
    CHECK(!cost.error.empty());
    CHECK(cost.error.size() < 1000);
    CHECK(cost.bytes < 2 * file.size() + (std::size_t{64} << 20));
    CHECK(cost.seconds < 8.0);
  }
}

TEST_CASE("a pickle made to swell stays within twice the file and 64 MB") {
  const std::size_t size = std::size_t{15} << 20;
  std::string doubled = "]q\1";
  for (int i = 0; i < 1000; ++i) doubled += "](" + repeated("h\1", 1000) + "eq\1";
  const std::vector<std::string> programs = {
      repeated("]", size),
      repeated("}", size),
      repeated("(", size),
      repeated("K\1", size),
      "N" + repeated("2", size),
      "N" + repeated("\x94", size),
      repeated("(t", size),
      "](" + repeated("N", size) + "e",
      "]" + repeated("Na", size),
      repeated("ca\nb\n", size),
      "Nr\x7f\x84\x1e" + std::string(1, '\0') + repeated(")", size),
      global("builtins", "set") +
          "q\1"
          "](" +
          repeated("N", size / 16) + "e\x85q\2" + repeated("h\1h\2R", size / 2),
      global("some", "Class") + repeated(")\x81h\1", size),
      pickled_storage("0", 1) + repeated("2", size),
      doubled,
      global("torch._utils", "_rebuild_tensor_v2") + "q\1)q\2" + repeated("h\1h\2R", size),
  };
  for (const std::string& opcodes : programs) {
    CAPTURE(opcodes.substr(0, 20));
    const Bytes bytes = bytes_of(torch_archive(program(opcodes), {}));
    const Cost cost = cost_of([&] { read_torch_file(bytes, "x"); });
    CHECK(!cost.error.empty());
    CHECK(cost.error.size() < 1000);
    CHECK(cost.bytes < 2 * bytes.size() + (std::size_t{64} << 20));
    CHECK(cost.seconds < 8.0);
  }
}

TEST_CASE("a packed file earns its memory with data") {
  const std::size_t runs = 400'000;  // 0.65 MB that unpack to 103 MB
  const std::size_t size = 1 + 258 * runs;
  const std::string stream = zeros_stream(runs);
  const std::string header("\x1f\x8b\x08\0\0\0\0\0\0\0", 10);
  const std::string honest =
      header + stream + little(crc32(as_bytes(std::string(size, '\0')))) + little(static_cast<std::uint32_t>(size));
  CHECK(gunzip(bytes_of(honest), "x").size() == size);

  // As long, but with an end after the first runs: it claims as much and has nothing to show.
  std::string broken = honest;
  std::fill(broken.begin() + 20, broken.end() - 8, '\0');
  const Bytes bytes = bytes_of(broken);
  const Cost cost = cost_of([&] { gunzip(bytes, "x"); });
  CHECK(contains(cost.error, " were announced"));
  CHECK(cost.bytes < 2 * broken.size() + (std::size_t{65} << 20));
}

TEST_CASE("a hundred thousand tensors are read quickly") {
  const std::size_t n = 100'000;
  std::string header = "{";
  for (std::size_t i = 0; i < n; ++i) {
    header += (i ? ",\"layer." : "\"layer.") + std::to_string(i) +
              R"(.weight":{"dtype":"U8","shape":[1],"data_offsets":[)" + std::to_string(i) + "," +
              std::to_string(i + 1) + "]}";
  }
  const Bytes bytes = bytes_of(safetensors(header + "}") + std::string(n, 'x'));
  std::size_t found = 0;
  const Cost cost = cost_of([&] { found = read_safetensors(bytes, "x").size(); });
  CHECK(cost.error == "");
  CHECK(found == n);
  CHECK(cost.seconds < 8.0);
}
