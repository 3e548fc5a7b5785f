// ocellus info --model DIR
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/graph/summary.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>

#include "command.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, size;
};

void info(const Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  const Size2 size = o.size.empty() ? input_size(model.preprocess(), 512) : size_for(model.network(), o.size);
  Network& network = const_cast<Network&>(model.network());
  const Shape input{1, size.h, size.w, network.in_channels()};
  const Summary s = summarize(network.trace(input), network.parameters());
  const double optimised = model.runner().plan(input)->graph().macs();
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.info/1").field("model", o.model).field("model_type", network.model_type());
    json.field("task", name_of(model.task())).field("license", model.license()).field("labels", model.labels());
    json.key("input").begin_array();
    for (Index n : input) json.value(n);
    json.end_array();
    json.field("parameters", s.parameters).field("buffers", s.buffers).field("macs", s.macs).field("macs_optimised", optimised);
    json.key("modules").begin_array();
    for (const SummaryRow& r : s.rows) {
      json.begin_object().field("module", r.module).field("ops", r.ops).key("output").begin_array();
      for (Index n : r.output) json.value(n);
      json.end_array().field("parameters", r.parameters).field("macs", r.macs).end_object();
    }
    json.end_array().end_object();
    std::puts(json.str().c_str());
    return;
  }
  std::printf("%s: %s, task %s, %zu classes\n", o.model.c_str(), network.model_type(), name_of(model.task()), model.labels().size());
  std::printf("licence: %s\n\n", model.license().empty() ? "not stated in the files" : printable(model.license()).c_str());
  std::printf("%s", s.str().c_str());
  std::printf("\ninput %s: %.3f G multiply-adds, %.3f G in the optimised plan; %.3f M parameters\n", input.str().c_str(), s.macs / 1e9, optimised / 1e9,
              static_cast<double>(s.parameters) / 1e6);
}

}  // namespace

void add_info(CLI::App& app) {
  CLI::App* command = app.add_subcommand("info", "Modules, shapes, parameters, multiply-adds, licence of a model");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--size", o->size, "of the input (default: the model's own)")->check(is_size());
  add_common(*command, o->common);
  command->callback([o] { info(*o); });
}

}  // namespace ocellus::cli
