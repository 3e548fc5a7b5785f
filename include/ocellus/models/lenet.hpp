// LeNet-5 (LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998), with ReLU and max pooling:
//   image (N, 28, 28, 1) → conv 5×5 → pool → conv 5×5 → pool → 120 → 84 → K
#pragma once

#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus {

struct LeNetConfig {
  static constexpr const char* model_type = "lenet";
  static constexpr Task task = Task::classify;

  Index num_channels = 1;
  Index image_size = 28;  // side, in pixels
  std::vector<std::string> labels = config::default_labels(10);

  static LeNetConfig from_json(const Json& json);
  void write(JsonWriter& json) const;
  // Side of the last feature map. Throws ConfigError for a picture that leaves none.
  Index map_size() const;
};

struct LeNet : Module<LeNet> {
  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2, fc3;
  LeNetConfig config;

  explicit LeNet(const LeNetConfig& c = {});
  // (N, image_size, image_size, num_channels) → logits (N, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(LeNet, conv1, conv2, fc1, fc2, fc3)
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN LeNetConfig LeNetConfig::from_json(const Json& json) {
  LeNetConfig c;
  c.labels = config::labels(json);
  c.num_channels = config::integer(json, "num_channels", c.num_channels, 1, 4096);
  c.image_size = config::integer(json, "image_size", c.image_size, 12, 4096);
  return c;
}

OCELLUS_FN Index LeNetConfig::map_size() const {
  if (image_size < 12) throw ConfigError("lenet: image_size must be at least 12; got " + std::to_string(image_size));
  return (image_size / 2 - 4) / 2;
}

OCELLUS_FN void LeNetConfig::write(JsonWriter& json) const {
  json.field("num_channels", num_channels).field("image_size", image_size);
  config::write_labels(json, labels);
}

OCELLUS_FN LeNet::LeNet(const LeNetConfig& c)
    : conv1(c.num_channels, 6, 5, {.padding = 2}),
      conv2(6, 16, 5),
      fc1(16 * c.map_size() * c.map_size(), 120, {.flattened = {16, c.map_size(), c.map_size()}}),
      fc2(120, 84),
      fc3(84, static_cast<Index>(c.labels.size())),
      config(c) {}

OCELLUS_FN Tensor LeNet::forward(const Tensor& image) const {
  Tensor x = max_pool2d(relu(conv1(image)), {.kernel_size = 2});
  x = max_pool2d(relu(conv2(x)), {.kernel_size = 2});
  x = relu(fc1(reshape(x, {x.dim(0), -1})));
  return fc3(relu(fc2(x)));
}

}  // namespace ocellus
#endif
