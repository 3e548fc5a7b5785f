// Pictures of blood cells with boxes for the examples: BCCD (Pascal VOC) from OCELLUS_DATA/bccd, or, without it, drawn ones (discs of
// three sizes), which are easier.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#if defined(OCELLUS_VOC)
#include <ocellus/data/voc.hpp>
#endif
#include <ocellus/data/open_dataset.hpp>
#include <ocellus/runtime/random.hpp>
#include <ocellus/vision/draw.hpp>

// Red cells, a white one with its dark nucleus, and a few platelets, on a light ground.
class DrawnCells : public ocellus::Dataset {
 public:
  DrawnCells(ocellus::Index count, std::uint64_t seed) : count_(count), seed_(seed) {}

  const std::vector<std::string>& classes() const override { return classes_; }
  ocellus::Index size() const override { return count_; }
  std::string name(ocellus::Index i) const override { return "drawn cells " + std::to_string(i); }
  ocellus::Sample get(ocellus::Index i) const override {
    ocellus::RandomStream random(seed_, static_cast<std::uint32_t>(i));
    ocellus::Sample s{ocellus::Image({192, 256}, 3)};
    ocellus::fill_rectangle(s.image, 0, 0, 255, 191, {225, 215, 215});
    const auto cells = [&](ocellus::Index label, ocellus::Index most, float smallest, float largest, ocellus::Colour colour) {
      for (ocellus::Index n = random.below(most) + 1; n > 0; --n) {
        const float r = random.uniform(smallest, largest), x = random.uniform(r, 256 - r), y = random.uniform(r, 192 - r);
        disc(s.image, x, y, r, colour);
        if (label == 2) disc(s.image, x, y, r / 2, {70, 30, 120});
        s.boxes.push_back({.box = {x - r, y - r, x + r, y + r}, .label = label});
      }
    };
    cells(1, 8, 16, 22, {215, 150, 150});
    cells(2, 1, 26, 36, {150, 110, 190});
    cells(0, 3, 5, 8, {110, 70, 150});
    return s;
  }

 private:
  static void disc(ocellus::Image& image, float x, float y, float r, ocellus::Colour colour) {
    std::uint8_t* pixel = image.writable();
    for (ocellus::Index i = 0; i < image.height() * image.width(); ++i, pixel += 3) {
      const float dx = static_cast<float>(i % image.width()) + 0.5f - x, dy = static_cast<float>(i / image.width()) + 0.5f - y;
      if (dx * dx + dy * dy > r * r) continue;
      pixel[0] = colour.red, pixel[1] = colour.green, pixel[2] = colour.blue;
    }
  }

  std::vector<std::string> classes_ = {"Platelets", "RBC", "WBC"};
  ocellus::Index count_;
  std::uint64_t seed_;
};

struct Cells {
  std::shared_ptr<const ocellus::Dataset> train, val;
  bool real = false;
};

inline Cells open_cells() {
  const char* root = std::getenv("OCELLUS_DATA");
#if defined(OCELLUS_VOC)
  if (root) {
    const auto split = [&](const char* name) {
      return ocellus::open_detection(std::string(root) + "/bccd", name, {.voc = ocellus::read_voc});
    };
    return {std::make_shared<ocellus::CachedDataset>(split("train")), split("val"), true};
  }
#endif
  std::puts(root ? "built without ocellus::voc: drawn cells instead of BCCD"
                 : "OCELLUS_DATA is not set: drawn cells instead of BCCD");
  return {std::make_shared<DrawnCells>(128, 1), std::make_shared<DrawnCells>(32, 2)};
}
