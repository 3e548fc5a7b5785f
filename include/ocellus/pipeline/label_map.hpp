// From logits at a fraction of the resolution to a class per pixel of the picture, as the reference does: bilinear upsampling of the
// logits, then the largest. A row at a time: the K × H × W map never exists.
#pragma once

#include <cstdint>

#include <ocellus/core/tensor.hpp>

namespace ocellus {

// logits (1, h, w, K) → class ids (size.h, size.w). Equal logits: the lower class.
BasicTensor<std::int64_t> label_map(const Tensor& logits, Size2 size);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
#include <algorithm>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus {
namespace pipeline_detail {

// Where output i lies between two inputs (half-pixel centres, PyTorch's align_corners = false).
struct Tap {
  Index low, high;
  float weight;  // of high
};

OCELLUS_FN std::vector<Tap> bilinear_taps(Index in, Index out) {
  std::vector<Tap> taps;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  for (Index i = 0; i < out; ++i) {
    const double x = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
    const Index low = std::min(static_cast<Index>(x), in - 1);
    taps.push_back({low, std::min(low + 1, in - 1), static_cast<float>(x - static_cast<double>(low))});
  }
  return taps;
}

}  // namespace pipeline_detail

OCELLUS_FN BasicTensor<std::int64_t> label_map(const Tensor& logits, Size2 size) {
  if (logits.rank() != 4 || logits.dim(0) != 1) throw ShapeError("label_map: logits must be (1, h, w, K); got " + logits.shape().str());
  const Index h = logits.dim(1), w = logits.dim(2), classes = logits.dim(3);
  const auto rows = pipeline_detail::bilinear_taps(h, size.h), columns = pipeline_detail::bilinear_taps(w, size.w);
  BasicTensor<std::int64_t> labels(Shape{size.h, size.w});
  parallel_for(size.h, 8, [&](Index begin, Index end) {
    std::vector<float> line(static_cast<std::size_t>(w * classes)), pixel(static_cast<std::size_t>(classes));
    for (Index y = begin; y < end; ++y) {
      const pipeline_detail::Tap v = rows[static_cast<std::size_t>(y)];
      const float *upper = logits.data() + v.low * w * classes, *lower = logits.data() + v.high * w * classes;
      for (Index i = 0; i < w * classes; ++i) line[static_cast<std::size_t>(i)] = upper[i] + v.weight * (lower[i] - upper[i]);
      for (Index x = 0; x < size.w; ++x) {
        const pipeline_detail::Tap u = columns[static_cast<std::size_t>(x)];
        const float *left = line.data() + u.low * classes, *right = line.data() + u.high * classes;
        for (Index k = 0; k < classes; ++k) pixel[static_cast<std::size_t>(k)] = left[k] + u.weight * (right[k] - left[k]);
        labels[y * size.w + x] = static_cast<std::int64_t>(std::max_element(pixel.begin(), pixel.end()) - pixel.begin());
      }
    }
  });
  return labels;
}

}  // namespace ocellus
#endif
