// YOLOv8 and YOLO11 (Jocher et al., Ultralytics, 2023 and 2024), anchor-free one-stage detectors after YOLO (Redmon et
// al., 2015, arXiv:1506.02640)
//   image (N, H, W, 3) → backbone → p3, p4, p5 → neck: top-down, then bottom-up (Liu et al., 2018, arXiv:1803.01534)
//   → head → per level (N, H/s, W/s, 4·16 + K): four distances to the sides of a box, each as a distribution over 0…15
//   cells (Li et al., 2020, arXiv:2006.04388), and a logit per class
// Keys are those of the reference's list of layers, which numbers every row of its table, weights or not:
// "model.0.conv.weight" is the first convolution. Here the parts have names: backbone, neck.out_p3, head.boxes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/models/yolo_blocks.hpp>

namespace ocellus {
namespace yolo {

// A row of an architecture's table. Channels and depth are those of the largest scale.
struct Layer {
  enum class Kind { conv, c2f, c3k2, sppf, c2psa };
  Kind kind;
  Index channels;
  Index depth = 1;         // inner blocks
  bool shortcut = true;    // c2f: of its bottlenecks
  bool nested = false;     // c3k2: its inner blocks are C3k, otherwise bottlenecks
  double expansion = 0.5;  // c3k2: hidden channels over output channels
};

// The rows: 3×3 convolution of stride 2, and the blocks of yolo_blocks.hpp.
constexpr Layer conv(Index channels) { return {Layer::Kind::conv, channels}; }
constexpr Layer c2f(Index channels, Index depth, bool shortcut) {
  return {Layer::Kind::c2f, channels, depth, shortcut};
}
constexpr Layer c3k2(Index channels, bool nested, double expansion = 0.5) {
  return {Layer::Kind::c3k2, channels, 2, true, nested, expansion};
}
constexpr Layer sppf(Index channels) { return {Layer::Kind::sppf, channels}; }
constexpr Layer c2psa(Index channels) { return {Layer::Kind::c2psa, channels, 2}; }

// How a size is made of the table: min(channels, max_channels) · width to the next multiple of 8, and depth · n inner
// blocks.
struct Scale {
  const char* name;
  double depth, width;
  Index max_channels;
  bool nested = false;  // every c3k2 has C3k inside
};

struct Architecture {
  const char* model_type;
  std::span<const Layer> backbone;  // one after another; what a convolution reads is the feature of its stride
  std::span<const Layer> neck;      // in the order of Neck's fields
  std::span<const Scale> scales;
  bool depthwise_classes;  // the head's class branch has depthwise convolutions
};

inline constexpr Layer v8_backbone[] = {
    conv(64),   conv(128),
    c2f(128, 3, true),
    conv(256),  c2f(256, 6, true),                // p3
    conv(512),  c2f(512, 6, true),                // p4
    conv(1024), c2f(1024, 3, true),  sppf(1024),  // p5
};
inline constexpr Layer v8_neck[] = {
    c2f(512, 3, false), c2f(256, 3, false),         // p4, p3 on the way down
    conv(256),          c2f(512, 3, false),         // p4
    conv(512),          c2f(1024, 3, false),        // p5
};
inline constexpr Scale v8_scales[] = {
    {"n", 0.33, 0.25, 1024}, {"s", 0.33, 0.5, 1024}, {"m", 0.67, 0.75, 768}, {"l", 1, 1, 512}, {"x", 1, 1.25, 512},
};

inline constexpr Layer v11_backbone[] = {
    conv(64),   conv(128),
    c3k2(256, false, 0.25),
    conv(256),  c3k2(512, false, 0.25),                         // p3
    conv(512),  c3k2(512, true),                                // p4
    conv(1024), c3k2(1024, true),  sppf(1024), c2psa(1024),     // p5
};
inline constexpr Layer v11_neck[] = {
    c3k2(512, false), c3k2(256, false),
    conv(256),        c3k2(512, false),
    conv(512),        c3k2(1024, true),
};
inline constexpr Scale v11_scales[] = {
    {"n", 0.5, 0.25, 1024},  {"s", 0.5, 0.5, 1024},  {"m", 0.5, 1, 512, true},
    {"l", 1, 1, 512, true},  {"x", 1, 1.5, 512, true},
};

inline constexpr Architecture v8{"yolov8", v8_backbone, v8_neck, v8_scales, false};
inline constexpr Architecture v11{"yolo11", v11_backbone, v11_neck, v11_scales, true};

struct Config {
  const Architecture* architecture = nullptr;
  std::string variant;
  double depth_multiple = 1, width_multiple = 1;
  Index max_channels = 1024;
  bool nested = false;
  Index box_bins = 16;  // values of a distance
  Index num_channels = 3;
  std::vector<std::string> labels = ocellus::config::default_labels(80);

