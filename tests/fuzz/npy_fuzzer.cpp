// Any bytes read as .npy are refused with a FileError or give a tensor inside of the bytes that reads back the same.
#include <cstdint>

#include <ocellus/io/npy.hpp>

#include "tensor_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ocellus_fuzz::refuse_or([&] {
    const ocellus::AnyTensor tensor = ocellus::read_npy(ocellus_fuzz::bytes_of(data, size), "fuzz");
    ocellus_fuzz::require_same(tensor, ocellus::read_npy(ocellus::to_npy_bytes(tensor), "written"));
  });
  return 0;
}
