// Any bytes as COCO's annotations: a FileError, or boxes that lie inside of their pictures and classes that exist.
#include <cstdint>

#include <ocellus/data/coco.hpp>

#include "boxes_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ocellus_fuzz::refuse_or([&] {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    ocellus_fuzz::require_sound(ocellus::parse_coco(text, "fuzz", "pictures", {}, false));
  });
  return 0;
}
