// ocellus run --model DIR --input x.npy --output DIR2 [--profile]
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/pipeline/model.hpp>
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
  const std::vector<Tensor> outputs = model.runner().outputs(Tensor(file), o.profile ? &profile : nullptr);
  const double ms = 1e3 * (seconds() - start);
  const auto names = model.network().output_names();
  make_directory(o.output);
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < names.size(); ++i) {
    paths.push_back(o.output + "/" + names[i] + ".npy");
    write_npy(paths[i], outputs[i]);
  }
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.run/1").field("model", o.model).field("input", o.input);
    if (names.size() == 1) json.field("shape", std::vector<Index>(outputs[0].shape().begin(), outputs[0].shape().end()));
    json.key("shapes").begin_object();
    for (std::size_t i = 0; i < names.size(); ++i) {
      json.field(names[i], std::vector<Index>(outputs[i].shape().begin(), outputs[i].shape().end()));
    }
    json.end_object().key("files").begin_object();
    for (std::size_t i = 0; i < names.size(); ++i) json.field(names[i], paths[i]);
    json.end_object().field("ms", ms);
    if (o.profile) write_profile(json, profile, 1);
    json.end_object();
    std::puts(json.str().c_str());
    return;
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::printf("%s: %s, %.1f ms including the plan\n", paths[i].c_str(), outputs[i].shape().str().c_str(), ms);
  }
  if (o.profile) print_profile(profile, 1);
}

}  // namespace

void add_run(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Preprocessed pictures in an .npy file through a model");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--input", o->input, "float32 (N, H, W, C), preprocessed")->required();
  command->add_option("--output", o->output, "directory for logits.npy, of a detector p3.npy, p4.npy and p5.npy")->required()->check(is_path());
  command->add_flag("--profile", o->profile, "time, multiply-adds and bytes of every node");
  add_common(*command, o->common);
  command->callback([o] { run(*o); });
}

}  // namespace ocellus::cli
