// ocellus eval --task segment|detect|classify --model DIR --data DIR [--split val]
#include <cmath>
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/data/open_dataset.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/train/evaluate.hpp>

#include "command.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string task, model, data, split = "val", prior, out;
  Index batch = 16;
  TaskOptions of_tasks;
};

struct Metric {
  const char* name;
  double value;
};

void report(const Options& o, const std::vector<Metric>& metrics, const ConfusionMatrix& matrix, const std::vector<std::string>& names, bool segment) {
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.eval/1").field("task", o.task).field("model", o.model).field("data", o.data).field("split", o.split);
    json.key("metrics").begin_object();
    for (const Metric& m : metrics) json.field(m.name, m.value);
    json.end_object().key("per_class").begin_array();
    for (Index c = 0; c < matrix.classes(); ++c) {
      json.begin_object().field("id", c).field("name", names[static_cast<std::size_t>(c)]);
      if (segment) json.field("iou", matrix.iou(c)).field("dice", matrix.dice(c));
      json.field("precision", matrix.precision(c)).field("recall", matrix.recall(c)).end_object();
    }
    std::puts(json.end_array().end_object().str().c_str());
    return;
  }
  for (const Metric& m : metrics) std::printf("%-24s %.4f\n", m.name, m.value);
  std::printf("\n%-24s %8s %9s %8s\n", "class", segment ? "IoU" : "F1", "precision", "recall");
  for (Index c = 0; c < matrix.classes(); ++c) {
    std::printf("%-24s %8.4f %9.4f %8.4f\n", printable(names[static_cast<std::size_t>(c)]).c_str(), segment ? matrix.iou(c) : matrix.dice(c), matrix.precision(c),
                matrix.recall(c));
  }
}

void evaluate_boxes(const Options& o, const Model& model) {
  const std::shared_ptr<DetectionSet> dataset = open_detection(o.data, o.split, {model.labels(), -1, voc_reader()});
  const Index classes = static_cast<Index>(model.labels().size());
  Progress progress;
  DetectionEvaluateOptions options;
  options.preprocess = model.preprocess();
  options.channels = model.network().in_channels();
  options.progress = [&](Index done, Index total) { progress.show(std::to_string(done) + " of " + std::to_string(total)); };
  const DetectionMetric m = evaluate_detector([&](const Tensor& x) { return model.candidates(x); }, *dataset, classes, options);
  if (!o.out.empty()) {
    make_directory(o.out);
    write_file_atomically(o.out + "/precision_recall.svg", m.chart(model.labels()));
  }
  const CocoSummary c = m.coco();
  const DetectionErrors e = m.errors();
  const std::vector<Metric> metrics{{"map50", c.ap50},        {"map", c.ap},           {"map75", c.ap75},   {"map_small", c.ap_small},
                                    {"map_medium", c.ap_medium}, {"map_large", c.ap_large}, {"ar1", c.ar1},     {"ar10", c.ar10},
                                    {"ar100", c.ar100},       {"voc_map50", m.voc_mean_ap()}};
  const std::pair<const char*, Index> errors[] = {{"found", e.found},         {"localisation", e.localisation}, {"classification", e.classification},
                                                  {"both", e.both},           {"duplicate", e.duplicate},       {"background", e.background},
                                                  {"missed", e.missed}};
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.eval/1").field("task", o.task).field("model", o.model).field("data", o.data).field("split", o.split);
    json.key("metrics").begin_object();
    for (const Metric& x : metrics) json.field(x.name, x.value);
    json.end_object().key("errors").begin_object();
    for (const auto& [name, count] : errors) json.field(name, count);
    json.end_object().key("per_class").begin_array();
    for (Index k = 0; k < classes; ++k) {
      json.begin_object().field("id", k).field("name", model.labels()[static_cast<std::size_t>(k)]).field("objects", m.objects(k));
      json.field("ap", m.ap(k)).field("ap50", m.ap_at(k, 0)).field("ar100", m.ar(k)).end_object();
    }
    std::puts(json.end_array().end_object().str().c_str());
    return;
  }
  for (const Metric& x : metrics) std::printf("%-24s %.4f\n", x.name, x.value);
  std::printf("\n%s\nat IoU 0.5, all scores:", m.table(printable(model.labels())).c_str());
  for (const auto& [name, count] : errors) std::printf(" %s %lld", name, static_cast<long long>(count));
  std::printf("\n");
}

void evaluate(const Options& o) {
  o.of_tasks.check(o.task);
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  const bool segment = o.task == "segment", boxes = o.task == "detect";
  need_task(model.network(), segment ? Task::segment : boxes ? Task::detect : Task::classify, o.model);
  if (boxes) return evaluate_boxes(o, model);
  const DatasetOptions data_options{model.labels(), segment ? model.network().ignore_index() : -1};
  const Index classes = static_cast<Index>(model.labels().size());
  const Forward forward = [&](const Tensor& x) { return model.run(x); };
  Progress progress;
  EvaluateOptions options;
  options.preprocess = model.preprocess();
  options.channels = model.network().in_channels();
  options.batch = o.batch;
  options.progress = [&](Index done, Index total) { progress.show(std::to_string(done) + " of " + std::to_string(total)); };
  if (!segment) {
    const std::shared_ptr<Dataset> dataset = open_classification(o.data, o.split, data_options);
    const ClassificationScore score = evaluate_classifier(forward, *dataset, classes, options);
    report(o, {{"accuracy", score.accuracy}, {"top5_accuracy", score.top5}}, score.matrix, model.labels(), false);
    return;
  }
  const std::shared_ptr<Dataset> dataset = open_segmentation(o.data, o.split, data_options);
  const ConfusionMatrix m = evaluate_segmenter(forward, *dataset, classes, options);
  std::vector<Metric> metrics{{"mean_iou", m.mean_iou()},     {"pooled_iou", m.pooled_iou()},         {"frequency_weighted_iou", m.frequency_weighted_iou()},
                              {"mean_dice", m.mean_dice()},   {"pixel_accuracy", m.pixel_accuracy()}, {"mean_recall", m.mean_recall()}};
  if (!o.prior.empty()) {
    const ConfusionMatrix guess = evaluate_majority_prior(*open_segmentation(o.data, o.prior, data_options), *dataset, classes);
    metrics.push_back({"prior_mean_iou", guess.mean_iou()});
    metrics.push_back({"prior_pixel_accuracy", guess.pixel_accuracy()});
  }
  report(o, metrics, m, model.labels(), true);
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "How good a model is on a split of a data folder");
  auto o = std::make_shared<Options>();
  const auto only = [&](const char* task, CLI::Option* option) { o->of_tasks.add(option, {task}); };
  command->add_option("--task", o->task, "segment, detect or classify")->required()->check(CLI::IsMember({"segment", "detect", "classify"}));
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--data", o->data, "data folder")->required();
  command->add_option("--split", o->split, "which part of it");
  only("classify", command->add_option("--batch", o->batch, "classification: pictures at once")->check(CLI::Range(1, 4096)));
  only("segment", command->add_option("--prior", o->prior, "segmentation: also judge the most frequent class at each place of this split, as a guess without looking"));
  only("detect", command->add_option("--out", o->out, "detection: directory for precision_recall.svg")->check(is_path()));
  add_common(*command, o->common);
  command->callback([o] { evaluate(*o); });
}

}  // namespace ocellus::cli
