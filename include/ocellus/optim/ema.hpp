// An exponential moving average of a model's weights (Polyak and Juditsky, 1992): often the better model to evaluate.
#pragma once

#include <vector>

#include <ocellus/io/named_tensors.hpp>
#include <ocellus/nn/module.hpp>

namespace ocellus {

struct EmaOptions {
  double decay = 0.9999;
  // The decay of update t (from 0) is min(decay, (1 + t) / (10 + t)): young averages forget their start.
  bool warm_up = true;
};

// Averages parameters and running statistics; counters are copied. Keeps the pointers it is given: the module must stay
// where it is.
class Ema {
 public:
  explicit Ema(const std::vector<NamedParameter>& parameters, const EmaOptions& options = {});

  // After each optimizer step: average += (1 − decay)(weight − average).
  void update();
  // Exchanges the weights of the module and their average: once to evaluate with it, once to train on.
  void swap();
  double decay() const;

  // The averages by parameter in memory layout, and "updates", for checkpoints.
  NamedTensors state() const;
  // Throws ConfigError, and changes nothing, unless names and shapes are those of state().
  void load_state(const NamedTensors& state);

 private:
  struct Average {
    NamedParameter parameter;
    Tensor value;
  };

  EmaOptions options_;
  Index updates_ = 0;
  std::vector<Average> averages_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPTIM)
#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_map>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace ocellus {

OCELLUS_FN Ema::Ema(const std::vector<NamedParameter>& parameters, const EmaOptions& options) : options_(options) {
  std::unordered_map<const void*, int> seen;  // tied weights are averaged once
  for (const NamedParameter& p : parameters) {
    if (seen.emplace(p.parameter->storage().get(), 0).second) averages_.push_back({p, p.parameter->clone()});
  }
}

OCELLUS_FN double Ema::decay() const {
  const double t = static_cast<double>(updates_);
  return options_.warm_up ? std::min(options_.decay, (1 + t) / (10 + t)) : options_.decay;
}

OCELLUS_FN void Ema::update() {
  const float rate = static_cast<float>(1 - decay());
  ++updates_;
  for (const Average& a : averages_) {
    const float r = a.parameter.parameter->file_dtype() == DType::i64 ? 1.0f : rate;
    const float* weight = a.parameter.parameter->data();
    float* average = a.value.data();
    parallel_for(a.value.numel(), 16384, [=](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) average[i] += r * (weight[i] - average[i]);
    });
  }
}

OCELLUS_FN void Ema::swap() {
  for (const Average& a : averages_) {
    std::swap_ranges(a.value.begin(), a.value.end(), a.parameter.parameter->begin());
    a.parameter.parameter->storage()->bump_version();
  }
}

OCELLUS_FN NamedTensors Ema::state() const {
  NamedTensors state;
  for (const Average& a : averages_) state.add(a.parameter.name, a.value.copy());
  state.add("updates", BasicTensor<std::int64_t>::scalar(updates_));
  return state;
}

OCELLUS_FN void Ema::load_state(const NamedTensors& state) {
  const auto check = [&](const std::string& name, const Spec& spec) {
    const AnyTensor* t = state.find(name);
    if (!t || !(t->shape() == spec.shape) || t->dtype() != spec.dtype) {
      throw ConfigError("average state: \"" + name + "\" " +
                        (t ? "is " + t->shape().str() + ", needed is " + spec.shape.str() : std::string("is missing")));
    }
  };
  for (const Average& a : averages_) check(a.parameter.name, a.value.spec());
  check("updates", {{}, DType::i64});
  if (state.size() != averages_.size() + 1)
    throw ConfigError("average state: it holds tensors that the model does not have");
  for (const Average& a : averages_)
    std::memcpy(a.value.data(), state.at(a.parameter.name).raw(), a.value.spec().bytes());
  updates_ = BasicTensor<std::int64_t>(state.at("updates")).item();
}

}  // namespace ocellus
#endif
