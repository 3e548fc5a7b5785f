// ocellus train --task segment|detect|classify --data DIR [--split train] --model NAME|DIR --out DIR [--epochs --batch --size --lr …]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <limits>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/data/open_dataset.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>
#include <ocellus/train/fit.hpp>

#include "command.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string task, data, split = "train", model, size, schedule = "polynomial", dtype = "f32", class_weights = "none";
  std::vector<std::string> classes;
  Index ignore = -1;
  bool no_augmentation = false;
  double max_minutes = 0;
  Index whole_epochs = 10;
  DetectionAugmentation augmentation;
  TrainOptions train;
  TaskOptions of_tasks;
};

bool is_variant(const std::string& name) {
  const std::vector<std::string> variants = network_variants();
  return std::find(variants.begin(), variants.end(), name) != variants.end();
}

// A model that is trained further keeps its classes; --classes may only repeat them.
void check_classes(const Options& o, const std::vector<std::string>& labels) {
  if (o.classes.empty() || o.classes == labels) return;
  if (o.classes.size() != labels.size()) {
    throw ConfigError(o.model + " has " + std::to_string(labels.size()) + " classes, --classes names " +
                      std::to_string(o.classes.size()));
  }
  const auto differs = std::mismatch(labels.begin(), labels.end(), o.classes.begin());
  throw ConfigError(o.model + ": class " + std::to_string(differs.first - labels.begin()) + " is '" + *differs.first +
                    "', --classes says '" + *differs.second + "'");
}

// A named variant with fresh weights.
std::shared_ptr<Network> fresh_network(const Options& o, const Dataset& dataset, Preprocess& preprocess) {
  const Index channels = o.task == "classify" ? dataset.get(0).image.channels() : 3;
  if (o.task == "detect") {
    preprocess.filter = Filter::bilinear_two_taps;
    preprocess.do_normalize = false;
  }
  if (channels == 1) preprocess.mean = preprocess.std = {0.5f, 0.5f, 0.5f};
  manual_seed(o.train.seed);
  return make_network(o.model, dataset.classes(), channels, o.train.size, o.ignore < 0 ? 255 : o.ignore);
}

// One that tells what it takes before the data is known.
std::shared_ptr<Network> blank_detector(const Options& o) {
  const SkipInit skip;
  const std::shared_ptr<Network> network = make_network(o.model, {"object"}, 3, parse_size(o.size), -1);
  need_task(*network, Task::detect, o.model);
  return network;
}

std::shared_ptr<Dataset> open_data(const Options& o, Task task, const DatasetOptions& options) {
  if (task == Task::segment) return open_segmentation(o.data, o.split, options);
  if (task == Task::detect) return open_detection(o.data, o.split, options);
  return open_classification(o.data, o.split, options);
}

