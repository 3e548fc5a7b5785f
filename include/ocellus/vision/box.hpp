// A rectangle in a picture.
#pragma once

namespace ocellus {

// Edges in pixels, x to the right and y down: a box that covers the whole picture is (0, 0, width, height).
struct Box {
  float x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

}  // namespace ocellus
