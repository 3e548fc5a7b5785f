// Metrics of classification logits. Plain numbers, no autograd; fractions from 0 to 1.
#pragma once

#include <cstdint>

#include <ocellus/core/tensor.hpp>

namespace ocellus {

// Which share of labels stands among the k largest logits of its row; a tie counts as a hit only for the class that
// comes first. logits (..., K), labels (...). Labels equal to ignore_index do not count; NaN if none is left. Throws
// ShapeError for shapes or labels that do not fit and unless 1 ≤ k.
double top_k_accuracy(const Tensor& logits, const BasicTensor<std::int64_t>& labels, Index k,
                      std::int64_t ignore_index = -100);

// Which share of labels has the largest logit of its row.
double accuracy(const Tensor& logits, const BasicTensor<std::int64_t>& labels, std::int64_t ignore_index = -100);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_METRICS)
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN double top_k_accuracy(const Tensor& logits, const BasicTensor<std::int64_t>& labels, Index k,
                                 std::int64_t ignore_index) {
  const bool fits = logits.rank() == labels.rank() + 1 && logits.shape().rows() == labels.numel() && logits.dim(-1) > 0;
  if (!fits || k < 1) {
    throw ShapeError("top_k_accuracy: logits (..., K), labels (...) and k of at least 1 are needed; got logits=" +
                     logits.shape().str() + ", labels=" + labels.shape().str() + ", k=" + std::to_string(k));
  }
  const Index classes = logits.dim(-1);
  Index hits = 0, counted = 0;
  for (Index i = 0; i < labels.numel(); ++i) {
    const std::int64_t t = labels[i];
    if (t == ignore_index) continue;
    if (t < 0 || t >= classes) {
      throw ShapeError("top_k_accuracy: label " + std::to_string(t) + " at index " + std::to_string(i) +
                       " lies outside of [0, " + std::to_string(classes) + ")");
    }
    const float* row = logits.data() + i * classes;
    // Classes that come before the label; NaN ranks above all numbers, so that a broken model scores nothing.
    Index above = 0;
    for (Index c = 0; c < classes; ++c) above += c != t && (!(row[c] <= row[t]) || (row[c] == row[t] && c < t));
    hits += above < k;
    ++counted;
  }
  return static_cast<double>(hits) / static_cast<double>(counted);
}

OCELLUS_FN double accuracy(const Tensor& logits, const BasicTensor<std::int64_t>& labels, std::int64_t ignore_index) {
  return top_k_accuracy(logits, labels, 1, ignore_index);
}

}  // namespace ocellus
#endif
