// Any bytes read as safetensors are refused with a FileError or give tensors inside of the bytes; what was read can be
// written and reads back the same.
#include <cstdint>
#include <cstring>

#include <ocellus/io/safetensors.hpp>

#include "tensor_fuzzer.hpp"

namespace {

void check(const std::uint8_t* data, std::size_t size) {
  ocellus_fuzz::refuse_or([&] {
    const ocellus::NamedTensors tensors = ocellus::read_safetensors(ocellus_fuzz::bytes_of(data, size), "fuzz");
    const ocellus::Bytes written = ocellus::to_safetensors_bytes(tensors);
    ocellus_fuzz::require_same(tensors, ocellus::read_safetensors(written, "written"));
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check(data, size);

  // Most mutations end at the length before the header, so it is also put right: up to the last '}'.
  std::uint64_t header = 0;
  for (std::size_t i = 8; i < size; ++i) {
    if (data[i] == '}') header = i + 1 - 8;
  }
  if (header == 0) return 0;
  const ocellus::Bytes copy = ocellus_fuzz::bytes_of(data, size);
  auto* bytes = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(copy.data()));
  std::memcpy(bytes, &header, sizeof header);
  check(bytes, size);
  return 0;
}