void train(Options o) {
  o.of_tasks.check(o.task);
  apply(o.common);
  TrainOptions& t = o.train;
  const Task task = o.task == "segment" ? Task::segment : o.task == "detect" ? Task::detect : Task::classify;
  DatasetOptions data_options{o.classes, o.ignore, voc_reader()};
  std::shared_ptr<Network> network;
  if (!is_variant(o.model)) {
    const Model model = open(o.model);
    need_task(model.network(), task, o.model);
    check_classes(o, model.labels());
    data_options.classes = model.labels();
    if (o.ignore < 0) data_options.ignore_index = model.network().ignore_index();
    t.preprocess = model.preprocess();
    t.license = model.license();
    network = model.network().clone();
  }
  if (task == Task::detect && !o.size.empty()) size_for(network ? *network : *blank_detector(o), o.size);
  const std::shared_ptr<Dataset> dataset = open_data(o, task, data_options);
  if (!o.size.empty()) {
    t.size = parse_size(o.size);
  } else if (task == Task::classify) {
    t.size = dataset->get(0).image.size();
  } else if (task == Task::detect) {
    t.size = input_size(t.preprocess, 640);
  }
  t.max_seconds = 60 * o.max_minutes;
  t.keep_memory = true;
  t.schedule = schedule_kind(o.schedule);
  t.weights_dtype = o.dtype == "bf16" ? DType::bf16 : o.dtype == "f16" ? DType::f16 : DType::f32;
  t.class_weighting = o.class_weights == "sqrt" ? ClassWeighting::sqrt_inverse_frequency : ClassWeighting::none;
  if (task == Task::segment && !o.no_augmentation) t.augmentations = segmentation_augmentations(t.size, dataset->ignore_index());
  if (task == Task::detect) {
    DetectionAugmentation& a = t.detection_augmentation;
    a = o.no_augmentation ? DetectionAugmentation::none(t.size) : o.augmentation;
    // The last pictures are seen as they will be.
    if (t.max_steps == 0) {
      if (o.whole_epochs < t.epochs) {
        a.last_mosaic_epoch = t.epochs - 1 - o.whole_epochs;
      } else {
        a.mosaic = a.mixup = 0;
      }
    }
  }
  if (!network) network = fresh_network(o, *dataset, t.preprocess);
  need_task(*network, task, o.model);

  Progress progress;
  const auto show = [&](const TrainProgress& p) {
    char line[160];
    std::snprintf(line, sizeof line, "step %lld of %lld  loss %.4f", static_cast<long long>(p.step), static_cast<long long>(p.total_steps), p.loss);
    progress.show(line);
    if (p.logged && o.common.json) {
      std::puts(p.logged->json().c_str());
      std::fflush(stdout);
    }
    return true;
  };
  const auto run = task == Task::segment ? train_segmenter : task == Task::detect ? train_detector : train_classifier;
  const TrainResult r = run(*network, dataset, t, show);
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.train/1").field("task", o.task).field("model", t.out).field("steps", r.steps);
    json.field("total_steps", r.total_steps).field("finished", r.finished).field("loss", r.loss).field("seconds", r.seconds).end_object();
    std::puts(json.str().c_str());
    return;
  }
  std::printf("%s: %lld of %lld steps, loss %.4f, %.1f minutes in all%s\n", t.out.c_str(), static_cast<long long>(r.steps),
              static_cast<long long>(r.total_steps), r.loss, r.seconds / 60, r.finished ? "" : "; go on with --resume");
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train a model on a data folder");
  auto o = std::make_shared<Options>();
  const auto only = [&](CLI::Option* option, std::vector<std::string> tasks) { o->of_tasks.add(option, std::move(tasks)); return option; };
  TrainOptions& t = o->train;
  std::string names;
  for (const std::string& name : network_variants()) names += (names.empty() ? "" : ", ") + name;
  command->add_option("--task", o->task, "segment, detect or classify")->required()->check(CLI::IsMember({"segment", "detect", "classify"}));
  command->add_option("--data", o->data, "data folder")->required();
  command->add_option("--split", o->split, "which part of it");
  command->add_option("--model", o->model, "model directory to start from, or one of " + names)->required();
  command->add_option("--out", t.out, "directory for the model, the log and the checkpoints")
      ->required()
      ->check(is_path());
  command->add_option("--classes", o->classes, "names of the classes, for data that does not tell")->delimiter(',');
  only(command->add_option("--ignore", o->ignore, "label value that belongs to no class")->check(CLI::Range(0, 255)), {"segment"});
  command->add_option("--epochs", t.epochs, "passes over the data")->check(CLI::Range(1, 1000000));
  command->add_option("--max-steps", t.max_steps, "steps instead of epochs")->check(CLI::Range(1, 1000000000));
  command->add_option("--batch", t.batch, "pictures per step")->check(CLI::Range(1, 65536));
  command->add_option("--size", o->size, "of the training pictures")->check(is_size());
  command->add_option("--lr", t.learning_rate, "learning rate")->check(number_from(1e-12, 1e3));
  command->add_option("--weight-decay", t.weight_decay, "of matrices and kernels")->check(number_from(0, 1e3));
  command->add_option("--schedule", o->schedule, "of the learning rate")->check(CLI::IsMember({"constant", "cosine", "polynomial"}));
  command->add_option("--warmup", t.warmup_steps, "steps")->check(CLI::Range(0, 1000000000));
  command->add_option("--clip", t.clip_norm, "largest norm of the gradient, 0: not clipped")
      ->check(number_from(0, 1e9));
  command->add_option("--ema", t.ema_decay, "decay of the average of the weights that is saved, 0: none")
      ->check(number_from(0, 1));
  only(command->add_option("--label-smoothing", t.label_smoothing)->check(number_from(0, 1)), {"segment", "classify"});
  only(command->add_option("--class-weights", o->class_weights, "of the cross-entropy; sqrt: one over the root of the share")->check(CLI::IsMember({"none", "sqrt"})), {"segment", "classify"});
  only(command->add_option("--dice", t.dice_weight, "weight of the soft Dice loss")->check(number_from(0, 1e6)), {"segment", "classify"});
  only(command->add_flag("--no-augmentation", o->no_augmentation, "segmentation and detection: pictures as they are"), {"segment", "detect"});
  DetectionAugmentation& a = o->augmentation;
  only(command->add_option("--mosaic", a.mosaic, "detection: probability of four pictures in one")->check(is_share()), {"detect"});
  only(command->add_option("--mixup", a.mixup, "detection: probability of two mosaics in one")->check(is_share()), {"detect"});
  only(command->add_option("--scale", a.scale, "detection: pictures are 1 - x to 1 + x times as large")->check(number_from(0, 1)), {"detect"});
  only(command->add_option("--vertical-flip", a.vertical_flip, "detection: probability")->check(is_share()), {"detect"});
  only(command->add_option("--whole-epochs", o->whole_epochs, "detection: epochs without mosaics at the end")->check(CLI::Range(0, 1000000)), {"detect"})
      ->excludes("--max-steps");
  command->add_option("--seed", t.seed)->check(CLI::Range(std::int64_t{0}, std::numeric_limits<std::int64_t>::max()));
  command->add_flag("--resume", t.resume, "go on from the last checkpoint in --out");
  command->add_option("--log-every", t.log_every, "steps")->check(CLI::Range(1, 1000000));
  command->add_option("--checkpoint-every", t.checkpoint_every, "steps, 0: only at the end")
      ->check(CLI::Range(0, 1000000000));
  command->add_option("--max-minutes", o->max_minutes, "stop, resumably, after this much time over all parts")
      ->check(number_from(0, 1e9));
  command->add_option("--dtype", o->dtype, "of the weights in the file")->check(CLI::IsMember({"f32", "f16", "bf16"}));
  add_common(*command, o->common, {"f32"});
  command->callback([o] { train(*o); });
}

}  // namespace ocellus::cli
