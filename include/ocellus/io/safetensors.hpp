// safetensors, the weight file of the Hugging Face hub (format description: huggingface/safetensors, README.md): eight
// bytes with the length of a JSON header, the header, the data of all tensors one after the other.
//
// The reader accepts what the reference accepts and refuses, beyond it: headers over Limits::header_bytes, more than
// Limits::tensors tensors, duplicate keys anywhere, spaces before the header's '{', more than 8 axes, sizes from 2^63
// on, empty names, names over Limits::name_bytes or with NUL, fields other than dtype, shape and data_offsets, a null
// __metadata__, and element types that the library does not hold. BOOL is read as u8.
#pragma once

#include <string>

#include <ocellus/core/config.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus {

// The tensors in the order of their data. They share the memory of `bytes` and keep it alive; one whose data is not
// aligned to its element is copied. Throws FileError; `source` names the bytes in it.
NamedTensors read_safetensors(const Bytes& bytes, const std::string& source, const Limits& limits = {});
// Maps the file (see map_file for what that asks of those who replace it).
NamedTensors read_safetensors(const std::string& path, const Limits& limits = {});

// Writes the canonical file, byte for byte what the reference writes: larger elements first, then by name, the header
// padded to a multiple of 8 with spaces. Atomic. Throws FileError, UsageError for a tensor without data or a name the
// format has no room for.
void write_safetensors(const std::string& path, const NamedTensors& tensors);
Bytes to_safetensors_bytes(const NamedTensors& tensors);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus {
namespace io_detail {

inline constexpr const char* metadata_key = "__metadata__";

struct SafetensorsType {
  const char* name;
  DType type;
};
// In the order in which the reference sorts them, last first.
inline constexpr SafetensorsType safetensors_types[] = {
    {"U8", DType::u8},   {"I8", DType::i8},   {"F16", DType::f16}, {"BF16", DType::bf16},
    {"I32", DType::i32}, {"F32", DType::f32}, {"F64", DType::f64}, {"I64", DType::i64},
};

OCELLUS_FN std::size_t safetensors_rank(DType type) {
  std::size_t i = 0;
  while (safetensors_types[i].type != type) ++i;
  return i;
}

OCELLUS_FN DType safetensors_type(const Json& name) {
  const std::string text = name.get<std::string>();
  for (const SafetensorsType& known : safetensors_types) {
    if (text == known.name) return known.type;
  }
  if (text == "BOOL") return DType::u8;
  for (const char* foreign : {"I16", "U16", "U32", "U64", "C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2",
                              "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}) {
    if (text == foreign) {
      name.fail("elements of type " + text + " are not supported; convert the tensor to F32, F16, BF16, I32 or I64");
    }
  }
  name.fail(io_detail::shown(text) + " is not an element type");
}

// One entry of the header, its data still relative to the end of the header.
struct SafetensorsEntry {
  std::string name;
  Spec spec;
  std::uint64_t begin;
  std::uint64_t end;
};

OCELLUS_FN SafetensorsEntry read_safetensors_entry(const Json& entry, std::uint64_t data_bytes, const Limits& limits) {
  SafetensorsEntry result{entry.key(), {}, 0, 0};
  if (result.name.empty()) entry.fail("a tensor has no name");
  if (result.name.size() > limits.name_bytes) {
    entry.fail("a tensor's name has " + std::to_string(result.name.size()) + " bytes, the limit is " +
               std::to_string(limits.name_bytes));
  }
  if (result.name.find('\0') != std::string::npos) entry.fail("a tensor's name contains a NUL character");
  for (const std::string& key : entry.keys_other_than({"dtype", "shape", "data_offsets"})) {
    entry.at(key).fail("is no field of a tensor; dtype, shape and data_offsets are");
  }

  result.spec.dtype = safetensors_type(entry.at("dtype"));
  const Json shape = entry.at("shape");
  const auto sizes = shape.get<std::vector<std::uint64_t>>();
  if (sizes.size() > Shape::max_rank) {
    shape.fail("has " + std::to_string(sizes.size()) + " axes, at most " + std::to_string(Shape::max_rank) +
               " are supported");
  }
  std::optional<std::uint64_t> bytes = size_of(result.spec.dtype);
  for (const std::uint64_t size : sizes) {
    bytes = checked_multiply(*bytes, size);
    if (!bytes || *bytes > INT64_MAX) shape.fail("the number of bytes overflows");
    result.spec.shape.push_back(static_cast<Index>(size));
  }

  const Json offsets = entry.at("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2) {
    offsets.fail("must be two numbers, the begin and the end of the data");
  }
  result.begin = offsets.at(0).get<std::uint64_t>();
  result.end = offsets.at(1).get<std::uint64_t>();
  if (result.end < result.begin) offsets.fail("the end is before the begin");
  if (result.end > data_bytes) {
    offsets.fail("the end, " + std::to_string(result.end) + ", is past the file's " + std::to_string(data_bytes) +
                 " bytes of data");
  }
  if (result.end - result.begin != *bytes) {
    offsets.fail("cover " + std::to_string(result.end - result.begin) + " bytes, shape " + result.spec.shape.str() +
                 " of " + name_of(result.spec.dtype) + " needs " + std::to_string(*bytes));
  }
  return result;
}

// Rust's comparison of entries: where several tensors are empty, those come in the order of the header.
OCELLUS_FN bool earlier_data(const SafetensorsEntry& a, const SafetensorsEntry& b) {
  if (a.begin != b.begin) return a.begin < b.begin;
  return a.end != b.end ? a.end < b.end : a.name < b.name;
}

// Every byte of the data belongs to exactly one tensor: nothing can hide in a hole, behind the end, or under two names.
OCELLUS_FN void check_coverage(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_begin,
                               std::uint64_t data_bytes, const std::string& source) {
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != covered) {
      const char* what = entry.begin < covered ? " overlaps the tensor before it" : " leaves a hole before it";
      throw FileError(source,
                      "the data of " + shown(entry.name) + what + ": it begins at " + std::to_string(entry.begin) +
                          " of the data, the one before ends at " + std::to_string(covered),
                      static_cast<std::int64_t>(data_begin + entry.begin));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    throw FileError(source, std::to_string(data_bytes - covered) + " bytes after the last tensor belong to none",
                    static_cast<std::int64_t>(data_begin + covered));
  }
}

// The length prefix and the header of the canonical file, and in `order` the tensors as their data follows.
OCELLUS_FN std::string safetensors_header(const NamedTensors& tensors, std::vector<const NamedTensor*>& order) {
  for (const NamedTensor& entry : tensors) {
    const AnyTensor& t = entry.tensor;
    if (entry.name.empty() || entry.name == metadata_key || entry.name.find('\0') != std::string::npos) {
      throw UsageError("write_safetensors: \"" + entry.name + "\" cannot be the name of a tensor");
    }
    if (!t || t.symbolic() || t.dtype() == DType::none || t.format() != Format::plain) {
      throw UsageError("write_safetensors: \"" + entry.name + "\" has no plain data to write");
    }
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const std::size_t rank_a = safetensors_rank(a->tensor.dtype());
    const std::size_t rank_b = safetensors_rank(b->tensor.dtype());
    return rank_a != rank_b ? rank_a > rank_b : a->name < b->name;
  });

  JsonWriter json;
  json.begin_object();
  if (!tensors.metadata.empty()) {
    json.key(metadata_key).begin_object();
    for (const auto& [key, text] : tensors.metadata) json.field(key, text);
    json.end_object();
  }
  std::uint64_t offset = 0;
  for (const NamedTensor* entry : order) {
    const Spec& spec = entry->tensor.spec();
    json.key(entry->name).begin_object();
    json.field("dtype", safetensors_types[safetensors_rank(spec.dtype)].name);
    json.field("shape", std::vector<Index>(spec.shape.begin(), spec.shape.end()));
    json.field("data_offsets", std::vector<std::uint64_t>{offset, offset + spec.bytes()});
    json.end_object();
    offset += spec.bytes();
  }
  std::string header = json.end_object().str();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  header.insert(0, reinterpret_cast<const char*>(&length), sizeof length);
  return header;
}

OCELLUS_FN std::vector<ByteSpan> safetensors_pieces(const std::string& header,
                                                    const std::vector<const NamedTensor*>& order) {
  std::vector<ByteSpan> pieces{as_bytes(header)};
  for (const NamedTensor* entry : order) {
    pieces.emplace_back(static_cast<const std::byte*>(entry->tensor.raw()), entry->tensor.spec().bytes());
  }
  return pieces;
}

}  // namespace io_detail

