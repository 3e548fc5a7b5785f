// Softmax and log-softmax over the last axis.
#pragma once

#include <ocellus/autograd/call.hpp>

namespace ocellus {

// (..., K) → (..., K), each row positive with sum 1. A row that holds NaN or +∞, or only −∞, becomes NaN.
template <class T>
BasicTensor<T> softmax(const BasicTensor<T>& x);
// log(softmax(x)) without the loss of precision.
template <class T>
BasicTensor<T> log_softmax(const BasicTensor<T>& x);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// y = eˣ / Σ eˣ, dx = y (dy − Σ y dy);  log: y = x − log Σ eˣ, dx = dy − eʸ Σ dy
struct Softmax {
  OCELLUS_OP("softmax(x)", log)
  bool log = false;
  static constexpr unsigned keeps = output(0);

  Shape infer(const Run& r) const {
    r.require(r.in[0].shape.rank() >= 1, "x must have at least one axis");
    return r.in[0].shape;
  }

  template <class T>
  void forward(const Run& r) const {
    kernels::table<T>().softmax(r.in[0].shape.rows(), r.in[0].shape[-1], r.in[0], r.out[0], log);
  }

  template <class T>
  void backward(const Run& r) const {
    kernels::table<T>().softmax_backward(r.in[0].shape.rows(), r.in[0].shape[-1], r.out[0], r.dout[0], r.din[0], log);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> softmax(const BasicTensor<T>& x) {
  return call(op::Softmax{false}, x);
}
OCELLUS_FLOATS(softmax)

template <class T>
BasicTensor<T> log_softmax(const BasicTensor<T>& x) {
  return call(op::Softmax{true}, x);
}
OCELLUS_FLOATS(log_softmax)

}  // namespace ocellus
#endif
