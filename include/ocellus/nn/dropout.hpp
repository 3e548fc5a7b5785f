// Layers that are random in training and the identity otherwise.
#pragma once

#include <ocellus/nn/module.hpp>
#include <ocellus/ops/dropout.hpp>

namespace ocellus::nn {

// Zeroes each element with probability p, scales the others by 1 / (1 − p) (Srivastava et al., 2014).
struct Dropout : Module<Dropout> {
  double p;

  explicit Dropout(double probability) : p(probability) {}
  Tensor forward(const Tensor& x) const { return dropout(x, p); }
  OCELLUS_MODULE(Dropout)
};

// Zeroes a whole sample with probability p, scales the others by 1 / (1 − p) (Huang et al., 2016).
struct StochasticDepth : Module<StochasticDepth> {
  double p;

  explicit StochasticDepth(double probability) : p(probability) {}
  Tensor forward(const Tensor& x) const { return stochastic_depth(x, p); }
  OCELLUS_MODULE(StochasticDepth)
};

}  // namespace ocellus::nn
