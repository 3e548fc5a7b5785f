// Normalisation layers over channels-last tensors.
#pragma once

#include <ocellus/nn/init.hpp>
#include <ocellus/nn/module.hpp>
#include <ocellus/ops/norm.hpp>

namespace ocellus::nn {

// Over the last axis of (..., C) (Ba, Kiros, Hinton, 2016).
struct LayerNorm : Module<LayerNorm> {
  Parameter weight, bias;  // (C)
  double eps;

  explicit LayerNorm(Index channels, double epsilon = 1e-5) : weight(Shape{channels}), bias(Shape{channels}), eps(epsilon) {
    init::constant(weight, 1);
  }
  Tensor forward(const Tensor& x) const { return layer_norm<float>(x, weight, bias, eps); }
  OCELLUS_MODULE(LayerNorm, weight, bias)
};

// Over groups of channels and all pixels of one picture (Wu and He, 2018).
struct GroupNorm : Module<GroupNorm> {
  Parameter weight, bias;  // (C)
  Index groups;
  double eps;

  GroupNorm(Index group_count, Index channels, double epsilon = 1e-5)
      : weight(Shape{channels}), bias(Shape{channels}), groups(group_count), eps(epsilon) {
    init::constant(weight, 1);
  }
  Tensor forward(const Tensor& x) const { return group_norm<float>(x, groups, weight, bias, eps); }
  OCELLUS_MODULE(GroupNorm, weight, bias)
};

struct BatchNormLayerOptions {
  double eps = 1e-5;
  double momentum = 0.1;  // of the newest batch in the running statistics
};

// Over all axes but the last (Ioffe and Szegedy, 2015). In training by the batch's statistics, which also move the running ones;
// otherwise by the running ones.
struct BatchNorm2d : Module<BatchNorm2d> {
  Parameter weight, bias, running_mean, running_var, num_batches_tracked;
  BatchNormLayerOptions options;

  explicit BatchNorm2d(Index channels, const BatchNormLayerOptions& o = {})
      : weight(Shape{channels}),
        bias(Shape{channels}),
        running_mean(Parameter::buffer({channels})),
        running_var(Parameter::buffer({channels}, 1)),
        num_batches_tracked(Parameter::buffer({})),
        options(o) {
    num_batches_tracked.set_file_dtype(DType::i64);
    init::constant(weight, 1);
  }
  Tensor forward(const Tensor& x) const {
    return batch_norm<float>(x, weight, bias, running_mean, running_var, num_batches_tracked,
                             {.momentum = options.momentum, .eps = options.eps});
  }
  OCELLUS_MODULE(BatchNorm2d, weight, bias, running_mean, running_var, num_batches_tracked)
};

}  // namespace ocellus::nn
