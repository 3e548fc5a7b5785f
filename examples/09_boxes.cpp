// 09 · How good are boxes?
//
// Six boxes that a detector found and four that are true, written down here. By hand: the overlap of two boxes is the area they share
// over the area they cover together (IoU); a found box is right if it overlaps a true one by at least half and no surer box took that;
// going from the surest box to the least sure, precision is the share of the boxes so far that are right, recall the share of the true
// ones that are found; average precision is the area under that curve, each precision replaced by the best one at any higher recall.
// Then the library's functions say the same. Last, IoU beside Dice, 2 shared / (sum of both areas): the same errors weigh more on a
// small object than on a large one, and more in IoU than in Dice.
//
// Run:      ./09_boxes
// Expected: average precision 0.75 as the area, 0.752475 at COCO's 101 recalls (±1e-6); two of the six boxes are wrong at IoU 0.5;
//           ten pixels missed and ten too many: Dice 0.99 and IoU 0.98 of 1000 found pixels, 0.91 and 0.83 of 100.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

struct Found {
  Box box;
  double score;
};

double overlap_by_hand(const Box& a, const Box& b) {
  const double width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  const double shared = std::max(width, 0.0) * std::max(height, 0.0);
  const auto area = [](const Box& x) { return static_cast<double>(x.x2 - x.x1) * static_cast<double>(x.y2 - x.y1); };
  return shared / (area(a) + area(b) - shared);
}

// Labels and answer for an object: so many pixels found, missed and too many.
ConfusionMatrix segmented(Index found, Index missed, Index surplus) {
  const Index all = found + missed + surplus + 100;
  BasicTensor<std::int64_t> labels({all}), predicted({all});
  for (Index i = 0; i < all; ++i) {
    labels[i] = i < found + missed;
    predicted[i] = i < found || (i >= found + missed && i < found + missed + surplus);
  }
  ConfusionMatrix matrix(2);
  matrix.add(predicted, labels);
  return matrix;
}

int main() {
  const std::vector<Box> truth = {{10, 10, 50, 50}, {60, 10, 100, 50}, {10, 60, 50, 100}, {60, 60, 100, 100}};
  const std::vector<Found> found = {{{12, 10, 52, 50}, 0.95},     // the first object, 2 pixels off
                                    {{14, 14, 54, 54}, 0.90},     // the first again: found twice is wrong once
                                    {{60, 15, 100, 55}, 0.80},    // the second
                                    {{120, 10, 150, 40}, 0.60},   // nothing is there
                                    {{10, 64, 50, 104}, 0.50},    // the third
                                    {{61, 61, 99, 99}, 0.30}};    // the fourth

  // The surest first; each takes the true box that it overlaps most, if that is free.
  std::vector<double> precision, recall;
  std::vector<bool> taken(truth.size());
  int right = 0;
  for (const Found& f : found) {
    std::size_t best = 0;
    for (std::size_t t = 1; t < truth.size(); ++t) {
      if (overlap_by_hand(f.box, truth[t]) > overlap_by_hand(f.box, truth[best])) best = t;
    }
    const double iou = overlap_by_hand(f.box, truth[best]);
    const bool is_right = iou >= 0.5 && !taken[best];
    if (is_right) taken[best] = true;
    right += is_right;
    precision.push_back(right / static_cast<double>(precision.size() + 1));
    recall.push_back(right / static_cast<double>(truth.size()));
    std::printf("score %.2f  IoU %.3f  %-5s  precision %.3f  recall %.2f\n", f.score, iou, is_right ? "right" : "wrong", precision.back(), recall.back());
  }
  // The area under the best precision at this recall or a higher one.
  double area = 0, points = 0;
  const auto best_from = [&](double least) {
    double best = 0;
    for (std::size_t i = 0; i < recall.size(); ++i) {
      if (recall[i] >= least) best = std::max(best, precision[i]);
    }
    return best;
  };
  for (std::size_t i = 0; i < recall.size(); ++i) area += (recall[i] - (i ? recall[i - 1] : 0)) * best_from(recall[i]);
  for (int r = 0; r <= 100; ++r) points += best_from(r / 100.0) / 101;

  expect("IoU of boxes that are 2 of 40 pixels apart", overlap_by_hand(found[0].box, truth[0]), 38.0 / 42, 1e-6);
  expect("the same, of the library", iou(found[0].box, truth[0]), 38.0 / 42, 1e-6);
  expect("average precision by hand, the area", area, 0.75, 1e-9);
  expect("average precision by hand, at 101 recalls", points, 0.752475, 1e-6);

  std::vector<TrueObject> objects;
  std::vector<FoundObject> detections;
  for (const Box& b : truth) objects.push_back({.box = b});
  for (const Found& f : found) detections.push_back({.box = f.box, .score = f.score});
  DetectionMetric metric(1);
  metric.add(objects, detections);
  expect("the area, of the library (Pascal VOC)", metric.voc_ap(0), area, 1e-9);
  expect("at 101 recalls, of the library (COCO)", metric.ap_at(0, 0), points, 1e-9);
  const DetectionErrors errors = metric.errors();
  expect("found twice", static_cast<double>(errors.duplicate), 1, 0);
  expect("found where nothing is", static_cast<double>(errors.background), 1, 0);

  const ConfusionMatrix large = segmented(1000, 10, 10), small = segmented(100, 10, 10);
  expect("Dice of 1000 pixels, 10 missed and 10 too many", large.dice(1), 0.99, 0.005);
  expect("IoU", large.iou(1), 0.98, 0.005);
  expect("Dice of 100 pixels, 10 missed and 10 too many", small.dice(1), 0.91, 0.005);
  expect("IoU", small.iou(1), 0.83, 0.005);
  expect("IoU from Dice", small.dice(1) / (2 - small.dice(1)), small.iou(1), 1e-12);
  return 0;
}
