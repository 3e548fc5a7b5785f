// Two-dimensional convolution (cross-correlation, as in every framework) and its transpose over channels-last images,
// as torch.nn.functional defines them.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

struct Conv2dOptions {
  Size2 stride = 1;
  Size2 padding = 0;  // zeros on both sides
  Size2 dilation = 1;
  Index groups = 1;
};

// x (N, H, W, C), weight (O, kh, kw, C / groups), bias (O) or empty → (N, H', W', O),
// H' = ⌊(H + 2 padding − dilation (kh − 1) − 1) / stride⌋ + 1. Throws ShapeError when sizes do not fit.
template <class T>
BasicTensor<T> conv2d(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias = {},
                      const Conv2dOptions& options = {});

struct ConvTranspose2dOptions {
  Size2 stride = 1;
  Size2 padding = 0;         // cut from both sides of the output
  Size2 output_padding = 0;  // added at its bottom and right; smaller than stride or dilation
  Size2 dilation = 1;
  Index groups = 1;
};

// The gradient of conv2d for its input, as a layer.
// x (N, H, W, I), weight (I, kh, kw, O / groups), bias (O) or empty → (N, H', W', O),
// H' = (H − 1) stride − 2 padding + dilation (kh − 1) + output_padding + 1. Throws ShapeError when sizes do not fit.
template <class T>
BasicTensor<T> conv_transpose2d(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias = {},
                                const ConvTranspose2dOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/kernels/table.hpp>
#include <ocellus/ops/linear.hpp>

namespace ocellus::op {

// y = after(before(x ∗ W + b) + residual);  without epilogue dx = dy ∗ᵀ W, dW = Σ x dy, db = Σ dy
struct Conv2d {
  OCELLUS_OP("conv2d(x, weight, bias, residual)", stride, padding, dilation, groups, epilogue)
  Size2 stride = 1, padding = 0, dilation = 1;
  Index groups = 1;
  Epilogue epilogue = {};
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape &x = r.in[0].shape, &w = r.in[1].shape;
    r.require(x.rank() == 4 && w.rank() == 4, "x must be (N, H, W, C), weight (O, kh, kw, C / groups)");
    r.require(stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0 && padding.h >= 0 && padding.w >= 0 &&
                  groups > 0,
              "stride, dilation and groups must be positive, padding not negative");
    r.require(w[3] * groups == x[3], "channels of x must equal groups times the last axis of weight");
    r.require(w[0] % groups == 0, "groups must divide the number of output channels");
    r.require(!r.in[2].given() || r.in[2].shape == Shape{w[0]}, "bias must be (O)");
    const Index down = x[1] + 2 * padding.h - dilation.h * (w[1] - 1) - 1;  // how far the kernel can move
    const Index right = x[2] + 2 * padding.w - dilation.w * (w[2] - 1) - 1;
    r.require(w[1] > 0 && w[2] > 0 && down >= 0 && right >= 0, "the kernel must fit into the padded image");
    const Shape y{x[0], down / stride.h + 1, right / stride.w + 1, w[0]};
    r.require(!r.in[3].given() || r.in[3].shape == y, "residual must have the shape of the output");
    return y;
  }

  kernels::ConvShape sizes(const Shape& x, const Shape& w, const Shape& y) const {
    kernels::ConvShape s;
    s.batch = x[0];
    s.height = x[1];
    s.width = x[2];
    s.channels = x[3];
    s.out_channels = w[0];
    s.out_height = y[1];
    s.out_width = y[2];
    s.kernel = Size2(w[1], w[2]);
    s.stride = stride;
    s.padding = padding;
    s.dilation = dilation;
    s.groups = groups;
    return s;
  }

  template <class T = float>  // a template: instantiated with the op, not with every include
  AnyTensor pack(int i, const AnyTensor& w, const Run& shapes, Precision precision) const {
    if (i != 1 || w.dtype() != DType::f32) return {};
    const Index k = w.dim(1) * w.dim(2) * w.dim(3);
    if (const DType type = packed_type(groups == 1 ? precision : Precision::f32, k); type != DType::f32) {
      return pack_low_precision(type, w.dim(0), k, w);
    }
    const auto& kernel = kernels::table<T>();
    const kernels::ConvShape s = sizes(shapes.in[0].shape, w.shape(), shapes.out[0].shape);
    Tensor packed(Shape{kernel.conv_packed_size(s)});
    kernel.conv_pack(s, static_cast<const float*>(w.raw()), packed.data());
    return packed.packed_as(w.spec());
  }

  // Whole picture rows of a depthwise convolution; others have kernels that want the whole picture.
  Rows reads(const Run& r, int i, Rows out) const {
    const kernels::ConvShape s = sizes(r.in[0].shape, r.in[1].shape, r.out[0].shape);
    if (!s.depthwise() || out.first % s.out_width != 0 || out.last % s.out_width != 0) return {};
    if (i == 3) return out;
    const auto top = [&](Index row) { return row % s.out_height * stride.h - padding.h; };
    const Index first = out.first / s.out_width, last = out.last / s.out_width - 1;
    const Index begin = std::max<Index>(0, top(first));
    const Index end = std::min(s.height, top(last) + dilation.h * (s.kernel.h - 1) + 1);
    return {(first / s.out_height * s.height + begin) * s.width, (last / s.out_height * s.height + end) * s.width};
  }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    kernels::Conv<T> c;
    c.shape = sizes(r.in[0].shape, r.in[1].shape, r.out[0].shape);
    if constexpr (std::is_same_v<T, float>) {
      if (run_low_precision(r, rows, c.shape, epilogue)) return;
    }
    c.packed_weight = r.in[1].packed<T>();
    if (!c.packed_weight) c.weight = r.in[1];
    const Index picture = c.shape.out_height * c.shape.out_width;
    if (rows.size() == c.shape.batch * picture) {
      c.x = r.in[0];
      c.y = r.out[0];
      c.epilogue = epilogue.with<T>(r.in[2], r.in[3]);
      kernels::table<T>().conv(c);
      return;
    }
    // Part of a picture is a picture of fewer rows, and padding that the rows above it have used up.
    c.shape.batch = 1;
    while (!rows.empty()) {
      const Index image = rows.first / picture;
      const Index top = rows.first % picture / c.shape.out_width;
      const Index last = std::min(rows.last, (image + 1) * picture);
      c.shape.out_height = (last - rows.first) / c.shape.out_width;
      c.shape.padding.h = padding.h - top * stride.h;
      c.x = r.in[0].row<const T>(image * c.shape.height * c.shape.width);
      c.y = r.out[0].row<T>(rows.first);
      c.epilogue = epilogue.with<T>(r.in[2], r.in[3].row<const T>(rows.first));
      kernels::table<T>().conv(c);
      rows.first = last;
    }
  }

  template <class T>
  void backward(const Run& r) const {
    r.require(epilogue.empty() && !r.in[3].given(),
              "a fused op has no gradient; trace the training step without fusing");
    kernels::ConvBackward<T> c;
    c.shape = sizes(r.in[0].shape, r.in[1].shape, r.dout[0].shape);
    c.x = r.in[0];
    c.weight = r.in[1];
    c.dy = r.dout[0];
    c.dx = r.din[0];
    c.dweight = r.din[1];
    if (c.dx || c.dweight) kernels::table<T>().conv_backward(c);
    T* db = r.din[2];
    if (db) bias_gradient(r.dout[0], db);
  }

  double macs(const Run& r) const {
    const Shape& w = r.in[1].shape;
    return static_cast<double>(r.out[0].shape.numel()) * static_cast<double>(w[1] * w[2] * w[3]);
  }
};

