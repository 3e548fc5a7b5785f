// Random regularisers: dropout of elements (Srivastava et al., 2014) and of whole samples (stochastic depth, Huang et
// al., 2016). Both are the identity outside of training, scale what they keep by 1 / (1 − p), store no mask and draw it
// again in backward.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// In training zeroes each element with probability p. Throws ShapeError unless 0 ≤ p ≤ 1.
template <class T>
BasicTensor<T> dropout(const BasicTensor<T>& x, double p);

// In training zeroes each sample (entry of axis 0) with probability p. Throws ShapeError unless 0 ≤ p ≤ 1.
template <class T>
BasicTensor<T> stochastic_depth(const BasicTensor<T>& x, double p);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>

#include <ocellus/runtime/parallel.hpp>

namespace ocellus::op {

// y = x m / (1 − p), m ∈ {0, 1} with P(m = 0) = p, drawn per element from (seed, step, stream, element);  dx = dy m /
// (1 − p)
struct Dropout {
  OCELLUS_OP("dropout(x)", p, seed, stream)
  double p = 0;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;
  static constexpr bool random = true;
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const {
    r.require(p >= 0 && p <= 1, "the probability must lie in [0, 1]");
    return r.in[0].shape;
  }

  template <class T>
  void forward(const Run& r) const {
    thin<T>(r, r.in[0].shape.numel(), r.in[0], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    thin<T>(r, r.in[0].shape.numel(), r.dout[0], r.din[0]);
  }

 private:
  template <class T>
  void thin(const Run& r, Index n, const T* x, T* y) const {
    const RandomKey key{seed, r.step, stream};
    const T scale = static_cast<T>(p < 1 ? 1 / (1 - p) : 0);
    const float threshold = static_cast<float>(p);
    parallel_for((n + 3) / 4, 1024, [=](Index begin, Index end) {
      for (Index b = begin; b < end; ++b) {
        const PhiloxBlock block = key.block(static_cast<std::uint64_t>(b));
        const Index last = std::min<Index>(4, n - 4 * b);
        for (Index j = 0; j < last; ++j) {
          const bool keep = static_cast<float>(block.word[j] >> 8) * 0x1p-24f >= threshold;
          y[4 * b + j] = keep ? x[4 * b + j] * scale : T(0);
        }
      }
    });
  }
};

// y[n] = x[n] m[n] / (1 − p), m drawn per sample;  dx[n] = dy[n] m[n] / (1 − p)
struct StochasticDepth {
  OCELLUS_OP("stochastic_depth(x)", p, seed, stream)
  double p = 0;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;
  static constexpr bool random = true;
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const {
    r.require(p >= 0 && p <= 1, "the probability must lie in [0, 1]");
    r.require(r.in[0].shape.rank() >= 1, "x must have an axis of samples");
    return r.in[0].shape;
  }

  template <class T>
  void forward(const Run& r) const {
    thin<T>(r, r.in[0].shape, r.in[0], r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    thin<T>(r, r.in[0].shape, r.dout[0], r.din[0]);
  }

 private:
  template <class T>
  void thin(const Run& r, const Shape& shape, const T* x, T* y) const {
    const RandomKey key{seed, r.step, stream};
    const T scale = static_cast<T>(p < 1 ? 1 / (1 - p) : 0);
    const float threshold = static_cast<float>(p);
    if (shape.numel() == 0) return;
    const Index sample = shape.numel() / shape[0];
    parallel_for(shape.numel(), 16384, [=](Index begin, Index end) {
      for (Index i = begin; i < end;) {
        const Index stop = std::min(end, (i / sample + 1) * sample);
        const bool keep = key.uniform(i / sample) >= threshold;
        for (; i < stop; ++i) y[i] = keep ? x[i] * scale : T(0);
      }
    });
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> dropout(const BasicTensor<T>& x, double p) {
  if (!context().training || p == 0) return x;
  const RandomKey key = next_random_stream();
  return call(op::Dropout{p, key.seed, key.stream}, x);
}
OCELLUS_FLOATS(dropout)

template <class T>
BasicTensor<T> stochastic_depth(const BasicTensor<T>& x, double p) {
  if (!context().training || p == 0) return x;
  const RandomKey key = next_random_stream();
  return call(op::StochasticDepth{p, key.seed, key.stream}, x);
}
OCELLUS_FLOATS(stochastic_depth)

}  // namespace ocellus
#endif
