// Network: a model of any architecture behind one interface, and the one list of architectures that `open` chooses from by model_type.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/nn/state.hpp>

namespace ocellus {

enum class Task { classify, segment, detect };

const char* name_of(Task task);

class Network {
 public:
  virtual ~Network() = default;

  virtual const char* model_type() const = 0;
  virtual Task task() const = 0;
  // (N, H, W, C) → "logits", (N, K) for classification, (N, h, w, K) for segmentation; or the raw maps of a detector, "p3", "p4", "p5".
  virtual std::vector<Tensor> outputs(const Tensor& image) const = 0;
  virtual std::span<const char* const> output_names() const = 0;
  // The only output. Throws UsageError where there are several.
  Tensor forward(const Tensor& image) const;
  // A detector's outputs as boxes and scores. Throws UsageError if the network does something else.
  virtual BoxCandidates decode(const std::vector<Tensor>& outputs) const = 0;
  virtual Graph trace(const Shape& input) const = 0;
  virtual std::vector<NamedParameter> parameters() = 0;
  virtual std::unique_ptr<Network> clone() const = 0;
  virtual const std::vector<std::string>& labels() const = 0;
  virtual Index in_channels() const = 0;
  // Label value that the loss leaves out, -1: none. Kept in config.json by models that segment; others have none.
  virtual Index ignore_index() const = 0;
  virtual void set_ignore_index(Index value) = 0;
  // Keys that a checkpoint may hold and the model does not use.
  virtual std::span<const IgnoredKey> ignored_keys() const = 0;
  // The members of config.json after model_type.
  virtual void write_config(JsonWriter& json) const = 0;
};

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
#include <ocellus/models/resnet.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/models/vgg.hpp>
#include <ocellus/models/vit.hpp>
#include <ocellus/models/yolo.hpp>

namespace ocellus {
namespace network_detail {

// What `open` has to know about an architecture beyond its config.
template <class M>
struct Traits;

template <>
struct Traits<SegFormer> {
  using Config = SegFormerConfig;
  static constexpr const char* model_type = "segformer";
  static constexpr Task task = Task::segment;
  static constexpr std::span<const IgnoredKey> ignored{};
  static Index channels(const Config& c) { return c.num_channels; }
  static Index ignore_index(const Config& c) { return c.semantic_loss_ignore_index; }
};
// What the classifiers share. They use every key of their checkpoints unless they say otherwise.
template <class C>
struct Classifier {
  using Config = C;
  static constexpr Task task = Task::classify;
  static constexpr std::span<const IgnoredKey> ignored{};
  static Index channels(const Config& c) { return c.num_channels; }
  static Index ignore_index(const Config&) { return -1; }
};
template <>
struct Traits<ViT> : Classifier<ViTConfig> {
  static constexpr const char* model_type = "vit";
  static constexpr IgnoredKey ignored[] = {{"vit.pooler.*", "the classifier reads [CLS] itself"}};
};
template <>
struct Traits<ResNet> : Classifier<ResNetConfig> {
  static constexpr const char* model_type = "resnet";
};
template <>
struct Traits<VGG> : Classifier<VGGConfig> {
  static constexpr const char* model_type = "vgg";
};
template <>
struct Traits<MobileNetV2> : Classifier<MobileNetV2Config> {
  static constexpr const char* model_type = "mobilenet_v2";
};
template <class C>
struct YoloFamily {
  using Config = C;
  static constexpr Task task = Task::detect;
  static constexpr std::span<const IgnoredKey> ignored{};
  static Index channels(const yolo::Config& c) { return c.num_channels; }
  static Index ignore_index(const yolo::Config&) { return -1; }
};
template <>
struct Traits<YoloV8> : YoloFamily<YoloV8Config> {
  static constexpr const char* model_type = yolo::v8.model_type;
};
template <>
struct Traits<Yolo11> : YoloFamily<Yolo11Config> {
  static constexpr const char* model_type = yolo::v11.model_type;
};
template <>
struct Traits<LeNet> : Classifier<LeNetConfig> {
  static constexpr const char* model_type = "lenet";
};
template <>
struct Traits<Mlp> : Classifier<MlpConfig> {
  static constexpr const char* model_type = "mlp";
};

template <class M>
class NetworkOf final : public Network {
 public:
  using Facts = Traits<M>;

  explicit NetworkOf(const typename Facts::Config& config) : model_(config) {}

