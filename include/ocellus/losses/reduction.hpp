// What all losses share: how elements become one number, and the check of class labels.
#pragma once

#include <cstdint>

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// mean: one number, divided as the loss says; sum: one number; none: one value per element.
enum class Reduction : std::uint8_t { mean, sum, none };

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <string>

#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

// Calls f(begin, end, partial) for blocks of `block` rows of n, cut by sizes alone, and adds the blocks' `width`
// doubles in their order.
template <class F>
void sum_blocks(Index n, Index block, Index width, double* sums, F&& f) {
  const Index blocks = (n + block - 1) / block;
  Scratch frame;
  double* partial = frame.take<double>(blocks * width);
  std::fill_n(partial, blocks * width, 0.0);
  parallel_for(blocks, 1, [&](Index first, Index last) {
    for (Index b = first; b < last; ++b) f(b * block, std::min(n, (b + 1) * block), partial + b * width);
  });
  std::fill_n(sums, width, 0.0);
  for (Index b = 0; b < blocks; ++b) {
    for (Index i = 0; i < width; ++i) sums[i] += partial[b * width + i];
  }
}

// Writes f(i), i in [0, n), one by one or as their sum times `scale`.
template <class T, class F>
void reduce_loss(Reduction reduction, Index n, double scale, T* y, F&& f) {
  constexpr Index block = 4096;
  if (reduction == Reduction::none) {
    parallel_for(n, block, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) y[i] = static_cast<T>(f(i));
    });
    return;
  }
  double total = 0;
  sum_blocks(n, block, 1, &total, [&](Index begin, Index end, double* partial) {
    for (Index i = begin; i < end; ++i) *partial += static_cast<double>(f(i));
  });
  *y = static_cast<T>(total * scale);
}

// Rows of K elements that make a block of about 64 kB.
inline Index rows_per_block(Index classes) { return std::max<Index>(1, 16384 / std::max<Index>(classes, 1)); }

// Throws ShapeError naming the first label that is neither a class nor `ignore`.
inline void check_labels(const Run& r, Index classes, std::int64_t ignore) {
  const std::int64_t* label = r.in[1];
  const Index n = r.in[1].shape.numel();
  for (Index i = 0; i < n; ++i) {
    if ((label[i] < 0 || label[i] >= classes) && label[i] != ignore) [[unlikely]] {
      r.fail("label " + std::to_string(label[i]) + " at index " + std::to_string(i) + " lies outside of [0, " +
             std::to_string(classes) + ") and is not ignore_index " + std::to_string(ignore));
    }
  }
}

}  // namespace ocellus::op
#endif
