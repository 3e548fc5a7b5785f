// Any text or polygon read as a mask of COCO is refused with a FileError or gives a mask that says the same in all its
// forms. The first two bytes are the size; '#' in the third chooses polygons of eighths of pixels, else text follows.
#include <cstdint>
#include <string_view>
#include <vector>

#include <ocellus/vision/masks.hpp>

#include "tensor_fuzzer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ocellus;
  if (size < 3) return 0;
  const Size2 image(Index{data[0] % 64}, Index{data[1] % 64});
  const bool polygons = data[2] == '#';
  data += polygons ? 3 : 2;
  size -= polygons ? 3 : 2;
  ocellus_fuzz::refuse_or([&] {
    MaskRuns mask;
    if (polygons) {
      std::vector<Polygon> list(1);
      for (std::size_t i = 0; i + 1 < size; i += 2) {
        const int value = data[i] << 8 | data[i + 1];
        if (value == 0xffff) {
          list.emplace_back();
        } else {
          list.back().push_back((value - 2048) / 8.0);
        }
      }
      mask = MaskRuns::from_polygons(list, image, "fuzz");
    } else {
      mask = MaskRuns::from_text({reinterpret_cast<const char*>(data), size}, image, "fuzz");
    }
    ocellus_fuzz::require(MaskRuns::from_text(mask.text(), image, "written") == mask);
    ocellus_fuzz::require(MaskRuns(mask.image()) == mask);
    ocellus_fuzz::require(MaskRuns::from_polygons(mask.polygons(), image, "outline") == mask);
    ocellus_fuzz::require(intersection(mask, mask) == mask.area());
    ocellus_fuzz::require(mask.box().area() >= static_cast<float>(mask.area()));
  });
  return 0;
}
