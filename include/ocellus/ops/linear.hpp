// Linear maps of the last axis: linear (a weight per output feature, as torch.nn.functional.linear) and matmul (batched products).
#pragma once

#include <ocellus/autograd/call.hpp>
#include <ocellus/kernels/activation.hpp>

namespace ocellus {

// y = x Wᵀ + b.  x (..., in), weight (out, in), bias (out) or empty → (..., out)
template <class T>
BasicTensor<T> linear(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias = {});

struct MatmulOptions {
  bool transpose_a = false, transpose_b = false;  // of the last two axes
};

// op(a) op(b) of the last two axes; the leading axes are equal, or one operand has none.  (..., M, K), (..., K, N) → (..., M, N)
template <class T>
BasicTensor<T> matmul(const BasicTensor<T>& a, const BasicTensor<T>& b, const MatmulOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// The tail of a matrix product or convolution: y = after(before(acc + bias) + residual). Filled in by a plan, empty in model code.
struct Epilogue {
  Act before = Act::none;
  Act after = Act::none;

  bool empty() const { return before == Act::none && after == Act::none; }
  std::string str() const { return std::string(act_names[static_cast<int>(before)]) + "/" + act_names[static_cast<int>(after)]; }

  template <class T>
  kernels::Epilogue<T> with(const View& bias, const T* residual) const {
    return {bias, residual, before, after};
  }
};

// The element type in which a weight with sums of k terms is packed.
inline DType packed_type(Precision precision, Index k) {
  if (precision == Precision::bf16) return DType::bf16;
  return precision == Precision::int8 && k <= kernels::most_int8_terms ? DType::i8 : DType::f32;
}

// A weight of n columns with k terms each, packed as bf16 or i8: the type of the packed tensor says which.
inline AnyTensor pack_low_precision(DType type, Index n, Index k, const AnyTensor& w) {
  const kernels::LowPrecisionTable& kernel = kernels::low_precision_table();
  BasicTensor<std::uint8_t> packed(Shape{kernel.packed_bytes(type, n, k)});
  kernel.pack(type, n, k, static_cast<const float*>(w.raw()), packed.data());
  return packed.packed_as({w.shape(), type});
}

// Computes rows of a linear map, or a whole convolution, whose weight pack_low_precision made; false, doing nothing, with any
// other weight. `shape`: of the rows to compute.
inline bool run_low_precision(const Run& r, Rows rows, const kernels::ConvShape& shape, const Epilogue& epilogue) {
  const View& weight = r.in[1];
  if (weight.format != Format::packed || weight.dtype == DType::f32) return false;
  kernels::LowPrecisionConv c;
  c.type = weight.dtype;
  c.shape = shape;
  c.x = r.in[0].row<const float>(rows.first);
  c.packed_weight = weight.data;
  c.y = r.out[0].row<float>(rows.first);
  c.epilogue = epilogue.with<float>(r.in[2], r.in[3].row<const float>(rows.first));
  kernels::low_precision_table().conv(c);
  return true;
}

// db = Σ dy over all rows
template <class T>
void bias_gradient(const View& dy, T* db) {
  kernels::Reduce<T> sum;
  sum.outer = 1;
  sum.reduced = dy.shape.rows();
  sum.inner = dy.shape[-1];
  sum.x = dy;
  sum.y = db;
  kernels::table<T>().reduce(sum);
}

// y = after(before(x Wᵀ + b) + residual);  without epilogue dx = dy W, dW = dyᵀ x, db = Σ dy
struct Linear {
  OCELLUS_OP("linear(x, weight, bias, residual)", epilogue)
  Epilogue epilogue = {};
  static constexpr unsigned keeps = input(0) | input(1);

  Shape infer(const Run& r) const {
    const Shape &x = r.in[0].shape, &w = r.in[1].shape;
    r.require(w.rank() == 2, "weight must be (out_features, in_features)");
    r.require(x.rank() >= 1 && x[-1] == w[1], "last axis of x must equal in_features");
    r.require(!r.in[2].given() || r.in[2].shape == Shape{w[0]}, "bias must be (out_features)");
    Shape y = x;
    y[-1] = w[0];
    r.require(!r.in[3].given() || r.in[3].shape == y, "residual must have the shape of the output");
    return y;
  }

  // The linear map as a pointwise convolution.
  static kernels::ConvShape sizes(Index rows, const Shape& w) {
    kernels::ConvShape s;
    s.batch = s.height = s.out_height = 1;
    s.width = s.out_width = rows;
    s.channels = w[1];
    s.out_channels = w[0];
    return s;
  }

  template <class T = float>  // a template: instantiated with the op, not with every include
  AnyTensor pack(int i, const AnyTensor& w, const Run&, Precision precision) const {
    if (i != 1 || w.dtype() != DType::f32) return {};
    const Index n = w.dim(0), k = w.dim(1);
    if (const DType type = packed_type(precision, k); type != DType::f32) return pack_low_precision(type, n, k, w);
    const auto& kernel = kernels::table<T>();
    Tensor packed(Shape{kernel.gemm_packed_size(n, k)});
    kernel.gemm_pack(n, k, static_cast<const float*>(w.raw()), k, true, packed.data());
    return packed.packed_as(w.spec());
  }

  Rows reads(const Run&, int, Rows out) const { return out; }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    if constexpr (std::is_same_v<T, float>) {
      if (run_low_precision(r, rows, sizes(rows.size(), r.in[1].shape), epilogue)) return;
    }
    kernels::Gemm<T> g;
    g.m = rows.size();
    g.n = r.in[1].shape[0];
    g.k = g.lda = g.ldb = r.in[1].shape[1];
    g.ldc = g.n;
    g.a = r.in[0].row<const T>(rows.first);
    g.transpose_b = true;
    g.packed_b = r.in[1].packed<T>();
    if (!g.packed_b) g.b = r.in[1];
    g.c = r.out[0].row<T>(rows.first);
    g.epilogue = epilogue.with<T>(r.in[2], r.in[3].row<const T>(rows.first));
    kernels::table<T>().gemm(g);
  }

  template <class T>
  void backward(const Run& r) const {
    r.require(epilogue.empty() && !r.in[3].given(), "a fused op has no gradient; trace the training step without fusing");
    const Index rows = r.in[0].shape.rows(), in = r.in[1].shape[1], out = r.in[1].shape[0];
    T *dx = r.din[0], *dw = r.din[1], *db = r.din[2];
    kernels::Gemm<T> g;
    if (dx) {
      g.m = rows, g.n = in, g.k = out;
      g.a = r.dout[0], g.lda = out;
      g.b = r.in[1], g.ldb = in;
      g.c = dx, g.ldc = in;
      kernels::table<T>().gemm(g);
    }
    if (dw) {
      g.m = out, g.n = in, g.k = rows;
      g.a = r.dout[0], g.lda = out, g.transpose_a = true;
      g.b = r.in[0], g.ldb = in;
      g.c = dw, g.ldc = in;
      kernels::table<T>().gemm(g);
    }
    if (db) bias_gradient(r.dout[0], db);
  }

  double macs(const Run& r) const { return static_cast<double>(r.in[0].shape.numel()) * static_cast<double>(r.in[1].shape[0]); }
};

// C = op(A) op(B) per problem;  dA = dC op(B)ᵀ, dB = op(A)ᵀ dC, transposed where the operand was, summed where it was shared
struct Matmul {
  OCELLUS_OP("matmul(a, b)", transpose_a, transpose_b)
  bool transpose_a = false, transpose_b = false;
  static constexpr unsigned keeps = input(0) | input(1);

