// .npy and .npz: round trips, files as NumPy writes them, bad files.
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/io/zip.hpp>

#include "io_support.hpp"
#include "zip_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

std::string npy(const std::string& header, const std::string& data, char major = 1) {
  const std::string length = major == 1 ? little(static_cast<std::uint16_t>(header.size()))
                                        : little(static_cast<std::uint32_t>(header.size()));
  return std::string("\x93NUMPY") + major + '\0' + length + header + data;
}

std::string error_of(std::string_view file) {
  return file_error_of([&] { touch(read_npy(bytes_of(file), "x.npy")); });
}

std::string npz_error_of(std::string_view file) {
  return file_error_of([&] {
    for (const NamedTensor& t : read_npz(bytes_of(file), "x.npz")) touch(t.tensor);
  });
}

std::string small_npy() { return std::string(to_npy_bytes(counting({{2, 3}, DType::f32}, 1)).text()); }

// numpy.savez_compressed(a=numpy.zeros((40, 40), '<f4'), b=numpy.arange(6, dtype='<i8').reshape(2, 3)).
const char* const compressed_npz =
    "504b03042d000000080000002100e479b0d9ffffffffffffffff05001400612e6e7079010010008019000000000000690000"
    "0000000000edc8210e83301840e16239c5effe915420aa087a6e0b0631459a518258c6d212ccc229b830ec0a93e47deebded"
    "dede9a476616f3d53ea467d44ab41e9c5ad1618a73f4ef6e8a7df8fdab7fa570fc34fa4f38fae24a2bae2cacacf2a7dc0000"
    "000000000000009ccc0e504b03042d000000080000002100599bda7dffffffffffffffff05001400622e6e707901001000b0"
    "0000000000000056000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9369a1aea3a09e965f54529498"
    "179f5f94920a12774bcc294e058a17672416a402f91a463a0ac69a3a0ab50a64032e06286084d24c509a194ab3406956280d"
    "00504b01022d032d000000080000002100e479b0d96900000080190000050000000000000000000000800100000000612e6e"
    "7079504b01022d032d000000080000002100599bda7d56000000b00000000500000000000000000000008001a0000000622e"
    "6e7079504b05060000000002000200660000002d0100000000";

}  // namespace

TEST_CASE("every element type NumPy has survives memory and file") {
  const TemporaryFolder folder;
  const Shape shapes[] = {{}, {0}, {5}, {2, 3}, {2, 0, 3}, {1, 2, 1, 2, 1, 2, 1, 2}};
  for (const DType type : {DType::f32, DType::f64, DType::f16, DType::i32, DType::i64, DType::i8, DType::u8}) {
    for (const Shape& shape : shapes) {
      CAPTURE(name_of(type));
      CAPTURE(shape.str());
      const AnyTensor tensor = counting({shape, type}, 3);
      const Bytes bytes = to_npy_bytes(tensor);
      CHECK((bytes.size() - tensor.spec().bytes()) % 64 == 0);
      CHECK(same(tensor, read_npy(bytes, "memory")));
      write_npy(folder / "x.npy", tensor);
      CHECK(content_of(folder / "x.npy") == bytes.text());
      CHECK(same(tensor, read_npy(folder / "x.npy")));
    }
  }
  CHECK_THROWS_AS(to_npy_bytes(counting({{1}, DType::bf16}, 0)), UsageError);
  CHECK_THROWS_AS(to_npy_bytes(AnyTensor()), UsageError);
}

