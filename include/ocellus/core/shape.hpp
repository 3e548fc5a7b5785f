// Index and Shape: sizes of dense row-major tensors, up to 8 axes, stored inline.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include <ocellus/core/config.hpp>

namespace ocellus {

using Index = std::int64_t;

class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;
  Shape(std::initializer_list<Index> sizes) {
    for (Index size : sizes) push_back(size);
  }

  int rank() const { return rank_; }
  bool empty() const { return rank_ == 0; }

  // Negative axes count from the last one: shape[-1] is the number of channels. Throws ShapeError outside [-rank, rank).
  Index operator[](int axis) const { return sizes_[at(axis)]; }
  Index& operator[](int axis) { return sizes_[at(axis)]; }

  const Index* begin() const { return sizes_; }
  const Index* end() const { return sizes_ + rank_; }

  void push_back(Index size) {
    if (rank_ == max_rank) [[unlikely]] too_many_axes();
    sizes_[rank_++] = size;
  }

  // Number of elements; 1 for a scalar.
  Index numel() const {
    Index n = 1;
    for (Index size : *this) n *= size;
    return n;
  }

  // Product of all axes but the last: how many rows of channels there are.
  Index rows() const {
    Index n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= sizes_[i];
    return n;
  }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i) {
      if (a.sizes_[i] != b.sizes_[i]) return false;
    }
    return true;
  }

  // "(2, 3, 4)"
  std::string str() const;

 private:
  int at(int axis) const {
    const int i = axis < 0 ? axis + rank_ : axis;
    if (i < 0 || i >= rank_) [[unlikely]] no_such_axis(axis);
    return i;
  }
  [[noreturn]] void no_such_axis(int axis) const;
  [[noreturn]] static void too_many_axes();

  Index sizes_[max_rank] = {};
  int rank_ = 0;
};

// A height and a width; one number stands for both, as in PyTorch: {.stride = 2} or {.stride = {2, 1}}.
struct Size2 {
  Index h = 0;
  Index w = 0;

  Size2() = default;
  Size2(Index both) : h(both), w(both) {}  // NOLINT: the conversion is the point
  Size2(int both) : h(both), w(both) {}    // NOLINT: so that a literal is not ambiguous
  Size2(Index height, Index width) : h(height), w(width) {}

  friend bool operator==(Size2 a, Size2 b) { return a.h == b.h && a.w == b.w; }
  std::string str() const;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_CORE)
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_COLD OCELLUS_FN std::string Shape::str() const {
  std::string s = "(";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(sizes_[i]);
  return s + ")";
}

OCELLUS_COLD OCELLUS_FN void Shape::no_such_axis(int axis) const {
  throw ShapeError("Shape: axis " + std::to_string(axis) + " of " + str() + " does not exist");
}

OCELLUS_COLD OCELLUS_FN void Shape::too_many_axes() {
  throw ShapeError("Shape: more than " + std::to_string(max_rank) + " axes");
}

OCELLUS_COLD OCELLUS_FN std::string Size2::str() const { return "(" + std::to_string(h) + ", " + std::to_string(w) + ")"; }

}  // namespace ocellus
#endif
