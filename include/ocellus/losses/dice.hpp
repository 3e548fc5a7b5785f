// Soft Dice loss of logits and class labels (Milletari et al.: V-Net, 2016; per class as in Sudre et al., 2017), over
// the whole batch.
#pragma once

#include <ocellus/losses/reduction.hpp>

namespace ocellus {

struct DiceOptions {
  Tensor class_weights = {};         // (K), none: ones; the loss divides by their sum
  std::int64_t ignore_index = -100;  // a label whose element does not count
  double smooth = 1e-5;              // added above and below the fraction: a class absent from both has loss 0
};

// logits (..., K), labels (...) → (): Σ w[c] (1 − dice[c]) / Σ w[c], dice[c] = (2 Σ p[c] 1[t = c] + s) / (Σ p[c] + Σ
// 1[t = c] + s) with p = softmax(logits). Throws ShapeError for a label outside of [0, K), naming its index.
template <class T>
BasicTensor<T> dice_loss(const BasicTensor<T>& logits, const BasicTensor<std::int64_t>& labels,
                         const DiceOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cstring>
#include <vector>

#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// With N[c] and D[c] above and below the fraction and v = w / Σ w:
// dp[c] = −2 v[c] 1[t = c] / D[c] + v[c] N[c] / D[c]², dx = p (dp − Σ p dp). The probabilities are computed again in
// backward.
struct DiceLoss {
  OCELLUS_OP("dice_loss(logits, labels, class_weights)", ignore_index, smooth)
  std::int64_t ignore_index = -100;
  double smooth = 1e-5;
  static constexpr unsigned keeps = input(0) | input(1) | input(2);

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() >= 1 && x[-1] > 0, "logits must be (..., K)");
    Shape lead;
    for (int i = 0; i + 1 < x.rank(); ++i) lead.push_back(x[i]);
    r.require(r.in[1].shape == lead, "labels must have the shape of logits without the last axis");
    r.require(!r.in[2].given() || r.in[2].shape == Shape{x[-1]}, "class_weights must be (K)");
    return {};
  }

  // Both terms of dp per class.
  std::vector<Spec> aux(const Run& r) const { return {{{2, r.in[0].shape[-1]}, DType::f64}}; }

  template <class T>
  void forward(const Run& r) const {
    const Index rows = r.in[1].shape.numel(), classes = r.in[0].shape[-1];
    check_labels(r, classes, ignore_index);
    const T* x = r.in[0];
    const std::int64_t* label = r.in[1];
    const T* w = r.in[2];
    Scratch outer;
    double* sums = outer.take<double>(3 * classes);  // Σ p 1[t = c], Σ p, Σ 1[t = c]
    sum_blocks(rows, rows_per_block(classes), 3 * classes, sums, [&](Index begin, Index end, double* partial) {
      Scratch frame;
      T* p = frame.take<T>((end - begin) * classes);
      kernels::table<T>().softmax(end - begin, classes, x + begin * classes, p, false);
      for (Index i = begin; i < end; ++i, p += classes) {
        const std::int64_t t = label[i];
        if (t == ignore_index) continue;
        partial[t] += static_cast<double>(p[t]);
        partial[2 * classes + t] += 1;
        for (Index c = 0; c < classes; ++c) partial[classes + c] += static_cast<double>(p[c]);
      }
    });
    const auto weight = [&](Index c) { return w ? static_cast<double>(w[c]) : 1.0; };
    double all = 0, loss = 0;
    for (Index c = 0; c < classes; ++c) all += weight(c);
    double* slopes = r.aux[0];
    for (Index c = 0; c < classes; ++c) {
      const double above = 2 * sums[c] + smooth, below = sums[classes + c] + sums[2 * classes + c] + smooth;
      const double v = weight(c) / all;
      loss += v * (1 - above / below);
      if (slopes) {
        slopes[c] = -2 * v / below;
        slopes[classes + c] = v * above / (below * below);
      }
    }
    T* y = r.out[0];
    *y = static_cast<T>(loss);
  }

  template <class T>
  void backward(const Run& r) const {
    const Index rows = r.in[1].shape.numel(), classes = r.in[0].shape[-1];
    const T *x = r.in[0], *dy = r.dout[0];
    const std::int64_t* label = r.in[1];
    const double* slopes = r.aux[0];
    T* dx = r.din[0];
    const double scale = static_cast<double>(*dy);
    const Index block = rows_per_block(classes);
    parallel_for((rows + block - 1) / block, 1, [&](Index first, Index last) {
      const Index begin = first * block, end = std::min(rows, last * block);
      kernels::table<T>().softmax(end - begin, classes, x + begin * classes, dx + begin * classes, false);
      for (Index i = begin; i < end; ++i) {
        T* p = dx + i * classes;
        const std::int64_t t = label[i];
        if (t == ignore_index) {
          std::memset(p, 0, static_cast<std::size_t>(classes) * sizeof(T));
          continue;
        }
        double mean = static_cast<double>(p[t]) * slopes[t];
        for (Index c = 0; c < classes; ++c) mean += static_cast<double>(p[c]) * slopes[classes + c];
        const T hit = p[t] * static_cast<T>(scale * slopes[t]);
        for (Index c = 0; c < classes; ++c) p[c] *= static_cast<T>(scale * (slopes[classes + c] - mean));
        p[t] += hit;
      }
    });
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
namespace ocellus {

template <class T>
BasicTensor<T> dice_loss(const BasicTensor<T>& logits, const BasicTensor<std::int64_t>& labels,
                         const DiceOptions& options) {
  const BasicTensor<T> weights = options.class_weights ? convert<T>(options.class_weights) : BasicTensor<T>();
  return call(op::DiceLoss{options.ignore_index, options.smooth}, logits, labels, weights);
}
OCELLUS_FLOATS(dice_loss)

}  // namespace ocellus
#endif