TEST_CASE("the written header is NumPy's") {
  const std::string file = small_npy();
  CHECK(file.substr(0, 10) == std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  CHECK(file.substr(10, 118) ==
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + std::string(58, ' ') + "\n");
}

TEST_CASE("versions 1 to 3 and every spelling of the header are read") {
  const std::string data(24, '\x05');
  const AnyTensor expected =
      read_npy(bytes_of(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", data)), "x");
  CHECK(expected.shape() == Shape{2, 3});
  for (const char* header : {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
                             "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}",
                             " { 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 3 , ) } \n"}) {
    for (const char major : {'\1', '\2', '\3'})
      CHECK(same(read_npy(bytes_of(npy(header, data, major)), "x"), expected));
  }
  struct Row {
    std::string code;
    DType type;
  };
  const Row rows[] = {{"|u1", DType::u8}, {"<u1", DType::u8}, {"|b1", DType::u8},
                      {"|i1", DType::i8}, {"<i1", DType::i8}, {"<f2", DType::f16}};
  for (const Row& row : rows) {
    const std::string header = "{'descr': '" + row.code + "', 'fortran_order': False, 'shape': (4,)}";
    CHECK(read_npy(bytes_of(npy(header, std::string(4 * size_of(row.type), '\1'))), "x").dtype() == row.type);
  }
}

TEST_CASE("Fortran order is converted") {
  std::string data;
  for (std::int32_t k = 0; k < 4; ++k) {
    for (std::int32_t j = 0; j < 3; ++j) {
      for (std::int32_t i = 0; i < 2; ++i) data += little(i * 100 + j * 10 + k);
    }
  }
  const BasicTensor<std::int32_t> x(
      read_npy(bytes_of(npy("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3, 4)}", data)), "x"));
  int wrong = 0;
  for (Index i = 0; i < 2; ++i) {
    for (Index j = 0; j < 3; ++j) {
      for (Index k = 0; k < 4; ++k) wrong += x[(i * 3 + j) * 4 + k] != i * 100 + j * 10 + k;
    }
  }
  CHECK(wrong == 0);
  CHECK(read_npy(bytes_of(npy("{'descr': '<f4', 'fortran_order': True, 'shape': ()}", "abcd")), "x").rank() == 0);
  CHECK(read_npy(bytes_of(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0)}", "")), "x").numel() == 0);
}

TEST_CASE("every bad .npy file is refused with its reason") {
  struct Row {
    std::string file, expected;
  };
  const std::string data(24, '\x05');
  const auto with = [&](const std::string& descr, const std::string& order, const std::string& shape) {
    return npy("{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + "}", data);
  };
  std::vector<Row> rows = {
      {"", "inside of the magic word"},
      {"PK\3\4" + data, "is no .npy file"},
      {"\x92NUMPY" + data, "is no .npy file"},
      {npy("{}", data, 0), "npy version 0.0"},
      {npy("{}", data, 4), "npy version 4.0"},
      {std::string("\x93NUMPY\x01\x01", 8) + data, "npy version 1.1"},
      {std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12) + data, "(Limits::header_bytes)"},
      {std::string("\x93NUMPY\x01\x00\xff\xff", 10) + data, "inside of the header"},
      {npy("", data), "expected '{'"},
      {npy("{}", data), "lacks"},
      {npy("{'descr': '<f4', 'fortran_order': False}", data), "lacks"},
      {npy("{'descr': '<f4', 'shape': (2, 3)}", data), "lacks"},
      {npy("{'fortran_order': False, 'shape': (2, 3)}", data), "lacks"},
      {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", data), "twice"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", data), "unknown"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x", data), "text after"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", data), "expected '}'"},
      {npy("{'descr': '<f4' 'fortran_order': False}", data), "expected '}'"},
      {npy("{'descr' '<f4'}", data), "expected ':'"},
      {npy("{'descr': '<f4", data), "a text without end"},
      {npy("{descr: '<f4'}", data), "expected '''"},
      {npy("[('a', '<f4')]", data), "expected '{'"},
      {with("[('a', '<f4')]", "False", "(2, 3)"), "expected '''"},
      {with("'\\x3cf4'", "False", "(2, 3)"), "an escape"},
      {with("'<f4'", "false", "(2, 3)"), "expected True or False"},
      {with("'<f4'", "0", "(2, 3)"), "expected True or False"},
      {with("'<f4'", "False", "6"), "expected '('"},
      {with("'<f4'", "False", "[2, 3]"), "expected '('"},
      {with("'<f4'", "False", "(6)"), "with a comma"},
      {with("'<f4'", "False", "(-2, 3)"), "expected a size"},
      {with("'<f4'", "False", "(2.0, 3)"), "expected ')'"},
      {with("'<f4'", "False", "(2, 'a')"), "expected a size"},
      {with("'<f4'", "False", "(,)"), "expected a size"},
      {with("'<f4'", "False", "(2, 3"), "expected ')'"},
      {with("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 2, 3)"), "more than 8 axes"},
      {with("'<f4'", "False", "(9223372036854775808,)"), "a size overflows"},
      {with("'<f4'", "False", "(99999999999999999999999,)"), "a size overflows"},
      {with("'<f4'", "False", "(9223372036854775807,)"), "the number of bytes overflows"},
      {with("'<f4'", "False", "(4294967296, 4294967296)"), "the number of bytes overflows"},
      {with("'<f4'", "False", "(4611686018427387904, 4)"), "the number of bytes overflows"},
      {with("'<f4'", "False", "(2, 4)"), "needs 32 bytes of data, the file has 24"},
      {with("'<f4'", "False", "(5,)"), "needs 20 bytes of data, the file has 24"},
      {with("'<f4'", "False", "()"), "needs 4 bytes of data, the file has 24"},
      {with("'<f8'", "False", "(2, 3)"), "needs 48 bytes of data, the file has 24"},
  };
  for (const char* code : {"'>f4'", "'=f4'", "'f4'", "'<f16'", "'<c8'", "'|O'", "'|S3'", "'<U3'", "'<i2'", "'<u4'",
                           "'|V2'", "''", "'<M8[ns]'"}) {
    rows.push_back({with(code, "False", "(2, 3)"), "are not supported; save the array as"});
  }
  const std::string good = small_npy();
  for (std::size_t n = 0; n < good.size(); ++n) {
    rows.push_back({good.substr(0, n), n < 128 ? "inside of" : "needs 24 bytes"});
  }
  rows.push_back({good + "x", "the file has 25"});
  for (const Row& row : rows) {
    CAPTURE(row.file.substr(0, 100));
    const std::string error = error_of(row.file);
    CAPTURE(error);
    CHECK(contains(error, row.expected));
    CHECK(error.starts_with("x.npy"));
  }
  std::printf("npy: %zu bad files refused\n", rows.size());
}

TEST_CASE("any byte of an .npy header may be anything") {
  const std::string good = small_npy();
  for (std::size_t at = 0; at < 128; ++at) {
    for (int c = 0; c < 256; c += 3) {
      std::string file = good;
      file[at] = static_cast<char>(c);
      error_of(file);
    }
  }
}

TEST_CASE("an archive gives its arrays by name") {
  const std::string a = small_npy();
  const std::string b(to_npy_bytes(counting({{4}, DType::i64}, 9)).text());
  for (const bool packed : {false, true}) {
    const auto part = packed ? deflated : stored;
    const NamedTensors tensors =
        read_npz(bytes_of(zip({part("a.npy", a), part("layer/b.npy", b)}, packed ? "a comment" : "")), "x");
    REQUIRE(tensors.size() == 2);
    CHECK(same(tensors.at("a"), counting({{2, 3}, DType::f32}, 1)));
    CHECK(same(tensors.at("layer/b"), counting({{4}, DType::i64}, 9)));
  }
  CHECK(read_npz(bytes_of(zip({})), "x").empty());
  const TemporaryFolder folder;
  CHECK(read_npz(folder.write("x.npz", zip({stored("a.npy", a)}))).size() == 1);
}

TEST_CASE("what NumPy compressed is read") {
  const NamedTensors tensors = read_npz(bytes_of(from_hex(compressed_npz)), "x");
  const BasicTensor<float> a(tensors.at("a"));
  CHECK(a.shape() == Shape{40, 40});
  CHECK(same(a, Tensor(Shape{40, 40})));
  CHECK(same(tensors.at("b"), BasicTensor<std::int64_t>({2, 3}, {0, 1, 2, 3, 4, 5})));
}

TEST_CASE("ZIP64 sizes are read") {
  ZipParts part = stored("a.npy", small_npy());
  const std::uint64_t n = part.size;
  part.extra = little(std::uint16_t{0xcafe}) + little(std::uint16_t{2}) + "xx" + little(std::uint16_t{1}) +
               little(std::uint16_t{16}) + little(n) + little(n);
  part.size = UINT32_MAX;
  std::string file = zip({part});
  file.replace(22, 4, little(static_cast<std::uint32_t>(n)));  // beside the data 32 bits are enough
  const std::size_t directory = file.find("PK\1\2");
  file.replace(directory + 20, 4, "\xff\xff\xff\xff");
  CHECK(same(read_npz(bytes_of(file), "x").at("a"), counting({{2, 3}, DType::f32}, 1)));

  // The same with a ZIP64 end record.
  const std::size_t end = file.find("PK\5\6");
  const std::string end64 = little(std::uint32_t{0x06064b50}) + little(std::uint64_t{44}) + std::string(12, '\0') +
                            little(std::uint64_t{1}) + little(std::uint64_t{1}) +
                            little(std::uint64_t{end - directory}) + little(std::uint64_t{directory});
  const std::string locator = little(std::uint32_t{0x07064b50}) + little(std::uint32_t{0}) +
                              little(std::uint64_t{end}) + little(std::uint32_t{1});
  std::string end_record = file.substr(end);
  end_record.replace(16, 4, "\xff\xff\xff\xff");
  const std::string large = file.substr(0, end) + end64 + locator + end_record;
  CHECK(same(read_npz(bytes_of(large), "x").at("a"), counting({{2, 3}, DType::f32}, 1)));
  CHECK(contains(npz_error_of(file.substr(0, end) + end_record), "ZIP64 locator is missing"));
  std::string astray = large;
  astray.replace(end + 56 + 8, 8, little(std::uint64_t{7}));
  CHECK(contains(npz_error_of(astray), "ZIP64 end record is missing"));
  astray.replace(end + 56 + 8, 8, little(UINT64_MAX));
  CHECK(contains(npz_error_of(astray), "past the end"));
  std::string short_extra = file;
  short_extra.replace(file.find("PK\1\2") + 46 + 5 + 6 + 2, 2, little(std::uint16_t{8}));
  CHECK(contains(npz_error_of(short_extra), "ZIP64 field"));
}

TEST_CASE("the header beside an entry's data must say what the directory says, unless it says that sizes follow") {
  const std::string content = small_npy();
  for (const bool packed : {false, true}) {
    const std::string good = zip({packed ? deflated("a.npy", content) : stored("a.npy", content)});
    CHECK(npz_error_of(good) == "");
    const std::string method = packed ? std::string("\0\0", 2) : std::string("\10\0", 2);
    for (const auto& [at, bytes, expected] : std::vector<std::tuple<std::size_t, std::string, std::string>>{
             {8, method, "another method of \"a.npy\""},
             {14, "beef", "another CRC-32 of \"a.npy\""},
             {18, little(std::uint32_t{7}), "another packed size of \"a.npy\""},
             {18, little(UINT32_MAX), "another packed size of \"a.npy\""},
             {22, little(std::uint32_t{7}), "another size of \"a.npy\""}}) {
      CAPTURE(expected);
      std::string file = good;
      file.replace(at, bytes.size(), bytes);
      CHECK(contains(npz_error_of(file), "x.npz (byte 0): the directory says " + expected));
      file[6] = 8;
      CHECK(contains(npz_error_of(file), at == 8 ? expected : ""));
      CHECK((npz_error_of(file) == "") == (at != 8));
    }
    // ZIP64 beside the data, as NumPy writes it.
    const std::uint64_t n = content.size(), stored_bytes = packed ? n + 5 : n;
    const std::string extra = little(std::uint16_t{1}) + little(std::uint16_t{16}) + little(n) + little(stored_bytes);
    const auto wide = [&](const std::string& field) {
      std::string file = good;
      file.replace(18, 8, std::string(8, '\xff'));
      file.replace(28, 2, little(static_cast<std::uint16_t>(field.size())));
      file.insert(35, field);
      const std::size_t end = file.find("PK\5\6");
      return file.replace(end + 16, 4, little(static_cast<std::uint32_t>(file.find("PK\1\2"))));
    };
    CHECK(npz_error_of(wide(extra)) == "");
    std::string lie = extra;
    lie[4] = static_cast<char>(lie[4] ^ 1);
    CHECK(contains(npz_error_of(wide(lie)), "the directory says another size of \"a.npy\""));
    CHECK(contains(npz_error_of(wide(extra.substr(0, 12))), "an extra field is longer than its place"));
    CHECK(contains(npz_error_of(wide("")), "the directory says another packed size"));
  }
}

TEST_CASE("every bad archive is refused with its reason") {
  const std::string a = small_npy();
  struct Row {
    std::string file, expected;
  };
  std::vector<Row> rows = {
      {"", "too short"},
      {a, "there is no end record"},
      {zip({stored("a.npy", a)}) + "x", "there is no end record"},
      {"x" + zip({stored("a.npy", a)}), "does not end where the end record begins"},
      {zip({stored("a.npy", a), stored("a.npy", a)}), "two entries are called \"a.npy\""},
      {zip({stored("a.txt", a)}), "\"a.txt\" is no array"},
      {zip({stored(".npy", a)}), "\".npy\" is no array"},
      {zip({stored("npy", a)}), "\"npy\" is no array"},
      {zip({stored("", a)}), "an entry's name is empty"},
      {zip({stored(std::string("a\0.npy", 6), a)}), "contains NUL"},
      {zip({stored(std::string(1025, 'n'), a)}), "longer than Limits::name_bytes"},
      {zip({stored("a.npy", "junk")}), "inside of the magic word"},
      {zip({stored("a.npy", a.substr(0, 100))}), "x.npz: \"a.npy\" (byte 10): the file ends inside of the header"},
  };
  const auto changed = [&](void (*change)(ZipParts&), bool packed = false) {
    ZipParts part = packed ? deflated("a.npy", small_npy()) : stored("a.npy", small_npy());
    change(part);
    return zip({part});
  };
  rows.push_back({changed([](ZipParts& p) { p.flags = 1; }), "\"a.npy\" is encrypted"});
  rows.push_back({changed([](ZipParts& p) { p.method = 12; }), "packed with method 12"});
  rows.push_back({changed([](ZipParts& p) { p.crc ^= 1; }), "does not match its CRC-32"});
  rows.push_back({changed([](ZipParts& p) { p.size += 1; }), "its two sizes differ"});
  rows.push_back({changed([](ZipParts& p) { p.size = p.packed = 1'000'000; }), "runs into the directory"});
  rows.push_back({changed([](ZipParts& p) { p.size = p.packed = 0xfffffffe; }), "runs into the directory"});
  rows.push_back({changed([](ZipParts& p) {
                    p.size = 0;
                    p.packed = 0;
                  }),
                  "does not match its CRC-32"});
  rows.push_back({changed([](ZipParts& p) { p.local_name = "b.npy"; }), "the entry is not \"a.npy\""});
  rows.push_back({changed([](ZipParts& p) { p.local_name = "aa.npy"; }), "the entry is not \"a.npy\""});
  rows.push_back({changed([](ZipParts& p) { p.offset = 1; }), "no entry begins where"});
  rows.push_back({changed([](ZipParts& p) { p.offset = 1'000'000; }), "past the end"});
  rows.push_back({changed([](ZipParts& p) { p.crc ^= 1; }, true), "does not match its CRC-32"});
  rows.push_back({changed([](ZipParts& p) { p.size += 1; }, true), "were announced"});
  rows.push_back({changed([](ZipParts& p) { p.size -= 1; }, true), "unpacks to more than the 151 bytes announced"});
  rows.push_back({changed([](ZipParts& p) { p.size = 1'000'000'000; }, true), "more than its"});
  rows.push_back({changed([](ZipParts& p) { p.size = 2'000'000'000; }, true), "(Limits::inflated_bytes)"});
  rows.push_back({changed([](ZipParts& p) { p.data[0] = 7; }, true), "the deflate stream is damaged"});
  rows.push_back({changed([](ZipParts& p) { p.data[3] = 7; }, true), "the deflate stream is damaged"});
  rows.push_back({changed([](ZipParts& p) { p.data.resize(20); }, true), "the deflate stream is damaged"});
  rows.push_back({changed([](ZipParts& p) { p.data.clear(); }, true), "the deflate stream is damaged"});

  // Two directory entries for the same bytes: how an archive of kilobytes unpacks to terabytes.
  ZipParts again = stored("a.npy", "");
  again.offset = 0;
  rows.push_back({zip({stored("a.npy", a), again}), "two entries are called"});
  ZipParts inner = stored("b.npy", "x");
  ZipParts outer = stored("a.npy", zip({inner}).substr(0, 36));
  inner.offset = 35;
  rows.push_back({zip({outer, inner}), "overlaps the entry before it"});

  const std::string good = zip({stored("a.npy", a), deflated("b.npy", a)});
  for (std::size_t n = 0; n < good.size(); ++n)
    rows.push_back({good.substr(0, n), n < 22 ? "too short" : "there is no end record"});
  for (std::size_t at = good.find("PK\1\2"); at < good.size(); ++at) {
    for (const int flip : {1, 128, 255}) {
      std::string file = good;
      file[at] = static_cast<char>(file[at] ^ flip);
      npz_error_of(file);  // versions, times and attributes may say anything; nothing may crash
    }
  }
  for (const Row& row : rows) {
    CAPTURE(row.file.size());
    const std::string error = npz_error_of(row.file);
    CAPTURE(error);
    CHECK(contains(error, row.expected));
    CHECK(error.starts_with("x.npz"));
  }
  std::printf("npz: %zu bad files refused\n", rows.size());
}
