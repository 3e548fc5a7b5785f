// Boxes: their formats, and how much two of them overlap. One formula serves suppression, metrics and losses: it is
// written for any number type, a dual number included.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <ocellus/core/tensor.hpp>
#include <ocellus/vision/box.hpp>

namespace ocellus {

// What four numbers mean: edges (VOC), upper left corner and size (COCO), centre and size (YOLO).
enum class BoxFormat : std::uint8_t { xyxy, xywh, cxcywh };

template <class T>
BasicBox<T> to_box(BoxFormat format, const std::array<T, 4>& v) {
  switch (format) {
    case BoxFormat::xywh: return {v[0], v[1], v[0] + v[2], v[1] + v[3]};
    case BoxFormat::cxcywh: return {v[0] - v[2] / 2, v[1] - v[3] / 2, v[0] + v[2] / 2, v[1] + v[3] / 2};
    default: return {v[0], v[1], v[2], v[3]};
  }
}

template <class T>
std::array<T, 4> from_box(BoxFormat format, const BasicBox<T>& b) {
  switch (format) {
    case BoxFormat::xywh: return {b.x1, b.y1, b.width(), b.height()};
    case BoxFormat::cxcywh: return {(b.x1 + b.x2) / 2, (b.y1 + b.y2) / 2, b.width(), b.height()};
    default: return {b.x1, b.y1, b.x2, b.y2};
  }
}

// (..., 4) → (..., 4). Throws ShapeError.
Tensor convert_boxes(const Tensor& boxes, BoxFormat from, BoxFormat to);

// Pixels of a picture ↔ fractions of its width and height.
template <class T>
BasicBox<T> normalised(const BasicBox<T>& b, Size2 image) {
  const T w = static_cast<T>(image.w), h = static_cast<T>(image.h);
  return {b.x1 / w, b.y1 / h, b.x2 / w, b.y2 / h};
}
template <class T>
BasicBox<T> in_pixels(const BasicBox<T>& b, Size2 image) {
  const T w = static_cast<T>(image.w), h = static_cast<T>(image.h);
  return {b.x1 * w, b.y1 * h, b.x2 * w, b.y2 * h};
}

// The part that lies inside of the picture; a box beside it becomes flat.
template <class T>
BasicBox<T> clipped(const BasicBox<T>& b, Size2 image) {
  const T w = static_cast<T>(image.w), h = static_cast<T>(image.h), zero = 0;
  return {std::clamp(b.x1, zero, w), std::clamp(b.y1, zero, h), std::clamp(b.x2, zero, w), std::clamp(b.y2, zero, h)};
}

// Finite and not reversed. A flat box is in order: it is empty, not wrong.
template <class T>
bool in_order(const BasicBox<T>& b) {
  return std::isfinite(b.x1) && std::isfinite(b.y1) && std::isfinite(b.x2) && std::isfinite(b.y2) && b.x1 <= b.x2 &&
         b.y1 <= b.y2;
}

// The part of an expression that no gradient flows through; dual numbers overload it.
template <class T>
  requires std::is_floating_point_v<T>
T without_gradient(T x) {
  return x;
}

// The area that two boxes share, 0 or more.
template <class S>
S intersection(const BasicBox<S>& a, const BasicBox<S>& b) {
  using std::max, std::min;
  const S w = min(a.x2, b.x2) - max(a.x1, b.x1), h = min(a.y2, b.y2) - max(a.y1, b.y1);
  return max(w, S(0)) * max(h, S(0));
}

// part / whole, and 0 for nothing out of nothing: a flat box overlaps nothing, itself included.
template <class S>
S share_of(const S& part, const S& whole) {
  using std::max;
  return part / max(whole, S(std::numeric_limits<float>::min()));
}

// Intersection over union of boxes of these areas.
template <class S>
S iou_of(const S& shared, const S& area_a, const S& area_b) {
  return share_of(shared, S(area_a + area_b - shared));
}

template <class S>
S iou(const BasicBox<S>& a, const BasicBox<S>& b) {
  return iou_of(intersection(a, b), a.area(), b.area());
}

// Intersection over union, and what is taken from it where boxes are apart or of other proportions:
//   giou  the share of the smallest box around both that neither covers (Rezatofighi et al., 2019)
//   diou  the squared distance of the centres over the squared diagonal of that box (Zheng et al., 2020)
//   ciou  that, and α v: v = (2/π (atan w/h − atan w'/h'))², α = v / (1 − iou + v), a constant for gradients (same)
enum class Overlap : std::uint8_t { iou, giou, diou, ciou };

// 1 for equal boxes; from 0 (iou), −1 (giou, diou) or about −1.5 (ciou) on. `epsilon` is added to heights and divisors
// (losses take 1e-7 in float, so that flat boxes have a gradient).
template <class S, class T = S>
S overlap(Overlap kind, const BasicBox<S>& a, const BasicBox<S>& b, T epsilon = T(0)) {
  using std::atan, std::max, std::min;
  const S wa = a.width(), ha = a.height() + epsilon, wb = b.width(), hb = b.height() + epsilon;
  const S shared = intersection(a, b);
  const S joined = wa * ha + wb * hb - shared + epsilon;
  const S plain = share_of(shared, joined);
  if (kind == Overlap::iou) return plain;
  const S w = max(a.x2, b.x2) - min(a.x1, b.x1), h = max(a.y2, b.y2) - min(a.y1, b.y1);
  if (kind == Overlap::giou) {
    const S around = w * h + epsilon;
    return plain - share_of(S(around - joined), around);
  }
  const S dx = b.x1 + b.x2 - a.x1 - a.x2, dy = b.y1 + b.y2 - a.y1 - a.y2;
  const S apart = share_of(S((dx * dx + dy * dy) / T(4)), S(w * w + h * h + epsilon));
  if (kind == Overlap::diou) return plain - apart;
  constexpr double pi = 3.14159265358979323846;
  const S turn = atan(share_of(wb, hb)) - atan(share_of(wa, ha));
  const S v = turn * turn * T(4 / (pi * pi));
  const S alpha = without_gradient(share_of(v, S(v - plain + (T(1) + epsilon))));
  return plain - (apart + v * alpha);
}

// Of every row of a with every row of b: (N, 4), (M, 4) edges → (N, M). Throws ShapeError.
Tensor overlaps(const Tensor& a, const Tensor& b, Overlap kind = Overlap::iou);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus {

OCELLUS_FN Tensor convert_boxes(const Tensor& boxes, BoxFormat from, BoxFormat to) {
  if (boxes.rank() < 1 || boxes.dim(-1) != 4)
    throw ShapeError("convert_boxes: boxes must be (..., 4); got " + boxes.shape().str());
  const Tensor result{AnyTensor(boxes.spec())};
  const float* v = boxes.data();
  for (float* to_values = result.begin(); to_values != result.end(); v += 4, to_values += 4) {
    const auto values = from_box(to, to_box<float>(from, {v[0], v[1], v[2], v[3]}));
    std::copy(values.begin(), values.end(), to_values);
  }
  return result;
}

OCELLUS_FN Tensor overlaps(const Tensor& a, const Tensor& b, Overlap kind) {
  const auto is_list = [](const Tensor& t) { return t.rank() == 2 && t.dim(1) == 4; };
  if (!is_list(a) || !is_list(b))
    throw ShapeError("overlaps: two lists (N, 4) of boxes are needed; got a=" + a.shape().str() +
                     ", b=" + b.shape().str());
  const Index columns = b.dim(0);
  const Tensor result{AnyTensor(Spec{{a.dim(0), columns}, DType::f32})};
  const auto box = [](const Tensor& t, Index i) {
    const float* v = t.data() + 4 * i;
    return Box{v[0], v[1], v[2], v[3]};
  };
  parallel_for(a.dim(0), std::max<Index>(1, 4096 / std::max<Index>(columns, 1)), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      for (Index j = 0; j < columns; ++j) result.data()[i * columns + j] = overlap(kind, box(a, i), box(b, j));
    }
  });
  return result;
}

}  // namespace ocellus
#endif
