// The one field of EXIF that a program cannot do without: how the camera was held (EXIF 2.3, section 4.6.4 A, tag
// 0x0112; the container is TIFF 6.0, section 2).
#pragma once

#include <cstddef>
#include <span>

#include <ocellus/core/config.hpp>

namespace ocellus {

// The orientation, 1 to 8, in the first directory of a TIFF block (the payload of JPEG's APP1 after "Exif\0\0", or
// PNG's eXIf). 1 for whatever is missing, damaged or out of range; reads nothing outside of `tiff` and follows no
// chain.
int exif_orientation(std::span<const std::byte> tiff);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <cstdint>

namespace ocellus {

OCELLUS_FN int exif_orientation(std::span<const std::byte> tiff) {
  constexpr std::size_t header_bytes = 8, count_bytes = 2, entry_bytes = 12;
  constexpr std::uint32_t orientation_tag = 0x0112, type_short = 3, type_long = 4;
  if (tiff.size() < header_bytes || tiff[0] != tiff[1]) return 1;
  const bool little = tiff[0] == std::byte{'I'};
  if (!little && tiff[0] != std::byte{'M'}) return 1;
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      value = (value << 8) | std::to_integer<std::uint32_t>(tiff[at + (little ? bytes - 1 - i : i)]);
    }
    return value;
  };
  if (number(2, 2) != 42) return 1;
  const std::size_t directory = number(4, 4);
  if (directory > tiff.size() - count_bytes) return 1;
  const std::size_t announced = number(directory, count_bytes);
  const std::size_t present = (tiff.size() - directory - count_bytes) / entry_bytes;
  for (std::size_t i = 0; i < announced && i < present; ++i) {
    const std::size_t entry = directory + count_bytes + i * entry_bytes;
    if (number(entry, 2) != orientation_tag) continue;
    const std::uint32_t type = number(entry + 2, 2), count = number(entry + 4, 4);
    if (count != 1 || (type != type_short && type != type_long)) return 1;
    const std::uint32_t value = number(entry + 8, type == type_short ? 2 : 4);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace ocellus
#endif
