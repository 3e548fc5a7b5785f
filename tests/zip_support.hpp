// Zip archives put together by hand, right and wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/file.hpp>

#include "io_support.hpp"

namespace io_test {

// What the records of an entry say.
struct ZipParts {
  std::string name, data;  // as stored in the archive
  std::uint32_t crc = 0;
  std::uint32_t size = 0;
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
  std::string local_name;
  std::string extra;
  std::uint32_t offset = UINT32_MAX;  // of the local header; its true place
  std::uint32_t packed = UINT32_MAX;  // as the directory says; the true size
};

inline ZipParts stored(const std::string& name, const std::string& content) {
  ZipParts part;
  part.name = part.local_name = name;
  part.data = content;
  part.crc = ocellus::crc32(ocellus::as_bytes(content));
  part.size = static_cast<std::uint32_t>(content.size());
  return part;
}

// One deflate block of stored bytes.
inline ZipParts deflated(const std::string& name, const std::string& content) {
  ZipParts part = stored(name, content);
  const auto n = static_cast<std::uint16_t>(content.size());
  part.data = std::string("\x01") + little(n) + little(static_cast<std::uint16_t>(~n)) + content;
  part.method = 8;
  return part;
}

inline std::string zip(const std::vector<ZipParts>& parts, const std::string& comment = "") {
  std::string file;
  std::string directory;
  for (const ZipParts& p : parts) {
    const auto offset = p.offset == UINT32_MAX ? static_cast<std::uint32_t>(file.size()) : p.offset;
    const auto packed = p.packed == UINT32_MAX ? static_cast<std::uint32_t>(p.data.size()) : p.packed;
    const std::string middle =
        little(p.flags) + little(p.method) + little(std::uint32_t{0}) + little(p.crc) + little(packed) + little(p.size);
    file += little(std::uint32_t{0x04034b50}) + little(std::uint16_t{20}) + middle +
            little(static_cast<std::uint16_t>(p.local_name.size())) + little(std::uint16_t{0}) + p.local_name + p.data;
    directory += little(std::uint32_t{0x02014b50}) + little(std::uint32_t{20}) + middle +
                 little(static_cast<std::uint16_t>(p.name.size())) +
                 little(static_cast<std::uint16_t>(p.extra.size())) + std::string(10, '\0') + little(offset) + p.name +
                 p.extra;
  }
  const auto begin = static_cast<std::uint32_t>(file.size());
  const auto count = static_cast<std::uint16_t>(parts.size());
  return file + directory + little(std::uint32_t{0x06054b50}) + little(std::uint32_t{0}) + little(count) +
         little(count) + little(static_cast<std::uint32_t>(directory.size())) + little(begin) +
         little(static_cast<std::uint16_t>(comment.size())) + comment;
}

}  // namespace io_test
