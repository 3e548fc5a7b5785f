// The confusion matrix of a classification or segmentation over a whole split, and every number that follows from it.
// Fractions from 0 to 1. "mean" is the plain mean over classes, leaving out those absent from both truth and
// prediction; "pooled" counts all elements alike.
#pragma once

#include <cstdint>
#include <vector>

#include <ocellus/core/tensor.hpp>

namespace ocellus {

class ConfusionMatrix {
 public:
  // Throws UsageError unless classes is at least 1.
  explicit ConfusionMatrix(Index classes);

  // Counts elements of two tensors of one shape; labels equal to ignore_index do not count, whatever was predicted
  // there. Throws ShapeError, and counts nothing, for a label or prediction outside of [0, classes), naming its index.
  void add(const BasicTensor<std::int64_t>& predicted, const BasicTensor<std::int64_t>& labels,
           std::int64_t ignore_index = -100);
  // Joins the counts of another part of the split. Throws UsageError for another number of classes.
  void add(const ConfusionMatrix& other);

  Index classes() const { return classes_; }
  Index at(Index truth, Index predicted) const;
  // Elements counted; of this true class; predicted as this class.
  Index total() const;
  Index truth(Index c) const;
  Index predicted(Index c) const;

  // Of one class; NaN where it is absent from both truth and prediction. A class that is never predicted has precision
  // 0, one that is only predicted has recall 0. dice is also F1.
  double iou(Index c) const;
  double dice(Index c) const;
  double precision(Index c) const;
  double recall(Index c) const;

  double mean_iou() const { return mean(&ConfusionMatrix::iou); }
  double mean_dice() const { return mean(&ConfusionMatrix::dice); }
  double mean_precision() const { return mean(&ConfusionMatrix::precision); }
  double mean_recall() const { return mean(&ConfusionMatrix::recall); }

  // Share of elements that are right: also pooled precision, recall and F1, since every element has one label.
  double pixel_accuracy() const;
  // Σ hits / Σ (truth + predicted − hits)
  double pooled_iou() const;
  // Mean of the classes' IoU, weighted by their share of the truth.
  double frequency_weighted_iou() const;

 private:
  double mean(double (ConfusionMatrix::*metric)(Index) const) const;
  Index hits() const;

  Index classes_;
  std::vector<Index> counts_;  // (truth, predicted)
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_METRICS)
#include <cmath>
#include <limits>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace metrics_detail {

inline double fraction(Index part, Index whole) { return static_cast<double>(part) / static_cast<double>(whole); }

}  // namespace metrics_detail

OCELLUS_FN ConfusionMatrix::ConfusionMatrix(Index classes) : classes_(classes) {
  if (classes < 1) throw UsageError("ConfusionMatrix: at least one class is needed; got " + std::to_string(classes));
  counts_.assign(static_cast<std::size_t>(classes * classes), 0);
}

OCELLUS_FN void ConfusionMatrix::add(const BasicTensor<std::int64_t>& predicted,
                                     const BasicTensor<std::int64_t>& labels, std::int64_t ignore_index) {
  if (!(predicted.shape() == labels.shape())) {
    throw ShapeError("ConfusionMatrix: predicted and labels must have one shape; got predicted=" +
                     predicted.shape().str() + ", labels=" + labels.shape().str());
  }
  const auto refuse = [&](const char* what, std::int64_t value, Index i) {
    throw ShapeError(std::string("ConfusionMatrix: ") + what + " " + std::to_string(value) + " at index " +
                     std::to_string(i) + " lies outside of [0, " + std::to_string(classes_) + ")");
  };
  for (Index i = 0; i < labels.numel(); ++i) {
    if (labels[i] == ignore_index) continue;
    if (labels[i] < 0 || labels[i] >= classes_) refuse("label", labels[i], i);
    if (predicted[i] < 0 || predicted[i] >= classes_) refuse("prediction", predicted[i], i);
  }
  const std::int64_t *t = labels.data(), *p = predicted.data();
  for (Index i = 0; i < labels.numel(); ++i) {
    if (t[i] != ignore_index) ++counts_[static_cast<std::size_t>(t[i] * classes_ + p[i])];
  }
}

OCELLUS_FN void ConfusionMatrix::add(const ConfusionMatrix& other) {
  if (other.classes_ != classes_) {
    throw UsageError("ConfusionMatrix: " + std::to_string(other.classes_) + " classes joined to " +
                     std::to_string(classes_));
  }
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

OCELLUS_FN Index ConfusionMatrix::at(Index truth, Index predicted) const {
  if (truth < 0 || truth >= classes_ || predicted < 0 || predicted >= classes_) {
    throw UsageError("ConfusionMatrix: there is no class " +
                     std::to_string(truth < 0 || truth >= classes_ ? truth : predicted));
  }
  return counts_[static_cast<std::size_t>(truth * classes_ + predicted)];
}

OCELLUS_FN Index ConfusionMatrix::total() const {
  Index sum = 0;
  for (const Index n : counts_) sum += n;
  return sum;
}

OCELLUS_FN Index ConfusionMatrix::truth(Index c) const {
  Index sum = 0;
  for (Index p = 0; p < classes_; ++p) sum += at(c, p);
  return sum;
}

OCELLUS_FN Index ConfusionMatrix::predicted(Index c) const {
  Index sum = 0;
  for (Index t = 0; t < classes_; ++t) sum += at(t, c);
  return sum;
}

OCELLUS_FN Index ConfusionMatrix::hits() const {
  Index sum = 0;
  for (Index c = 0; c < classes_; ++c) sum += at(c, c);
  return sum;
}

OCELLUS_FN double ConfusionMatrix::iou(Index c) const {
  return metrics_detail::fraction(at(c, c), truth(c) + predicted(c) - at(c, c));
}

OCELLUS_FN double ConfusionMatrix::dice(Index c) const {
  return metrics_detail::fraction(2 * at(c, c), truth(c) + predicted(c));
}

OCELLUS_FN double ConfusionMatrix::precision(Index c) const {
  if (predicted(c) == 0 && truth(c) > 0) return 0;
  return metrics_detail::fraction(at(c, c), predicted(c));
}

OCELLUS_FN double ConfusionMatrix::recall(Index c) const {
  if (truth(c) == 0 && predicted(c) > 0) return 0;
  return metrics_detail::fraction(at(c, c), truth(c));
}

OCELLUS_FN double ConfusionMatrix::mean(double (ConfusionMatrix::*metric)(Index) const) const {
  double sum = 0;
  Index present = 0;
  for (Index c = 0; c < classes_; ++c) {
    const double value = (this->*metric)(c);
    if (std::isnan(value)) continue;
    sum += value;
    ++present;
  }
  return present ? sum / static_cast<double>(present) : std::numeric_limits<double>::quiet_NaN();
}

OCELLUS_FN double ConfusionMatrix::pixel_accuracy() const { return metrics_detail::fraction(hits(), total()); }

OCELLUS_FN double ConfusionMatrix::pooled_iou() const { return metrics_detail::fraction(hits(), 2 * total() - hits()); }

OCELLUS_FN double ConfusionMatrix::frequency_weighted_iou() const {
  double sum = 0;
  for (Index c = 0; c < classes_; ++c) {
    if (truth(c) > 0) sum += static_cast<double>(truth(c)) * iou(c);
  }
  return sum / static_cast<double>(total());
}

}  // namespace ocellus
#endif
