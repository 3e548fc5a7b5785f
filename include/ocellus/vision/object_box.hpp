// What an annotation says about one object in a picture.
#pragma once

#include <ocellus/core/shape.hpp>
#include <ocellus/vision/box.hpp>

namespace ocellus {

struct ObjectBox {
  Box box;
  Index label = 0;         // the class
  float area = 0;          // pixels: of the object's mask where the data set knows it (COCO), else of the box
  bool crowd = false;      // COCO: a group too dense to tell apart; neither found nor missed in evaluation
  bool difficult = false;  // Pascal VOC: likewise
};

}  // namespace ocellus