  const char* model_type() const override { return Facts::model_type; }
  Task task() const override { return Facts::task; }
  std::vector<Tensor> outputs(const Tensor& image) const override {
    if constexpr (detects) {
      return model_(image);
    } else {
      return {model_(image)};
    }
  }
  std::span<const char* const> output_names() const override {
    static constexpr const char *logits[] = {"logits"}, *maps[] = {"p3", "p4", "p5"};
    if constexpr (detects) {
      return maps;
    } else {
      return logits;
    }
  }
  BoxCandidates decode([[maybe_unused]] const std::vector<Tensor>& outputs) const override {
    if constexpr (detects) {
      return model_.head.decode(outputs);
    } else {
      throw UsageError(std::string("decode: ") + Facts::model_type + " does not detect");
    }
  }
  Graph trace(const Shape& input) const override { return ocellus::trace(model_, input); }
  std::vector<NamedParameter> parameters() override { return named_parameters(model_); }
  std::unique_ptr<Network> clone() const override { return std::make_unique<NetworkOf>(*this); }
  const std::vector<std::string>& labels() const override { return model_.config.labels; }
  Index in_channels() const override { return Facts::channels(model_.config); }
  Index ignore_index() const override { return Facts::ignore_index(model_.config); }
  void set_ignore_index(Index value) override {
    if constexpr (Facts::task == Task::segment) model_.config.semantic_loss_ignore_index = value;
  }
  std::span<const IgnoredKey> ignored_keys() const override { return Facts::ignored; }
  void write_config(JsonWriter& json) const override { model_.config.write(json); }

 private:
  static constexpr bool detects = Facts::task == Task::detect;

  M model_;
};

struct Architecture {
  const char* model_type;
  std::unique_ptr<Network> (*make)(const Json& config);
};

template <class M>
constexpr Architecture architecture() {
  return {Traits<M>::model_type, [](const Json& json) -> std::unique_ptr<Network> {
            return std::make_unique<NetworkOf<M>>(Traits<M>::Config::from_json(json));
          }};
}

// In a function, not at namespace scope: only programs that open models by name compile every architecture.
OCELLUS_FN std::span<const Architecture> architectures() {
  static constexpr Architecture list[] = {architecture<SegFormer>(), architecture<ViT>(), architecture<ResNet>(), architecture<VGG>(),
                                          architecture<MobileNetV2>(), architecture<YoloV8>(), architecture<Yolo11>(), architecture<LeNet>(),
                                          architecture<Mlp>()};
  return list;
}

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
  auto variants = Traits<M>::Config::variants();
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
    {"yolov8n", make_yolo<YoloV8, YoloV8Config::n>},
    {"yolov8s", make_yolo<YoloV8, YoloV8Config::s>},
    {"yolov8m", make_yolo<YoloV8, YoloV8Config::m>},
    {"yolov8l", make_yolo<YoloV8, YoloV8Config::l>},
    {"yolov8x", make_yolo<YoloV8, YoloV8Config::x>},
    {"yolo11n", make_yolo<Yolo11, Yolo11Config::n>},
    {"yolo11s", make_yolo<Yolo11, Yolo11Config::s>},
    {"yolo11m", make_yolo<Yolo11, Yolo11Config::m>},
    {"yolo11l", make_yolo<Yolo11, Yolo11Config::l>},
    {"yolo11x", make_yolo<Yolo11, Yolo11Config::x>},
    {"lenet", make_lenet},                                 {"mlp", make_mlp}};
  return list;
}

}  // namespace network_detail

OCELLUS_FN const char* name_of(Task task) { return task == Task::classify ? "classify" : task == Task::segment ? "segment" : "detect"; }

OCELLUS_FN Tensor Network::forward(const Tensor& image) const {
  const std::vector<Tensor> list = outputs(image);
  if (list.size() != 1) throw UsageError(std::string(model_type()) + ": forward needs a network with one output; outputs() gives all");
  return list[0];
}


OCELLUS_FN std::unique_ptr<Network> make_network(const Json& config) {
  const std::string type = config.get<std::string>("model_type");
  std::string known;
  for (const network_detail::Architecture& a : network_detail::architectures()) {
    if (type == a.model_type) return a.make(config);
    known += (known.empty() ? "" : ", ") + std::string(a.model_type);
  }
  throw ConfigError("config.json: model_type \"" + type + "\" is unknown; the library has " + known);
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

}  // namespace ocellus
#endif
