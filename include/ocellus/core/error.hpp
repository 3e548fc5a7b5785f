// The exception hierarchy. A message says where, which rule, what was given and what to do.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include <ocellus/core/config.hpp>

namespace ocellus {

// Root of everything the library throws on purpose.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Shapes, element types or arguments of an op that do not fit each other.
struct ShapeError : Error {
  using Error::Error;
};

// A model configuration that is malformed, contradictory or unknown.
struct ConfigError : Error {
  using Error::Error;
};

// The library or the program was called in a way that its contract excludes.
struct UsageError : Error {
  using Error::Error;
};

// A file that is missing, unreadable, damaged or hostile. `offset` is the byte where it was noticed, -1 if none.
struct FileError : Error {
  FileError(const std::string& file_path, const std::string& what, std::int64_t byte_offset = -1);

  std::string path;
  std::int64_t offset;
};

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_CORE)

OCELLUS_FN FileError::FileError(const std::string& file_path, const std::string& what, std::int64_t byte_offset)
    : Error(file_path + (byte_offset < 0 ? "" : " (byte " + std::to_string(byte_offset) + ")") + ": " + what),
      path(file_path),
      offset(byte_offset) {}

#endif

}  // namespace ocellus
