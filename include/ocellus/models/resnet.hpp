// ResNet: Deep Residual Learning for Image Recognition (He et al., 2015), arXiv:1512.03385
//   image (N, H, W, 3) → conv 7×7 / 2 → max pool / 2 → 4 × [n × residual block] → mean over the pixels → (N, K)
// Field names are the keys of torchvision's ResNet (models/resnet.py). As there, a bottleneck halves the map in its 3×3 convolution, not
// in its first 1×1 as the paper has it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/nn/sequential.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus {
namespace resnet {

struct Config {
  static constexpr const char* model_type = "resnet";
  static constexpr Task task = Task::classify;

  std::string variant = "resnet50";
  bool bottleneck = true;
  std::vector<Index> depths = {3, 4, 6, 3};                // blocks of the four stages
  std::vector<Index> hidden_sizes = {64, 128, 256, 512};  // of their 3×3 convolutions
  Index num_channels = 3;
  std::vector<std::string> labels = ocellus::config::default_labels(1000);

  // Table 1 of the paper.
  static Config resnet18() { return {.variant = "resnet18", .bottleneck = false, .depths = {2, 2, 2, 2}}; }
  static Config resnet34() { return {.variant = "resnet34", .bottleneck = false, .depths = {3, 4, 6, 3}}; }
  static Config resnet50() { return {}; }
  static Config resnet101() { return {.variant = "resnet101", .depths = {3, 4, 23, 3}}; }
  static Config resnet152() { return {.variant = "resnet152", .depths = {3, 8, 36, 3}}; }

  static std::vector<Config> variants();
  static Config from_json(const Json& json);
  void write(JsonWriter& json) const;
};

// Sec. 3.3, option B: where the map shrinks or widens, the shortcut is a 1×1 convolution.
std::optional<nn::Sequential> projection(Index in, Index out, Index stride);
inline Tensor shortcut(const std::optional<nn::Sequential>& downsample, const Tensor& x) { return downsample ? (*downsample)(x) : x; }

// Fig. 5, left
struct BasicBlock : Module<BasicBlock> {
  static constexpr Index expansion = 1;
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  std::optional<nn::Sequential> downsample;

  BasicBlock(Index in, Index width, Index stride)
      : conv1(in, width, 3, {.stride = stride, .padding = 1, .bias = false}),
        bn1(width),
        conv2(width, width, 3, {.padding = 1, .bias = false}),
        bn2(width),
        downsample(projection(in, width, stride)) {}
  Tensor forward(const Tensor& x) const {
    const Tensor y = relu(bn1(conv1(x)));
    return relu(bn2(conv2(y)) + shortcut(downsample, x));
  }
  OCELLUS_MODULE(BasicBlock, conv1, bn1, conv2, bn2, downsample)
};

// Fig. 5, right
struct Bottleneck : Module<Bottleneck> {
  static constexpr Index expansion = 4;
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Conv2d conv3;
  nn::BatchNorm2d bn3;
  std::optional<nn::Sequential> downsample;

  Bottleneck(Index in, Index width, Index stride)
      : conv1(in, width, 1, {.bias = false}),
        bn1(width),
        conv2(width, width, 3, {.stride = stride, .padding = 1, .bias = false}),
        bn2(width),
        conv3(width, expansion * width, 1, {.bias = false}),
        bn3(expansion * width),
        downsample(projection(in, expansion * width, stride)) {}
  Tensor forward(const Tensor& x) const {
    const Tensor y = relu(bn2(conv2(relu(bn1(conv1(x))))));
    return relu(bn3(conv3(y)) + shortcut(downsample, x));
  }
  OCELLUS_MODULE(Bottleneck, conv1, bn1, conv2, bn2, conv3, bn3, downsample)
};

struct ResNet : Module<ResNet> {
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Sequential layer1, layer2, layer3, layer4;
  nn::Linear fc;
  Config config;

  // Convolutions start normal with variance 2 / fan_out, norms as the identity.
  explicit ResNet(const Config& c = Config::resnet50());
  // (N, H, W, num_channels) → logits (N, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(ResNet, conv1, bn1, layer1, layer2, layer3, layer4, fc)
};

}  // namespace resnet

using ResNet = resnet::ResNet;
using ResNetConfig = resnet::Config;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
namespace ocellus::resnet {

OCELLUS_FN std::optional<nn::Sequential> projection(Index in, Index out, Index stride) {
  if (stride == 1 && in == out) return {};
  nn::Sequential list;
  list.append(nn::Conv2d(in, out, 1, {.stride = stride, .bias = false})).append(nn::BatchNorm2d(out));
  return list;
}

// A stage of n blocks, the first of which takes the stride.
template <class Block>
nn::Sequential stage(Index in, Index width, Index n, Index stride) {
  nn::Sequential blocks;
  blocks.append(Block(in, width, stride));
  for (Index i = 1; i < n; ++i) blocks.append(Block(Block::expansion * width, width, 1));
  return blocks;
}

OCELLUS_FN nn::Sequential stage(const Config& c, std::size_t i) {
  const Index stride = i ? 2 : 1, expansion = c.bottleneck ? Bottleneck::expansion : BasicBlock::expansion;
  const Index in = i ? expansion * c.hidden_sizes[i - 1] : c.hidden_sizes[0];
  return c.bottleneck ? stage<Bottleneck>(in, c.hidden_sizes[i], c.depths[i], stride)
                      : stage<BasicBlock>(in, c.hidden_sizes[i], c.depths[i], stride);
}

OCELLUS_FN ResNet::ResNet(const Config& c)
    : conv1(c.num_channels, c.hidden_sizes[0], 7, {.stride = 2, .padding = 3, .bias = false}),
      bn1(c.hidden_sizes[0]),
      layer1(stage(c, 0)),
      layer2(stage(c, 1)),
      layer3(stage(c, 2)),
      layer4(stage(c, 3)),
      fc((c.bottleneck ? Bottleneck::expansion : BasicBlock::expansion) * c.hidden_sizes[3], static_cast<Index>(c.labels.size())),
      config(c) {
  for (const NamedParameter& p : named_parameters(*this)) {
    const Parameter& w = *p.parameter;
    if (w.rank() == 4) init::fan_out_normal(*p.parameter, w.dim(0) * w.dim(1) * w.dim(2));
  }
}

OCELLUS_FN Tensor ResNet::forward(const Tensor& image) const {
  Tensor x = max_pool2d(relu(bn1(conv1(image))), {.kernel_size = 3, .stride = 2, .padding = 1});
  x = layer4(layer3(layer2(layer1(x))));
  x = adaptive_avg_pool2d(x, 1);
  return fc(reshape(x, {x.dim(0), -1}));
}

OCELLUS_FN std::vector<Config> Config::variants() { return {resnet18(), resnet34(), resnet50(), resnet101(), resnet152()}; }

OCELLUS_FN Config Config::from_json(const Json& json) {
  namespace read = ocellus::config;
  Config c = read::variant<Config>(json);
  c.labels = read::labels(json);
  c.depths = read::integers(json, "depths", c.depths, 1, 1000);
  c.hidden_sizes = read::integers(json, "hidden_sizes", c.hidden_sizes, 1, 65536);
  c.num_channels = read::integer(json, "num_channels", c.num_channels, 1, 4096);
  return c;
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.field("variant", variant).field("depths", depths).field("hidden_sizes", hidden_sizes).field("num_channels", num_channels);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::resnet
#endif
