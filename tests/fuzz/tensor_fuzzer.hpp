// What the fuzz targets of tensor files share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus_fuzz {

// A copy on the heap of exactly this size, so that a sanitizer sees every step over its ends even from memory that
// tensors share.
inline ocellus::Bytes bytes_of(const std::uint8_t* data, std::size_t size) {
  const std::shared_ptr<std::byte[]> memory(new std::byte[size]);
  if (size > 0) std::memcpy(memory.get(), data, size);
  return {ocellus::ByteSpan(memory.get(), size), memory};
}

// The only exception a file may cause.
template <class F>
void refuse_or(F&& f) {
  try {
    f();
  } catch (const ocellus::FileError&) {
  }
}

inline void require(bool condition) {
  if (!condition) std::abort();
}

inline void require_same(const ocellus::AnyTensor& a, const ocellus::AnyTensor& b) {
  require(a.dtype() == b.dtype() && a.shape() == b.shape());
  require(a.spec().bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.spec().bytes()) == 0);
}

inline void require_same(const ocellus::NamedTensors& a, const ocellus::NamedTensors& b) {
  require(a.size() == b.size() && a.metadata == b.metadata);
  for (const ocellus::NamedTensor& t : a) require_same(t.tensor, b.at(t.name));
}

// Reads every byte.
inline void touch(const ocellus::AnyTensor& tensor) { require_same(tensor, tensor.copy()); }

}  // namespace ocellus_fuzz
