// Checksums: CRC-32C (Castagnoli, RFC 3720 appendix B.4) for checkpoints, CRC-32 (RFC 1952 section 8) as gzip and zip
// store it. Eight bytes per step with eight tables (Kounavis and Berry, "A Systematic Approach to Building High
// Performance Software-Based CRC Generators", 2005).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <ocellus/core/config.hpp>

namespace ocellus {

// The checksum of what `previous` covered followed by `bytes`; 0 starts a new one.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous = 0);
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t previous = 0);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <array>
#include <cstring>

namespace ocellus {
namespace io_detail {

using CrcTables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: the remainder of byte b followed by k zero bytes, bits reflected.
constexpr CrcTables make_crc_tables(std::uint32_t reflected_polynomial) {
  CrcTables tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t remainder = b;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ (remainder & 1u ? reflected_polynomial : 0u);
    tables[0][b] = remainder;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t b = 0; b < 256; ++b) {
      const std::uint32_t shorter = tables[k - 1][b];
      tables[k][b] = (shorter >> 8) ^ tables[0][shorter & 0xffu];
    }
  }
  return tables;
}

inline constexpr CrcTables crc32c_tables = make_crc_tables(0x82f63b78u);
inline constexpr CrcTables crc32_tables = make_crc_tables(0xedb88320u);

OCELLUS_FN std::uint32_t crc_of(const CrcTables& tables, std::span<const std::byte> bytes, std::uint32_t previous) {
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  std::uint32_t crc = ~previous;
  for (; left >= 8; left -= 8, p += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= tables[7 - k][(word >> (8 * k)) & 0xffu];
  }
  for (; left > 0; --left, ++p) crc = (crc >> 8) ^ tables[0][(crc ^ std::to_integer<std::uint32_t>(*p)) & 0xffu];
  return ~crc;
}

}  // namespace io_detail

OCELLUS_FN std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous) {
  return io_detail::crc_of(io_detail::crc32c_tables, bytes, previous);
}

OCELLUS_FN std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t previous) {
  return io_detail::crc_of(io_detail::crc32_tables, bytes, previous);
}

}  // namespace ocellus
#endif
