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

// Most places show nothing, and need no box. Of maps (N, h, w, C) whose channels from `first` on are logits of classes: the
// places, counted as in Anchors, at which some class of some picture has a logit above `limit`, ascending.
std::vector<Index> places_above(const std::vector<Tensor>& maps, Index first, float limit);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
namespace ocellus {

// In blocks without a branch, which compilers turn into vector code.
OCELLUS_FN bool any_above(const float* values, Index n, float limit) {
  constexpr Index block = 16;
  Index at = 0;
  for (; at + block <= n; at += block) {
    int hits = 0;
    for (Index i = 0; i < block; ++i) hits |= values[at + i] > limit;
    if (hits) return true;
  }
  for (; at < n; ++at) {
    if (values[at] > limit) return true;
  }
  return false;
}

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

OCELLUS_FN std::vector<Index> places_above(const std::vector<Tensor>& maps, Index first, float limit) {
  std::vector<Index> above;
  Index begin = 0;
  for (const Tensor& map : maps) {
    const Index places = map.dim(1) * map.dim(2), channels = map.dim(3);
    for (Index place = 0; place < places; ++place) {
      bool wanted = false;
      for (Index n = 0; n < map.dim(0) && !wanted; ++n) {
        const float* row = map.data() + (n * places + place) * channels;
        wanted = any_above(row + first, channels - first, limit);
      }
      if (wanted) above.push_back(begin + place);
    }
    begin += places;
  }
  return above;
}

}  // namespace ocellus
#endif