  static constexpr Index size_divisor = Features::strides[2];  // of heights and widths of pictures

  Config(const Architecture& a, const Scale& s)
      : architecture(&a),
        variant(s.name),
        depth_multiple(s.depth),
        width_multiple(s.width),
        max_channels(s.max_channels),
        nested(s.nested) {}

  Index channels(Index of_table) const;
  Index depth(Index of_table) const;
  // What config.json says beyond the variant.
  void read(const Json& json);
  void write(JsonWriter& json) const;
};

template <const Architecture& family>
struct ConfigOf : Config {
  static constexpr const char* model_type = family.model_type;
  static constexpr Task task = Task::detect;

  explicit ConfigOf(const Scale& s) : Config(family, s) {}

  static ConfigOf n() { return ConfigOf(family.scales[0]); }
  static ConfigOf s() { return ConfigOf(family.scales[1]); }
  static ConfigOf m() { return ConfigOf(family.scales[2]); }
  static ConfigOf l() { return ConfigOf(family.scales[3]); }
  static ConfigOf x() { return ConfigOf(family.scales[4]); }
  static std::vector<ConfigOf> variants() { return {n(), s(), m(), l(), x()}; }
  static ConfigOf from_json(const Json& json) {
    ConfigOf c = ocellus::config::variant<ConfigOf>(json);
    c.read(json);
    return c;
  }
};

struct Backbone : Module<Backbone> {
  std::vector<nn::AnyModule> layers;
  Index p3 = 0, p4 = 0, p5 = 0;  // channels of the features

  explicit Backbone(const Config& c);
  Features forward(const Tensor& image) const;

  static constexpr char type_name[] = "Backbone";
  void visit(Visitor& v);

 private:
  std::size_t p3_end_ = 0, p4_end_ = 0;  // the layers that read p3 and p4
};

// Path aggregation: each level sees the coarser ones, then the finer ones.
struct Neck : Module<Neck> {
  nn::AnyModule top_p4, out_p3, down_p3, out_p4, down_p4, out_p5;
  Index p3, p4, p5;  // channels of the features

  Neck(const Config& c, const Backbone& backbone);
  Features forward(const Features& x) const;

  // The rows of the table, after those of the backbone; upsampling and concatenation have rows of their own.
  static constexpr char type_name[] = "Neck";
  void visit(Visitor& v);

 private:
  std::string keys_;
};

// The expected value of each distance: (..., 4 · bins) logits → (..., 4)
struct Dfl : Module<Dfl> {
  nn::Conv2d conv;  // the values 0, 1, …, bins − 1; fixed

  explicit Dfl(Index bins);
  Tensor forward(const Tensor& logits) const;
  OCELLUS_MODULE(Dfl, conv)
};

// Anchor-free and decoupled: per level one branch for boxes, one for classes (Ge et al., 2021, arXiv:2107.08430).
struct Head : Module<Head> {
  std::vector<nn::Sequential> boxes, classes;
  Dfl dfl;
  Index box_bins;

  // `p3`, `p4`, `p5`: channels of the features. Class biases start at the logit of 5 objects in 640×640 pixels, of any
  // class at any place, those of the boxes at 1.
  Head(Index p3, Index p4, Index p5, Index class_count, Index bins, bool depthwise_classes);
  // (N, H/s, W/s, C) → (N, H/s, W/s, 4 · bins + K)
  Features forward(const Features& x) const;
  // The maps of the three levels as boxes and probabilities; A = Σ h · w. Differentiable. With a confidence above 0 only those places
  // at which some class of some picture has more than that.
  BoxCandidates decode(const std::vector<Tensor>& maps, float confidence = 0) const;

  static constexpr char type_name[] = "Head";
  void visit(Visitor& v);
};

struct Yolo : Module<Yolo> {
  Backbone backbone;
  Neck neck;
  Head head;
  Config config;

