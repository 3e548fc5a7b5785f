// Sums and products of sizes that come from a file: empty instead of a wrapped value.
#pragma once

#include <cstdint>
#include <optional>

namespace ocellus {

inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t sum = a + b;
  if (sum < a) return std::nullopt;
  return sum;
}

inline std::optional<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > UINT64_MAX / a) return std::nullopt;
  return a * b;
}

}  // namespace ocellus
