// Cross-entropy of logits and class labels, as torch.nn.functional.cross_entropy defines it, in one pass: log-softmax,
// class weights, ignored labels and label smoothing (Szegedy et al., 2016).
#pragma once

#include <ocellus/losses/reduction.hpp>

namespace ocellus {

struct CrossEntropyOptions {
  Tensor class_weights = {};         // (K), none: ones
  std::int64_t ignore_index = -100;  // a label that does not count
  double label_smoothing = 0;        // the share of the target spread evenly over the classes
  // The mean divides by the sum of the labels' weights; it is NaN if every label is ignored.
  Reduction reduction = Reduction::mean;
};

// logits (..., K), labels (...) → () or, without reduction, (...). Throws ShapeError for a label outside of [0, K),
// naming its index.
template <class T>
BasicTensor<T> cross_entropy(const BasicTensor<T>& logits, const BasicTensor<std::int64_t>& labels,
                             const CrossEntropyOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cstring>
#include <vector>

#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// l = −(1 − ε) w[t] log p[t] − ε/K Σ w[c] log p[c], p = softmax(x), for t ≠ ignored; the mean divides by Σ w[t].
// dx = (1 − ε) w[t] (p − 1[c = t]) + ε/K (p Σ w − w[c]), times dl. The probabilities are computed again in backward.
struct CrossEntropy {
  OCELLUS_OP("cross_entropy(logits, labels, class_weights)", ignore_index, label_smoothing, reduction)
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  Reduction reduction = Reduction::mean;
  static constexpr unsigned keeps = input(0) | input(1) | input(2);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 1 && x[-1] > 0, "logits must be (..., K)");
    Shape lead;
    for (int i = 0; i + 1 < x.rank(); ++i) lead.push_back(x[i]);
    r.require(r.in[1].shape == lead, "labels must have the shape of logits without the last axis");
    r.require(!r.in[2].given() || r.in[2].shape == Shape{x[-1]}, "class_weights must be (K)");
    r.require(label_smoothing >= 0 && label_smoothing <= 1, "label_smoothing must lie in [0, 1]");
    return reduction == Reduction::none ? lead : Shape{};
  }

  // The divisor of the mean.
  std::vector<Spec> aux(const Run&) const { return {{{}, DType::f64}}; }

  template <class T>
  void forward(const Run& r) const {
    const Index rows = r.in[1].shape.numel(), classes = r.in[0].shape[-1];
    check_labels(r, classes, ignore_index);
    const T* x = r.in[0];
    const std::int64_t* label = r.in[1];
    const T* w = r.in[2];
    T* y = r.out[0];
    const double smooth = label_smoothing / static_cast<double>(classes);
    double sums[2];  // of the losses and of the labels' weights
    sum_blocks(rows, rows_per_block(classes), 2, sums, [&](Index begin, Index end, double* partial) {
      Scratch frame;
      T* log_p = frame.take<T>((end - begin) * classes);
      kernels::table<T>().softmax(end - begin, classes, x + begin * classes, log_p, true);
      for (Index i = begin; i < end; ++i, log_p += classes) {
        const std::int64_t t = label[i];
        double loss = 0;
        if (t != ignore_index) {
          const double weight = w ? static_cast<double>(w[t]) : 1.0;
          loss = -(1 - label_smoothing) * weight * static_cast<double>(log_p[t]);
          if (smooth > 0) {
            for (Index c = 0; c < classes; ++c)
              loss -= smooth * (w ? static_cast<double>(w[c]) : 1.0) * static_cast<double>(log_p[c]);
          }
          partial[1] += weight;
        }
        partial[0] += loss;
        if (reduction == Reduction::none) y[i] = static_cast<T>(loss);
      }
    });
    if (reduction == Reduction::mean) *y = static_cast<T>(sums[0] / sums[1]);
    if (reduction == Reduction::sum) *y = static_cast<T>(sums[0]);
    if (double* divisor = r.aux[0]) *divisor = reduction == Reduction::mean ? sums[1] : 1.0;
  }

  template <class T>
  void backward(const Run& r) const {
    const Index rows = r.in[1].shape.numel(), classes = r.in[0].shape[-1];
    const T *x = r.in[0], *dy = r.dout[0];
    const std::int64_t* label = r.in[1];
    const T* w = r.in[2];
    const double* divisor = r.aux[0];
    T* dx = r.din[0];
    const double smooth = label_smoothing / static_cast<double>(classes);
    double all = static_cast<double>(classes);
    if (w) {
      all = 0;
      for (Index c = 0; c < classes; ++c) all += static_cast<double>(w[c]);
    }
    const Index block = rows_per_block(classes);
    parallel_for((rows + block - 1) / block, 1, [&](Index first, Index last) {
      const Index begin = first * block, end = std::min(rows, last * block);
      kernels::table<T>().softmax(end - begin, classes, x + begin * classes, dx + begin * classes, false);
      for (Index i = begin; i < end; ++i) {
        T* g = dx + i * classes;
        const std::int64_t t = label[i];
        if (t == ignore_index) {
          std::memset(g, 0, static_cast<std::size_t>(classes) * sizeof(T));
          continue;
        }
        const double scale = static_cast<double>(dy[reduction == Reduction::none ? i : 0]) / *divisor;
        const double hit = (1 - label_smoothing) * (w ? static_cast<double>(w[t]) : 1.0);
        const T factor = static_cast<T>(scale * (hit + smooth * all));
        for (Index c = 0; c < classes; ++c) g[c] *= factor;
        g[t] -= static_cast<T>(scale * hit);
        if (smooth > 0) {
          for (Index c = 0; c < classes; ++c)
            g[c] -= static_cast<T>(scale * smooth * (w ? static_cast<double>(w[c]) : 1.0));
        }
      }
    });
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> cross_entropy(const BasicTensor<T>& logits, const BasicTensor<std::int64_t>& labels,
                             const CrossEntropyOptions& options) {
  const BasicTensor<T> weights = options.class_weights ? convert<T>(options.class_weights) : BasicTensor<T>();
  return call(op::CrossEntropy{options.ignore_index, options.label_smoothing, options.reduction}, logits, labels,
              weights);
}
OCELLUS_FLOATS(cross_entropy)

}  // namespace ocellus
#endif
