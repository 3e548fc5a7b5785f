// Activation functions. The scalar definitions stand in kernels/activation.hpp.
#pragma once

#include <ocellus/autograd/call.hpp>
#include <ocellus/kernels/activation.hpp>

namespace ocellus {

// f(x), elementwise; Act::none returns x.
template <class T>
BasicTensor<T> activation(const BasicTensor<T>& x, Act f);

template <class T>
BasicTensor<T> relu(const BasicTensor<T>& x) {
  return activation(x, Act::relu);
}
template <class T>
BasicTensor<T> relu6(const BasicTensor<T>& x) {
  return activation(x, Act::relu6);
}
template <class T>
BasicTensor<T> leaky_relu(const BasicTensor<T>& x) {
  return activation(x, Act::leaky_relu);
}
template <class T>
BasicTensor<T> gelu(const BasicTensor<T>& x) {
  return activation(x, Act::gelu);
}
template <class T>
BasicTensor<T> gelu_tanh(const BasicTensor<T>& x) {
  return activation(x, Act::gelu_tanh);
}
template <class T>
BasicTensor<T> silu(const BasicTensor<T>& x) {
  return activation(x, Act::silu);
}
template <class T>
BasicTensor<T> sigmoid(const BasicTensor<T>& x) {
  return activation(x, Act::sigmoid);
}
template <class T>
BasicTensor<T> tanh(const BasicTensor<T>& x) {
  return activation(x, Act::tanh);
}
template <class T>
BasicTensor<T> hard_sigmoid(const BasicTensor<T>& x) {
  return activation(x, Act::hard_sigmoid);
}
template <class T>
BasicTensor<T> hard_swish(const BasicTensor<T>& x) {
  return activation(x, Act::hard_swish);
}

// +1 where x ≥ 0, −1 elsewhere: the step of the perceptron (Rosenblatt, 1958). It has no useful gradient and refuses
// backward().
template <class T>
BasicTensor<T> sign(const BasicTensor<T>& x);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// y = f(x);  dx = f'(x) dy
struct Activation {
  OCELLUS_OP("activation(x)", act)
  Act act = Act::none;
  static constexpr unsigned keeps = input(0);
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return r.in[0].shape; }

  Rows reads(const Run&, int, Rows out) const { return out; }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    const Index n = rows.size() * r.in[0].shape[-1];
    kernels::table<T>().activation(act, n, r.in[0].row<const T>(rows.first), r.out[0].row<T>(rows.first));
  }

  template <class T>
  void backward(const Run& r) const {
    kernels::table<T>().activation_backward(act, r.in[0].shape.numel(), r.in[0], r.dout[0], r.din[0]);
  }
};

// y = x ≥ 0 ? 1 : −1
struct Sign {
  OCELLUS_OP("sign(x)")
  static constexpr bool not_differentiable = true;
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return r.in[0].shape; }

  template <class T>
  void forward(const Run& r) const {
    const T* x = r.in[0];
    T* y = r.out[0];
    for (Index i = 0; i < r.in[0].shape.numel(); ++i) y[i] = x[i] >= 0 ? T(1) : T(-1);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPS)
namespace ocellus {

template <class T>
BasicTensor<T> activation(const BasicTensor<T>& x, Act f) {
  if (f == Act::none) return x;
  return call(op::Activation{f}, x);
}
OCELLUS_FLOATS(activation)

template <class T>
BasicTensor<T> sign(const BasicTensor<T>& x) {
  return call(op::Sign{}, x);
}
OCELLUS_FLOATS(sign)

}  // namespace ocellus
#endif
