// Pooling as modules, for lists of modules whose places are their keys.
#pragma once

#include <ocellus/nn/module.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus::nn {

// (N, H, W, C) → (N, H', W', C), the maximum of each window
struct MaxPool2d : Module<MaxPool2d> {
  MaxPoolOptions options;

  explicit MaxPool2d(const MaxPoolOptions& o) : options(o) {}
  Tensor forward(const Tensor& x) const { return max_pool2d(x, options); }
  OCELLUS_MODULE(MaxPool2d)
};

}  // namespace ocellus::nn
