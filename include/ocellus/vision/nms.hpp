// From the boxes and scores of a network to detections: confidence threshold and non-maximum suppression, greedy or
// soft (Bodla et al.: Soft-NMS, 2017). Of equal scores the candidate that comes first wins, so the answer is one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ocellus/core/tensor.hpp>
#include <ocellus/vision/boxes.hpp>

namespace ocellus {

struct Detection {
  Box box;
  float score = 0;
  Index label = 0;
  Index row = 0;  // of the boxes given that it is
};

enum class Suppression : std::uint8_t {
  greedy,    // a box that overlaps a better one too much goes
  linear,    // its score is multiplied by 1 − IoU instead
  gaussian,  // every score is multiplied by exp(−IoU² / sigma)
};

// The defaults are those of Ultralytics' YOLO for prediction; its validation has confidence 0.001 and several labels.
struct NmsOptions {
  float confidence = 0.25f;      // candidates need more than this, from 0 to 1
  float iou = 0.7f;              // boxes that overlap a kept one more than this are suppressed; from 0 to 1
  bool class_agnostic = false;   // boxes of different classes suppress each other too
  bool several_labels = false;   // a row is a candidate for each of its classes, not only for the best one
  Index max_candidates = 30000;  // 0 or more, as max_detections
  Index max_detections = 300;
  Suppression suppression = Suppression::greedy;
  float sigma = 0.5f;  // of Suppression::gaussian