  // Convolutions start uniform in ±1/√fan_in, norms as the identity.
  explicit Yolo(const Config& c);
  // (N, H, W, num_channels), H and W multiples of size_divisor → raw maps p3, p4, p5. Throws ShapeError for other
  // sizes.
  std::vector<Tensor> forward(const Tensor& image) const;

  static constexpr char type_name[] = "Yolo";
  void visit(Visitor& v);

 private:
  std::string keys_;
};

template <const Architecture& family>
struct YoloOf : Yolo {
  using Config = ConfigOf<family>;

  explicit YoloOf(const ConfigOf<family>& c = ConfigOf<family>::n()) : Yolo(c) {}
};

}  // namespace yolo

using YoloV8 = yolo::YoloOf<yolo::v8>;
using YoloV8Config = yolo::ConfigOf<yolo::v8>;
using Yolo11 = yolo::YoloOf<yolo::v11>;
using Yolo11Config = yolo::ConfigOf<yolo::v11>;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <algorithm>
#include <cmath>
#include <numeric>

#include <ocellus/core/error.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/index.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/ops/softmax.hpp>
#include <ocellus/vision/nms.hpp>

namespace ocellus::yolo {

OCELLUS_FN Index Config::channels(Index of_table) const {
  return static_cast<Index>(std::ceil(static_cast<double>(std::min(of_table, max_channels)) * width_multiple / 8)) * 8;
}

// Halves to the even number, as Python rounds.
OCELLUS_FN Index Config::depth(Index of_table) const {
  const double exact = static_cast<double>(of_table) * depth_multiple;
  return of_table == 1 ? 1 : std::max<Index>(1, static_cast<Index>(std::nearbyint(exact)));
}

OCELLUS_FN nn::AnyModule make(const Layer& l, Index in, const Config& c) {
  const Index out = c.channels(l.channels), n = c.depth(l.depth), half = out / 2;
  switch (l.kind) {
    case Layer::Kind::conv: return nn::AnyModule(Conv(in, out, 3, 2));
    case Layer::Kind::sppf: return nn::AnyModule(Sppf(in, out));
    case Layer::Kind::c2psa: return nn::AnyModule(C2psa(out, n));
    case Layer::Kind::c2f:
      return nn::AnyModule(C2f(in, out, half, n, [&] { return Bottleneck(half, half, l.shortcut); }));
    case Layer::Kind::c3k2: break;
  }
  const Index hidden = static_cast<Index>(static_cast<double>(out) * l.expansion);
  if (l.nested || c.nested) return nn::AnyModule(C2f(in, out, hidden, n, [&] { return C3k(hidden, 2); }));
  return nn::AnyModule(C2f(in, out, hidden, n, [&] { return Bottleneck(hidden, hidden / 2, true); }));
}

OCELLUS_FN Backbone::Backbone(const Config& c) {
  Index in = c.num_channels, stride = 1;
  for (const Layer& l : c.architecture->backbone) {
    if (l.kind == Layer::Kind::conv) {
      if (stride == 8) p3 = in, p3_end_ = layers.size();
      if (stride == 16) p4 = in, p4_end_ = layers.size();
      stride *= 2;
    }
    layers.push_back(make(l, in, c));
    in = c.channels(l.channels);
  }
  p5 = in;
}

OCELLUS_FN void Backbone::visit(Visitor& v) { v.items(layers); }

OCELLUS_FN Features Backbone::forward(const Tensor& image) const {
  Features f;
  f.p5 = image;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (i == p3_end_) f.p3 = f.p5;
    if (i == p4_end_) f.p4 = f.p5;
    f.p5 = layers[i](f.p5);
  }
  return f;
}

// A row of the neck that reads `in` channels, and how many it writes.
OCELLUS_FN nn::AnyModule neck_row(const Config& c, std::size_t row, Index in) {
  return make(c.architecture->neck[row], in, c);
}
OCELLUS_FN Index neck_channels(const Config& c, std::size_t row) {
  return c.channels(c.architecture->neck[row].channels);
}

OCELLUS_FN Neck::Neck(const Config& c, const Backbone& b)
    : top_p4(neck_row(c, 0, b.p5 + b.p4)),
      out_p3(neck_row(c, 1, neck_channels(c, 0) + b.p3)),
      down_p3(neck_row(c, 2, neck_channels(c, 1))),
      out_p4(neck_row(c, 3, neck_channels(c, 2) + neck_channels(c, 0))),
      down_p4(neck_row(c, 4, neck_channels(c, 3))),
      out_p5(neck_row(c, 5, neck_channels(c, 4) + b.p5)),
      p3(neck_channels(c, 1)),
      p4(neck_channels(c, 3)),
      p5(neck_channels(c, 5)) {
  for (const int row : {2, 5, 6, 8, 9, 11}) keys_ += std::to_string(static_cast<int>(b.layers.size()) + row) + ", ";
}

OCELLUS_FN void Neck::visit(Visitor& v) { v.fields(keys_.c_str(), top_p4, out_p3, down_p3, out_p4, down_p4, out_p5); }

OCELLUS_FN Features Neck::forward(const Features& x) const {
  const auto join = [](const Tensor& a, const Tensor& b) { return concat(std::vector<Tensor>{a, b}); };
  const auto enlarge = [](const Tensor& t) {
    return resize(t, {2 * t.dim(1), 2 * t.dim(2)}, {.mode = ResizeMode::nearest});
  };
  const Tensor top = top_p4(join(enlarge(x.p5), x.p4));
  Features y;
  y.p3 = out_p3(join(enlarge(top), x.p3));
  y.p4 = out_p4(join(down_p3(y.p3), top));
  y.p5 = out_p5(join(down_p4(y.p4), x.p5));
  return y;
}

OCELLUS_FN Dfl::Dfl(Index bins) : conv(bins, 1, 1, {.bias = false}) {
  const Shape file_view = conv.weight.file_view();
  conv.weight = Parameter::buffer(conv.weight.shape());
  conv.weight.set_file_view(file_view);
  std::iota(conv.weight.begin(), conv.weight.end(), 0.0f);
}

OCELLUS_FN Tensor Dfl::forward(const Tensor& logits) const {
  Shape sides = logits.shape();
  sides[-1] = 4;
  return reshape(conv(softmax(reshape(logits, {1, -1, 4, conv.weight.dim(3)}))), sides);
}

OCELLUS_FN Head::Head(Index p3, Index p4, Index p5, Index class_count, Index bins, bool depthwise_classes)
    : dfl(bins), box_bins(bins) {
  const Index b = std::max<Index>({16, p3 / 4, 4 * bins}), w = std::max(p3, std::min<Index>(class_count, 100));
  const Index widths[] = {p3, p4, p5};
  for (std::size_t level = 0; level < 3; ++level) {
    const Index in = widths[level];
    nn::Conv2d last_box(b, 4 * bins, 1), last_class(w, class_count, 1);
    const double places = std::pow(640.0 / static_cast<double>(Features::strides[level]), 2);
    init::constant(last_box.bias, 1);
    init::constant(last_class.bias, static_cast<float>(std::log(5 / (static_cast<double>(class_count) * places))));

    boxes.emplace_back().append(Conv(in, b, 3)).append(Conv(b, b, 3)).append(std::move(last_box));
    nn::Sequential& c = classes.emplace_back();
    if (depthwise_classes) {
      c.append(nn::Sequential().append(Conv(in, in, 3, 1, in)).append(Conv(in, w)));
      c.append(nn::Sequential().append(Conv(w, w, 3, 1, w)).append(Conv(w, w)));
    } else {
      c.append(Conv(in, w, 3)).append(Conv(w, w, 3));
    }
    c.append(std::move(last_class));
  }
}

OCELLUS_FN void Head::visit(Visitor& v) { v.fields("cv2, cv3, dfl", boxes, classes, dfl); }

OCELLUS_FN Features Head::forward(const Features& x) const {
  const auto level = [&](std::size_t i, const Tensor& t) {
    return concat(std::vector<Tensor>{boxes[i](t), classes[i](t)});
  };
  return {level(0, x.p3), level(1, x.p4), level(2, x.p5)};
}

// Leaves these places of levels (N, h · w, C) and of their anchors.
OCELLUS_FN void keep_places(const std::vector<Index>& places, std::vector<Tensor>& levels, Anchors& anchors) {
  const auto rows = [](const std::vector<Index>& list) {
    BasicTensor<std::int64_t> index({static_cast<Index>(list.size())});
    std::copy(list.begin(), list.end(), index.begin());
    return index;
  };
  anchors.points = embedding(anchors.points, rows(places));
  anchors.strides = embedding(anchors.strides, rows(places));
  Index begin = 0;
  for (Tensor& level : levels) {
    const Index pictures = level.dim(0), count = level.dim(1), channels = level.dim(2);
    std::vector<Index> kept;
    for (Index n = 0; n < pictures; ++n) {
      for (const Index place : places) {
        if (place >= begin && place < begin + count) kept.push_back(n * count + place - begin);
      }
    }
    const Index left = static_cast<Index>(kept.size()) / std::max<Index>(pictures, 1);
    level = reshape(embedding(reshape(level, {-1, channels}), rows(kept)), {pictures, left, channels});
    begin += count;
  }
}

OCELLUS_FN BoxCandidates Head::decode(const std::vector<Tensor>& maps, float confidence) const {
  if (maps.size() != 3) {
    throw UsageError("decode: the maps of three levels are needed; got " + std::to_string(maps.size()));
  }
  Anchors anchors = make_anchors(maps);
  std::vector<Tensor> levels;
  for (const Tensor& map : maps) levels.push_back(reshape(map, {map.dim(0), -1, map.dim(3)}));
  if (confidence > 0) {
    // A little below the logit of the confidence, so that rounding loses nothing: whoever thresholds the scores decides.
    const double c = std::min(static_cast<double>(confidence), 1 - 1e-6);
    const float limit = static_cast<float>(std::log(c / (1 - c)) - 1e-3);
    keep_places(places_above(maps, 4 * box_bins, limit), levels, anchors);
  }
  const Tensor all = concat(levels, 1);
  if (all.dim(1) == 0) return {Tensor({all.dim(0), 0, 4}), Tensor({all.dim(0), 0, all.dim(2) - 4 * box_bins})};
  const std::vector<Tensor> parts = split(all, {4 * box_bins, all.dim(2) - 4 * box_bins});
  const std::vector<Tensor> sides = split(dfl(parts[0]), {2, 2});  // left and top, right and bottom of a place
  const std::vector<Tensor> corners{anchors.points - sides[0], anchors.points + sides[1]};
  return {concat(corners) * anchors.strides, sigmoid(parts[1])};
}

OCELLUS_FN Yolo::Yolo(const Config& c)
    : backbone(c),
      neck(c, backbone),
      head(neck.p3, neck.p4, neck.p5, static_cast<Index>(c.labels.size()), c.box_bins,
           c.architecture->depthwise_classes),
      config(c),
      keys_("model, model, model." + std::to_string(backbone.layers.size() + 12)) {}

OCELLUS_FN void Yolo::visit(Visitor& v) { v.fields(keys_.c_str(), backbone, neck, head); }

OCELLUS_FN std::vector<Tensor> Yolo::forward(const Tensor& image) const {
  constexpr Index divisor = Config::size_divisor;
  if (image.rank() != 4 || image.dim(1) % divisor != 0 || image.dim(2) % divisor != 0) {
    throw ShapeError(std::string(config.architecture->model_type) +
                     ": the picture must be (N, H, W, C), H and W multiples of " + std::to_string(divisor) + "; got " +
                     image.shape().str() + "; a letterbox brings it to such a size");
  }
  return head(neck(backbone(image))).list();
}

OCELLUS_FN void Config::read(const Json& json) {
  namespace read = ocellus::config;
  labels = read::labels(json, NmsOptions::most_labels);
  const auto multiple = [&](const char* key, double fallback) {
    const double value = json.get<double>(key, fallback);
    if (!(value > 0 && value <= 8)) json.at(key).fail("must lie in (0, 8]; got " + std::to_string(value));
    return value;
  };
  depth_multiple = multiple("depth_multiple", depth_multiple);
  width_multiple = multiple("width_multiple", width_multiple);
  max_channels = read::integer(json, "max_channels", max_channels, 8, 65536);
  box_bins = read::integer(json, "box_bins", box_bins, 2, 256);
  num_channels = read::integer(json, "num_channels", num_channels, 1, 4096);
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.field("variant", variant).field("depth_multiple", depth_multiple).field("width_multiple", width_multiple);
  json.field("max_channels", max_channels).field("box_bins", box_bins).field("num_channels", num_channels);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::yolo
#endif
