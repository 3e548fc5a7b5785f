// NumPy's .npy and .npz files (numpy/lib/format.py, versions 1.0 to 3.0). Read: little-endian f2 f4 f8 i4 i8, i1 u1 and
// b1 (as u8), in C or Fortran order. Written: version 1.0, C order.
#pragma once

#include <string>

#include <ocellus/core/config.hpp>
#include <ocellus/core/tensor.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus {

// The array shares the memory of `bytes` where its order and alignment allow. Throws FileError.
AnyTensor read_npy(const Bytes& bytes, const std::string& source, const Limits& limits = {});
AnyTensor read_npy(const std::string& path, const Limits& limits = {});

// Atomic. Throws FileError, UsageError for bf16, which NumPy does not have, and for a tensor without data.
void write_npy(const std::string& path, const AnyTensor& tensor);
Bytes to_npy_bytes(const AnyTensor& tensor);

// Every array of an archive under its name without ".npy". Throws FileError.
NamedTensors read_npz(const Bytes& bytes, const std::string& source, const Limits& limits = {});
NamedTensors read_npz(const std::string& path, const Limits& limits = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/zip.hpp>

namespace ocellus {
namespace io_detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

// The header, a Python dictionary with three known keys in any order: {'descr': '<f4', 'fortran_order': False, 'shape':
// (2, 3), }
class NpyHeader {
 public:
  NpyHeader(std::string_view text, std::uint64_t offset, const ByteReader& reader)
      : text_(text), offset_(offset), reader_(reader) {
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !has_descr_) {
        descr_ = quoted();
        has_descr_ = true;
      } else if (key == "fortran_order" && !has_order_) {
        fortran_order_ = boolean();
        has_order_ = true;
      } else if (key == "shape" && !has_shape_) {
        shape_ = tuple();
        has_shape_ = true;
      } else {
        fail("the key " + io_detail::shown(key) + " is unknown or stands there twice");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) fail("text after the header's dictionary");
    if (!has_descr_ || !has_order_ || !has_shape_) fail("the header lacks 'descr', 'fortran_order' or 'shape'");
  }

  bool fortran_order() const { return fortran_order_; }
  const Shape& shape() const { return shape_; }

  DType type() const {
    struct Row {
      std::string_view code;
      DType type;
    };
    // One-byte elements have no byte order; NumPy writes '|'.
    constexpr Row rows[] = {{"<f4", DType::f32}, {"<f8", DType::f64}, {"<f2", DType::f16}, {"<i4", DType::i32},
                            {"<i8", DType::i64}, {"|u1", DType::u8},  {"|i1", DType::i8},  {"|b1", DType::u8},
                            {"<u1", DType::u8},  {"<i1", DType::i8}};
    for (const Row& row : rows) {
      if (descr_ == row.code) return row.type;
    }
    fail("elements of type " + io_detail::shown(descr_) +
         " are not supported; save the array as float32, float64, int32, int64, int8 or "
         "uint8 in little-endian order");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { reader_.fail_at(offset_ + at_, "npy header: " + what); }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected '") + c + "'");
  }
  bool accept_word(std::string_view word) {
    skip_spaces();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::string_view quoted() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t begin = at_;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) fail("a text without end");
    const std::string_view content = text_.substr(begin, end - begin);
    if (content.find('\\') != std::string_view::npos) fail("an escape in a text");
    at_ = end + 1;
    return content;
  }
  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    fail("expected True or False");
  }
  Index integer() {
    skip_spaces();
    std::optional<std::uint64_t> value = 0;
    const std::size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = checked_multiply(*value, 10);
      if (value) value = checked_add(*value, static_cast<std::uint64_t>(text_[at_] - '0'));
      if (!value || *value > INT64_MAX) fail("a size overflows");
    }
    if (at_ == begin) fail("expected a size");
    return static_cast<Index>(*value);
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      if (shape.rank() == Shape::max_rank) fail("more than " + std::to_string(Shape::max_rank) + " axes");
      shape.push_back(integer());
      if (accept(',')) continue;
      expect(')');
      if (shape.rank() == 1) fail("a shape of one axis is written with a comma");
      break;
    }
    return shape;
  }

  std::string_view text_;
  std::uint64_t offset_;
  const ByteReader& reader_;
  std::size_t at_ = 0;
  std::string_view descr_;
  bool fortran_order_ = false;
  Shape shape_;
  bool has_descr_ = false;
  bool has_order_ = false;
  bool has_shape_ = false;
};

// Reorders elements whose first axis runs fastest into row-major order.
OCELLUS_FN AnyTensor from_fortran_order(const Spec& spec, const std::byte* data) {
  AnyTensor tensor(spec);
  const int rank = spec.shape.rank();
  const std::size_t width = size_of(spec.dtype);
  Index strides[Shape::max_rank] = {};
  Index stride = 1;
  for (int axis = 0; axis < rank; ++axis) {
    strides[axis] = stride;
    stride *= spec.shape[axis];
  }
  Index place[Shape::max_rank] = {};
  Index from = 0;
  auto* to = static_cast<std::byte*>(tensor.raw());
  for (Index i = 0; i < spec.shape.numel(); ++i) {
    std::memcpy(to + static_cast<std::size_t>(i) * width, data + static_cast<std::size_t>(from) * width, width);
    for (int axis = rank - 1; axis >= 0; --axis) {
      from += strides[axis];
      if (++place[axis] < spec.shape[axis]) break;
      from -= strides[axis] * spec.shape[axis];
      place[axis] = 0;
    }
  }
  return tensor;
}

