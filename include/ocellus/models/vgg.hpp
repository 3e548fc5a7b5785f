// VGG: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2014), arXiv:1409.1556
//   image (N, H, W, 3) → 5 × [n × conv 3×3, max pool / 2] → map of 7×7 → 4096 → 4096 → (N, K)
// Keys are those of torchvision's VGG (models/vgg.py), which numbers every layer of `features` and `classifier`, weights or not. As there,
// maps of other sizes are averaged to 7×7, so pictures may have any size from 32×32 on, and the _bn variants normalise each convolution.
#pragma once

#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/activation.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/dropout.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/nn/pool.hpp>
#include <ocellus/nn/sequential.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus {
namespace vgg {

struct Config {
  static constexpr const char* model_type = "vgg";
  static constexpr Task task = Task::classify;

  std::string variant = "vgg16";
  bool batch_norm = false;
  std::vector<Index> depths = {2, 2, 3, 3, 3};                  // convolutions of the five stages
  std::vector<Index> hidden_sizes = {64, 128, 256, 512, 512};  // their channels
  Index classifier_size = 4096;                                 // width of the two hidden linear layers
  double classifier_dropout_prob = 0.5;
  Index num_channels = 3;
  std::vector<std::string> labels = ocellus::config::default_labels(1000);

  // Table 1 of the paper: A, B, D, E.
  static Config vgg11() { return {.variant = "vgg11", .depths = {1, 1, 2, 2, 2}}; }
  static Config vgg13() { return {.variant = "vgg13", .depths = {2, 2, 2, 2, 2}}; }
  static Config vgg16() { return {}; }
  static Config vgg19() { return {.variant = "vgg19", .depths = {2, 2, 4, 4, 4}}; }
  static Config vgg11_bn() { return normalised(vgg11()); }
  static Config vgg13_bn() { return normalised(vgg13()); }
  static Config vgg16_bn() { return normalised(vgg16()); }
  static Config vgg19_bn() { return normalised(vgg19()); }

  static std::vector<Config> variants();
  static Config from_json(const Json& json);
  void write(JsonWriter& json) const;

 private:
  static Config normalised(Config c) {
    c.variant += "_bn";
    c.batch_norm = true;
    return c;
  }
};

struct VGG : Module<VGG> {
  nn::Sequential features, classifier;
  Config config;

  // Convolutions start normal with variance 2 / fan_out, linear maps normal 0.01, biases at zero.
  explicit VGG(const Config& c = Config::vgg16());
  // (N, H, W, num_channels) → logits (N, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(VGG, features, classifier)
};

}  // namespace vgg

using VGG = vgg::VGG;
using VGGConfig = vgg::Config;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
namespace ocellus::vgg {

inline constexpr Index map_side = 7;  // of the map that the classifier reads: 224 after five poolings

OCELLUS_FN VGG::VGG(const Config& c) : config(c) {
  Index in = c.num_channels;
  for (std::size_t s = 0; s < c.depths.size(); ++s) {
    const Index width = c.hidden_sizes[s];
    for (Index i = 0; i < c.depths[s]; ++i, in = width) {
      features.append(nn::Conv2d(in, width, 3, {.padding = 1}));
      if (c.batch_norm) features.append(nn::BatchNorm2d(width));
      features.append(nn::Activation(Act::relu));
    }
    features.append(nn::MaxPool2d({.kernel_size = 2}));
  }
  const auto hidden_layer = [&](nn::Linear layer) {
    classifier.append(std::move(layer)).append(nn::Activation(Act::relu)).append(nn::Dropout(c.classifier_dropout_prob));
  };
  hidden_layer(nn::Linear(in * map_side * map_side, c.classifier_size, {.flattened = {in, map_side, map_side}}));
  hidden_layer(nn::Linear(c.classifier_size, c.classifier_size));
  classifier.append(nn::Linear(c.classifier_size, static_cast<Index>(c.labels.size())));

  for (const NamedParameter& p : named_parameters(*this)) {
    Parameter& w = *p.parameter;
    if (w.rank() == 4) init::fan_out_normal(w, w.dim(0) * w.dim(1) * w.dim(2));
    if (w.rank() == 2) init::normal(w, 0.01f);
    if (p.name.ends_with("bias")) init::zeros(w);
  }
}

OCELLUS_FN Tensor VGG::forward(const Tensor& image) const {
  const Tensor map = adaptive_avg_pool2d(features(image), map_side);
  return classifier(reshape(map, {map.dim(0), -1}));
}

OCELLUS_FN std::vector<Config> Config::variants() {
  return {vgg11(), vgg13(), vgg16(), vgg19(), vgg11_bn(), vgg13_bn(), vgg16_bn(), vgg19_bn()};
}

OCELLUS_FN Config Config::from_json(const Json& json) {
  namespace read = ocellus::config;
  Config c = read::variant<Config>(json);
  c.labels = read::labels(json);
  c.depths = read::integers(json, "depths", c.depths, 1, 1000);
  c.hidden_sizes = read::integers(json, "hidden_sizes", c.hidden_sizes, 1, 65536);
  c.classifier_size = read::integer(json, "classifier_size", c.classifier_size, 1, 65536);
  c.classifier_dropout_prob = read::rate(json, "classifier_dropout_prob", c.classifier_dropout_prob);
  c.num_channels = read::integer(json, "num_channels", c.num_channels, 1, 4096);
  return c;
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.field("variant", variant).field("depths", depths).field("hidden_sizes", hidden_sizes).field("classifier_size", classifier_size);
  json.field("classifier_dropout_prob", classifier_dropout_prob).field("num_channels", num_channels);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::vgg
#endif
