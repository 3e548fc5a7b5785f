// Resizing of channels-last feature maps, as torch.nn.functional.interpolate defines it.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

enum class ResizeMode : std::uint8_t { nearest, bilinear, bicubic };

struct ResizeOptions {
  ResizeMode mode = ResizeMode::bilinear;
  bool align_corners = false;  // the corner pixels' centres coincide, else the corners themselves
  bool antialias = false;      // the filter widens where the map shrinks (bilinear and bicubic)
  // Output pixels per input pixel where they are not the ratio of the sizes, as scale_factor in PyTorch; 0: that ratio.
  double scale_h = 0;
  double scale_w = 0;
};

// (N, H, W, C) → (N, size.h, size.w, C). Returns x itself where nothing changes.
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

// y = V x Hᵀ + residual per channel, V and H sparse and fixed by the sizes, the residual fused by a plan;  dx = Vᵀ dy H
struct Resize {
  OCELLUS_OP("resize(x, residual)", size, mode, align_corners, antialias, scale_h, scale_w)
  Size2 size;
  ResizeMode mode = ResizeMode::bilinear;
  bool align_corners = false;
  bool antialias = false;
  double scale_h = 0;
  double scale_w = 0;

  // Every mode maps each pixel to itself where no size changes.
  bool is_identity(const Shape& x) const { return x[1] == size.h && x[2] == size.w && scale_h == 0 && scale_w == 0; }

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() == 4, "x must be (N, H, W, C)");
    r.require(size.h > 0 && size.w > 0 && x[1] > 0 && x[2] > 0, "sizes must be positive");
    r.require(mode != ResizeMode::nearest || (!align_corners && !antialias),
              "nearest knows neither align_corners nor antialias");
    r.require(scale_fits(scale_h, x[1], size.h) && scale_fits(scale_w, x[2], size.w),
              "the size must be ⌊scale · size of x⌋");
    const Shape y{x[0], size.h, size.w, x[3]};
    r.require(!r.in[1].given() || r.in[1].shape == y, "residual must have the shape of the output");
    return y;
  }

  // Whole picture rows, of one picture.
  Rows reads(const Run& r, int i, Rows out) const {
    const Shape& x = r.in[0].shape;
    const Index first = out.first / size.w, last = out.last / size.w - 1;
    if (out.first % size.w != 0 || out.last % size.w != 0 || first / size.h != last / size.h) return {};
    if (i == 1) return out;
    Scratch frame;
    const Index top_row = first % size.h, count = last - first + 1;
    const kernels::ResampleAxis vertical = axis(x[1], size.h, scale_h, top_row, count, frame);
    const Index begin = vertical.start[0], end = vertical.start[count - 1] + vertical.taps;
    const Index top = first / size.h * x[1];
    return {(top + begin) * x[2], (top + end) * x[2]};
  }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    const Shape& x = r.in[0].shape;
    Scratch frame;
    kernels::Resample<T> k;
    k.batch = x[0];
    k.channels = x[3];
    const bool whole = rows.size() == x[0] * size.h * size.w;
    const Index first = rows.first / size.w;
    k.vertical = axis(x[1], size.h, scale_h, whole ? 0 : first % size.h, whole ? size.h : rows.size() / size.w, frame);
    k.horizontal = axis(x[2], size.w, scale_w, 0, size.w, frame);
    k.x = r.in[0];
    k.residual = r.in[1].row<const T>(rows.first);
    k.y = r.out[0].row<T>(rows.first);
    if (!whole) {
      k.batch = 1;
      k.x += first / size.h * x[1] * x[2] * x[3];
    }
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
    k.batch = x[0];
    k.channels = x[3];
    k.vertical = axis(x[1], size.h, scale_h, 0, size.h, frame);
    k.horizontal = axis(x[2], size.w, scale_w, 0, size.w, frame);
    k.dy = dy;
    k.dx = dx;
    kernels::table<T>().resample_backward(k);
  }

 private:
  // PyTorch rounds down; a decimal scale may miss the whole number by its own rounding.
  static bool scale_fits(double scale, Index in, Index out) {
    const double exact = scale * static_cast<double>(in), size = static_cast<double>(out);
    return scale == 0 || (exact > size - 0.5 && exact < size + 1.5);
  }

  // Cubic convolution (Keys, 1981).
  static double cubic(double x, double a) {
    x = std::abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
  }

  // Outputs [first, first + count) of an axis.
  kernels::ResampleAxis axis(Index in, Index out, double scale, Index first, Index count, Scratch& frame) const {
    // Input pixels per output pixel.
    double step = scale != 0 ? 1 / scale : static_cast<double>(in) / static_cast<double>(out);
    if (align_corners) step = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
    return antialias ? wide_axis(in, step, first, count, frame) : narrow_axis(in, step, first, count, frame);
  }

  // Interpolation between neighbours. Taps that fall outside count for the border pixel, so no window leaves the axis.
  kernels::ResampleAxis narrow_axis(Index in, double step, Index begin, Index out, Scratch& frame) const {
    const Index reach = mode == ResizeMode::nearest ? 1 : (mode == ResizeMode::bilinear ? 2 : 4);
    const Index taps = std::min(reach, in);
    Index* start = frame.take<Index>(out);
    double* weight = frame.take<double>(out * taps);
    for (Index i = 0; i < out; ++i) {
      double w[4] = {1, 0, 0, 0};
      const Index first = mode == ResizeMode::nearest ? nearest(begin + i, in, step) : neighbours(begin + i, step, w);
      start[i] = std::clamp<Index>(first, 0, in - taps);
      std::fill_n(weight + i * taps, taps, 0.0);
      for (Index j = 0; j < reach; ++j) weight[i * taps + std::clamp<Index>(first + j, 0, in - 1) - start[i]] += w[j];
    }
    return {in, out, taps, start, weight};
  }

  // In float, as PyTorch computes it: in double other pixels are nearest where the product falls on a whole number.
  static Index nearest(Index i, Index in, double step) {
    return std::min(static_cast<Index>(static_cast<float>(i) * static_cast<float>(step)), in - 1);
  }

  // The first pixel that output i reads, possibly outside, and the weights from there on.
  Index neighbours(Index i, double step, double* w) const {
    const double at = static_cast<double>(i);
    const double x = align_corners ? at * step : (at + 0.5) * step - 0.5;
    Index low = static_cast<Index>(x);  // ⌊x⌋; std::floor is a call where the baseline has no instruction for it
    if (x < static_cast<double>(low)) --low;
    const double t = x - static_cast<double>(low);
    if (mode == ResizeMode::bilinear) {
      w[0] = 1 - t;
      w[1] = t;
      return low;
    }
    for (int j = 0; j < 4; ++j) w[j] = cubic(t + 1 - j, -0.75);
    return low - 1;
  }

  // The filter stretched over all input pixels that an output pixel covers, its weights scaled to sum to one.
  kernels::ResampleAxis wide_axis(Index in, double step, Index from, Index out, Scratch& frame) const {
    const double stretch = std::max(step, 1.0);
    const double support = (mode == ResizeMode::bilinear ? 1 : 2) * stretch;
    const Index taps = std::min(static_cast<Index>(std::ceil(support)) * 2 + 1, in);
    Index* start = frame.take<Index>(out);
    double* weight = frame.take<double>(out * taps);
    for (Index i = 0; i < out; ++i) {
      const double center = (static_cast<double>(from + i) + 0.5) * step;  // also with align_corners, as PyTorch has it
      const Index begin = std::clamp<Index>(static_cast<Index>(center - support + 0.5), 0, in);
      const Index end = std::clamp<Index>(static_cast<Index>(center + support + 0.5), 0, in);
      start[i] = std::min(begin, in - taps);
      double sum = 0;
      for (Index j = 0; j < taps; ++j) {
        const Index pixel = start[i] + j;
        const double x = (static_cast<double>(pixel) + 0.5 - center) / stretch;
        double w = mode == ResizeMode::bilinear ? std::max(0.0, 1 - std::abs(x)) : cubic(x, -0.5);
        if (pixel < begin || pixel >= end) w = 0;
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
  const op::Resize op{size, o.mode, o.align_corners, o.antialias, o.scale_h, o.scale_w};
  return x.rank() == 4 && op.is_identity(x.shape()) ? x : call(op, x);
}
OCELLUS_FLOATS(resize)

}  // namespace ocellus
#endif
