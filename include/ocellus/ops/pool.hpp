// Pooling of channels-last images, as torch.nn.functional defines it.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

struct MaxPoolOptions {
  Size2 kernel_size = 2;
  Size2 stride = 0;        // 0: the kernel size
  Size2 padding = 0;       // never the maximum; at most half of the kernel
  bool ceil_mode = false;  // a last window may run over the end
};
// (N, H, W, C) → (N, H', W', C). NaN wins; the gradient goes to the first of several maxima.
template <class T>
BasicTensor<T> max_pool2d(const BasicTensor<T>& x, const MaxPoolOptions& options = {});

struct AvgPoolOptions {
  Size2 kernel_size = 2;
  Size2 stride = 0;  // 0: the kernel size
  Size2 padding = 0;
  bool ceil_mode = false;
  bool count_include_pad = true;  // the padding counts as zeros
};
// (N, H, W, C) → (N, H', W', C), the mean of each window.
template <class T>
BasicTensor<T> avg_pool2d(const BasicTensor<T>& x, const AvgPoolOptions& options = {});

// Averages over windows from ⌊i H / h⌋ to ⌈(i + 1) H / h⌉; size 1 is the global average. (N, H, W, C) → (N, h, w, C)
template <class T>
BasicTensor<T> adaptive_avg_pool2d(const BasicTensor<T>& x, Size2 size);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <algorithm>
#include <vector>

#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus::op {

// What max and average pooling share: the windows.
struct Windows {
  Size2 kernel, stride, padding;
  bool ceil_mode = false;

  // How many windows an axis of n pixels has; 0 if none fits.
  static Index count(Index n, Index kernel, Index stride, Index padding, bool ceil_mode) {
    const Index room = n + 2 * padding - kernel + (ceil_mode ? stride - 1 : 0);
    if (room < 0) return 0;
    const Index windows = room / stride + 1;
    // A last window has to begin inside the image or its left padding.
    return ceil_mode && (windows - 1) * stride >= n + padding ? windows - 1 : windows;
  }

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() == 4, "x must be (N, H, W, C)");
    r.require(kernel.h > 0 && kernel.w > 0 && stride.h > 0 && stride.w > 0, "kernel_size and stride must be positive");
    r.require(padding.h >= 0 && padding.w >= 0 && 2 * padding.h <= kernel.h && 2 * padding.w <= kernel.w,
              "padding must be at most half of kernel_size");
    const Index h = count(x[1], kernel.h, stride.h, padding.h, ceil_mode);
    const Index w = count(x[2], kernel.w, stride.w, padding.w, ceil_mode);
    r.require(h > 0 && w > 0, "the window must fit into the padded image");
    return {x[0], h, w, x[3]};
  }

  kernels::PoolShape sizes(const Shape& x, const Shape& y) const {
    kernels::PoolShape s;
    s.batch = x[0];
    s.height = x[1];
    s.width = x[2];
    s.channels = x[3];
    s.out_height = y[1];
    s.out_width = y[2];
    s.kernel = kernel;
    s.stride = stride;
    s.padding = padding;
    return s;
  }
};

// y = max of each window;  dx = Σ dy of the windows whose maximum it was
struct MaxPool {
  OCELLUS_OP("max_pool2d(x)", kernel, stride, padding, ceil_mode)
  Size2 kernel, stride, padding;
  bool ceil_mode = false;

  Windows windows() const { return {kernel, stride, padding, ceil_mode}; }
  Shape infer(const Run& r) const { return windows().infer(r); }
  std::vector<Spec> aux(const Run& r) const { return {{windows().infer(r), DType::i32}}; }

  template <class T>
  void forward(const Run& r) const {
    kernels::Pool<T> p;
    p.shape = windows().sizes(r.in[0].shape, r.out[0].shape);
    p.x = r.in[0];
    p.y = r.out[0];
    p.argmax = r.aux[0];
    kernels::table<T>().max_pool(p);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::PoolBackward<T> p;
    p.shape = windows().sizes(r.in[0].shape, r.dout[0].shape);
    p.argmax = r.aux[0];
    p.dy = r.dout[0];
    p.dx = r.din[0];
    kernels::table<T>().max_pool_backward(p);
  }
};

// y = mean of each window;  dx = Σ dy / n over the windows that hold it
struct AvgPool {
  OCELLUS_OP("avg_pool2d(x)", kernel, stride, padding, ceil_mode, count_include_pad)
  Size2 kernel, stride, padding;
  bool ceil_mode = false, count_include_pad = true;

