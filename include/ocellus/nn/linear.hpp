// Linear and Embedding.
#pragma once

#include <ocellus/nn/init.hpp>
#include <ocellus/nn/module.hpp>
#include <ocellus/ops/index.hpp>
#include <ocellus/ops/linear.hpp>

namespace ocellus::nn {

struct LinearOptions {
  bool bias = true;
  // The input is a flattened feature map of this (channels, height, width): files hold the columns in PyTorch's order.
  Shape flattened = {};
};

// y = x Wᵀ + b     (..., in) → (..., out)
struct Linear : Module<Linear> {
  Parameter weight, bias;  // (out, in), (out)

  Linear(Index in_features, Index out_features, const LinearOptions& options = {})
      : weight(Shape{out_features, in_features}), bias(options.bias ? Parameter(Shape{out_features}) : Parameter()) {
    if (!options.flattened.empty()) weight.set_file_view({out_features, options.flattened[0], options.flattened[1], options.flattened[2]});
    init::fan_in_uniform(weight, in_features);
    init::fan_in_uniform(bias, in_features);
  }
  Tensor forward(const Tensor& x) const { return linear<float>(x, weight, bias); }
  OCELLUS_MODULE(Linear, weight, bias)
};

// y = weight[index]     int64 (...) → (..., D)
struct Embedding : Module<Embedding> {
  Parameter weight;  // (V, D)

  Embedding(Index embeddings, Index dim) : weight(Shape{embeddings, dim}) { init::normal(weight, 1); }
  Tensor forward(const BasicTensor<std::int64_t>& index) const { return embedding<float>(weight, index); }
  OCELLUS_MODULE(Embedding, weight)
};

}  // namespace ocellus::nn
