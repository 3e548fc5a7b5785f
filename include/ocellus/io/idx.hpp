// IDX, the format of MNIST and its relatives (LeCun, Cortes, Burges: "The MNIST database of handwritten digits"): two
// zero bytes, the element type, the number of axes, their sizes as big-endian 32-bit numbers, the elements.
#pragma once

#include <cstdint>
#include <string>

#include <ocellus/core/config.hpp>
#include <ocellus/core/tensor.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

// Unsigned bytes of 1 to 8 axes: images (N, H, W), labels (N). A gzip file is recognised by its content. Throws
// FileError.
BasicTensor<std::uint8_t> read_idx(const Bytes& bytes, const std::string& source, const Limits& limits = {});
BasicTensor<std::uint8_t> read_idx(const std::string& path, const Limits& limits = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <optional>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/inflate.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus {

OCELLUS_FN BasicTensor<std::uint8_t> read_idx(const Bytes& bytes, const std::string& source, const Limits& limits) {
  if (is_gzip(bytes.span())) {
    const Bytes unpacked = gunzip(bytes, source, limits);
    if (is_gzip(unpacked.span())) throw FileError(source, "is packed with gzip twice");
    return read_idx(unpacked, source + " (unpacked)", limits);
  }
  constexpr unsigned unsigned_bytes = 8;
  ByteReader reader(bytes.span(), source);
  if (reader.big_endian<std::uint16_t>("the magic number") != 0) reader.fail_at(0, "is no IDX file");
  const unsigned type = reader.big_endian<std::uint8_t>("the magic number");
  const int rank = reader.big_endian<std::uint8_t>("the magic number");
  if (type != unsigned_bytes) {
    reader.fail_at(2, "IDX elements of type " + std::to_string(type) + "; only unsigned bytes (8) are read");
  }
  if (rank < 1 || rank > Shape::max_rank) {
    reader.fail_at(
        3, "an IDX file of " + std::to_string(rank) + " axes; 1 to " + std::to_string(Shape::max_rank) + " are read");
  }
  Spec spec{{}, DType::u8};
  std::optional<std::uint64_t> expected = 1;
  for (int axis = 0; axis < rank; ++axis) {
    const auto size = reader.big_endian<std::uint32_t>("the sizes");
    expected = checked_multiply(*expected, size);
    if (!expected || *expected > INT64_MAX) reader.fail("the number of elements overflows");
    spec.shape.push_back(size);
  }
  if (*expected != reader.left()) {
    reader.fail("shape " + spec.shape.str() + " needs " + std::to_string(*expected) + " bytes of data, the file has " +
                std::to_string(reader.left()));
  }
  return BasicTensor<std::uint8_t>(tensor_from(bytes, reader.offset(), spec));
}

OCELLUS_FN BasicTensor<std::uint8_t> read_idx(const std::string& path, const Limits& limits) {
  return read_idx(map_file(path, limits), path, limits);
}

}  // namespace ocellus
#endif
