// preprocessor_config.json of the hub ↔ Preprocess. Reads the image processors of SegFormer and ViT, old files (size as one number,
// feature_extractor_type) and new ones.
#pragma once

#include <ocellus/io/json.hpp>
#include <ocellus/vision/preprocess.hpp>

namespace ocellus {

// What the file leaves out is as in `defaults`. Throws FileError naming the element for a field that is malformed or asks for something
// the library does not do, and for an image processor that it does not know.
Preprocess read_preprocessor(const Json& json, const Preprocess& defaults);
// What the hub's processors lack are members of our own: {"letterbox": {"pad_value": 114, "may_enlarge": true}, "antialias": false}, the
// latter for Filter::bilinear_two_taps.
void write_preprocessor(JsonWriter& json, const Preprocess& preprocess);

// For a model directory without the file: the reference's defaults for config.json's model_type.
Preprocess default_preprocess(const Json& model_config);

// The size that pictures of any size come out with, `fallback` where that depends on the picture.
Size2 input_size(const Preprocess& preprocess, Size2 fallback);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
#include <cmath>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace pipeline_detail {

OCELLUS_FN Index side(const Json& json) {
  const Index n = json.get<Index>();
  if (n < 1 || n > 16384) json.fail("must lie between 1 and 16384; got " + std::to_string(n));
  return n;
}

// {"height": h, "width": w}, or one number for both.
OCELLUS_FN Size2 size(const Json& json) {
  if (json.is_integer()) return side(json);
  return {side(json.at("height")), side(json.at("width"))};
}

OCELLUS_FN std::array<float, 3> channel_values(const Json& json, std::string_view key, const std::array<float, 3>& fallback, bool positive) {
  if (!json.has(key) || json.at(key).is_null()) return fallback;
  const Json list = json.at(key);
  const auto values = list.is_array() ? list.get<std::vector<double>>() : std::vector<double>{list.get<double>()};
  if (values.size() != 1 && values.size() != 3) list.fail("must have one or three elements; got " + std::to_string(values.size()));
  std::array<float, 3> result{};
  for (std::size_t c = 0; c < 3; ++c) {
    const double v = values[values.size() == 1 ? 0 : c];
    if (!std::isfinite(v) || (positive && v <= 0)) list.fail("must be finite" + std::string(positive ? " and positive" : ""));
    result[c] = static_cast<float>(v);
  }
  return result;
}

// Whether the image processor that the file names looks at do_center_crop; a file without a name may be ours.
OCELLUS_FN bool processor_crops(const Json& json) {
  struct Processor {
    std::string_view name;
    bool crops;
  };
  static constexpr Processor known[] = {{"SegformerImageProcessor", false}, {"SegformerFeatureExtractor", false}, {"ViTImageProcessor", false},
                                        {"ViTFeatureExtractor", false},     {"DeiTImageProcessor", true},         {"DeiTFeatureExtractor", true},
                                        {"BitImageProcessor", true},        {"CLIPImageProcessor", true},         {"CLIPFeatureExtractor", true}};
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {
    const std::string type = json.get<std::string>(key, "");
    if (type.empty()) continue;
    const std::string_view name = std::string_view(type).substr(0, type.ends_with("Fast") ? type.size() - 4 : type.size());
    for (const Processor& p : known) {
      if (p.name == name) return p.crops;
    }
    json.at(key).fail("this image processor is unknown; the library has those of SegFormer, ViT, DeiT, BiT and CLIP");
  }
  return true;
}

}  // namespace pipeline_detail

