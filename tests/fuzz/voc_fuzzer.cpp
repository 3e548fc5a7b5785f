// Any bytes as an annotation of Pascal VOC: a FileError, or boxes that lie inside of the picture.
#include <cstdint>

#include <ocellus/data/voc.hpp>

#include "boxes_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ocellus_fuzz::refuse_or([&] {
    const auto annotation = ocellus::data_detail::parse_voc(ocellus_fuzz::bytes_of(data, size), "fuzz");
    ocellus::DetectionData all;
    all.classes = {"only"};
    all.pictures.emplace_back().size = annotation.size;
    for (const auto& object : annotation.objects) {
      ocellus_fuzz::require(!object.name.empty());
      ocellus_fuzz::refuse_or([&] { ocellus::data_detail::add_object(all, {}, object.edges, "fuzz", "object"); });
    }
    ocellus_fuzz::require_sound(all);
  });
  return 0;
}
