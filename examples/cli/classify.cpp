// ocellus classify --model DIR IMAGE... [--top 5]
#include <cstdio>

#include <CLI/CLI.hpp>

#include "command.hpp"
#include "pictures.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model;
  std::vector<std::string> images;
  Index top = 5;
};

void classify(const Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  need_task(model.network(), Task::classify, o.model);
  for (const std::string& image : o.images) {
    StageTimes read;
    const Image picture = read_timed(image, read);
    ClassifyResult r = model.classify(picture, o.top);
    r.ms.read = read.read;
    if (o.common.json) {
      JsonWriter json;
      begin_result(json, "ocellus.classify/1", o.model, image, picture);
      json.key("top").begin_array();
      for (const ClassScore& c : r.top) json.begin_object().field("class", c.id).field("name", c.name).field("score", c.score).end_object();
      json.end_array();
      write_times(json, r.ms);
      std::puts(json.end_object().str().c_str());
      continue;
    }
    std::printf("%s, %.1f ms in the model\n", image.c_str(), r.ms.model);
    for (const ClassScore& c : r.top) std::printf("  %6.2f %%  %s\n", 100 * c.score, printable(c.name).c_str());
  }
}

}  // namespace

void add_classify(CLI::App& app) {
  CLI::App* command = app.add_subcommand("classify", "The likeliest classes of a picture");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("images", o->images, "pictures: JPEG, PNG, BMP")->required();
  command->add_option("--top", o->top, "how many classes to name")->check(CLI::Range(1, 1000000));
  add_common(*command, o->common);
  command->callback([o] { classify(*o); });
}

}  // namespace ocellus::cli
