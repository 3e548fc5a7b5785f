// MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), arXiv:1801.04381
//   image (N, H, W, 3) → conv 3×3 / 2 → 7 × [n × inverted residual] → conv 1×1 → mean over the pixels → (N, K)
// Keys are those of torchvision's MobileNetV2 (models/mobilenetv2.py), which numbers every layer, weights or not.
#pragma once

#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/activation.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/dropout.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/nn/sequential.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus {
namespace mobilenet_v2 {

// Table 2 of the paper.
struct Config {
  static constexpr const char* model_type = "mobilenet_v2";
  static constexpr Task task = Task::classify;

  std::string variant = "mobilenet_v2";
  Index stem_size = 32;                                                 // channels of the first convolution
  std::vector<Index> expansions = {1, 6, 6, 6, 6, 6, 6};                // t: hidden channels over input channels
  std::vector<Index> hidden_sizes = {16, 24, 32, 64, 96, 160, 320};  // c
  std::vector<Index> depths = {1, 2, 3, 4, 3, 3, 1};                    // n
  std::vector<Index> strides = {1, 2, 2, 2, 1, 2, 1};                   // s
  Index last_size = 1280;                                               // channels that the classifier reads
  double classifier_dropout_prob = 0.2;
  Index num_channels = 3;
  std::vector<std::string> labels = ocellus::config::default_labels(1000);

  static Config mobilenet_v2() { return {}; }

  static std::vector<Config> variants();
  static Config from_json(const Json& json);
  void write(JsonWriter& json) const;
};

// Fig. 3b: 1×1 expands, 3×3 filters each channel, 1×1 projects without an activation
struct InvertedResidual : Module<InvertedResidual> {
  nn::Sequential conv;
  bool residual;

  InvertedResidual(Index in, Index out, Index stride, Index expansion);
  Tensor forward(const Tensor& x) const { return residual ? x + conv(x) : conv(x); }
  OCELLUS_MODULE(InvertedResidual, conv)
};

struct MobileNetV2 : Module<MobileNetV2> {
  nn::Sequential features, classifier;
  Config config;

  // Convolutions start normal with variance 2 / fan_out, the linear map normal 0.01, biases at zero.
  explicit MobileNetV2(const Config& c = {});
  // (N, H, W, num_channels) → logits (N, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(MobileNetV2, features, classifier)
};

}  // namespace mobilenet_v2

using MobileNetV2 = mobilenet_v2::MobileNetV2;
using MobileNetV2Config = mobilenet_v2::Config;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
namespace ocellus::mobilenet_v2 {

// Convolution, norm, ReLU6
OCELLUS_FN nn::Sequential layer(Index in, Index out, Index kernel_size, Index stride = 1, Index groups = 1) {
  nn::Sequential list;
  list.append(nn::Conv2d(in, out, kernel_size, {.stride = stride, .padding = kernel_size / 2, .groups = groups, .bias = false}));
  list.append(nn::BatchNorm2d(out)).append(nn::Activation(Act::relu6));
  return list;
}

OCELLUS_FN InvertedResidual::InvertedResidual(Index in, Index out, Index stride, Index expansion) : residual(stride == 1 && in == out) {
  const Index hidden = expansion * in;
  if (expansion != 1) conv.append(layer(in, hidden, 1));
  conv.append(layer(hidden, hidden, 3, stride, hidden));
  conv.append(nn::Conv2d(hidden, out, 1, {.bias = false})).append(nn::BatchNorm2d(out));
}

OCELLUS_FN MobileNetV2::MobileNetV2(const Config& c) : config(c) {
  features.append(layer(c.num_channels, c.stem_size, 3, 2));
  Index in = c.stem_size;
  for (std::size_t s = 0; s < c.depths.size(); ++s) {
    for (Index i = 0; i < c.depths[s]; ++i, in = c.hidden_sizes[s]) {
      features.append(InvertedResidual(in, c.hidden_sizes[s], i ? 1 : c.strides[s], c.expansions[s]));
    }
  }
  features.append(layer(in, c.last_size, 1));
  classifier.append(nn::Dropout(c.classifier_dropout_prob)).append(nn::Linear(c.last_size, static_cast<Index>(c.labels.size())));

  for (const NamedParameter& p : named_parameters(*this)) {
    Parameter& w = *p.parameter;
    if (w.rank() == 4) init::fan_out_normal(w, w.dim(0) * w.dim(1) * w.dim(2));
    if (w.rank() == 2) init::normal(w, 0.01f);
    if (p.name.ends_with("bias")) init::zeros(w);
  }
}

OCELLUS_FN Tensor MobileNetV2::forward(const Tensor& image) const {
  const Tensor x = adaptive_avg_pool2d(features(image), 1);
  return classifier(reshape(x, {x.dim(0), -1}));
}

OCELLUS_FN std::vector<Config> Config::variants() { return {mobilenet_v2()}; }

OCELLUS_FN Config Config::from_json(const Json& json) {
  namespace read = ocellus::config;
  Config c = read::variant<Config>(json);
  c.labels = read::labels(json);
  c.stem_size = read::integer(json, "stem_size", c.stem_size, 1, 65536);
  c.expansions = read::integers(json, "expansions", c.expansions, 1, 64);
  c.hidden_sizes = read::integers(json, "hidden_sizes", c.hidden_sizes, 1, 65536);
  c.depths = read::integers(json, "depths", c.depths, 1, 1000);
  c.strides = read::integers(json, "strides", c.strides, 1, 2);
  c.last_size = read::integer(json, "last_size", c.last_size, 1, 65536);
  c.classifier_dropout_prob = read::rate(json, "classifier_dropout_prob", c.classifier_dropout_prob);
  c.num_channels = read::integer(json, "num_channels", c.num_channels, 1, 4096);
  return c;
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.field("variant", variant).field("stem_size", stem_size).field("expansions", expansions).field("hidden_sizes", hidden_sizes);
  json.field("depths", depths).field("strides", strides).field("last_size", last_size);
  json.field("classifier_dropout_prob", classifier_dropout_prob).field("num_channels", num_channels);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::mobilenet_v2
#endif
