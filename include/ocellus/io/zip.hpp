// Zip archives (PKWARE APPNOTE 6.3.10) with stored or deflated entries, ZIP64 included: what .npz files are made of.
// The reader is strict: entries lie one after the other before the directory, names are unique, both descriptions of an
// entry agree (name, method, CRC-32, sizes; of the last two the one beside the data may say that they follow it).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

struct ZipEntry {
  std::string name;
  std::uint64_t begin = 0;   // of its data in the archive
  std::uint64_t packed = 0;  // bytes in the archive
  std::uint64_t size = 0;    // bytes once unpacked
  std::uint32_t crc = 0;
  bool deflated = false;
};

// In the order of their data. Throws FileError.
std::vector<ZipEntry> read_zip_directory(const Bytes& archive, const std::string& source, const Limits& limits = {});
// The content of one entry, checked against its CRC-32. A stored entry shares the archive's memory. Throws FileError.
Bytes read_zip_entry(const Bytes& archive, const ZipEntry& entry, const std::string& source, const Limits& limits = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/inflate.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus {
namespace io_detail {

enum ZipSignature : std::uint32_t {
  zip_local = 0x04034b50,
  zip_central = 0x02014b50,
  zip_end = 0x06054b50,
  zip64_end = 0x06064b50,
  zip64_locator = 0x07064b50,
};

struct ZipDirectory {
  std::uint64_t begin;
  std::uint64_t bytes;
  std::uint64_t entries;
};

// The end record stands at the end of the file, before a comment whose length it tells.
OCELLUS_FN std::uint64_t find_zip_end(ByteSpan bytes, ByteReader& reader) {
  constexpr std::uint64_t record = 22;
  constexpr std::uint64_t longest_comment = 65535;
  if (bytes.size() < record) reader.fail_at(0, "is no zip archive: too short");
  const std::uint64_t last = bytes.size() - record;
  const std::uint64_t first = last > longest_comment ? last - longest_comment : 0;
  for (std::uint64_t at = last + 1; at-- > first;) {
    reader.seek(at);
    if (reader.little_endian<std::uint32_t>("the end record") != zip_end) continue;
    reader.seek(at + 20);
    if (reader.little_endian<std::uint16_t>("the end record") == last - at) return at;
  }
  reader.fail_at(0, "is no zip archive, or a truncated one: there is no end record");
}

OCELLUS_FN ZipDirectory find_zip_directory(ByteSpan bytes, ByteReader& reader) {
  std::uint64_t end = find_zip_end(bytes, reader);
  reader.seek(end + 4);
  if (reader.little_endian<std::uint32_t>("the end record") != 0) reader.fail_at(end, "an archive in several parts");
  const auto entries_here = reader.little_endian<std::uint16_t>("the end record");
  ZipDirectory directory{};
  directory.entries = reader.little_endian<std::uint16_t>("the end record");
  directory.bytes = reader.little_endian<std::uint32_t>("the end record");
  directory.begin = reader.little_endian<std::uint32_t>("the end record");
  if (entries_here != directory.entries) reader.fail_at(end, "an archive in several parts");
  const bool needed = directory.entries == 0xffff || directory.bytes == 0xffffffff || directory.begin == 0xffffffff;
  // Some writers, PyTorch's among them, add the ZIP64 records where 32 bits were enough.
  if (needed || checked_add(directory.begin, directory.bytes) != end) {
    constexpr std::uint64_t locator = 20;
    reader.seek(end - std::min(end, locator));
    if (end < locator || reader.little_endian<std::uint32_t>("the ZIP64 locator") != zip64_locator) {
      reader.fail_at(
          end, needed ? "the ZIP64 locator is missing" : "the directory does not end where the end record begins");
    }
    reader.take(4, "the ZIP64 locator");
    const auto end64 = reader.little_endian<std::uint64_t>("the ZIP64 locator");
    reader.seek(end64);
    if (reader.little_endian<std::uint32_t>("the ZIP64 end record") != zip64_end) {
      reader.fail_at(end64, "the ZIP64 end record is missing");
    }
    reader.take(20, "the ZIP64 end record");  // its length, versions, disk numbers
    reader.take(8, "the ZIP64 end record");   // entries on this disk
    directory.entries = reader.little_endian<std::uint64_t>("the ZIP64 end record");
    directory.bytes = reader.little_endian<std::uint64_t>("the ZIP64 end record");
    directory.begin = reader.little_endian<std::uint64_t>("the ZIP64 end record");
    end = end64;
  }
  if (checked_add(directory.begin, directory.bytes) != end) {
    reader.fail_at(end, "the directory does not end where the end record begins");
  }
  return directory;
}

// The sizes and the offset that did not fit 32 bits, from the extra field of an entry.
OCELLUS_FN void read_zip64_fields(ByteReader& reader, std::uint64_t extra_bytes, ZipEntry& entry,
                                  std::uint64_t& local) {
  const std::uint64_t end = reader.offset() + extra_bytes;
  while (reader.offset() + 4 <= end) {
    const auto id = reader.little_endian<std::uint16_t>("an extra field");
    const auto bytes = reader.little_endian<std::uint16_t>("an extra field");
    const std::uint64_t next = reader.offset() + bytes;
    if (next > end) reader.fail("an extra field is longer than its place");
    if (id == 1) {
      for (std::uint64_t* field : {&entry.size, &entry.packed, &local}) {
        if (*field != 0xffffffff) continue;
        if (reader.offset() + 8 > next) reader.fail("a ZIP64 field is missing");
        *field = reader.little_endian<std::uint64_t>("a ZIP64 field");
      }
    }
    reader.seek(next);
  }
  reader.seek(end);
}

// The local header repeats what the directory says; the data follows it.
OCELLUS_FN void find_zip_data(ByteReader& reader, std::uint64_t local, const ZipDirectory& directory, ZipEntry& entry) {
  reader.seek(local);
  if (reader.little_endian<std::uint32_t>("a local header") != zip_local) {
    reader.fail_at(local, "no entry begins where the directory says for " + io_detail::shown(entry.name));
  }
  reader.take(2, "a local header");  // version
  const unsigned flags = reader.little_endian<std::uint16_t>("a local header");
  const unsigned method = reader.little_endian<std::uint16_t>("a local header");
  reader.take(4, "a local header");  // time and date
  ZipEntry own;
  own.crc = reader.little_endian<std::uint32_t>("a local header");
  own.packed = reader.little_endian<std::uint32_t>("a local header");
  own.size = reader.little_endian<std::uint32_t>("a local header");
  const auto name_bytes = reader.little_endian<std::uint16_t>("a local header");
  const auto extra_bytes = reader.little_endian<std::uint16_t>("a local header");
  if (reader.text(name_bytes, "an entry's name") != entry.name) {
    reader.fail_at(local, "the entry is not " + io_detail::shown(entry.name) + " as the directory says");
  }
  constexpr unsigned sizes_follow = 8;  // the data, in a descriptor
  const bool wide = (flags & sizes_follow) == 0 && (own.packed == 0xffffffff || own.size == 0xffffffff);
  if (wide) {
    std::uint64_t no_offset = 0;
    read_zip64_fields(reader, extra_bytes, own, no_offset);
  } else {
    reader.take(extra_bytes, "an extra field");
  }
  const auto agree = [&](bool same, const char* what) {
    if (!same) reader.fail_at(local, "the directory says another " + (what + (" of " + io_detail::shown(entry.name))));
  };
  agree(method == (entry.deflated ? 8u : 0u), "method");
  if ((flags & sizes_follow) == 0) {
    agree(own.crc == entry.crc, "CRC-32");
    agree(own.packed == entry.packed, "packed size");
    agree(own.size == entry.size, "size");
  }
  entry.begin = reader.offset();
  const std::optional<std::uint64_t> end = checked_add(entry.begin, entry.packed);
  if (!end || *end > directory.begin) {
    reader.fail_at(local, "the data of " + io_detail::shown(entry.name) + " runs into the directory");
  }
}

}  // namespace io_detail

OCELLUS_FN std::vector<ZipEntry> read_zip_directory(const Bytes& archive, const std::string& source,
                                                    const Limits& limits) {
  ByteReader reader(archive.span(), source);
  const io_detail::ZipDirectory directory = io_detail::find_zip_directory(archive.span(), reader);
  constexpr std::uint64_t smallest_record = 46;
  if (directory.entries > std::min<std::uint64_t>(limits.tensors, directory.bytes / smallest_record)) {
    reader.fail_at(directory.begin,
                   std::to_string(directory.entries) + " entries, more than the directory or Limits::tensors hold");
  }

  struct Located {
    std::uint64_t local;
    ZipEntry entry;
  };
  std::vector<Located> found;
  std::unordered_map<std::string, std::size_t> names;
  std::uint64_t at = directory.begin;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    reader.seek(at);
    if (reader.little_endian<std::uint32_t>("the directory") != io_detail::zip_central) {
      reader.fail_at(at, "the directory is damaged");
    }
    reader.take(4, "the directory");  // versions
    const unsigned flags = reader.little_endian<std::uint16_t>("the directory");
    const unsigned method = reader.little_endian<std::uint16_t>("the directory");
    reader.take(4, "the directory");  // time and date
    ZipEntry entry;
    entry.crc = reader.little_endian<std::uint32_t>("the directory");
    entry.packed = reader.little_endian<std::uint32_t>("the directory");
    entry.size = reader.little_endian<std::uint32_t>("the directory");
    const auto name_bytes = reader.little_endian<std::uint16_t>("the directory");
    const auto extra_bytes = reader.little_endian<std::uint16_t>("the directory");
    const auto comment_bytes = reader.little_endian<std::uint16_t>("the directory");
    reader.take(8, "the directory");  // disk, attributes
    std::uint64_t local = reader.little_endian<std::uint32_t>("the directory");
    entry.name = reader.text(name_bytes, "an entry's name");
    io_detail::read_zip64_fields(reader, extra_bytes, entry, local);
    reader.take(comment_bytes, "an entry's comment");

    if (entry.name.empty() || entry.name.size() > limits.name_bytes || entry.name.find('\0') != std::string::npos) {
      reader.fail_at(at, "an entry's name is empty, contains NUL or is longer than Limits::name_bytes");
    }
    if (!names.emplace(entry.name, names.size()).second) reader.fail_at(at, "two entries are called " + io_detail::shown(entry.name));
    if (flags & 1u) reader.fail_at(at, io_detail::shown(entry.name) + " is encrypted");
    if (method != 0 && method != 8) {
      reader.fail_at(at, io_detail::shown(entry.name) + " is packed with method " + std::to_string(method) +
                             "; stored and deflated are read");
    }
    entry.deflated = method == 8;
    if (!entry.deflated && entry.packed != entry.size) {
      reader.fail_at(at, io_detail::shown(entry.name) + " is stored, yet its two sizes differ");
    }
    at = reader.offset();
    io_detail::find_zip_data(reader, local, directory, entry);
    found.push_back({local, std::move(entry)});
  }
  if (at != directory.begin + directory.bytes) reader.fail_at(at, "the directory holds more than its entries");

  std::sort(found.begin(), found.end(), [](const Located& a, const Located& b) { return a.local < b.local; });
  std::vector<ZipEntry> entries;
  std::uint64_t covered = 0;
  for (Located& one : found) {
    if (one.local < covered) {
      reader.fail_at(one.local, io_detail::shown(one.entry.name) + " overlaps the entry before it");
    }
    covered = one.entry.begin + one.entry.packed;
    entries.push_back(std::move(one.entry));
  }
  return entries;
}

OCELLUS_FN Bytes read_zip_entry(const Bytes& archive, const ZipEntry& entry, const std::string& source,
                                const Limits& limits) {
  constexpr std::uint64_t read_ahead = 8;  // inflate wants it; the directory follows every entry
  Bytes content = archive.part(entry.begin, entry.packed);
  if (entry.deflated) {
    const ByteSpan bytes = archive.span().subspan(entry.begin, entry.packed + read_ahead);
    content = inflate(bytes, entry.packed, entry.size, source, entry.begin, limits);
  }
  if (crc32(content.span()) != entry.crc) {
    throw FileError(source, io_detail::shown(entry.name) + " does not match its CRC-32",
                    static_cast<std::int64_t>(entry.begin));
  }
  return content;
}

}  // namespace ocellus
#endif