  static constexpr Index most_labels = 65536;
};

struct NmsResult {
  std::vector<Index> kept;           // candidates, best first
  std::vector<float> scores;         // of these; soft suppression has lowered them
  std::vector<Index> suppressed_by;  // for each candidate the kept one that suppressed it, −1 for none
};

// Boxes, scores and labels of the candidates, equally many; a score that is not above the confidence, or a box that is
// not finite, is left out. Throws UsageError for lists that differ in length, labels outside of [0, most_labels) and
// options outside of their ranges.
NmsResult nms(std::span<const Box> boxes, std::span<const float> scores, std::span<const Index> labels,
              const NmsOptions& options = {});

// What became of the candidates of one picture.
struct Detections {
  struct Suppressed {
    Detection detection;
    Index by;  // the place in `kept` of the one that suppressed it
  };
  std::vector<Detection> kept;         // best first
  std::vector<Suppressed> suppressed;  // best first; filled on request
};

// Of every picture of a batch: boxes (N, A, 4) as edges, scores (N, A, K). `explain` also reports what was suppressed
// and by which. Throws ShapeError, and UsageError for options outside of their ranges.
std::vector<Detections> find_detections(const Tensor& boxes, const Tensor& scores, const NmsOptions& options = {},
                                        bool explain = false);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus {
namespace vision_detail {

// Ascending order of this number is descending order of the score.
inline std::uint32_t descending(float score) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score);
  return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

// The best `most` of the candidates, best first, of equal scores the earlier one first.
OCELLUS_FN std::vector<Index> best_first(std::span<const float> scores, std::vector<Index> candidates, Index most) {
  struct Key {
    std::uint32_t rank, candidate;
  };
  constexpr int digit_bits = 11;
  constexpr std::uint32_t digits = 1u << digit_bits;
  std::vector<Key> keys;
  keys.reserve(candidates.size());
  for (const Index i : candidates)
    keys.push_back({descending(scores[static_cast<std::size_t>(i)]), static_cast<std::uint32_t>(i)});
  if (static_cast<Index>(keys.size()) > 2 * most) {  // leave out what the leading digits rule out
    std::vector<Index> count(digits);
    for (const Key& k : keys) ++count[k.rank >> (32 - digit_bits)];
    std::uint32_t last = 0;
    for (Index sum = count[0]; sum < most; sum += count[last]) ++last;
    std::erase_if(keys, [&](const Key& k) { return k.rank >> (32 - digit_bits) > last; });
  }
  std::vector<Key> sorted(keys.size());
  for (int shift = 0; shift < 32; shift += digit_bits) {
    std::vector<std::size_t> start(digits + 1);
    for (const Key& k : keys) ++start[(k.rank >> shift & (digits - 1)) + 1];
    for (std::size_t d = 0; d < digits; ++d) start[d + 1] += start[d];
    for (const Key& k : keys) sorted[start[k.rank >> shift & (digits - 1)]++] = k;
    keys.swap(sorted);
  }
  candidates.clear();
  for (const Key& k : keys) {
    if (static_cast<Index>(candidates.size()) == most) break;
    candidates.push_back(static_cast<Index>(k.candidate));
  }
  return candidates;
}

// Eight kept boxes of one class side by side, so that a candidate is compared with all of them in vector code. Empty
// places hold NaN, which overlaps nothing.
struct KeptBlock {
  static constexpr int size = 8;
  float x1[size], y1[size], x2[size], y2[size], area[size];
  Index candidate[size];
};

struct KeptBoxes {
  std::vector<KeptBlock> blocks;
  int used = KeptBlock::size;  // of the last block

  void add(const Box& b, Index candidate) {
    if (used == KeptBlock::size) {
      used = 0;
      KeptBlock& fresh = blocks.emplace_back();
      for (float* list : {fresh.x1, fresh.y1, fresh.x2, fresh.y2, fresh.area})
        std::fill_n(list, KeptBlock::size, std::numeric_limits<float>::quiet_NaN());
    }
    KeptBlock& k = blocks.back();
    k.x1[used] = b.x1, k.y1[used] = b.y1, k.x2[used] = b.x2, k.y2[used] = b.y2, k.area[used] = b.area();
    k.candidate[used++] = candidate;
  }

  // The first kept box that overlaps b more than the threshold, −1 for none.
  Index suppressor(const Box& b, float threshold) const {
    const float area = b.area();
    for (const KeptBlock& k : blocks) {
      float shares[KeptBlock::size];
      int hits = 0;
      for (int i = 0; i < KeptBlock::size; ++i) {
        shares[i] = iou_of(intersection(Box{k.x1[i], k.y1[i], k.x2[i], k.y2[i]}, b), k.area[i], area);
        hits |= shares[i] > threshold;
      }
      if (!hits) continue;
      for (int i = 0; i < KeptBlock::size; ++i) {
        if (shares[i] > threshold) return k.candidate[i];
      }
    }
    return -1;
  }
};

struct NmsInput {
  std::span<const Box> boxes;
  std::span<const float> scores;
  std::span<const Index> labels;

  std::size_t group(Index candidate, const NmsOptions& o) const {
    return o.class_agnostic ? 0 : static_cast<std::size_t>(labels[static_cast<std::size_t>(candidate)]);
  }
  const Box& box(Index candidate) const { return boxes[static_cast<std::size_t>(candidate)]; }
  float score(Index candidate) const { return scores[static_cast<std::size_t>(candidate)]; }
};

OCELLUS_FN void greedy_nms(const NmsInput& in, const std::vector<Index>& order, const NmsOptions& o, NmsResult& r) {
  std::size_t groups = 1;
  for (const Index i : order) groups = std::max(groups, in.group(i, o) + 1);
  std::vector<KeptBoxes> kept(groups);
  for (const Index i : order) {
    if (static_cast<Index>(r.kept.size()) >= o.max_detections) break;
    KeptBoxes& rivals = kept[in.group(i, o)];
    const Index by = rivals.suppressor(in.box(i), o.iou);
    r.suppressed_by[static_cast<std::size_t>(i)] = by;
    if (by >= 0) continue;
    rivals.add(in.box(i), i);
    r.kept.push_back(i);
    r.scores.push_back(in.score(i));
  }
}

OCELLUS_FN void soft_nms(const NmsInput& in, std::vector<Index> left, const NmsOptions& o, NmsResult& r) {
  std::vector<float> scores;
  for (const Index i : left) scores.push_back(in.score(i));
  // `left` keeps its order, so the first of equal scores is the one that was better, or earlier, at the start.
  while (!left.empty() && static_cast<Index>(r.kept.size()) < o.max_detections) {
    const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
    const Index winner = left[static_cast<std::size_t>(best)];
    r.kept.push_back(winner);
    r.scores.push_back(scores[static_cast<std::size_t>(best)]);
    std::size_t to = 0;
    for (std::size_t at = 0; at < left.size(); ++at) {
      const Index i = left[at];
      if (i == winner) continue;
      float score = scores[at];
      if (in.group(i, o) == in.group(winner, o)) {
        const float share = iou(in.box(winner), in.box(i));
        if (o.suppression == Suppression::gaussian) {
          score *= std::exp(-share * share / o.sigma);
        } else if (share > o.iou) {
          score *= 1 - share;
        }
      }
      if (!(score > o.confidence)) {
        r.suppressed_by[static_cast<std::size_t>(i)] = winner;
        continue;
      }
      left[to] = i;
      scores[to++] = score;
    }
    left.resize(to);
    scores.resize(to);
  }
}

// Scores of one picture that are above the threshold, in the order of rows and classes.
struct Candidates {
  std::vector<Box> boxes;
  std::vector<float> scores;
  std::vector<Index> labels;
  std::vector<Index> rows;

  void add(const float* box, float score, Index label, Index row) {
    boxes.push_back({box[0], box[1], box[2], box[3]});
    scores.push_back(score);
    labels.push_back(label);
    rows.push_back(row);
  }
  void append(const Candidates& more) {
    boxes.insert(boxes.end(), more.boxes.begin(), more.boxes.end());
    scores.insert(scores.end(), more.scores.begin(), more.scores.end());
    labels.insert(labels.end(), more.labels.begin(), more.labels.end());
    rows.insert(rows.end(), more.rows.begin(), more.rows.end());
  }
  Detection detection(Index candidate) const {
    const auto i = static_cast<std::size_t>(candidate);
    return {boxes[i], scores[i], labels[i], rows[i]};
  }
};

// The largest of a row, in vector code; NaN is never larger.
OCELLUS_FN float largest(const float* row, Index n) {
  constexpr Index lanes = 16;
  float best[lanes];
  std::fill_n(best, lanes, -std::numeric_limits<float>::infinity());
  Index at = 0;
  for (; at + lanes <= n; at += lanes) {
    for (Index l = 0; l < lanes; ++l) best[l] = row[at + l] > best[l] ? row[at + l] : best[l];
  }
  for (; at < n; ++at) best[0] = row[at] > best[0] ? row[at] : best[0];
  return *std::max_element(best, best + lanes);
}

OCELLUS_FN Candidates find_candidates(const float* boxes, const float* scores, Index rows, Index classes,
                                      const NmsOptions& o) {
  constexpr Index block = 1024;
  std::vector<Candidates> parts(static_cast<std::size_t>((rows + block - 1) / block));
  parallel_for(static_cast<Index>(parts.size()), 1, [&](Index first, Index last) {
    for (Index part = first; part < last; ++part) {
      Candidates& found = parts[static_cast<std::size_t>(part)];
      for (Index i = part * block; i < std::min(rows, (part + 1) * block); ++i) {
        const float* row = scores + i * classes;
        const float best = largest(row, classes);
        if (!(best > o.confidence)) continue;
        for (Index c = 0; c < classes; ++c) {
          const bool wanted = o.several_labels ? row[c] > o.confidence : row[c] == best;
          if (!wanted) continue;
          found.add(boxes + 4 * i, row[c], c, i);
          if (!o.several_labels) break;
        }
      }
    }
  });
  if (parts.empty()) return {};
  for (std::size_t part = 1; part < parts.size(); ++part) parts.front().append(parts[part]);
  return std::move(parts.front());
}

OCELLUS_FN Detections find_detections_of_one(const float* boxes, const float* scores, Index rows, Index classes,
                                             const NmsOptions& options, bool explain) {
  const Candidates candidates = find_candidates(boxes, scores, rows, classes, options);
  const NmsResult result = nms(candidates.boxes, candidates.scores, candidates.labels, options);
  Detections d;
  for (std::size_t i = 0; i < result.kept.size(); ++i) {
    d.kept.push_back(candidates.detection(result.kept[i]));
    d.kept.back().score = result.scores[i];
  }
  if (!explain) return d;
  std::vector<Index> place(candidates.boxes.size());
  for (std::size_t i = 0; i < result.kept.size(); ++i)
    place[static_cast<std::size_t>(result.kept[i])] = static_cast<Index>(i);
  std::vector<Index> gone;
  for (std::size_t i = 0; i < result.suppressed_by.size(); ++i) {
    if (result.suppressed_by[i] >= 0) gone.push_back(static_cast<Index>(i));
  }
  const Index count = static_cast<Index>(gone.size());
  for (const Index i : best_first(candidates.scores, std::move(gone), count)) {
    const Index by = result.suppressed_by[static_cast<std::size_t>(i)];
    d.suppressed.push_back({candidates.detection(i), place[static_cast<std::size_t>(by)]});
  }
  return d;
}

OCELLUS_FN void check_options(const char* where, const NmsOptions& o) {
  const auto need = [&](bool holds, const char* rule, const std::string& given) {
    if (!holds) throw UsageError(std::string(where) + ": " + rule + "; got " + given);
  };
  need(o.confidence >= 0 && o.confidence <= 1, "confidence must lie in [0, 1]", std::to_string(o.confidence));
  need(o.iou >= 0 && o.iou <= 1, "iou must lie in [0, 1]", std::to_string(o.iou));
  need(o.max_candidates >= 0, "max_candidates must be 0 or more", std::to_string(o.max_candidates));
  need(o.max_detections >= 0, "max_detections must be 0 or more", std::to_string(o.max_detections));
  const bool needs_sigma = o.suppression == Suppression::gaussian;
  need(!needs_sigma || o.sigma > 0, "sigma must be above 0", std::to_string(o.sigma));
}

}  // namespace vision_detail

OCELLUS_FN NmsResult nms(std::span<const Box> boxes, std::span<const float> scores, std::span<const Index> labels,
                         const NmsOptions& options) {
  if (boxes.size() != scores.size() || boxes.size() != labels.size()) {
    throw UsageError("nms: as many scores and labels as boxes are needed; got " + std::to_string(boxes.size()) +
                     " boxes, " + std::to_string(scores.size()) + " scores, " + std::to_string(labels.size()) +
                     " labels");
  }
  vision_detail::check_options("nms", options);
  constexpr Index most_labels = NmsOptions::most_labels;
  std::vector<Index> candidates;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= most_labels) {
      throw UsageError("nms: label " + std::to_string(labels[i]) + " of box " + std::to_string(i) +
                       " lies outside of [0, " + std::to_string(most_labels) + ")");
    }
    const Box& b = boxes[i];
    const bool finite = std::isfinite(b.x1) && std::isfinite(b.y1) && std::isfinite(b.x2) && std::isfinite(b.y2);
    if (scores[i] > options.confidence && finite) candidates.push_back(static_cast<Index>(i));
  }
  candidates = vision_detail::best_first(scores, std::move(candidates), options.max_candidates);
  NmsResult result;
  result.suppressed_by.assign(boxes.size(), -1);
  const vision_detail::NmsInput in{boxes, scores, labels};
  if (options.suppression == Suppression::greedy) {
    vision_detail::greedy_nms(in, candidates, options, result);
  } else {
    vision_detail::soft_nms(in, std::move(candidates), options, result);
  }
  return result;
}

OCELLUS_FN std::vector<Detections> find_detections(const Tensor& boxes, const Tensor& scores, const NmsOptions& options,
                                                   bool explain) {
  const bool fits = boxes.rank() == 3 && scores.rank() == 3 && boxes.dim(2) == 4 && boxes.dim(0) == scores.dim(0) &&
                    boxes.dim(1) == scores.dim(1);
  if (!fits) {
    throw ShapeError("find_detections: boxes (N, A, 4) and scores (N, A, K) are needed; got boxes=" +
                     boxes.shape().str() + ", scores=" + scores.shape().str());
  }
  vision_detail::check_options("find_detections", options);
  const Index pictures = boxes.dim(0), rows = boxes.dim(1), classes = scores.dim(2);
  std::vector<Detections> result(static_cast<std::size_t>(pictures));
  parallel_for(pictures, 1, [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      result[static_cast<std::size_t>(n)] = vision_detail::find_detections_of_one(
          boxes.data() + n * rows * 4, scores.data() + n * rows * classes, rows, classes, options, explain);
    }
  });
  return result;
}

}  // namespace ocellus
#endif