OCELLUS_FN NamedTensors read_safetensors(const Bytes& bytes, const std::string& source, const Limits& limits) {
  ByteReader reader(bytes.span(), source);
  const auto header_bytes = reader.little_endian<std::uint64_t>("the header's length");
  if (header_bytes > limits.header_bytes) {
    reader.fail_at(0, "a header of " + std::to_string(header_bytes) + " bytes, the limit is " +
                          std::to_string(limits.header_bytes) + " (Limits::header_bytes)");
  }
  const std::uint64_t header_begin = reader.offset();
  const std::string_view text = reader.text(header_bytes, "the header");
  if (text.empty() || text[0] != '{') reader.fail_at(header_begin, "the header does not begin with '{'");
  const std::uint64_t data_begin = reader.offset();
  const std::uint64_t data_bytes = reader.left();

  Limits header_limits = limits;
  // A well-formed entry takes more than five bytes of text per value, except for a few of one-letter names.
  header_limits.json_values = header_bytes / 5 + 1000;
  const Json header = Json::parse(text, source, header_limits, static_cast<std::int64_t>(header_begin));

  NamedTensors tensors;
  std::vector<io_detail::SafetensorsEntry> entries;
  const Index n = header.size();
  if (static_cast<std::uint64_t>(n) > limits.tensors) {
    reader.fail_at(header_begin, std::to_string(n) + " tensors, the limit is " + std::to_string(limits.tensors) +
                                     " (Limits::tensors)");
  }
  entries.reserve(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    const Json entry = header.at(i);
    if (entry.key() != io_detail::metadata_key) {
      entries.push_back(io_detail::read_safetensors_entry(entry, data_bytes, limits));
      continue;
    }
    for (const std::string& key : entry.keys()) tensors.metadata[key] = entry.get<std::string>(key);
  }
  std::sort(entries.begin(), entries.end(), io_detail::earlier_data);
  io_detail::check_coverage(entries, data_begin, data_bytes, source);
  for (io_detail::SafetensorsEntry& entry : entries) {
    tensors.add(std::move(entry.name), tensor_from(bytes, data_begin + entry.begin, entry.spec));
  }
  return tensors;
}

OCELLUS_FN NamedTensors read_safetensors(const std::string& path, const Limits& limits) {
  return read_safetensors(map_file(path, limits), path, limits);
}

OCELLUS_FN void write_safetensors(const std::string& path, const NamedTensors& tensors) {
  std::vector<const NamedTensor*> order;
  const std::string header = io_detail::safetensors_header(tensors, order);
  write_file_atomically(path, io_detail::safetensors_pieces(header, order));
}

OCELLUS_FN Bytes to_safetensors_bytes(const NamedTensors& tensors) {
  std::vector<const NamedTensor*> order;
  const std::string header = io_detail::safetensors_header(tensors, order);
  return join_bytes(io_detail::safetensors_pieces(header, order));
}

}  // namespace ocellus
#endif
