// Any bytes read as a PyTorch file, and as the pickle of a whole one, are refused with a FileError or give tensors
// inside of the bytes.
#include <cstdint>
#include <string>

#include <ocellus/io/torch_file.hpp>

#include "../torch_support.hpp"
#include "tensor_fuzzer.hpp"

namespace {

void check(const ocellus::Bytes& bytes) {
  ocellus::Limits limits;  // for speed
  limits.inflated_bytes = std::uint64_t{1} << 20;
  limits.pickle_opcodes = 100'000;
  ocellus_fuzz::refuse_or([&] {
    for (const ocellus::NamedTensor& t : ocellus::read_torch_file(bytes, "fuzz", limits)) ocellus_fuzz::touch(t.tensor);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check(ocellus_fuzz::bytes_of(data, size));
  // Most mutations of an archive end at its checksums, so the bytes also are the pickle of a sound one.
  const std::string pickle(reinterpret_cast<const char*>(data), size), storage(64, '\x3c');
  const std::string file = io_test::torch_archive(pickle, {{"0", storage}, {"1", storage}});
  check(ocellus_fuzz::bytes_of(reinterpret_cast<const std::uint8_t*>(file.data()), file.size()));
  return 0;
}
