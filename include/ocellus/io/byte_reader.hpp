// A cursor over the bytes of a file that never leaves them: every read past the end is a FileError with the offset.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <ocellus/core/error.hpp>

namespace ocellus {

static_assert(std::endian::native == std::endian::little, "Ocellus reads and writes little-endian files in place");

class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  std::uint64_t offset() const { return offset_; }
  std::uint64_t left() const { return bytes_.size() - offset_; }

  // Continues at this byte; bytes.size() is allowed and leaves nothing.
  void seek(std::uint64_t offset) {
    if (offset > bytes_.size()) fail_at(bytes_.size(), "points to byte " + std::to_string(offset) + ", past the end");
    offset_ = offset;
  }

  // The next n bytes. `what` names them in the error.
  std::span<const std::byte> take(std::uint64_t n, const char* what) {
    if (n > left()) {
      fail(std::string("the file ends inside of ") + what + ": " + std::to_string(n) + " bytes expected, " +
           std::to_string(left()) + " left");
    }
    const std::span<const std::byte> taken = bytes_.subspan(offset_, n);
    offset_ += n;
    return taken;
  }

  std::string_view text(std::uint64_t n, const char* what) {
    const std::span<const std::byte> taken = take(n, what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  template <class T>
  T little_endian(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  template <class T>
  T big_endian(const char* what) {
    T value = 0;
    for (const std::byte b : take(sizeof(T), what)) {
      value = static_cast<T>((std::uint64_t{value} << 8) | std::to_integer<std::uint64_t>(b));
    }
    return value;
  }

  [[noreturn]] void fail(const std::string& what) const { fail_at(offset_, what); }
  [[noreturn]] void fail_at(std::uint64_t offset, const std::string& what) const {
    throw FileError(source_, what, static_cast<std::int64_t>(offset));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string source_;
  std::uint64_t offset_ = 0;
};

}  // namespace ocellus
