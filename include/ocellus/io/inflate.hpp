// Raw deflate streams (RFC 1951) and gzip files (RFC 1952), unpacked by stb's decoder into a buffer whose size was
// checked first.
#pragma once

#include <cstdint>
#include <string>

#include <ocellus/core/config.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

// Unpacks a deflate stream of exactly `packed` bytes that must give exactly `size` bytes. `bytes` holds the stream and
// what follows it in the file, at least 8 bytes (a gzip trailer, a zip directory), because the decoder reads ahead.
// Whether the content is the right one only a checksum can tell. Throws FileError at `offset` of `source`.
Bytes inflate(ByteSpan bytes, std::uint64_t packed, std::uint64_t size, const std::string& source, std::uint64_t offset,
              const Limits& limits = {});

bool is_gzip(ByteSpan bytes);
// Unpacks a gzip file of one member and checks its length and CRC-32. Throws FileError.
Bytes gunzip(const Bytes& bytes, const std::string& source, const Limits& limits = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <climits>
#include <memory>
#include <string_view>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/stb_zlib.hpp>

namespace ocellus {
namespace io_detail {

// Deflate codes at best 258 bytes in two bits.
inline constexpr std::uint64_t deflate_best_ratio = 1032;
// Memory that a file may ask for on its word alone, beyond twice its own size.
inline constexpr std::uint64_t unproven_bytes = std::uint64_t{64} << 20;

}  // namespace io_detail

OCELLUS_FN Bytes inflate(ByteSpan bytes, std::uint64_t packed, std::uint64_t size, const std::string& source,
                         std::uint64_t offset, const Limits& limits) {
  const auto fail = [&](const std::string& what) { throw FileError(source, what, static_cast<std::int64_t>(offset)); };
  const std::uint64_t most = std::min<std::uint64_t>(limits.inflated_bytes, INT_MAX);
  if (size > most) {
    fail("unpacks to " + std::to_string(size) + " bytes, the limit is " + std::to_string(most) +
         " (Limits::inflated_bytes)");
  }
  if (bytes.size() > INT_MAX) fail("a deflate stream of more than 2 GiB");
  if (size / io_detail::deflate_best_ratio > packed) {
    fail("claims to unpack to " + std::to_string(size) + " bytes, more than its " + std::to_string(packed) +
         " bytes can hold");
  }

  // A larger claim than the file has earned gets its memory in steps, each paid for by data that filled the one before.
  std::uint64_t capacity = std::min<std::uint64_t>(size, 2 * packed + io_detail::unproven_bytes);
  for (;;) {
    const std::shared_ptr<std::byte> memory = io_detail::allocate_bytes(capacity, source);
    const io_detail::stb::Inflated got =
        io_detail::stb::inflate(bytes.data(), static_cast<int>(bytes.size()), memory.get(), static_cast<int>(capacity));
    if (got.complete) {
      if (static_cast<std::uint64_t>(got.written) != size) {
        fail("unpacks to " + std::to_string(got.written) + " bytes, " + std::to_string(size) + " were announced");
      }
      if (static_cast<std::uint64_t>(got.consumed) != packed) {
        fail("the deflate stream ends after " + std::to_string(got.consumed) + " of " + std::to_string(packed) +
             " bytes");
      }
      return {ByteSpan(memory.get(), static_cast<std::size_t>(size)), memory};
    }
    if (std::string_view(got.reason) != "output buffer limit") {
      fail(std::string("the deflate stream is damaged: ") + got.reason);
    }
    if (capacity == size) fail("unpacks to more than the " + std::to_string(size) + " bytes announced");
    capacity = std::min<std::uint64_t>(size, 4 * capacity);
  }
}

OCELLUS_FN bool is_gzip(ByteSpan bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

OCELLUS_FN Bytes gunzip(const Bytes& bytes, const std::string& source, const Limits& limits) {
  enum Flag : unsigned { header_crc = 2, extra = 4, name = 8, comment = 16, reserved = 0xe0 };
  constexpr std::uint64_t trailer_bytes = 8;
  ByteReader reader(bytes.span(), source);
  if (reader.big_endian<std::uint16_t>("the gzip header") != 0x1f8b) reader.fail_at(0, "is no gzip file");
  if (reader.little_endian<std::uint8_t>("the gzip header") != 8) reader.fail_at(2, "gzip method other than deflate");
  const unsigned flags = reader.little_endian<std::uint8_t>("the gzip header");
  if (flags & reserved) reader.fail_at(3, "reserved gzip flags are set");
  reader.take(6, "the gzip header");  // time, extra flags, operating system
  if (flags & extra) reader.take(reader.little_endian<std::uint16_t>("the gzip extra field"), "the gzip extra field");
  for (const Flag text : {name, comment}) {
    if (!(flags & text)) continue;
    while (reader.little_endian<std::uint8_t>("a text of the gzip header") != 0) {
    }
  }
  if (flags & header_crc) reader.take(2, "the gzip header's checksum");

  const std::uint64_t stream = reader.offset();
  if (reader.left() < trailer_bytes) reader.fail("the file ends inside of the gzip data");
  reader.seek(bytes.size() - trailer_bytes);
  const auto crc = reader.little_endian<std::uint32_t>("the gzip trailer");
  const auto size = reader.little_endian<std::uint32_t>("the gzip trailer");
  const Bytes unpacked =
      inflate(bytes.span().subspan(stream), bytes.size() - trailer_bytes - stream, size, source, stream, limits);
  if (crc32(unpacked.span()) != crc) {
    reader.fail_at(bytes.size() - trailer_bytes, "the unpacked data does not match its CRC-32");
  }
  return unpacked;
}

}  // namespace ocellus
#endif
