// Model: preprocessing, plan and postprocessing as one object, opened from a hub directory as it is.
//   auto model = ocellus::open("segformer-b0");      // or ocellus::open<ocellus::SegFormer>(…)
//   auto result = model.segment(Image::view(pixels, width, height, stride, PixelOrder::bgr));
//   result.save_overlay("out.png");
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ocellus/io/limits.hpp>
#include <ocellus/io/named_tensors.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/pipeline/runner.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/preprocess.hpp>

#if !defined(OCELLUS_SPLIT)
#include <ocellus/models/network_of.hpp>
#endif

namespace ocellus {

// Milliseconds of the stages of one answer.
struct StageTimes {
  double read = 0, preprocess = 0, model = 0, postprocess = 0;
};

struct ClassShare {
  Index id = 0;
  std::string name;
  double share = 0;  // of the pixels
};

struct SegmentResult {
  BasicTensor<std::int64_t> labels;  // class id per pixel of the picture, (height, width)
  std::vector<ClassShare> classes;   // those present, the largest first
  StageTimes ms;
  Image picture;
  Index class_count = 0;  // of the model

  // The labels as a grey image whose value is the class id. Throws UsageError if a class id is above 255.
  Image label_image() const;
  // The picture with its classes in colour.
  Image overlay() const;
  void save_labels(const std::string& path) const;
  void save_overlay(const std::string& path) const;
};

struct ClassScore {
  Index id = 0;
  std::string name;
  double score = 0;  // probability
};

struct ClassifyResult {
  std::vector<ClassScore> top;  // the likeliest first
  StageTimes ms;
};

struct DetectedObject {
  Index id = 0;
  std::string name;
  float score = 0;  // probability
  Box box;          // pixels of the picture
};

struct DetectOptions {
  NmsOptions nms = {};
  bool explain = false;  // also tell what was suppressed, and by which object
};

struct DetectResult {
  struct Suppressed {
    DetectedObject object;
    Index by;   // the place in `objects` of the one that overlaps it,
    float iou;  // this much, in the picture that the model sees
  };
  std::vector<DetectedObject> objects;  // the likeliest first
  std::vector<Suppressed> suppressed;   // with DetectOptions::explain, the likeliest first
  StageTimes ms;
  Image picture;
  Index class_count = 0;  // of the model

  // The picture with its boxes, names and scores; lines and letters grow with the picture.
  Image overlay() const;
  void save_overlay(const std::string& path) const;
};

// A model's files in memory.
struct ModelBytes {
  Bytes config;        // config.json
  Bytes weights;       // safetensors
  Bytes preprocessor;  // preprocessor_config.json, may be empty
};

// Const and safe for concurrent use.
class Model {
 public:
  Model(std::shared_ptr<Network> network, const Preprocess& preprocess, std::string name, LoadReport report = {}, std::string license = {},
        const PrecisionPolicy& precision = {});

  Task task() const { return network_->task(); }
  const std::vector<std::string>& labels() const { return network_->labels(); }
  const std::string& name() const { return name_; }
  // The licence field of the weights or the configuration, empty if there is none.
  const std::string& license() const { return license_; }
  const Network& network() const { return *network_; }
  const Preprocess& preprocess() const { return preprocess_; }
  const Runner& runner() const { return runner_; }
  const LoadReport& load_report() const { return report_; }

  // A class per pixel, at the picture's own size. Throws UsageError if the model does something else.
  SegmentResult segment(const Image& picture) const;
  // The `top` likeliest classes.
  ClassifyResult classify(const Image& picture, Index top = 5) const;
  // Boxes around objects, at most nms.max_detections. Candidates of which nothing lies in the picture, but in the letterbox's padding,
  // are left out before suppression; the reference keeps them as boxes without area.
  DetectResult detect(const Image& picture, const DetectOptions& options = {}) const;
  // Every box that a detector considers: preprocessed pictures (N, H, W, C) → boxes in pixels of these. Both throw Error where the
  // network's outputs are not finite.
  BoxCandidates candidates(const Tensor& input) const;
  // Preprocessed pictures (N, H, W, C) → logits. Throws UsageError for a model with several outputs: runner().outputs() gives all.
  Tensor run(const Tensor& input) const { return runner_.run(input); }
  // Preprocessed pictures, ready for run().
  Tensor prepare(std::span<const Image> pictures) const { return to_tensor(pictures, preprocess_, network_->in_channels()); }

