// Any bytes read as IDX, packed or plain, are refused with a FileError or read.
#include <cstdint>

#include <ocellus/io/idx.hpp>

#include "tensor_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ocellus::Limits limits;
  limits.inflated_bytes = std::uint64_t{1} << 20;  // for speed
  ocellus_fuzz::refuse_or(
      [&] { ocellus_fuzz::touch(ocellus::read_idx(ocellus_fuzz::bytes_of(data, size), "fuzz", limits)); });
  return 0;
}
