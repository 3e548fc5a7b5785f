// Activations as modules, for lists of modules whose places are their keys; elsewhere relu(x) reads better.
#pragma once

#include <ocellus/nn/module.hpp>
#include <ocellus/ops/activation.hpp>

namespace ocellus::nn {

// f(x), elementwise
struct Activation : Module<Activation> {
  Act act;

  explicit Activation(Act f) : act(f) {}
  Tensor forward(const Tensor& x) const { return activation(x, act); }
  OCELLUS_MODULE(Activation)
};

}  // namespace ocellus::nn