 private:
  void need(Task task, const char* call) const;

  std::shared_ptr<Network> network_;
  Preprocess preprocess_;
  std::string name_, license_;
  LoadReport report_;
  Runner runner_;
};

struct OpenOptions {
  // Of the plans' matrix products and convolutions. Not given: f32, or the choice per layer that quantisation left in the weights.
  // int8 is that choice, too, and every layer that has such a kernel where the weights carry none.
  std::optional<Precision> precision = {};
  Limits limits = {};
  // Reads pytorch_model.bin: read_torch_file of io/torch_file.hpp. The open() of every architecture has it anyway; a program that
  // names its models need not compile it.
  NamedTensors (*torch_reader)(const std::string& path, const Limits& limits) = nullptr;
};

namespace pipeline_detail {
struct ModelFiles {
  ModelBytes bytes;  // but for the weights
  NamedTensors weights;
  std::string weights_name;  // in errors
};
ModelFiles read_model(const std::string& directory, const OpenOptions& options);
using NetworkMaker = std::unique_ptr<Network> (*)(const Json& config);
Model open_with(NetworkMaker make, const std::string& directory, const OpenOptions& options);
Model open_with(NetworkMaker make, const ModelBytes& files, const std::string& name, const OpenOptions& options);
}  // namespace pipeline_detail

// Opens a directory with config.json, model.safetensors (with OpenOptions::torch_reader also pytorch_model.bin; or the shards of
// either and their index) and preprocessor_config.json, if its model is of one of these architectures: open<SegFormer>("segformer-b0"). A program compiles and links
// what it names; pipeline/open.hpp has the open() of every architecture. Throws FileError, ConfigError.
template <class... Models>
  requires(sizeof...(Models) > 0)
Model open(const std::string& directory, const OpenOptions& options = {}) {
  return pipeline_detail::open_with(&make_network_of<Models...>, directory, options);
}
template <class... Models>
  requires(sizeof...(Models) > 0)
Model open(const ModelBytes& files, const std::string& name = "(memory)", const OpenOptions& options = {}) {
  return pipeline_detail::open_with(&make_network_of<Models...>, files, name, options);
}

struct SaveOptions {
  DType dtype = DType::f32;  // of floats in the file: f32, bf16, f16
  std::string license = {};  // of the weights, kept in their metadata
};

// Writes such a directory, which must exist.
void save_model(const std::string& directory, Network& network, const Preprocess& preprocess, const SaveOptions& options = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include <ocellus/autograd/context.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/pipeline/label_map.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/vision/draw.hpp>
#include <ocellus/vision/image_file.hpp>

namespace ocellus {
namespace pipeline_detail {

class StopWatch {
 public:
  // Milliseconds since the last call or the construction.
  double lap() {
    const double now = seconds();
    const double ms = 1e3 * (now - start_);
    start_ = now;
    return ms;
  }

 private:
  double start_ = seconds();
};

OCELLUS_FN std::string_view text_of(const Bytes& b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

// What quantisation left in the weights.
OCELLUS_FN std::optional<PrecisionPolicy> stored_precision(const NamedTensors& weights, const std::string& weights_name) {
  const auto field = weights.metadata.find(PrecisionPolicy::metadata_key);
  if (field == weights.metadata.end()) return {};
  return PrecisionPolicy::from_json(field->second, weights_name + ": " + PrecisionPolicy::metadata_key);
}

// That the model can do its work with what comes out of this preprocessing: a rule would be broken at the first picture otherwise.
// `file` names the preprocessing in errors.
OCELLUS_FN void check_preprocess(const Preprocess& p, const Network& network, const std::string& file) {
  const auto refuse = [&](const std::string& what) { throw ConfigError(file + ": " + what); };
  const bool sized = p.resize == ResizePolicy::stretch || p.resize == ResizePolicy::letterbox;
  for (const Size2 size : {sized ? p.size : Size2(1), p.do_center_crop ? p.crop_size : Size2(1)}) {
    if (size.h * size.w <= Limits{}.image_pixels) continue;
    refuse("asks for pictures of " + size.str() + " pixels; at most " + std::to_string(Limits{}.image_pixels) + " are made");
  }
  if (network.task() != Task::detect) return;
  if (p.do_center_crop) refuse("do_center_crop: a detector's boxes need the whole picture; set it to false");
  const std::string fault = sized ? network.size_fault(p.size) : std::string();
  if (!fault.empty()) refuse("size: " + fault);
}

// `weights_name` names the weights in errors.
OCELLUS_FN Model assemble(NetworkMaker make, const ModelBytes& files, const NamedTensors& weights, const std::string& name, const std::string& prefix,
                          const std::string& weights_name, const OpenOptions& options) {
  const Limits& limits = options.limits;
  const Json config = Json::parse(text_of(files.config), prefix + "config.json", limits);
  // A little more than the file holds, so that a model that does not fit it is reported key by key.
  Index elements = Index{64} << 20;
  for (const NamedTensor& t : weights) elements += 2 * t.tensor.numel();
  std::shared_ptr<Network> network;
  try {
    const SkipInit skip;
    const ParameterLimit limit(elements);
    network = make(config);
  } catch (const ConfigError& error) {
    const std::string what = error.what();
    throw ConfigError(prefix + (what.starts_with("config.json: ") ? "" : "config.json: ") + what);
  }
  LoadReport report = load_parameters(network->parameters(), weights, network->ignored_keys(), weights_name);
  const auto field = weights.metadata.find("license");
  const std::string license = field != weights.metadata.end() ? field->second : config.get<std::string>("license", "");
  Preprocess preprocess = default_preprocess(config);
  if (files.preprocessor.size()) {
    preprocess = read_preprocessor(Json::parse(text_of(files.preprocessor), prefix + "preprocessor_config.json", limits), preprocess);
  }
  check_preprocess(preprocess, *network, prefix + "preprocessor_config.json");
  PrecisionPolicy precision{options.precision.value_or(Precision::f32)};
  if (!options.precision || *options.precision == Precision::int8) {
    precision = stored_precision(weights, weights_name).value_or(precision);
  }
  try {
    return Model(network, preprocess, name, std::move(report), license, precision);
  } catch (const UsageError& error) {
    throw ConfigError(weights_name + ": " + PrecisionPolicy::metadata_key + ": " + error.what());
  }
}

// Where a directory keeps its weights, the preferred one first.
struct WeightsFile {
  const char* name;
  NamedTensors (*read)(const std::string& path, const Limits& limits);
};

// Weights in several files, listed in <name>.index.json as {"weight_map": {"key": "file", …}}.
OCELLUS_FN NamedTensors read_shards(const std::string& prefix, const WeightsFile& weights, const Limits& limits) {
  const Json map = Json::read(prefix + weights.name + ".index.json", limits).at("weight_map");
  std::vector<std::string> files;
  for (const std::string& key : map.keys()) files.push_back(map.get<std::string>(key));
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  NamedTensors all;
  for (const std::string& file : files) {
    if (file.find('/') != std::string::npos) map.fail("\"" + file + "\" is not a file of this directory");
    const NamedTensors part = weights.read(prefix + file, limits);
    for (const auto& [key, value] : part.metadata) all.metadata[key] = value;
    for (const NamedTensor& t : part) {
      if (all.find(t.name)) throw FileError(prefix + file, "the tensor " + t.name + " is in another shard, too");
      all.add(t.name, t.tensor);
    }
  }
  return all;
}

OCELLUS_FN ModelFiles read_model(const std::string& directory, const OpenOptions& options) {
  const std::string prefix = directory + "/";
  const Limits& limits = options.limits;
  ModelFiles files;
  files.bytes.config = read_file(prefix + "config.json", limits);
  if (is_file(prefix + "preprocessor_config.json")) {
    files.bytes.preprocessor = read_file(prefix + "preprocessor_config.json", limits);
    if (files.bytes.preprocessor.empty()) throw FileError(prefix + "preprocessor_config.json", "is empty");
  }
  const WeightsFile kinds[] = {{"model.safetensors", read_safetensors}, {"pytorch_model.bin", options.torch_reader}};
  for (const WeightsFile& weights : kinds) {
    const std::string path = prefix + weights.name;
    if (!weights.read && (is_file(path) || is_file(path + ".index.json"))) {
      throw FileError(path, "is PyTorch's, which this program does not read: give open() the torch_reader ocellus::read_torch_file of "
                            "<ocellus/io/torch_file.hpp>, or convert it once with `ocellus convert`");
    }
    if (is_file(path)) {
      files.weights_name = path;
      files.weights = weights.read(path, limits);
      return files;
    }
    if (is_file(path + ".index.json")) {
      files.weights_name = directory;
      files.weights = read_shards(prefix, weights, limits);
      return files;
    }
  }
  throw FileError(prefix + kinds[0].name, "cannot be opened: there is no such file, nor " + std::string(kinds[1].name));
}

OCELLUS_FN Image low_bytes(const BasicTensor<std::int64_t>& labels) {
  Image image({labels.dim(0), labels.dim(1)}, 1);
  std::uint8_t* pixel = image.writable();
  for (Index i = 0; i < labels.numel(); ++i) pixel[i] = static_cast<std::uint8_t>(labels[i] & 255);
  return image;
}

// An answer made of NaN would look like one.
OCELLUS_FN void check_finite(const Tensor& logits, const std::string& name) {
  // In blocks without a branch, which compilers turn into vector code.
  constexpr std::uint32_t exponent = 0x7f800000;  // all ones: infinite or NaN
  constexpr std::ptrdiff_t block = 1024;
  const float *at = logits.data(), *const end = at + logits.numel();
  for (; end - at >= block; at += block) {
    std::uint32_t any = 0;
    for (std::ptrdiff_t i = 0; i < block; ++i) any |= (std::bit_cast<std::uint32_t>(at[i]) & exponent) == exponent;
    if (any) break;
  }
  const auto bad = std::find_if(at, end, [](float x) { return !std::isfinite(x); });
  if (bad == end) return;
  throw Error(name + ": logit " + std::to_string(bad - logits.data()) + " of " + logits.shape().str() +
              " is not finite; the weights are damaged or the picture's values are out of range");
}

OCELLUS_FN void check_logits(const Tensor& logits, const Network& network, const std::string& name) {
  if (logits.dim(-1) != static_cast<Index>(network.labels().size())) {
    throw ConfigError(name + ": the model gives " + std::to_string(logits.dim(-1)) + " logits for " + std::to_string(network.labels().size()) +
                      " labels");
  }
  check_finite(logits, name);
}

}  // namespace pipeline_detail

OCELLUS_FN Image SegmentResult::label_image() const {
  const std::int64_t largest = *std::max_element(labels.begin(), labels.end());
  if (largest > 255) {
    throw Error("label_image: class " + std::to_string(largest) + " does not fit the 8 bits of a pixel; the model has " +
                std::to_string(class_count) + " classes");
  }
  return pipeline_detail::low_bytes(labels);
}

// Classes beyond the 256th share the colours of the first.
OCELLUS_FN Image SegmentResult::overlay() const {
  return ocellus::overlay(picture, pipeline_detail::low_bytes(labels), default_palette(std::min<Index>(class_count, 256)));
}
OCELLUS_FN void SegmentResult::save_labels(const std::string& path) const { write_png(path, label_image()); }
OCELLUS_FN void SegmentResult::save_overlay(const std::string& path) const { write_png(path, overlay()); }

OCELLUS_FN Model::Model(std::shared_ptr<Network> network, const Preprocess& preprocess, std::string name, LoadReport report, std::string license,
                        const PrecisionPolicy& precision)
    : network_(std::move(network)),
      preprocess_(preprocess),
      name_(std::move(name)),
      license_(std::move(license)),
      report_(std::move(report)),
      runner_(network_, precision) {}

OCELLUS_FN void Model::need(Task task, const char* call) const {
  if (network_->task() == task) return;
  throw UsageError(std::string(call) + ": " + name_ + " is a " + network_->model_type() + " model for the task '" + name_of(network_->task()) + "'");
}

OCELLUS_FN SegmentResult Model::segment(const Image& picture) const {
  need(Task::segment, "segment");
  SegmentResult result;
  pipeline_detail::StopWatch watch;
  const Tensor input = prepare({&picture, 1});
  result.ms.preprocess = watch.lap();
  const Tensor logits = run(input);
  result.ms.model = watch.lap();
  pipeline_detail::check_logits(logits, *network_, name_);
  result.picture = picture.to_rgb();  // its own pixels: the caller's may be the next frame by the time of the overlay
  result.class_count = static_cast<Index>(labels().size());
  result.labels = label_map(logits, picture.size());
  std::vector<Index> counts(labels().size());
  for (std::int64_t label : result.labels) ++counts[static_cast<std::size_t>(label)];
  for (std::size_t k = 0; k < counts.size(); ++k) {
    if (!counts[k]) continue;
    result.classes.push_back({static_cast<Index>(k), labels()[k], static_cast<double>(counts[k]) / static_cast<double>(result.labels.numel())});
  }
  std::sort(result.classes.begin(), result.classes.end(), [](const ClassShare& a, const ClassShare& b) {
    return a.share > b.share || (a.share == b.share && a.id < b.id);
  });
  result.ms.postprocess = watch.lap();
  return result;
}

OCELLUS_FN ClassifyResult Model::classify(const Image& picture, Index top) const {
  need(Task::classify, "classify");
  ClassifyResult result;
  pipeline_detail::StopWatch watch;
  const Tensor input = prepare({&picture, 1});
  result.ms.preprocess = watch.lap();
  const Tensor logits = run(input);
  result.ms.model = watch.lap();
  pipeline_detail::check_logits(logits, *network_, name_);
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - largest);
  for (Index k = 0; k < logits.numel(); ++k) {
    result.top.push_back({k, labels()[static_cast<std::size_t>(k)], std::exp(static_cast<double>(logits[k]) - largest) / sum});
  }
  std::sort(result.top.begin(), result.top.end(), [](const ClassScore& a, const ClassScore& b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
  });
  result.top.resize(static_cast<std::size_t>(std::clamp<Index>(top, 1, logits.numel())));
  result.ms.postprocess = watch.lap();
  return result;
}

OCELLUS_FN BoxCandidates Model::candidates(const Tensor& input) const {
  need(Task::detect, "candidates");
  const std::vector<Tensor> maps = runner_.outputs(input);
  for (const Tensor& map : maps) pipeline_detail::check_finite(map, name_);
  const NoGrad no_grad;
  return network_->decode(maps);
}

OCELLUS_FN DetectResult Model::detect(const Image& picture, const DetectOptions& options) const {
  need(Task::detect, "detect");
  DetectResult result;
  pipeline_detail::StopWatch watch;
  const Letterbox placement = placement_of(preprocess_, picture.size());
  const Tensor input = prepare({&picture, 1});
  result.ms.preprocess = watch.lap();
  const std::vector<Tensor> maps = runner_.outputs(input);
  result.ms.model = watch.lap();
  for (const Tensor& map : maps) pipeline_detail::check_finite(map, name_);
  const NoGrad no_grad;
  const BoxCandidates all = network_->decode(maps, options.nms.confidence);
  const Tensor boxes = without_padding(all.boxes, placement);
  const Detections found = find_detections(boxes, all.scores, options.nms, options.explain)[0];
  const auto object = [&](const Detection& d) {
    return DetectedObject{d.label, labels()[static_cast<std::size_t>(d.label)], d.score, placement.to_original(d.box)};
  };
  for (const Detection& d : found.kept) result.objects.push_back(object(d));
  for (const Detections::Suppressed& s : found.suppressed) {
    result.suppressed.push_back({object(s.detection), s.by, iou(s.detection.box, found.kept[static_cast<std::size_t>(s.by)].box)});
  }
  result.picture = picture.to_rgb();
  result.class_count = static_cast<Index>(labels().size());
  result.ms.postprocess = watch.lap();
  return result;
}

OCELLUS_FN Image DetectResult::overlay() const {
  Image image = picture;
  const Palette palette = distinct_palette(std::max<Index>(class_count, 1));
  const Index thickness = std::max<Index>(1, (picture.width() + picture.height() + 300) / 600);
  const auto pixel = [](float x) { return static_cast<Index>(std::lround(x)); };
  for (std::size_t i = objects.size(); i-- > 0;) {  // the likeliest on top
    const DetectedObject& o = objects[i];
    char caption[16];
    std::snprintf(caption, sizeof caption, " %.2f", static_cast<double>(o.score));
    draw_box(image, pixel(o.box.x1), pixel(o.box.y1), pixel(o.box.x2) - 1, pixel(o.box.y2) - 1, o.name + caption,
             palette[static_cast<std::size_t>(o.id)], thickness);
  }
  return image;
}
OCELLUS_FN void DetectResult::save_overlay(const std::string& path) const { write_png(path, overlay()); }

OCELLUS_FN Model pipeline_detail::open_with(NetworkMaker make, const std::string& directory, const OpenOptions& options) {
  const ModelFiles files = read_model(directory, options);
  return assemble(make, files.bytes, files.weights, directory, directory + "/", files.weights_name, options);
}

OCELLUS_FN Model pipeline_detail::open_with(NetworkMaker make, const ModelBytes& files, const std::string& name, const OpenOptions& options) {
  const std::string weights = name + ": model.safetensors";
  return assemble(make, files, read_safetensors(files.weights, weights, options.limits), name, name + ": ", weights, options);
}

OCELLUS_FN void save_model(const std::string& directory, Network& network, const Preprocess& preprocess, const SaveOptions& options) {
  JsonWriter config(2);
  config.begin_object().field("model_type", network.model_type());
  network.write_config(config);
  config.end_object();
  JsonWriter preprocessor(2);
  write_preprocessor(preprocessor, preprocess);
  NamedTensors weights;
  weights.metadata["format"] = "pt";
  if (!options.license.empty()) weights.metadata["license"] = options.license;
  for (const NamedParameter& p : network.parameters()) {
    weights.add(p.name, to_file(*p.parameter, p.parameter->file_dtype() == DType::f32 ? options.dtype : p.parameter->file_dtype()));
  }
  const auto write_text = [&](const char* name, const std::string& text) { write_file_atomically(directory + "/" + name, text + "\n"); };
  write_safetensors(directory + "/model.safetensors", weights);
  write_text("preprocessor_config.json", preprocessor.str());
  write_text("config.json", config.str());
}

}  // namespace ocellus
#endif
