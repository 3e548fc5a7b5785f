// ocellus detect --model DIR IMAGE... [--conf 0.25 --iou 0.7] [--out DIR] [--explain] [--format coco]
#include <cstdio>
#include <optional>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>

#include "command.hpp"
#include "pictures.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, out, format = "ocellus";
  std::vector<std::string> images;
  DetectOptions detect;
};

void write_object(JsonWriter& json, const DetectedObject& o) {
  json.field("class", o.id).field("name", o.name).field("score", o.score).key("box").begin_array();
  for (const float x : {o.box.x1, o.box.y1, o.box.x2, o.box.y2}) json.value(x);
  json.end_array();
}

std::string to_json(const Options& o, const std::string& image, const DetectResult& r, const ResultFiles* files) {
  JsonWriter json;
  begin_result(json, "ocellus.detect/1", o.model, image, r.picture);
  json.key("objects").begin_array();
  for (const DetectedObject& object : r.objects) {
    json.begin_object();
    write_object(json, object);
    json.end_object();
  }
  json.end_array();
  if (o.detect.explain) {
    json.key("suppressed").begin_array();
    for (const DetectResult::Suppressed& s : r.suppressed) {
      json.begin_object();
      write_object(json, s.object);
      json.field("by", s.by).field("iou", s.iou).end_object();
    }
    json.end_array();
  }
  json.key("files").begin_object();
  if (files) json.field("overlay", files->path(image, "overlay.png"));
  json.end_object();
  write_times(json, r.ms);
  return json.end_object().str();
}

// Entries of COCO's result file; pictures are numbered as they were given, classes by their id.
void add_coco(JsonWriter& json, Index picture, const DetectResult& r) {
  for (const DetectedObject& o : r.objects) {
    json.begin_object().field("image_id", picture).field("category_id", o.id).key("bbox").begin_array();
    for (const float x : {o.box.x1, o.box.y1, o.box.width(), o.box.height()}) json.value(x);
    json.end_array().field("score", o.score).end_object();
  }
}

// How many objects are left at each threshold of the score, and which box suppressed which.
void explain(const DetectResult& r) {
  std::printf("  objects with a score of at least");
  for (int tenth = 1; tenth <= 9; ++tenth) {
    const float least = 0.1f * static_cast<float>(tenth);
    Index count = 0;
    for (const DetectedObject& o : r.objects) count += o.score >= least;
    std::printf("  %.1f: %lld", static_cast<double>(least), static_cast<long long>(count));
  }
  std::printf("\n");
  for (const DetectResult::Suppressed& s : r.suppressed) {
    const DetectedObject& by = r.objects[static_cast<std::size_t>(s.by)];
    std::printf("  suppressed %s %.2f (%.0f %.0f %.0f %.0f) by %s %.2f (%.0f %.0f %.0f %.0f), IoU %.2f\n", printable(s.object.name).c_str(),
                static_cast<double>(s.object.score), static_cast<double>(s.object.box.x1), static_cast<double>(s.object.box.y1),
                static_cast<double>(s.object.box.x2), static_cast<double>(s.object.box.y2), printable(by.name).c_str(), static_cast<double>(by.score),
                static_cast<double>(by.box.x1), static_cast<double>(by.box.y1), static_cast<double>(by.box.x2), static_cast<double>(by.box.y2),
                static_cast<double>(s.iou));
  }
}

void detect(const Options& o) {
  const bool coco = o.format == "coco";
  if (coco && o.detect.explain && o.out.empty()) {
    throw UsageError("--explain has no place in COCO's format; add --out DIR, whose result.json will tell");
  }
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  need_task(model.network(), Task::detect, o.model);
  std::optional<ResultFiles> files;
  if (!o.out.empty()) files.emplace(o.out, o.images);
  JsonWriter results;
  results.begin_array();
  Index picture_number = 0;
  for (const std::string& image : o.images) {
    StageTimes read;
    const Image picture = read_timed(image, read);
    DetectResult r = model.detect(picture, o.detect);
    r.ms.read = read.read;
    if (coco) add_coco(results, picture_number, r);
    ++picture_number;
    const std::string json = to_json(o, image, r, files ? &*files : nullptr);
    if (files) {
      r.save_overlay(files->path(image, "overlay.png"));
      write_file_atomically(files->path(image, "result.json"), json + "\n");
    }
    if (coco) continue;
    if (o.common.json) {
      std::puts(json.c_str());
      continue;
    }
    std::printf("%s (%lld x %lld), %.1f ms in the model\n", image.c_str(), static_cast<long long>(picture.width()),
                static_cast<long long>(picture.height()), r.ms.model);
    for (const DetectedObject& x : r.objects) {
      std::printf("  %.2f  %-20s %7.1f %7.1f %7.1f %7.1f\n", static_cast<double>(x.score), printable(x.name).c_str(), static_cast<double>(x.box.x1),
                  static_cast<double>(x.box.y1), static_cast<double>(x.box.x2), static_cast<double>(x.box.y2));
    }
    if (o.detect.explain) explain(r);
    if (files) std::printf("  -> %s\n", files->path(image, "overlay.png").c_str());
  }
  results.end_array();
  if (!coco) return;
  if (files) write_file_atomically(o.out + "/detections.json", results.str() + "\n");
  if (o.common.json || !files) {
    std::puts(results.str().c_str());
  } else {
    std::printf("%s/detections.json\n", o.out.c_str());
  }
}

}  // namespace

void add_detect(CLI::App& app) {
  CLI::App* command = app.add_subcommand("detect", "Boxes around the objects of a picture");
  auto o = std::make_shared<Options>();
  NmsOptions& nms = o->detect.nms;
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("images", o->images, "pictures: JPEG, PNG, BMP")->required();
  command->add_option("--conf", nms.confidence, "least score of an object")->check(number_from(0, 1));
  command->add_option("--iou", nms.iou, "boxes that overlap a better one more than this are left out")->check(is_share());
  command->add_option("--max", nms.max_detections, "objects of a picture at most")->check(CLI::Range(1, 100000));
  command->add_flag("--agnostic", nms.class_agnostic, "boxes of different classes suppress each other, too");
  command->add_flag("--explain", o->detect.explain, "which box suppressed which, and how many are left at each score");
  command->add_option("--format", o->format, "of the results: ours, or COCO's result file")->check(CLI::IsMember({"ocellus", "coco"}));
  command->add_option("--out", o->out, "directory for overlay.png and result.json")->check(is_path());
  add_common(*command, o->common);
  command->callback([o] { detect(*o); });
}

}  // namespace ocellus::cli
