// What the fuzz targets of detection data share.
#pragma once

#include <ocellus/data/detection_set.hpp>

#include "tensor_fuzzer.hpp"

namespace ocellus_fuzz {

inline void require_sound(const ocellus::DetectionData& data) {
  for (const ocellus::AnnotatedPicture& picture : data.pictures) {
    const auto width = static_cast<float>(picture.size.w), height = static_cast<float>(picture.size.h);
    for (const ocellus::ObjectBox& object : picture.boxes) {
      const ocellus::Box& b = object.box;
      require(0 <= b.x1 && b.x1 < b.x2 && b.x2 <= width && 0 <= b.y1 && b.y1 < b.y2 && b.y2 <= height);
      require(object.area >= 0 && object.label >= 0 && object.label < static_cast<ocellus::Index>(data.classes.size()));
    }
  }
}

}  // namespace ocellus_fuzz
