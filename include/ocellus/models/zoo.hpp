// Every architecture of the library: the one list that `open` and `train` choose from. A header-only program that needs
// one model compiles faster with open<SegFormer>(directory), which knows that one alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ocellus/models/network.hpp>

namespace ocellus {

// Builds the architecture that config.json names, with weights of zero under SkipInit. Throws ConfigError for an unknown model_type.
std::unique_ptr<Network> make_network(const Json& config);
// Builds a named variant with fresh weights: "segformer-b0"…"segformer-b5", "vit-tiny"…"vit-huge", "resnet18"…"resnet152",
// "vgg11"…"vgg19_bn", "mobilenet_v2", "yolov8n"…"yolov8x", "yolo11n"…"yolo11x", "lenet", "mlp".
// `size`: the image side that models with learned positions or flattened maps are built for.
std::unique_ptr<Network> make_network(const std::string& variant, const std::vector<std::string>& labels, Index channels, Size2 size,
                                      Index ignore_index);
// The names that make_network knows.
std::vector<std::string> network_variants();

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <algorithm>

#include <ocellus/core/error.hpp>
#include <ocellus/models/lenet.hpp>
#include <ocellus/models/mlp.hpp>
#include <ocellus/models/mobilenet_v2.hpp>
#include <ocellus/models/network_of.hpp>
#include <ocellus/models/resnet.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/models/vgg.hpp>
#include <ocellus/models/vit.hpp>
#include <ocellus/models/yolo.hpp>

#define OCELLUS_EACH_MODEL(f) f(SegFormer) f(ViT) f(ResNet) f(VGG) f(MobileNetV2) f(YoloV8) f(Yolo11) f(LeNet) f(Mlp)

namespace ocellus {
namespace network_detail {

// What a new model is built for.
struct Request {
  const std::string& variant;
  const std::vector<std::string>& labels;
  Index channels;
  Size2 size;
  Index ignore_index;
};

template <auto Make>
std::unique_ptr<Network> make_segformer(const Request& r) {
  SegFormerConfig c = Make();
  c.labels = r.labels;
  c.num_channels = r.channels;
  c.semantic_loss_ignore_index = r.ignore_index;
  return std::make_unique<NetworkOf<SegFormer>>(c);
}
template <auto Make>
std::unique_ptr<Network> make_vit(const Request& r) {
  ViTConfig c = Make();
  c.labels = r.labels;
  c.num_channels = r.channels;
  c.image_size = r.size;
  return std::make_unique<NetworkOf<ViT>>(c);
}
// Models of convolutions up to a mean over the pixels, built for no size.
template <class M>
std::unique_ptr<Network> make_convolutional(const Request& r) {
  auto variants = ConfigOf<M>::variants();
  auto& c = *std::find_if(variants.begin(), variants.end(), [&](const auto& v) { return v.variant == r.variant; });
  c.labels = r.labels;
  c.num_channels = r.channels;
  return std::make_unique<NetworkOf<M>>(c);
}
template <class M, auto Make>
std::unique_ptr<Network> make_yolo(const Request& r) {
  auto c = Make();
  c.labels = r.labels;
  c.num_channels = r.channels;
  return std::make_unique<NetworkOf<M>>(c);
}
OCELLUS_FN std::unique_ptr<Network> make_lenet(const Request& r) {
  if (r.size.h != r.size.w) throw UsageError("lenet: pictures must be square; got " + r.size.str());
  return std::make_unique<NetworkOf<LeNet>>(LeNetConfig{.num_channels = r.channels, .image_size = r.size.h, .labels = r.labels});
}
OCELLUS_FN std::unique_ptr<Network> make_mlp(const Request& r) {
  const Index inputs = r.size.h * r.size.w * r.channels;
  return std::make_unique<NetworkOf<Mlp>>(MlpConfig{.sizes = {inputs, 128, static_cast<Index>(r.labels.size())}, .num_channels = r.channels, .labels = r.labels});
}

struct Variant {
  const char* name;
  std::unique_ptr<Network> (*make)(const Request&);
};
OCELLUS_FN std::span<const Variant> variants() {
  static constexpr Variant list[] = {
    {"segformer-b0", make_segformer<SegFormerConfig::b0>}, {"segformer-b1", make_segformer<SegFormerConfig::b1>},
    {"segformer-b2", make_segformer<SegFormerConfig::b2>}, {"segformer-b3", make_segformer<SegFormerConfig::b3>},
    {"segformer-b4", make_segformer<SegFormerConfig::b4>}, {"segformer-b5", make_segformer<SegFormerConfig::b5>},
    {"vit-tiny", make_vit<ViTConfig::tiny>},               {"vit-small", make_vit<ViTConfig::small>},
    {"vit-base", make_vit<ViTConfig::base>},               {"vit-large", make_vit<ViTConfig::large>},
    {"vit-huge", make_vit<ViTConfig::huge>},
    {"resnet18", make_convolutional<ResNet>},              {"resnet34", make_convolutional<ResNet>},
    {"resnet50", make_convolutional<ResNet>},              {"resnet101", make_convolutional<ResNet>},
    {"resnet152", make_convolutional<ResNet>},             {"vgg11", make_convolutional<VGG>},
    {"vgg13", make_convolutional<VGG>},                    {"vgg16", make_convolutional<VGG>},
    {"vgg19", make_convolutional<VGG>},                    {"vgg11_bn", make_convolutional<VGG>},
    {"vgg13_bn", make_convolutional<VGG>},                 {"vgg16_bn", make_convolutional<VGG>},
    {"vgg19_bn", make_convolutional<VGG>},                 {"mobilenet_v2", make_convolutional<MobileNetV2>},
    {"yolov8n", make_yolo<YoloV8, YoloV8Config::n>},       {"yolov8s", make_yolo<YoloV8, YoloV8Config::s>},
    {"yolov8m", make_yolo<YoloV8, YoloV8Config::m>},       {"yolov8l", make_yolo<YoloV8, YoloV8Config::l>},
    {"yolov8x", make_yolo<YoloV8, YoloV8Config::x>},       {"yolo11n", make_yolo<Yolo11, Yolo11Config::n>},
    {"yolo11s", make_yolo<Yolo11, Yolo11Config::s>},       {"yolo11m", make_yolo<Yolo11, Yolo11Config::m>},
    {"yolo11l", make_yolo<Yolo11, Yolo11Config::l>},       {"yolo11x", make_yolo<Yolo11, Yolo11Config::x>},
    {"lenet", make_lenet},                                 {"mlp", make_mlp}};
  return list;
}

}  // namespace network_detail

OCELLUS_FN std::unique_ptr<Network> make_network(const Json& config) {
#define OCELLUS_ARCHITECTURE(M) architecture<M>(),
  static const Architecture list[] = {OCELLUS_EACH_MODEL(OCELLUS_ARCHITECTURE)};
#undef OCELLUS_ARCHITECTURE
  return make_network(config, list);
}

OCELLUS_FN std::unique_ptr<Network> make_network(const std::string& variant, const std::vector<std::string>& labels, Index channels,
                                                 Size2 size, Index ignore_index) {
  std::string known;
  for (const network_detail::Variant& v : network_detail::variants()) {
    if (variant == v.name) return v.make({variant, labels, channels, size, ignore_index});
    known += (known.empty() ? "" : ", ") + std::string(v.name);
  }
  throw UsageError("there is no model \"" + variant + "\" to start from; the library has " + known);
}

OCELLUS_FN std::vector<std::string> network_variants() {
  std::vector<std::string> names;
  for (const network_detail::Variant& v : network_detail::variants()) names.push_back(v.name);
  return names;
}

#if defined(OCELLUS_SPLIT)
// For open<M>.
#define OCELLUS_ARCHITECTURE(M) template Architecture architecture<M>();
OCELLUS_EACH_MODEL(OCELLUS_ARCHITECTURE)
#undef OCELLUS_ARCHITECTURE
#endif

}  // namespace ocellus
#undef OCELLUS_EACH_MODEL
#endif