// y = x ∗ᵀ W + b, what a convolution's backward does for its input;  dx = dy ∗ W, dW = Σ dy x, db = Σ dy
struct ConvTranspose2d {
  OCELLUS_OP("conv_transpose2d(x, weight, bias)", stride, padding, output_padding, dilation, groups)
  Size2 stride = 1, padding = 0, output_padding = 0, dilation = 1;
  Index groups = 1;
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape &x = r.in[0].shape, &w = r.in[1].shape;
    r.require(x.rank() == 4 && w.rank() == 4, "x must be (N, H, W, I), weight (I, kh, kw, O / groups)");
    r.require(stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0 && padding.h >= 0 && padding.w >= 0 &&
                  groups > 0,
              "stride, dilation and groups must be positive, padding not negative");
    r.require(w[0] == x[3], "channels of x must equal the first axis of weight");
    r.require(x[3] % groups == 0, "groups must divide the number of input channels");
    r.require(output_padding.h >= 0 && output_padding.w >= 0 &&
                  (output_padding.h < stride.h || output_padding.h < dilation.h) &&
                  (output_padding.w < stride.w || output_padding.w < dilation.w),
              "output_padding must be smaller than stride or dilation");
    r.require(!r.in[2].given() || r.in[2].shape == Shape{w[3] * groups}, "bias must be (O)");
    const Index h = (x[1] - 1) * stride.h - 2 * padding.h + dilation.h * (w[1] - 1) + output_padding.h + 1;
    const Index v = (x[2] - 1) * stride.w - 2 * padding.w + dilation.w * (w[2] - 1) + output_padding.w + 1;
    r.require(h > 0 && v > 0, "the output must not be empty");
    return {x[0], h, v, w[3] * groups};
  }

  // The convolution whose input has the size of our output.
  kernels::ConvShape sizes(const Shape& x, const Shape& w, const Shape& y) const {
    kernels::ConvShape s;
    s.batch = x[0];
    s.height = y[1];
    s.width = y[2];
    s.channels = y[3];
    s.out_channels = x[3];
    s.out_height = x[1];
    s.out_width = x[2];
    s.kernel = Size2(w[1], w[2]);
    s.stride = stride;
    s.padding = padding;
    s.dilation = dilation;
    s.groups = groups;
    return s;
  }

  template <class T>
  void forward(const Run& r) const {
    kernels::ConvBackward<T> c;
    c.shape = sizes(r.in[0].shape, r.in[1].shape, r.out[0].shape);
    c.weight = r.in[1];
    c.dy = r.in[0];
    c.dx = r.out[0];
    kernels::table<T>().conv_backward(c);
    const T* bias = r.in[2];
    T* y = r.out[0];
    if (bias) broadcast_map<T>(kernels::Binary::add, r.out[0].shape, r.out[0].shape, y, r.in[2].shape, bias, y);
  }

  template <class T>
  void backward(const Run& r) const {
    const kernels::ConvShape s = sizes(r.in[0].shape, r.in[1].shape, r.dout[0].shape);
    T *dx = r.din[0], *dw = r.din[1], *db = r.din[2];
    if (dx) {
      kernels::Conv<T> c;
      c.shape = s;
      c.x = r.dout[0];
      c.weight = r.in[1];
      c.y = dx;
      kernels::table<T>().conv(c);
    }
    if (dw) {
      kernels::ConvBackward<T> c;
      c.shape = s;
      c.x = r.dout[0];
      c.weight = r.in[1];
      c.dy = r.in[0];
      c.dweight = dw;
      kernels::table<T>().conv_backward(c);
    }
    if (db) bias_gradient(r.dout[0], db);
  }

  double macs(const Run& r) const {
    const Shape& w = r.in[1].shape;
    return static_cast<double>(r.in[0].shape.numel()) * static_cast<double>(w[1] * w[2] * w[3]);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> conv2d(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                      const Conv2dOptions& o) {
  return call(op::Conv2d{o.stride, o.padding, o.dilation, o.groups}, x, weight, bias);
}
OCELLUS_FLOATS(conv2d)

template <class T>
BasicTensor<T> conv_transpose2d(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias,
                                const ConvTranspose2dOptions& o) {
  return call(op::ConvTranspose2d{o.stride, o.padding, o.output_padding, o.dilation, o.groups}, x, weight, bias);
}
OCELLUS_FLOATS(conv_transpose2d)

}  // namespace ocellus
#endif
