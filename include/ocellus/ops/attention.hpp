// Scaled dot-product attention (Vaswani et al.: Attention Is All You Need, 2017) over token lists whose heads lie side
// by side in the channels. The score matrix never exists as a whole (Dao et al.: FlashAttention, 2022).
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

struct AttentionOptions {
  Index heads = 1;
  double scale = 0;    // of the scores; 0: 1 / √D
  double dropout = 0;  // of the attention weights, in training; the score matrix then exists as a whole
};

// softmax(scale q kᵀ) v per head: q (N, Lq, H·D), k (N, Lk, H·D), v (N, Lk, H·E) → (N, Lq, H·E). Where E ≠ D the score
// matrix exists as a whole. Throws ShapeError.
template <class T>
BasicTensor<T> scaled_dot_product_attention(const BasicTensor<T>& q, const BasicTensor<T>& k, const BasicTensor<T>& v,
                                            const AttentionOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// P = softmax(s Q Kᵀ), y = P V;  dV = Pᵀ dy, dP = dy Vᵀ, dS = P (dP − rowsum(dy y)), dQ = s dS K, dK = s dSᵀ Q.  P is
// computed again.
struct Attention {
  OCELLUS_OP("attention(q, k, v)", heads, scale)
  Index heads = 1;
  double scale = 1;
  static constexpr unsigned keeps = input(0) | input(1) | input(2) | output(0);

  Shape infer(const Run& r) const {
    const Shape &q = r.in[0].shape, &k = r.in[1].shape, &v = r.in[2].shape;
    r.require(q.rank() == 3 && k.rank() == 3 && v == k, "q must be (N, Lq, C), k and v (N, Lk, C)");
    r.require(q[0] == k[0] && q[2] == k[2], "batch and channels of q and k must be equal");
    r.require(heads > 0 && q[2] % heads == 0, "heads must divide the channels");
    r.require(k[1] > 0, "there must be at least one key");
    r.require(scale > 0, "scale must be positive");
    return q;
  }
  std::vector<Shape> aux(const Run& r) const { return {{r.in[0].shape[0], heads, r.in[0].shape[1]}}; }

  template <class T>
  void forward(const Run& r) const {
    kernels::Attention<T> a = arguments<T>(r);
    a.y = r.out[0];
    a.log_sum = r.aux[0];
    kernels::table<T>().attention(a);
  }
  template <class T>
  void backward(const Run& r) const {
    kernels::AttentionBackward<T> b;
    b.forward = arguments<T>(r);
    b.forward.y = r.out[0];
    b.forward.log_sum = r.aux[0];
    b.dy = r.dout[0];
    b.dq = r.din[0];
    b.dk = r.din[1];
    b.dv = r.din[2];
    kernels::table<T>().attention_backward(b);
  }
  double macs(const Run& r) const {
    return 2.0 * static_cast<double>(r.in[0].shape.numel()) * static_cast<double>(r.in[1].shape[1]);
  }

 private:
  template <class T>
  kernels::Attention<T> arguments(const Run& r) const {
    const Shape &q = r.in[0].shape, &k = r.in[1].shape;
    kernels::Attention<T> a;
    a.batch = q[0];
    a.heads = heads;
    a.queries = q[1];
    a.keys = k[1];
    a.dim = q[2] / heads;
    a.q = r.in[0];
    a.k = r.in[1];
    a.v = r.in[2];
    a.row_q = a.row_k = a.row_v = a.row_y = q[2];
    a.batch_q = a.batch_y = q[1] * q[2];
    a.batch_k = a.batch_v = k[1] * k[2];
    a.scale = static_cast<T>(scale);
    return a;
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
#include <ocellus/ops/dropout.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/ops/softmax.hpp>

namespace ocellus {

template <class T>
BasicTensor<T> scaled_dot_product_attention(const BasicTensor<T>& q, const BasicTensor<T>& k, const BasicTensor<T>& v,
                                            const AttentionOptions& options) {
  op::Attention op;
  op.heads = options.heads;
  const bool even = v.rank() != 3 || k.rank() != 3 || v.dim(2) == k.dim(2);
  Run shapes;
  shapes.op = &op_info<op::Attention>;
  for (const BasicTensor<T>* x : {&q, &k, even ? &v : &k}) shapes.in.emplace_back(x->spec(), nullptr);
  op.infer(shapes);
  if (!even) {
    shapes.in[2] = View(v.spec(), nullptr);
    shapes.require(v.dim(0) == k.dim(0) && v.dim(1) == k.dim(1), "k and v must have the same tokens");
    shapes.require(v.dim(2) % op.heads == 0, "heads must divide the channels of v");
  }
  op.scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(q.dim(2) / op.heads));
  const bool drops = options.dropout != 0 && context().training;
  if (even && !drops) return call(op, q, k, v);

  const auto by_head = [&](const BasicTensor<T>& x) {
    return permute(reshape(x, {x.dim(0), x.dim(1), op.heads, x.dim(2) / op.heads}), {0, 2, 1, 3});
  };
  const BasicTensor<T> scores = matmul(by_head(affine(q, op.scale)), by_head(k), {.transpose_b = true});
  const BasicTensor<T> weights = drops ? dropout(softmax(scores), options.dropout) : softmax(scores);
  return reshape(permute(matmul(weights, by_head(v)), {0, 2, 1, 3}), {q.dim(0), q.dim(1), v.dim(2)});
}
OCELLUS_FLOATS(scaled_dot_product_attention)

}  // namespace ocellus
#endif
