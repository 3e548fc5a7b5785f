// ocellus quantize --model DIR --calibrate DIR --out DIR [--all]
#include <algorithm>
#include <cctype>
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/data/open_dataset.hpp>
#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/quantize.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/vision/image_file.hpp>

#include "command.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, calibrate, out, split = "train";
  Index pictures = 16;
  QuantizeOptions quantize;
};

bool is_picture(const std::string& name) {
  std::string ending = name.substr(std::min(name.rfind('.'), name.size()));
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg" || ending == ".bmp";
}

// At most o.pictures of the folder, preprocessed: its own picture files, or a data set's samples. Spread evenly, since neighbours are
// often of one class or scene.
std::vector<Tensor> calibration_inputs(const Options& o, const Model& model) {
  std::vector<std::string> files;
  if (is_folder(o.calibrate)) files = names_in(o.calibrate);
  std::erase_if(files, [](const std::string& name) { return !is_picture(name); });
  std::shared_ptr<Dataset> dataset;
  if (files.empty()) {
    if (model.task() == Task::detect) throw FileError(o.calibrate, "holds no pictures; a detector is calibrated with a folder of them");
    const bool segment = model.task() == Task::segment;
    const DatasetOptions options{model.labels(), segment ? model.network().ignore_index() : -1};
    dataset = segment ? open_segmentation(o.calibrate, o.split, options) : open_classification(o.calibrate, o.split, options);
  }
  const Index known = dataset ? dataset->size() : static_cast<Index>(files.size()), count = std::min(o.pictures, known);
  std::vector<Tensor> inputs;
  for (Index i = 0; i < count; ++i) {
    const Index chosen = i * known / count;
    const Image picture = dataset ? dataset->get(chosen).image : read_image(o.calibrate + "/" + files[static_cast<std::size_t>(chosen)]);
    inputs.push_back(model.prepare({&picture, 1}));
  }
  return inputs;
}

std::string to_json(const Options& o, const Quantization& q, std::size_t pictures) {
  JsonWriter json;
  const auto change = [&](const OutputChange& c) { json.field("error", c.error).field("changed", c.changed); };
  json.begin_object().field("schema", "ocellus.quantize/1").field("model", o.model).field("out", o.out).field("threads", num_threads());
  json.field("pictures", pictures).key("layers").begin_array();
  for (const LayerChoice& l : q.layers) {
    json.begin_object().field("layer", l.path).key("output").begin_array();
    for (Index n : l.shape) json.value(n);
    json.end_array().key("ms").begin_object().field("f32", 1e3 * l.f32).field("int8", 1e3 * l.int8).end_object();
    change(l.change);
    json.field("precision", name_of(l.chosen ? Precision::int8 : Precision::f32)).end_object();
  }
  json.end_array().key("ms").begin_object().field("f32", 1e3 * q.f32).field("chosen", 1e3 * q.chosen).end_object();
  change(q.change);
  return json.end_object().str();
}

void print(const Options& o, const Quantization& q, std::size_t pictures) {
  std::size_t width = 5;
  for (const LayerChoice& l : q.layers) width = std::max(width, l.path.size());
  const int w = static_cast<int>(width);
  std::printf("%-*s  %-20s %9s %9s %10s %9s  %s\n", w, "layer", "output", "f32 ms", "int8 ms", "error", "changed", "choice");
  for (const LayerChoice& l : q.layers) {
    std::printf("%-*s  %-20s %9.3f %9.3f %10.2e %8.3f%%  %s\n", w, l.path.c_str(), l.shape.str().c_str(), 1e3 * l.f32, 1e3 * l.int8, l.change.error,
                100 * l.change.changed, name_of(l.chosen ? Precision::int8 : Precision::f32));
  }
  std::printf("\n%zu of %zu layers in int8: %.2f ms instead of %.2f; over %zu pictures the outputs differ by %.2e, %.3f %% of the decisions\n",
              q.policy().layers.size(), q.layers.size(), 1e3 * q.chosen, 1e3 * q.f32, pictures, q.change.error, 100 * q.change.changed);
  if (q.given_up) std::printf("the layers that are faster in int8 by themselves are not so together: all stay in f32\n");
  std::printf("-> %s\n", o.out.c_str());
}

void quantize_model(Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = Precision::f32});
  const std::vector<Tensor> inputs = calibration_inputs(o, model);
  make_directory(o.out);
  Progress progress;
  o.quantize.progress = [&](Index done, Index total) { progress.show("layer " + std::to_string(done) + " of " + std::to_string(total)); };
  const Quantization q = quantize([&](const Shape& shape) { return optimize(model.network().trace(shape)); }, inputs, o.quantize);
  save_precision(o.model, o.out, q.policy());
  if (o.common.json) {
    std::puts(to_json(o, q, inputs.size()).c_str());
  } else {
    print(o, q, inputs.size());
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App* command = app.add_subcommand("quantize", "Choose int8 or f32 for each layer of a model, by measured accuracy and speed");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--calibrate", o->calibrate, "folder of pictures, or data folder")->required();
  command->add_option("--out", o->out, "directory for the model with the choice")->required()->check(is_path());
  command->add_option("--split", o->split, "which part of a data folder");
  command->add_option("--pictures", o->pictures, "how many, at most")->check(CLI::Range(1, 1000000));
  command->add_option("--most-changed", o->quantize.most_changed, "share of the decisions that may change")->check(number_from(0, 1));
  command->add_flag("--all", o->quantize.all, "every layer that has an int8 kernel, whatever it costs");
  add_common(*command, o->common, {"int8"});
  command->callback([o] { quantize_model(*o); });
}

}  // namespace ocellus::cli