  static Shape leading(const Shape& s) {
    Shape lead;
    for (int i = 0; i + 2 < s.rank(); ++i) lead.push_back(s[i]);
    return lead;
  }

  Shape infer(const Run& r) const {
    const Shape &a = r.in[0].shape, &b = r.in[1].shape;
    r.require(a.rank() >= 2 && b.rank() >= 2, "both operands must have at least two axes");
    r.require(a[transpose_a ? -2 : -1] == b[transpose_b ? -1 : -2], "inner sizes must be equal");
    Shape lead = leading(a);
    if (a.rank() == 2) lead = leading(b);
    r.require(b.rank() == 2 || leading(b) == lead, "leading axes must be equal, or one operand has none");
    lead.push_back(a[transpose_a ? -1 : -2]);
    lead.push_back(b[transpose_b ? -2 : -1]);
    return lead;
  }

  template <class T>
  void forward(const Run& r) const {
    product<T>(r.in[0].shape, r.in[0], transpose_a, r.in[1].shape, r.in[1], transpose_b, r.out[0].shape, r.out[0]);
  }

  template <class T>
  void backward(const Run& r) const {
    const Shape &a = r.in[0].shape, &b = r.in[1].shape, &c = r.dout[0].shape;
    T *da = r.din[0], *db = r.din[1];
    if (da && !transpose_a) product<T>(c, r.dout[0], false, b, r.in[1], !transpose_b, a, da);
    if (da && transpose_a) product<T>(b, r.in[1], transpose_b, c, r.dout[0], true, a, da);
    if (db && !transpose_b) product<T>(a, r.in[0], !transpose_a, c, r.dout[0], false, b, db);
    if (db && transpose_b) product<T>(c, r.dout[0], true, a, r.in[0], transpose_a, b, db);
  }

  double macs(const Run& r) const {
    return static_cast<double>(r.out[0].shape.numel()) * static_cast<double>(r.in[0].shape[transpose_a ? -2 : -1]);
  }

 private:
  // out = op(x) op(y) per problem; a rank-2 out of longer operands sums over the problems in their order.
  template <class T>
  static void product(const Shape& xs, const T* x, bool tx, const Shape& ys, const T* y, bool ty, const Shape& os, T* out) {
    const auto matrix = [](const Shape& s) { return s[-1] * s[-2]; };
    kernels::Gemm<T> g;
    g.m = xs[tx ? -1 : -2];
    g.k = xs[tx ? -2 : -1];
    g.n = ys[ty ? -2 : -1];
    g.a = x, g.lda = xs[-1], g.transpose_a = tx;
    g.b = y, g.ldb = ys[-1], g.transpose_b = ty;
    g.c = out, g.ldc = g.n;
    const Index problems = std::max(leading(xs).numel(), leading(ys).numel());
    const Index stride_x = xs.rank() > 2 ? matrix(xs) : 0, stride_y = ys.rank() > 2 ? matrix(ys) : 0;
    if (os.rank() > 2 || problems == 1) {
      g.batch = problems;
      g.stride_a = stride_x, g.stride_b = stride_y, g.stride_c = g.m * g.n;
      kernels::table<T>().gemm(g);
      return;
    }
    for (Index i = 0; i < problems; ++i) {
      g.accumulate = i > 0;
      kernels::table<T>().gemm(g);
      g.a += stride_x;
      g.b += stride_y;
    }
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> linear(const BasicTensor<T>& x, const BasicTensor<T>& weight, const BasicTensor<T>& bias) {
  return call(op::Linear{}, x, weight, bias);
}
OCELLUS_FLOATS(linear)

template <class T>
BasicTensor<T> matmul(const BasicTensor<T>& a, const BasicTensor<T>& b, const MatmulOptions& options) {
  return call(op::Matmul{options.transpose_a, options.transpose_b}, a, b);
}
OCELLUS_FLOATS(matmul)

}  // namespace ocellus
#endif
