// Any bytes read as .npz, and every entry of any bytes read as a zip archive, are refused with a FileError or read.
#include <cstdint>

#include <ocellus/io/npy.hpp>
#include <ocellus/io/zip.hpp>

#include "tensor_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ocellus::Bytes bytes = ocellus_fuzz::bytes_of(data, size);
  ocellus::Limits limits;
  limits.inflated_bytes = std::uint64_t{1} << 20;  // for speed
  ocellus_fuzz::refuse_or([&] {
    for (const ocellus::NamedTensor& t : ocellus::read_npz(bytes, "fuzz", limits)) ocellus_fuzz::touch(t.tensor);
  });
  ocellus_fuzz::refuse_or([&] {
    for (ocellus::ZipEntry& entry : ocellus::read_zip_directory(bytes, "fuzz", limits)) {
      ocellus_fuzz::refuse_or([&] { ocellus::read_zip_entry(bytes, entry, "fuzz", limits); });
    }
  });
  return 0;
}
