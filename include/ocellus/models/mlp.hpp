// Multi-layer perceptron (Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, 1986):
//   y = Wₙ f(… f(W₁ x + b₁) …) + bₙ
#pragma once

#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/activation.hpp>

namespace ocellus {

struct MlpConfig {
  static constexpr const char* model_type = "mlp";
  static constexpr Task task = Task::classify;

  std::vector<Index> sizes = {2, 16, 16, 2};  // inputs, hidden layers…, outputs
  Act activation = Act::relu;
  Index num_channels = 1;  // of pictures
  std::vector<std::string> labels = config::default_labels(2);

  static MlpConfig from_json(const Json& json);
  void write(JsonWriter& json) const;
};

struct Mlp : Module<Mlp> {
  std::vector<nn::Linear> layers;
  MlpConfig config;

  explicit Mlp(const MlpConfig& c = {});
  // (..., sizes.front()) → (..., sizes.back()); a batch of images (N, H, W, C) is flattened first
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(Mlp, layers)
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN MlpConfig MlpConfig::from_json(const Json& json) {
  MlpConfig c;
  c.labels = config::labels(json);
  c.sizes = config::integers(json, "sizes", c.sizes, 1, 1 << 24, true);
  if (c.sizes.back() != static_cast<Index>(c.labels.size())) {
    throw ConfigError("mlp: the last of sizes must be the number of labels; got " + std::to_string(c.sizes.back()) + " outputs and " +
                      std::to_string(c.labels.size()) + " labels");
  }
  c.activation = config::activation(json, "hidden_act", c.activation);
  c.num_channels = config::integer(json, "num_channels", c.num_channels, 1, 4096);
  return c;
}

OCELLUS_FN void MlpConfig::write(JsonWriter& json) const {
  json.field("sizes", sizes).field("hidden_act", config::name_of(activation)).field("num_channels", num_channels);
  config::write_labels(json, labels);
}

OCELLUS_FN Mlp::Mlp(const MlpConfig& c) : config(c) {
  if (c.sizes.size() < 2) throw ConfigError("mlp: sizes must name at least the inputs and the outputs");
  for (std::size_t i = 0; i + 1 < c.sizes.size(); ++i) layers.emplace_back(c.sizes[i], c.sizes[i + 1]);
}

OCELLUS_FN Tensor Mlp::forward(const Tensor& input) const {
  Tensor x = input.rank() == 4 ? reshape(input, {input.dim(0), -1}) : input;
  for (std::size_t i = 0; i + 1 < layers.size(); ++i) x = activation(layers[i](x), config.activation);
  return layers.back()(x);
}

}  // namespace ocellus
#endif
