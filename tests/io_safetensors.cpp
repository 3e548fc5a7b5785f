// safetensors: round trips, and a manifest of bad files with the text each must be refused with.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <ocellus/io/json.hpp>
#include <ocellus/io/safetensors.hpp>

#include "io_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

// A file with this header, the true length before it.
std::string file_with(const std::string& header, std::size_t data_bytes) {
  return little(std::uint64_t{header.size()}) + header + std::string(data_bytes, '\x11');
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

NamedTensors read(std::string_view file) { return read_safetensors(bytes_of(file), "w.safetensors"); }

std::string error_of(std::string_view file) {
  return file_error_of([&] {
    for (const NamedTensor& t : read(file)) touch(t.tensor);
  });
}

NamedTensors example() {
  NamedTensors tensors;
  tensors.metadata = {{"format", "pt"}, {"licence", "MIT \"x\" \xc3\xa9"}};
  tensors.add("f32", counting({{2, 3}, DType::f32}, 1));
  tensors.add("f64", counting({{3}, DType::f64}, 2));
  tensors.add("bf16", counting({{1, 5}, DType::bf16}, 3));
  tensors.add("f16", counting({{3, 1, 1}, DType::f16}, 4));
  tensors.add("i8", counting({{7}, DType::i8}, 5));
  tensors.add("u8", counting({{2, 2}, DType::u8}, 6));
  tensors.add("i32", counting({{1}, DType::i32}, 7));
  tensors.add("i64", counting({{1, 1, 1, 1, 1, 1, 1, 2}, DType::i64}, 8));
  tensors.add("scalar", counting({{}, DType::f32}, 9));
  tensors.add("none", counting({{0, 4}, DType::f32}, 9));
  tensors.add("name with \"quotes\" and \xc3\xa9", counting({{2}, DType::u8}, 10));
  return tensors;
}

bool equal(const NamedTensors& a, const NamedTensors& b) {
  if (a.size() != b.size() || a.metadata != b.metadata) return false;
  for (const NamedTensor& t : a) {
    if (!b.find(t.name) || !same(t.tensor, *b.find(t.name))) return false;
  }
  return true;
}

struct BadFile {
  std::string what, file, expected;
};

// One tensor, one field replaced.
BadFile bad_field(const std::string& what, const std::string& dtype, const std::string& shape,
                  const std::string& offsets, const std::string& expected) {
  return {what, file_with("{" + entry("a", dtype, shape, offsets) + "}", 16), expected};
}

std::vector<BadFile> manifest() {
  const std::string good_header =
      "{" + entry("a", "\"F32\"", "[2]", "[0,8]") + "," + entry("b", "\"U8\"", "[8]", "[8,16]") + "}";
  const std::string good = file_with(good_header, 16);
  std::vector<BadFile> rows;

  // The length before the header.
  rows.push_back({"header length 0", little(std::uint64_t{0}), "does not begin with '{'"});
  rows.push_back({"header length 0, data behind", little(std::uint64_t{0}) + "{}", "does not begin with '{'"});
  for (int byte = 0; byte < 8; ++byte) {
    std::string file = good;
    file[static_cast<std::size_t>(byte)] = static_cast<char>(0xff);
    rows.push_back({"length byte " + std::to_string(byte) + " is 255", file,
                    byte < 3 ? "the file ends inside of the header" : "(Limits::header_bytes)"});
  }
  for (const std::uint64_t n :
       {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, std::uint64_t{1} << 63, std::uint64_t{100'000'001}}) {
    rows.push_back({"huge length", little(n) + good.substr(8), "(Limits::header_bytes)"});
  }
  for (const int step : {-3, -1, 1, 2, 16}) {
    const std::uint64_t n = good_header.size() + static_cast<std::uint64_t>(step);
    rows.push_back({"length off by " + std::to_string(step), little(n) + good.substr(8), "not valid JSON"});
  }

  // Truncation at every byte, junk at the end, junk at the start.
  for (std::size_t n = 0; n < good.size(); ++n) {
    const char* expected = n < 8                        ? "inside of the header's length"
                           : n < 8 + good_header.size() ? "inside of the header:"
                                                        : "past the file's";
    rows.push_back({"truncated to " + std::to_string(n), good.substr(0, n), expected});
  }
  rows.push_back({"one byte after the end", good + "x", "1 bytes after the last tensor belong to none"});
  rows.push_back({"another file after the end", good + good, "bytes after the last tensor belong to none"});
  rows.push_back({"data without tensors", file_with("{}", 4), "4 bytes after the last tensor belong to none"});
  rows.push_back({"one byte before the start", "x" + good, "header"});

  // The header as JSON.
  const std::vector<std::pair<std::string, std::string>> headers = {
      {"[]", "does not begin with '{'"},
      {" {}", "does not begin with '{'"},
      {"\xef\xbb\xbf{}", "does not begin with '{'"},
      {"null", "does not begin with '{'"},
      {"{", "not valid JSON"},
      {"{}x", "not valid JSON"},
      {"{} {}", "not valid JSON"},
      {std::string("{}\0", 3), "NUL character"},
      {std::string("{}\0{}", 5), "NUL character"},
      {"{\"a\xff\":1}", "not valid JSON"},
      {"{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", "nested deeper than 64"},
      {"{\"a\":" + std::string(100'000, '[') + "}", "nested deeper than 64"},
      {"{\"a\":1}", "a: expected an object, got 1"},
      {"{\"a\":null}", "a: expected an object, got null"},
      {"{\"a\":[]}", "a: expected an object, got an array"},
      {"{\"a\":{}}", "a: the key \"dtype\" is missing"},
      {"{\"__metadata__\":null}", "__metadata__: expected an object, got null"},
      {"{\"__metadata__\":[]}", "__metadata__: expected an object, got an array"},
      {"{\"__metadata__\":{\"n\":1}}", "__metadata__.n: expected a string, got 1"},
      {"{\"__metadata__\":{\"n\":null}}", "__metadata__.n: expected a string, got null"},
      {"{\"__metadata__\":{\"n\":{}}}", "__metadata__.n: expected a string, got an object"},
      {"{\"__metadata__\":{\"n\":\"a\",\"n\":\"a\"}}", "__metadata__: the key \"n\" stands there twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", "the key \"__metadata__\" stands there twice"},
      {"{\"a\":[" + std::string(10'000, '0') + "]}", "not valid JSON"},
  };
  for (const auto& [header, expected] : headers)
    rows.push_back({"header " + header.substr(0, 30), file_with(header, 0), expected});

  // Entries as a whole.
  const std::string a = entry("a", "\"F32\"", "[2]", "[0,8]");
  const auto two = [](const std::string& first, const std::string& second) {
    return file_with("{" + first + "," + second + "}", 16);
  };
  rows.push_back(
      {"duplicate name", two(a, entry("a", "\"F32\"", "[2]", "[8,16]")), "the key \"a\" stands there twice"});
  rows.push_back(
      {"duplicate name, escaped", two(a, entry("\\u0061", "\"F32\"", "[2]", "[8,16]")), "stands there twice"});
  rows.push_back({"duplicate field",
                  file_with(R"({"a":{"dtype":"U8","dtype":"U8","shape":[16],"data_offsets":[0,16]}})", 16),
                  "a: the key \"dtype\" stands there twice"});
  rows.push_back({"unknown field", file_with(R"({"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16],"x":1}})", 16),
                  "a.x: is no field of a tensor"});
  rows.push_back(
      {"no dtype", file_with(R"({"a":{"shape":[16],"data_offsets":[0,16]}})", 16), "a: the key \"dtype\" is missing"});
  rows.push_back(
      {"no shape", file_with(R"({"a":{"dtype":"U8","data_offsets":[0,16]}})", 16), "a: the key \"shape\" is missing"});
  rows.push_back(
      {"no offsets", file_with(R"({"a":{"dtype":"U8","shape":[16]}})", 16), "a: the key \"data_offsets\" is missing"});
  rows.push_back({"empty name", two(a, entry("", "\"F32\"", "[2]", "[8,16]")), "a tensor has no name"});
  rows.push_back({"NUL in a name", two(a, entry("b\\u0000", "\"F32\"", "[2]", "[8,16]")), "contains a NUL"});
  rows.push_back({"long name", two(a, entry(std::string(1025, 'n'), "\"F32\"", "[2]", "[8,16]")),
                  "has 1025 bytes, the limit is 1024"});
  rows.push_back({"the same data twice",
                  two(entry("a", "\"F32\"", "[4]", "[0,16]"), entry("b", "\"F32\"", "[4]", "[0,16]")), "overlaps"});
  rows.push_back({"overlap by one byte",
                  two(entry("a", "\"U8\"", "[9]", "[0,9]"), entry("b", "\"U8\"", "[8]", "[8,16]")), "overlaps"});
  rows.push_back({"one inside the other",
                  two(entry("a", "\"U8\"", "[16]", "[0,16]"), entry("b", "\"U8\"", "[4]", "[4,8]")), "overlaps"});
  rows.push_back({"hole at the start", two(entry("a", "\"U8\"", "[7]", "[1,8]"), entry("b", "\"U8\"", "[8]", "[8,16]")),
                  "leaves a hole"});
  rows.push_back({"hole between", two(entry("a", "\"U8\"", "[7]", "[0,7]"), entry("b", "\"U8\"", "[8]", "[8,16]")),
                  "leaves a hole"});
  rows.push_back({"hole at the end", two(entry("a", "\"U8\"", "[8]", "[0,8]"), entry("b", "\"U8\"", "[7]", "[8,15]")),
                  "1 bytes after the last"});
  rows.push_back({"empty tensor in a hole",
                  two(entry("a", "\"U8\"", "[15]", "[0,15]"), entry("b", "\"U8\"", "[0]", "[16,16]")),
                  "leaves a hole"});
  rows.push_back({"empty tensor inside another",
                  two(entry("a", "\"U8\"", "[16]", "[0,16]"), entry("b", "\"U8\"", "[0]", "[4,4]")), "overlaps"});

  // One field of one tensor.
  for (const char* dtype : {"1", "null", "[]", "{}", "true"}) {
    rows.push_back(bad_field("dtype " + std::string(dtype), dtype, "[16]", "[0,16]", "a.dtype: expected a string"));
  }
  for (const char* dtype : {"\"\"", "\"f32\"", "\"F32 \"", "\"F31\"", "\"float32\"", "\"F32\\u0000\""}) {
    rows.push_back(bad_field("dtype " + std::string(dtype), dtype, "[16]", "[0,16]", "is not an element type"));
  }
  for (const char* dtype :
       {"I16", "U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}) {
    rows.push_back(bad_field("dtype " + std::string(dtype), "\"" + std::string(dtype) + "\"", "[16]", "[0,16]",
                             "a.dtype: elements of type " + std::string(dtype) + " are not supported"));
  }
  const std::vector<std::string> no_sizes = {"-1",
                                             "1.0",
                                             "1.5",
                                             "1e1",
                                             "-0",
                                             "\"4\"",
                                             "null",
                                             "true",
                                             "[4]",
                                             "{}",
                                             "9223372036854775808",
                                             "18446744073709551615",
                                             "18446744073709551616",
                                             "1e30"};
  for (const std::string& size : no_sizes) {
    rows.push_back(
        bad_field("shape [" + size + "]", "\"F32\"", "[" + size + "]", "[0,16]", "a.shape[0]: expected an integer"));
    rows.push_back(bad_field("shape [1," + size + "]", "\"F32\"", "[1," + size + "]", "[0,16]",
                             "a.shape[1]: expected an integer"));
    rows.push_back(
        bad_field("begin " + size, "\"F32\"", "[4]", "[" + size + ",16]", "a.data_offsets[0]: expected an integer"));
    rows.push_back(
        bad_field("end " + size, "\"F32\"", "[4]", "[0," + size + "]", "a.data_offsets[1]: expected an integer"));
  }
  for (const char* shape : {"4", "\"[4]\"", "null", "{}", "{\"0\":4}"}) {
    rows.push_back(bad_field("shape " + std::string(shape), "\"F32\"", shape, "[0,16]", "a.shape: expected an array"));
  }
  rows.push_back(bad_field("9 axes", "\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]", "a.shape: has 9 axes"));
  for (const char* shape :
       {"[9223372036854775807]", "[4611686018427387904]", "[4294967296,4294967296]", "[3037000500,3037000500]",
        "[65536,65536,65536,65536]", "[9223372036854775807,9223372036854775807]", "[4611686018427387904,4]",
        "[2305843009213693953,8,0]", "[9223372036854775807,2,0]"}) {
    rows.push_back(
        bad_field("shape " + std::string(shape), "\"F32\"", shape, "[0,16]", "a.shape: the number of bytes overflows"));
  }
  for (const char* shape : {"[]", "[0]", "[3]", "[5]", "[4,4]", "[1000000000000]"}) {
    rows.push_back(
        bad_field("shape " + std::string(shape), "\"F32\"", shape, "[0,16]", "a.data_offsets: cover 16 bytes"));
  }
  for (const char* dtype : {"F64", "BF16", "F16", "I64", "I8", "U8", "BOOL"}) {
    rows.push_back(
        bad_field("[4] of " + std::string(dtype), "\"" + std::string(dtype) + "\"", "[4]", "[0,16]", "cover 16 bytes"));
  }
  for (const char* offsets : {"[]", "[0]", "[0,16,16]", "16", "null", "\"0,16\"", "{\"0\":0,\"1\":16}"}) {
    rows.push_back(
        bad_field("offsets " + std::string(offsets), "\"F32\"", "[4]", offsets, "a.data_offsets: must be two numbers"));
  }
  rows.push_back(bad_field("reversed offsets", "\"F32\"", "[4]", "[16,0]", "the end is before the begin"));
  for (const char* offsets :
       {"[0,17]", "[1,17]", "[16,32]", "[0,9223372036854775807]", "[9223372036854775791,9223372036854775807]"}) {
    rows.push_back(
        bad_field("offsets " + std::string(offsets), "\"F32\"", "[4]", offsets, "past the file's 16 bytes of data"));
  }
  rows.push_back(bad_field("too short", "\"F32\"", "[4]", "[0,15]", "cover 15 bytes"));
  rows.push_back(bad_field("begins late", "\"F32\"", "[3]", "[4,16]", "leaves a hole"));
  rows.push_back(bad_field("ends early", "\"F32\"", "[3]", "[0,12]", "4 bytes after the last tensor"));
  return rows;
}

}  // namespace

TEST_CASE("every element type, scalar, empty and named oddly, survives memory and file") {
  const TemporaryFolder folder;
  const NamedTensors tensors = example();
  const Bytes bytes = to_safetensors_bytes(tensors);
  CHECK(equal(tensors, read_safetensors(bytes, "memory")));
  const std::string path = folder / "w.safetensors";
  write_safetensors(path, tensors);
  CHECK(content_of(path) == bytes.text());
  CHECK(equal(tensors, read_safetensors(path)));
  CHECK(to_safetensors_bytes(read_safetensors(path)).text() == bytes.text());

  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  CHECK(header_bytes % 8 == 0);
}

TEST_CASE("the written file is the canonical one") {
  NamedTensors tensors;
  tensors.add("b", counting({{1}, DType::f32}, 0));
  tensors.add("bytes", counting({{3}, DType::u8}, 4));
  tensors.add("a", counting({{}, DType::f32}, 8));
  tensors.add("wide", counting({{1}, DType::f64}, 12));
  const std::string header =
      R"({"wide":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
      R"("bytes":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  const std::string data =
      "\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x08\x09\x0a\x0b" + std::string("\x00\x01\x02\x03\x04\x05\x06", 7);
  CHECK(to_safetensors_bytes(tensors).text() ==
        little(std::uint64_t{header.size() + padding.size()}) + header + padding + data);
}

TEST_CASE("no tensors is a file") {
  CHECK(read(file_with("{}", 0)).empty());
  CHECK(read(file_with("{}      ", 0)).empty());
  const NamedTensors described = read(file_with(R"({"__metadata__":{"format":"pt"}})", 0));
  CHECK(described.empty());
  CHECK(described.metadata.at("format") == "pt");
  CHECK(read(to_safetensors_bytes({}).text()).empty());
}

TEST_CASE("aligned tensors share the file's memory, others are copied") {
  const std::string header =
      "{" + entry("a", "\"U8\"", "[1]", "[0,1]") + "," + entry("b", "\"F32\"", "[2]", "[1,9]") + "}";
  const std::string file = file_with(header + std::string((8 - header.size() % 8) % 8, ' '), 9);
  const ByteSpan pieces[] = {as_bytes(file)};
  const Bytes bytes = join_bytes(pieces);
  const NamedTensors tensors = read_safetensors(bytes, "w");
  const auto inside = [&](const AnyTensor& t) {
    const auto* p = static_cast<const std::byte*>(t.raw());
    return p >= bytes.data() && p < bytes.data() + bytes.size();
  };
  CHECK(inside(tensors.at("a")));
  CHECK(!inside(tensors.at("b")));
  CHECK(reinterpret_cast<std::uintptr_t>(tensors.at("b").raw()) % 4 == 0);
  CHECK(as_bytes(file).subspan(file.size() - 8)[0] == *static_cast<const std::byte*>(tensors.at("b").raw()));
}

TEST_CASE("tensors keep the memory they share") {
  const TemporaryFolder folder;
  NamedTensors large;
  large.add("a", counting({{1 << 19}, DType::f32}, 3));
  const std::string path = folder / "w.safetensors";
  write_safetensors(path, large);
  AnyTensor kept;
  { kept = read_safetensors(path).at("a"); }
  write_safetensors(path, example());  // a new file takes the name, the mapped one stays as it was
  CHECK(same(kept, large.at("a")));
  const AnyTensor from_memory = read(to_safetensors_bytes(example()).text()).at("f64");
  CHECK(same(from_memory, example().at("f64")));
}

TEST_CASE("BOOL is read as u8, tensors come in the order of their data") {
  const NamedTensors tensors = read(file_with(
      "{" + entry("z", "\"BOOL\"", "[2,4]", "[8,16]") + "," + entry("y", "\"F64\"", "[]", "[0,8]") + "}", 16));
  CHECK(tensors.begin()->name == "y");
  CHECK(tensors.at("z").dtype() == DType::u8);
  CHECK(tensors.at("z").shape() == Shape{2, 4});
}

TEST_CASE("the limits hold") {
  const std::string file =
      file_with("{" + entry("a", "\"U8\"", "[1]", "[0,1]") + "," + entry("b", "\"U8\"", "[1]", "[1,2]") + "}", 2);
  Limits limits;
  limits.tensors = 1;
  CHECK(contains(file_error_of([&] { read_safetensors(bytes_of(file), "w", limits); }), "2 tensors, the limit is 1"));
  limits = {};
  limits.header_bytes = 50;
  CHECK(contains(file_error_of([&] { read_safetensors(bytes_of(file), "w", limits); }), "the limit is 50"));
}

TEST_CASE("a tensor or a name that the format cannot hold is misuse") {
  const auto refused = [](std::string name, AnyTensor tensor) {
    NamedTensors tensors;
    tensors.add(std::move(name), std::move(tensor));
    CHECK_THROWS_AS(to_safetensors_bytes(tensors), UsageError);
  };
  const AnyTensor good = counting({{1}, DType::f32}, 0);
  refused("", good);
  refused("__metadata__", good);
  refused(std::string("a\0b", 3), good);
  refused("a", AnyTensor());
  refused("a", AnyTensor::symbolic_of({{1}, DType::f32}));
  refused("a", good.packed_as(good.spec()));
  NamedTensors twice;
  twice.add("a", good);
  CHECK_THROWS_AS(twice.add("a", good), UsageError);
  CHECK_THROWS_AS(twice.at("b"), UsageError);
  CHECK(twice.find("b") == nullptr);
}

TEST_CASE("every bad file is refused with its reason") {
  const std::vector<BadFile> rows = manifest();
  for (const BadFile& row : rows) {
    CAPTURE(row.what);
    const std::string error = error_of(row.file);
    CAPTURE(error);
    CHECK(contains(error, row.expected));
    CHECK(error.starts_with("w.safetensors"));
  }
  CHECK(rows.size() >= 300);
  std::printf("safetensors: %zu bad files refused\n", rows.size());
}

TEST_CASE("an error about the data names the byte") {
  try {
    read(file_with("{" + entry("a", "\"U8\"", "[4]", "[0,4]") + "}", 6));
    FAIL("accepted");
  } catch (const FileError& error) {
    CHECK(error.path == "w.safetensors");
    CHECK(error.offset == static_cast<std::int64_t>(8 + entry("a", "\"U8\"", "[4]", "[0,4]").size() + 2 + 4));
  }
}

TEST_CASE("any byte of the header may be anything: an error or tensors inside the file, never a step outside") {
  const std::string good(to_safetensors_bytes(example()).text());
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, good.data(), 8);
  std::size_t refused = 0;
  std::size_t tried = 0;
  for (std::size_t at = 0; at < 8 + header_bytes; ++at) {
    for (const char c :
         {'\0', ' ', '"', '0', '9', '-', '[', '}', ',', '\\', 'a', '\xff', static_cast<char>(good[at] ^ 1)}) {
      if (good[at] == c) continue;
      std::string file = good;
      file[at] = c;
      refused += !error_of(file).empty();
      ++tried;
    }
    std::string shorter = good;
    shorter.erase(at, 1);
    refused += !error_of(shorter).empty();
    ++tried;
  }
  std::printf("safetensors: %zu of %zu mutations refused, the rest read\n", refused, tried);
  CHECK(refused > tried / 2);
}
