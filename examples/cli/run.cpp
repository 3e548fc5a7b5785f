// ocellus run --model DIR --input x.npy --output DIR2 [--profile]
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/runtime/clock.hpp>

#include "command.hpp"
#include "profile.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, input, output;
  bool profile = false;
};

void run(const Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  const AnyTensor file = read_npy(o.input);
  if (file.dtype() != DType::f32 || file.rank() != 4 || file.dim(3) != model.network().in_channels() ||
      file.numel() == 0) {
    throw FileError(o.input, "must hold preprocessed pictures, float32 (N, H, W, " + std::to_string(model.network().in_channels()) + "); got " +
                                 name_of(file.dtype()) + " " + file.shape().str());
  }
  const double start = seconds();
  std::vector<NodeProfile> profile;
  const Tensor logits = o.profile ? model.runner().run(Tensor(file), profile) : model.run(Tensor(file));
  const double ms = 1e3 * (seconds() - start);
  make_directory(o.output);
  const std::string path = o.output + "/logits.npy";
  write_npy(path, logits);
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.run/1").field("model", o.model).field("input", o.input).key("shape").begin_array();
    for (Index n : logits.shape()) json.value(n);
    json.end_array().key("files").begin_object().field("logits", path).end_object().field("ms", ms);
    if (o.profile) write_profile(json, profile, 1);
    json.end_object();
    std::puts(json.str().c_str());
    return;
  }
  std::printf("%s: %s, %.1f ms including the plan\n", path.c_str(), logits.shape().str().c_str(), ms);
  if (o.profile) print_profile(profile, 1);
}

}  // namespace

void add_run(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Preprocessed pictures in an .npy file through a model");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--input", o->input, "float32 (N, H, W, C), preprocessed")->required();
  command->add_option("--output", o->output, "directory for logits.npy")->required()->check(is_path());
  command->add_flag("--profile", o->profile, "time, multiply-adds and bytes of every node");
  add_common(*command, o->common);
  command->callback([o] { run(*o); });
}

}  // namespace ocellus::cli
