// ocellus segment --model DIR IMAGE... [--out DIR]
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/io/file.hpp>

#include "command.hpp"
#include "pictures.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, out;
  std::vector<std::string> images;
};

std::string to_json(const Options& o, const std::string& image, const SegmentResult& r, const ResultFiles* files) {
  JsonWriter json;
  begin_result(json, "ocellus.segment/1", o.model, image, r.picture);
  json.key("classes").begin_array();
  for (const ClassShare& c : r.classes) json.begin_object().field("id", c.id).field("name", c.name).field("share", c.share).end_object();
  json.end_array().key("files").begin_object();
  if (files) json.field("overlay", files->path(image, "overlay.png")).field("labels", files->path(image, "labels.png"));
  json.end_object();
  write_times(json, r.ms);
  return json.end_object().str();
}

void segment(const Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  need_task(model.network(), Task::segment, o.model);
  std::optional<ResultFiles> files;
  if (!o.out.empty()) files.emplace(o.out, o.images);
  for (const std::string& image : o.images) {
    StageTimes read;
    const Image picture = read_timed(image, read);
    SegmentResult r = model.segment(picture);
    r.ms.read = read.read;
    const std::string json = to_json(o, image, r, files ? &*files : nullptr);
    if (files) {
      r.save_overlay(files->path(image, "overlay.png"));
      r.save_labels(files->path(image, "labels.png"));
      write_file_atomically(files->path(image, "result.json"), json + "\n");
    }
    if (o.common.json) {
      std::puts(json.c_str());
      continue;
    }
    std::printf("%s (%lld x %lld), %.1f ms in the model\n", image.c_str(), static_cast<long long>(picture.width()), static_cast<long long>(picture.height()),
                r.ms.model);
    for (const ClassShare& c : r.classes) std::printf("  %5.1f %%  %s\n", 100 * c.share, printable(c.name).c_str());
    if (files) std::printf("  -> %s\n", files->path(image, "overlay.png").c_str());
  }
}

}  // namespace

void add_segment(CLI::App& app) {
  CLI::App* command = app.add_subcommand("segment", "A class for every pixel of a picture");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("images", o->images, "pictures: JPEG, PNG, BMP")->required();
  command->add_option("--out", o->out, "directory for overlay.png, labels.png and result.json")->check(is_path());
  add_common(*command, o->common);
  command->callback([o] { segment(*o); });
}

}  // namespace ocellus::cli