OCELLUS_FN std::string npy_header(const AnyTensor& tensor) {
  if (!tensor || tensor.symbolic() || tensor.format() != Format::plain) {
    throw UsageError("write_npy: the tensor has no plain data");
  }
  const char* descr = nullptr;
  switch (tensor.dtype()) {
    case DType::f32: descr = "<f4"; break;
    case DType::f64: descr = "<f8"; break;
    case DType::f16: descr = "<f2"; break;
    case DType::i32: descr = "<i4"; break;
    case DType::i64: descr = "<i8"; break;
    case DType::i8: descr = "|i1"; break;
    case DType::u8: descr = "|u1"; break;
    case DType::bf16:
    case DType::none: throw UsageError("write_npy: NumPy has no bf16; convert the tensor to f32 first");
  }
  std::string text = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (";
  for (int axis = 0; axis < tensor.rank(); ++axis) text += (axis ? ", " : "") + std::to_string(tensor.dim(axis));
  text += tensor.rank() == 1 ? ",), }" : "), }";
  constexpr std::size_t prefix = 10;     // magic, version, length
  constexpr std::size_t alignment = 64;  // of the data in the file
  text.resize((prefix + text.size() + 1 + alignment - 1) / alignment * alignment - prefix - 1, ' ');
  text += '\n';
  std::string header(npy_magic);
  header += '\x01';
  header += '\x00';
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace io_detail

OCELLUS_FN AnyTensor read_npy(const Bytes& bytes, const std::string& source, const Limits& limits) {
  ByteReader reader(bytes.span(), source);
  if (reader.text(io_detail::npy_magic.size(), "the magic word") != io_detail::npy_magic) {
    reader.fail_at(0, "is no .npy file");
  }
  const unsigned major = reader.little_endian<std::uint8_t>("the version");
  const unsigned minor = reader.little_endian<std::uint8_t>("the version");
  if (major < 1 || major > 3 || minor != 0) {
    reader.fail_at(6, "npy version " + std::to_string(major) + "." + std::to_string(minor) + "; 1.0 to 3.0 are read");
  }
  const std::uint64_t length = major == 1 ? reader.little_endian<std::uint16_t>("the header's length")
                                          : reader.little_endian<std::uint32_t>("the header's length");
  if (length > limits.header_bytes) {
    reader.fail("an npy header of " + std::to_string(length) + " bytes, the limit is " +
                std::to_string(limits.header_bytes) + " (Limits::header_bytes)");
  }
  const std::uint64_t header_begin = reader.offset();
  const io_detail::NpyHeader header(reader.text(length, "the header"), header_begin, reader);

  const Spec spec{header.shape(), header.type()};
  std::optional<std::uint64_t> expected = size_of(spec.dtype);
  for (const Index size : spec.shape) {
    expected = checked_multiply(*expected, static_cast<std::uint64_t>(size));
    if (!expected || *expected > INT64_MAX) reader.fail_at(header_begin, "npy header: the number of bytes overflows");
  }
  if (*expected != reader.left()) {
    reader.fail("shape " + spec.shape.str() + " of " + name_of(spec.dtype) + " needs " + std::to_string(*expected) +
                " bytes of data, the file has " + std::to_string(reader.left()));
  }
  if (!header.fortran_order()) return tensor_from(bytes, reader.offset(), spec);
  return io_detail::from_fortran_order(spec, bytes.data() + reader.offset());
}

OCELLUS_FN AnyTensor read_npy(const std::string& path, const Limits& limits) {
  return read_npy(map_file(path, limits), path, limits);
}

OCELLUS_FN Bytes to_npy_bytes(const AnyTensor& tensor) {
  const std::string header = io_detail::npy_header(tensor);
  const ByteSpan pieces[] = {as_bytes(header), {static_cast<const std::byte*>(tensor.raw()), tensor.spec().bytes()}};
  return join_bytes(pieces);
}

OCELLUS_FN void write_npy(const std::string& path, const AnyTensor& tensor) {
  const std::string header = io_detail::npy_header(tensor);
  const ByteSpan pieces[] = {as_bytes(header), {static_cast<const std::byte*>(tensor.raw()), tensor.spec().bytes()}};
  write_file_atomically(path, pieces);
}

OCELLUS_FN NamedTensors read_npz(const Bytes& bytes, const std::string& source, const Limits& limits) {
  constexpr std::string_view suffix = ".npy";
  NamedTensors tensors;
  for (const ZipEntry& entry : read_zip_directory(bytes, source, limits)) {
    const std::size_t stem = entry.name.size() - std::min(entry.name.size(), suffix.size());
    if (stem == 0 || entry.name.substr(stem) != suffix) {
      throw FileError(source, io_detail::shown(entry.name) + " is no array; an .npz file holds <name>.npy",
                      static_cast<std::int64_t>(entry.begin));
    }
    const Bytes content = read_zip_entry(bytes, entry, source, limits);
    tensors.add(entry.name.substr(0, stem), read_npy(content, source + ": " + io_detail::shown(entry.name), limits));
  }
  return tensors;
}

OCELLUS_FN NamedTensors read_npz(const std::string& path, const Limits& limits) {
  return read_npz(map_file(path, limits), path, limits);
}

}  // namespace ocellus
#endif
