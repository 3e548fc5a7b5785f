// Resizing of channels-last feature maps, as torch.nn.functional.interpolate defines it.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

enum class ResizeMode : std::uint8_t { nearest, bilinear, bicubic };

struct ResizeOptions {
  ResizeMode mode = ResizeMode::bilinear;
  bool align_corners = false;  // the corner pixels' centres coincide, else the corners themselves
  bool antialias = false;      // the filter widens where the map shrinks (bilinear and bicubic)
};

// (N, H, W, C) → (N, size.h, size.w, C)
template <class T>
BasicTensor<T> resize(const BasicTensor<T>& x, Size2 size, const ResizeOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <cmath>
#include <cstring>

#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

// y = V x Hᵀ per channel, V and H sparse and fixed by the sizes, plus a residual that a plan may fuse;  dx = Vᵀ dy H
struct Resize {
  OCELLUS_OP("resize(x, residual)", size, mode, align_corners, antialias)
  Size2 size;
  ResizeMode mode = ResizeMode::bilinear;
  bool align_corners = false, antialias = false;

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() == 4, "x must be (N, H, W, C)");
    r.require(size.h > 0 && size.w > 0 && x[1] > 0 && x[2] > 0, "sizes must be positive");
    r.require(mode != ResizeMode::nearest || (!align_corners && !antialias), "nearest knows neither align_corners nor antialias");
    const Shape y{x[0], size.h, size.w, x[3]};
    r.require(!r.in[1].given() || r.in[1].shape == y, "residual must have the shape of the output");
    return y;
  }

  template <class T>
  void forward(const Run& r) const {
    const Shape& x = r.in[0].shape;
    Scratch frame;
    kernels::Resample<T> k;
    k.batch = x[0], k.channels = x[3];
    k.vertical = axis(x[1], size.h, frame), k.horizontal = axis(x[2], size.w, frame);
    k.x = r.in[0], k.residual = r.in[1], k.y = r.out[0];
    kernels::table<T>().resample(k);
  }

  template <class T>
  void backward(const Run& r) const {
    const Shape& x = r.in[0].shape;
    T *dx = r.din[0], *dresidual = r.din[1];
    const T* dy = r.dout[0];
    if (dresidual) std::memcpy(dresidual, dy, static_cast<std::size_t>(r.dout[0].shape.numel()) * sizeof(T));
    if (!dx) return;
    Scratch frame;
    kernels::ResampleBackward<T> k;
    k.batch = x[0], k.channels = x[3];
    k.vertical = axis(x[1], size.h, frame), k.horizontal = axis(x[2], size.w, frame);
    k.dy = dy, k.dx = dx;
    kernels::table<T>().resample_backward(k);
  }

 private:
  // Keys' cubic convolution kernel (1981).
  static double cubic(double x, double a) {
    x = std::abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
  }

  // The taps of one axis. Those that fall outside count for the border pixel; a window never reaches over the end of the axis.
  kernels::ResampleAxis axis(Index in, Index out, Scratch& frame) const {
    double scale = static_cast<double>(in) / static_cast<double>(out);
    if (align_corners) scale = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
    return antialias ? wide_axis(in, out, scale, frame) : narrow_axis(in, out, scale, frame);
  }

  kernels::ResampleAxis narrow_axis(Index in, Index out, double scale, Scratch& frame) const {
    const Index reach = mode == ResizeMode::nearest ? 1 : mode == ResizeMode::bilinear ? 2 : 4;
    const Index taps = std::min(reach, in);
    Index* start = frame.take<Index>(out);
    double* weight = frame.take<double>(out * taps);
    for (Index i = 0; i < out; ++i) {
      double w[4] = {1, 0, 0, 0};
      Index first;  // the pixel of w[0]
      if (mode == ResizeMode::nearest) {
        first = std::min(static_cast<Index>(static_cast<float>(i) * static_cast<float>(scale)), in - 1);
      } else {
        double x = align_corners ? static_cast<double>(i) * scale : (static_cast<double>(i) + 0.5) * scale - 0.5;
        if (mode == ResizeMode::bilinear) x = std::max(x, 0.0);
        const double low = std::floor(x), t = x - low;
        first = static_cast<Index>(low);
        if (mode == ResizeMode::bilinear) {
          w[0] = 1 - t, w[1] = t;
        } else {
          first -= 1;
          for (int j = 0; j < 4; ++j) w[j] = cubic(t + 1 - j, -0.75);
        }
      }
      start[i] = std::clamp<Index>(first, 0, in - taps);
      std::fill_n(weight + i * taps, taps, 0.0);
      for (Index j = 0; j < reach; ++j) weight[i * taps + std::clamp<Index>(first + j, 0, in - 1) - start[i]] += w[j];
    }
    return {in, out, taps, start, weight};
  }

  kernels::ResampleAxis wide_axis(Index in, Index out, double scale, Scratch& frame) const {
    const double radius = mode == ResizeMode::bilinear ? 1 : 2, stretch = std::max(scale, 1.0), support = radius * stretch;
    const Index taps = std::min(static_cast<Index>(std::ceil(support)) * 2 + 1, in);
    Index* start = frame.take<Index>(out);
    double* weight = frame.take<double>(out * taps);
    for (Index i = 0; i < out; ++i) {
      const double center = align_corners ? static_cast<double>(i) * scale + 0.5 : (static_cast<double>(i) + 0.5) * scale;
      const Index begin = std::max<Index>(static_cast<Index>(center - support + 0.5), 0);
      const Index end = std::min<Index>(static_cast<Index>(center + support + 0.5), in);
      start[i] = std::min(begin, in - taps);
      double sum = 0;
      for (Index j = 0; j < taps; ++j) {
        const Index at = start[i] + j;
        const double x = (static_cast<double>(at) - center + 0.5) / stretch;
        const double w = at < begin || at >= end ? 0 : mode == ResizeMode::bilinear ? std::max(0.0, 1 - std::abs(x)) : cubic(x, -0.5);
        weight[i * taps + j] = w;
        sum += w;
      }
      for (Index j = 0; j < taps && sum != 0; ++j) weight[i * taps + j] /= sum;
    }
    return {in, out, taps, start, weight};
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> resize(const BasicTensor<T>& x, Size2 size, const ResizeOptions& o) {
  return call(op::Resize{size, o.mode, o.align_corners, o.antialias}, x);
}
OCELLUS_FLOATS(resize)

}  // namespace ocellus
#endif
