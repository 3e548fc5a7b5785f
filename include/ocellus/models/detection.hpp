// What detectors over several maps share: features by their stride, places of predictions, boxes before suppression.
#pragma once

#include <vector>

#include <ocellus/core/tensor.hpp>

namespace ocellus {

// Maps (N, H/s, W/s, C) at the strides s = 8, 16 and 32.
struct Features {
  static constexpr Index strides[] = {8, 16, 32};
  Tensor p3, p4, p5;

  std::vector<Tensor> list() const;
};

// Every box that a detector considers, most of them wrong.
struct BoxCandidates {
  Tensor boxes;   // (N, A, 4): x1, y1, x2, y2 in pixels of the model's input
  Tensor scores;  // (N, A, K): a probability per class, each for itself
};

// The places that predict, level after level, row after row.
struct Anchors {
  Tensor points;   // (A, 2): x and y of a place's centre, in cells of its own map
  Tensor strides;  // (A, 1): input pixels of such a cell
};

// Of maps (N, h, w, C), one per stride of Features, the finest first.
Anchors make_anchors(const std::vector<Tensor>& maps);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
namespace ocellus {

OCELLUS_FN std::vector<Tensor> Features::list() const { return {p3, p4, p5}; }

OCELLUS_FN Anchors make_anchors(const std::vector<Tensor>& maps) {
  Index count = 0;
  for (const Tensor& map : maps) count += map.dim(1) * map.dim(2);
  Anchors anchors{Tensor({count, 2}), Tensor({count, 1})};
  float *point = anchors.points.data(), *stride = anchors.strides.data();
  for (std::size_t level = 0; level < maps.size(); ++level) {
    for (Index y = 0; y < maps[level].dim(1); ++y) {
      for (Index x = 0; x < maps[level].dim(2); ++x) {
        *point++ = static_cast<float>(x) + 0.5f;
        *point++ = static_cast<float>(y) + 0.5f;
        *stride++ = static_cast<float>(Features::strides[level]);
      }
    }
  }
  return anchors;
}

}  // namespace ocellus
#endif