  Windows windows() const { return {kernel, stride, padding, ceil_mode}; }
  Shape infer(const Run& r) const { return windows().infer(r); }

  template <class T>
  void forward(const Run& r) const {
    kernels::Pool<T> p;
    p.shape = windows().sizes(r.in[0].shape, r.out[0].shape);
    p.shape.count_include_pad = count_include_pad;
    p.x = r.in[0];
    p.y = r.out[0];
    kernels::table<T>().average_pool(p);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::PoolBackward<T> p;
    p.shape = windows().sizes(r.in[0].shape, r.dout[0].shape);
    p.shape.count_include_pad = count_include_pad;
    p.dy = r.dout[0];
    p.dx = r.din[0];
    kernels::table<T>().average_pool_backward(p);
  }
};

// y = mean of windows of nearly equal size;  dx = Σ dy / n over the windows that hold it. One resampling per axis.
struct AdaptiveAvgPool {
  OCELLUS_OP("adaptive_avg_pool2d(x)", size)
  Size2 size;

  Shape infer(const Run& r) const {
    const Shape& x = r.in[0].shape;
    r.require(x.rank() == 4, "x must be (N, H, W, C)");
    r.require(size.h > 0 && size.w > 0 && x[1] > 0 && x[2] > 0, "sizes must be positive");
    return {x[0], size.h, size.w, x[3]};
  }

  template <class T>
  void forward(const Run& r) const {
    Scratch frame;
    kernels::Resample<T> k;
    k.batch = r.in[0].shape[0];
    k.channels = r.in[0].shape[3];
    k.vertical = axis(r.in[0].shape[1], size.h, frame);
    k.horizontal = axis(r.in[0].shape[2], size.w, frame);
    k.x = r.in[0];
    k.y = r.out[0];
    kernels::table<T>().resample(k);
  }
  template <class T>
  void backward(const Run& r) const {
    Scratch frame;
    kernels::ResampleBackward<T> k;
    k.batch = r.in[0].shape[0];
    k.channels = r.in[0].shape[3];
    k.vertical = axis(r.in[0].shape[1], size.h, frame);
    k.horizontal = axis(r.in[0].shape[2], size.w, frame);
    k.dy = r.dout[0];
    k.dx = r.din[0];
    kernels::table<T>().resample_backward(k);
  }

 private:
  static Index begin_of(Index i, Index in, Index out) { return i * in / out; }
  static Index end_of(Index i, Index in, Index out) { return ((i + 1) * in + out - 1) / out; }

  // Windows as taps, all of the length of the longest; the last ones begin early, with weights of zero.
  static kernels::ResampleAxis axis(Index in, Index out, Scratch& frame) {
    Index taps = 0;
    for (Index i = 0; i < out; ++i) taps = std::max(taps, end_of(i, in, out) - begin_of(i, in, out));
    Index* start = frame.take<Index>(out);
    double* weight = frame.take<double>(out * taps);
    for (Index i = 0; i < out; ++i) {
      const Index begin = begin_of(i, in, out), end = end_of(i, in, out);
      start[i] = std::min(begin, in - taps);
      for (Index t = 0; t < taps; ++t) {
        const Index at = start[i] + t;
        weight[i * taps + t] = at >= begin && at < end ? 1.0 / static_cast<double>(end - begin) : 0.0;
      }
    }
    return {in, out, taps, start, weight};
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> max_pool2d(const BasicTensor<T>& x, const MaxPoolOptions& o) {
  const Size2 stride = o.stride == Size2(0) ? o.kernel_size : o.stride;
  return call(op::MaxPool{o.kernel_size, stride, o.padding, o.ceil_mode}, x);
}
OCELLUS_FLOATS(max_pool2d)

// (N, H, W, C) → (N, H', W', C), the mean of each window.
template <class T>
BasicTensor<T> avg_pool2d(const BasicTensor<T>& x, const AvgPoolOptions& o) {
  const Size2 stride = o.stride == Size2(0) ? o.kernel_size : o.stride;
  return call(op::AvgPool{o.kernel_size, stride, o.padding, o.ceil_mode, o.count_include_pad}, x);
}
OCELLUS_FLOATS(avg_pool2d)

template <class T>
BasicTensor<T> adaptive_avg_pool2d(const BasicTensor<T>& x, Size2 size) {
  return call(op::AdaptiveAvgPool{size}, x);
}
OCELLUS_FLOATS(adaptive_avg_pool2d)

}  // namespace ocellus
#endif