OCELLUS_FN Preprocess read_preprocessor(const Json& json, const Preprocess& defaults) {
  Preprocess p = defaults;
  const bool crops = pipeline_detail::processor_crops(json);
  if (json.has("size") && !json.at("size").is_null()) {
    const Json size = json.at("size");
    if (size.is_object() && size.has("shortest_edge")) {
      p.resize = ResizePolicy::shortest_edge;
      p.shortest_edge = pipeline_detail::side(size.at("shortest_edge"));
    } else {
      p.resize = ResizePolicy::stretch;
      p.size = pipeline_detail::size(size);
    }
  }
  if (json.has("letterbox")) {  // ours: the hub's processors have none
    const Json letterbox = json.at("letterbox");
    p.resize = ResizePolicy::letterbox;
    const Index pad = letterbox.get<Index>("pad_value", p.pad_value);
    if (pad < 0 || pad > 255) letterbox.at("pad_value").fail("must lie between 0 and 255; got " + std::to_string(pad));
    p.pad_value = static_cast<std::uint8_t>(pad);
    p.letterbox_may_enlarge = letterbox.get<bool>("may_enlarge", p.letterbox_may_enlarge);
  }
  if (!json.get<bool>("do_resize", true)) p.resize = ResizePolicy::none;
  const Index filter = json.get<Index>("resample", 2);
  if (filter < 0 || filter > 4) json.at("resample").fail("must be one of Pillow's filters 0 to 4; got " + std::to_string(filter));
  p.filter = static_cast<Filter>(filter);
  if (!json.get<bool>("antialias", true)) {
    if (p.filter != Filter::bilinear) json.at("antialias").fail("may be false with the bilinear filter only, resample 2; got " + std::to_string(filter));
    p.filter = Filter::bilinear_two_taps;
  }
  const bool cropped_by_default = p.do_center_crop;
  p.do_center_crop = crops && json.get<bool>("do_center_crop", cropped_by_default);
  if (p.do_center_crop && (json.has("crop_size") || !cropped_by_default)) p.crop_size = pipeline_detail::size(json.at("crop_size"));
  p.do_rescale = json.get<bool>("do_rescale", true);
  p.rescale_factor = json.get<double>("rescale_factor", p.rescale_factor);
  p.do_normalize = json.get<bool>("do_normalize", true);
  p.mean = pipeline_detail::channel_values(json, "image_mean", p.mean, false);
  p.std = pipeline_detail::channel_values(json, "image_std", p.std, true);
  p.flip_channel_order = json.get<bool>("do_flip_channel_order", false);
  return p;
}

OCELLUS_FN void write_preprocessor(JsonWriter& json, const Preprocess& p) {
  const bool edge = p.resize == ResizePolicy::shortest_edge;
  json.begin_object().field("do_resize", p.resize != ResizePolicy::none).key("size").begin_object();
  if (edge) {
    json.field("shortest_edge", p.shortest_edge);
  } else {
    json.field("height", p.size.h).field("width", p.size.w);
  }
  json.end_object();
  if (p.resize == ResizePolicy::letterbox) {
    json.key("letterbox").begin_object().field("pad_value", static_cast<int>(p.pad_value)).field("may_enlarge", p.letterbox_may_enlarge);
    json.end_object();
  }
  const bool two_taps = p.filter == Filter::bilinear_two_taps;
  json.field("resample", static_cast<int>(two_taps ? Filter::bilinear : p.filter));
  if (two_taps) json.field("antialias", false);
  json.field("do_center_crop", p.do_center_crop);
  if (p.do_center_crop) json.key("crop_size").begin_object().field("height", p.crop_size.h).field("width", p.crop_size.w).end_object();
  json.field("do_rescale", p.do_rescale).field("rescale_factor", p.rescale_factor).field("do_normalize", p.do_normalize);
  json.field("image_mean", std::vector<float>(p.mean.begin(), p.mean.end())).field("image_std", std::vector<float>(p.std.begin(), p.std.end()));
  json.field("do_flip_channel_order", p.flip_channel_order);
  json.end_object();
}

OCELLUS_FN Preprocess default_preprocess(const Json& config) {
  Preprocess p;
  const std::string type = config.get<std::string>("model_type", "");
  if (type == "segformer") {
    p.size = 512;
    return p;
  }
  if (type == "resnet" || type == "vgg" || type == "mobilenet_v2") {
    p.resize = ResizePolicy::shortest_edge;
    p.shortest_edge = 256;
    p.do_center_crop = true;
    return p;
  }
  if (type == "yolov8" || type == "yolo11") {
    p.resize = ResizePolicy::letterbox;
    p.size = 640;
    p.filter = Filter::bilinear_two_taps;
    p.do_normalize = false;
    return p;
  }
  p.mean = p.std = {0.5f, 0.5f, 0.5f};
  if (config.has("image_size")) {
    const Json size = config.at("image_size");
    p.size = size.is_array() && size.size() == 2 ? Size2(pipeline_detail::side(size.at(0)), pipeline_detail::side(size.at(1))) : pipeline_detail::size(size);
  }
  return p;
}

OCELLUS_FN Size2 input_size(const Preprocess& p, Size2 fallback) {
  if (p.do_center_crop) return p.crop_size;
  return p.resize == ResizePolicy::stretch || p.resize == ResizePolicy::letterbox ? p.size : fallback;
}

}  // namespace ocellus
#endif
