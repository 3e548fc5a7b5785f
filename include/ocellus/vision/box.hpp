// A rectangle in a picture.
#pragma once

namespace ocellus {

// The edges, x to the right and y downwards; in pixels, pixel i covers [i, i + 1). A box with x2 < x1 or y2 < y1 is
// reversed; it overlaps nothing.
template <class T>
struct BasicBox {
  T x1{}, y1{}, x2{}, y2{};

  T width() const { return x2 - x1; }
  T height() const { return y2 - y1; }
  T area() const { return width() * height(); }
  friend bool operator==(const BasicBox&, const BasicBox&) = default;
};
using Box = BasicBox<float>;

}  // namespace ocellus
