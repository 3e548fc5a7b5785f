// Training of a network on a data set, from the same public pieces that a loop of one's own uses: Loader, losses,
// AdamW, Schedule, Ema, CheckpointFolder. A run is a pure function of weights, data and options: interrupted and
// resumed it gives the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ocellus/core/function.hpp>
#include <ocellus/data/dataset.hpp>
#include <ocellus/data/loader.hpp>
#include <ocellus/losses/detection.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/optim/schedule.hpp>
#include <ocellus/train/train_log.hpp>

namespace ocellus {

enum class ClassWeighting : std::uint8_t {
  none,
  sqrt_inverse_frequency,  // 1 / √(share of the training pixels or pictures), scaled to a mean of 1 over these
};

struct TrainOptions {
  Index epochs = 50;
  Index max_steps = 0;  // above 0: this many steps instead of epochs
  Index batch = 8;
  // Of the training pictures: the crop for segmentation, the resized picture for classification, the letterbox for detection.
  Size2 size = 256;
  double learning_rate = 1e-3;
  double weight_decay = 0.01;  // not of biases and norms
  ScheduleKind schedule = ScheduleKind::polynomial;
  double power = 0.9;  // of the polynomial
  Index warmup_steps = 0;
  std::uint64_t seed = 0;
  double clip_norm = 1;  // of all gradients together; 0: not clipped
  double ema_decay = 0;  // above 0: the model that is saved is the average of the weights
  double label_smoothing = 0;
  ClassWeighting class_weighting = ClassWeighting::none;
  double dice_weight = 0;  // segmentation: this times the soft Dice loss joins the cross-entropy

  std::vector<Augmentation> augmentations = {};  // see segmentation_augmentations
  DetectionAugmentation detection_augmentation = {};  // its size is `size`
  DetectionLossOptions detection_loss = {};           // its bins are the network's
  // Mean and deviation in training, and what is saved with the model. Without a resize rule the model gets one: the
  // size of the first picture for segmentation, `size` for classification, a letterbox for detection. A detector is
  // saved with the `size` that it was trained at, whatever the rule says.
  Preprocess preprocess = {.resize = ResizePolicy::none};

  std::string out = {};  // folder of the model, of log.jsonl, curve.svg and checkpoints; empty: nothing is written
  bool resume = false;   // from the last checkpoint in `out`, if there is one
  Index log_every = 20;  // steps
  Index checkpoint_every = 500;  // steps; 0: only when the run ends
  double max_seconds = 0;        // above 0: stop, resumably, after this much wall time, summed over all parts
  std::size_t cache_bytes = std::size_t{512} << 20;  // decoded pictures kept in memory
  int workers = 1;                                   // threads of the loader
  bool keep_memory = false;  // tells glibc, for the whole process and for good, to keep freed memory: the next step needs as much again
  DType weights_dtype = DType::f32;  // in model.safetensors: f32, bf16 or f16
  std::string license = {};          // of the saved weights: that of those the training starts from, and of the data
};

struct TrainProgress {
  Index step = 0;  // steps done
  Index total_steps = 0;
  double loss = 0;                        // of this step
  bool skipped = false;                   // loss or gradient were not finite: the weights did not change
  const TrainLogEntry* logged = nullptr;  // the line that this step wrote to the log, if any
};

// Called after every step; false stops the run, resumably.
using TrainCallback = Function<bool(const TrainProgress&)>;

struct TrainResult {
  Index steps = 0;  // done, all parts together
  Index total_steps = 0;
  bool finished = false;
  double loss = 0;        // mean of the last log line
  double seconds = 0;     // wall time, summed over all parts
  Preprocess preprocess;  // as saved
};

// The usual recipe for street scenes: scale 0.5 to 2, crop, mirror, colour. `ignore_index`: what fills the mask outside
// of the picture.
std::vector<Augmentation> segmentation_augmentations(Size2 crop, Index ignore_index = 255);

// Cross-entropy over the pixels, logits upsampled to the size of the labels, the data set's ignored value left out.
// Afterwards the network holds the weights that were saved: the average if options.ema_decay is set. Throws UsageError
// and ConfigError for options that do not fit the network, the data or the checkpoint, Error when ten steps in a row
// are not finite.
TrainResult train_segmenter(Network& network, std::shared_ptr<const Dataset> dataset, const TrainOptions& options,
                            const TrainCallback& callback = {});
// Cross-entropy over the pictures.
TrainResult train_classifier(Network& network, std::shared_ptr<const Dataset> dataset, const TrainOptions& options,
                             const TrainCallback& callback = {});
// The boxes, classes and distributions of losses/detection.hpp over pictures varied with their boxes. Throws UsageError
// for a DetectionSet without an object to learn from, too.
TrainResult train_detector(Network& network, std::shared_ptr<const Dataset> dataset, const TrainOptions& options,
                           const TrainCallback& callback = {});

// (K): what ClassWeighting says for a data set.
Tensor class_weights(const Dataset& dataset, Index classes, ClassWeighting weighting);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_TRAIN)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/data/detection_set.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/losses/cross_entropy.hpp>
#include <ocellus/losses/dice.hpp>
#include <ocellus/losses/terms.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim/ema.hpp>
#include <ocellus/optim/optimizer.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/train/training_step.hpp>
#include <ocellus/train/checkpoint.hpp>

namespace ocellus {
namespace train_detail {

// Fills masks where the data set itself ignores no value.
inline constexpr Index padding_id = 255;

OCELLUS_FN Index loss_ignore_index(const Dataset& dataset) {
  return dataset.ignore_index() < 0 ? padding_id : dataset.ignore_index();
}

OCELLUS_FN NamedTensors weights_of(const std::vector<NamedParameter>& parameters) {
  NamedTensors tensors;
  for (const NamedParameter& p : parameters) tensors.add(p.name, to_file(*p.parameter));
  return tensors;
}

// log.jsonl, one line at a time.
class LogFile {
 public:
  explicit LogFile(std::string path) : path_(std::move(path)) {}

  // Made with its first line.
  std::vector<TrainLogEntry> entries() const { return is_file(path_) ? read_train_log(path_) : std::vector<TrainLogEntry>(); }

  // Drops what an interrupted part wrote after the checkpoint. Returns the seconds on its last line: that time was
  // spent, too.
  double resume_at(Index step) const {
    double spent = 0;
    if (!is_file(path_)) return spent;
    std::string kept;
    for (const TrainLogEntry& e : entries()) {
      spent = std::max(spent, e.seconds);
      if (e.step <= step) kept += e.json() + "\n";
    }
    write_file_atomically(path_, kept);
    return spent;
  }

  void append(const TrainLogEntry& entry) const {
    const std::string line = entry.json() + "\n";
    std::FILE* file = std::fopen(path_.c_str(), "ab");
    const long before = file && std::fseek(file, 0, SEEK_END) == 0 ? std::ftell(file) : -1;
    const bool written = file && std::fwrite(line.data(), 1, line.size(), file) == line.size();
    if (file && std::fclose(file) == 0 && written) return;
    // The part of a line that a full disk still took goes again.
    if (before == 0) std::remove(path_.c_str());
    if (before > 0 && ::truncate(path_.c_str(), before) != 0) log(LogLevel::warning, path_ + ": its last line is cut off");
    throw FileError(path_, "cannot be written");
  }

 private:
  std::string path_;
};

// Means since the last line of the log.
struct Window {
  Index steps = 0;
  double loss = 0;
  std::vector<std::pair<std::string, double>> terms;
  double gradient_norm = 0;
  double began = 0;  // seconds

  // Everything but `began`, for a checkpoint between two lines.
  void write(JsonWriter& json) const {
    json.begin_object().field("steps", steps).field("loss", loss).field("gradient_norm", gradient_norm).key("terms").begin_object();
    for (const auto& [name, sum] : terms) json.field(name, sum);
    json.end_object().end_object();
  }
  void read(const Json& json) {
    steps = json.get<Index>("steps");
    loss = json.get<double>("loss");
    gradient_norm = json.get<double>("gradient_norm");
    const Json sums = json.at("terms");
    for (Index i = 0; i < sums.size(); ++i) terms.emplace_back(sums.at(i).key(), sums.at(i).get<double>());
  }

  void add(double total, const LossTerms& all, double norm) {
    ++steps;
    loss += total;
    gradient_norm += norm;
    if (terms.empty()) {
      for (const LossTerms::Term& t : all.terms()) terms.emplace_back(t.name, 0.0);
    }
    for (std::size_t i = 0; i < terms.size(); ++i) terms[i].second += all.terms()[i].item();
  }
};

// Without this glibc returns every large tensor to the system and faults it in again, a third of the time of a step.
OCELLUS_FN void keep_freed_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

// The first member in which two lines of settings differ.
OCELLUS_FN std::string first_difference(const std::string& then, const std::string& now) {
  const Json a = Json::parse(then, "checkpoint"), b = Json::parse(now, "settings");
  const auto text = [](const Json& json, const std::string& key) { return json.has(key) ? JsonWriter().value(json.at(key)).str() : "nothing"; };
  for (const std::string& key : b.keys()) {
    if (text(a, key) != text(b, key)) return key + " was " + text(a, key) + ", now it is " + text(b, key);
  }
  return "it knew more of them";
}

class Run {
 public:
  Run(Network& network, std::shared_ptr<const Dataset> dataset, const TrainOptions& options)
      : network_(network),
        task_(network.task()),
        options_(options),
        dataset_(std::make_shared<CachedDataset>(std::move(dataset), options.cache_bytes)),
        parameters_(network.parameters()),
        optimizer_(decay_groups(parameters_),
                   AdamWOptions{.learning_rate = options.learning_rate, .weight_decay = options.weight_decay}),
        training_step_(make_step()) {
    check();
    complete_preprocess();
    loader_.emplace(dataset_, loader_options());
    total_ = options_.max_steps > 0 ? options_.max_steps : options_.epochs * loader_->batches_per_epoch();
    schedule_ = {.kind = options_.schedule,
                 .learning_rate = options_.learning_rate,
                 .total_steps = total_,
                 .warmup_steps = options_.warmup_steps,
                 .power = options_.power};
    if (task_ != Task::detect) {
      cross_entropy_.class_weights = class_weights(*dataset_, class_count(), options_.class_weighting);
      cross_entropy_.ignore_index = loss_ignore_index(*dataset_);
      network_.set_ignore_index(cross_entropy_.ignore_index);
      cross_entropy_.label_smoothing = options_.label_smoothing;
    }
    if (options_.ema_decay > 0) ema_.emplace(parameters_, EmaOptions{.decay = options_.ema_decay});
  }

  TrainResult run(const TrainCallback& callback) {
    if (options_.keep_memory) keep_freed_memory();
    if (!options_.out.empty()) restore();
    const double start = seconds() - spent_;
    window_.began = spent_;
    loader_->seek(0, step_);
    bool stopped = false;
    Index last_saved = step_;
    while (step_ < total_ && !stopped) {
      TrainProgress progress{.total_steps = total_};
      one_step(progress);
      spent_ = seconds() - start;
      progress.step = ++step_;
      std::optional<TrainLogEntry> line;
      if (window_.steps > 0 && (step_ % options_.log_every == 0 || step_ == total_)) line = write_line();
      if (line) progress.logged = &*line;
      if (!options_.out.empty() && options_.checkpoint_every > 0 && step_ % options_.checkpoint_every == 0) {
        save();
        last_saved = step_;
      }
      if (callback && !callback(progress)) stopped = true;
      if (options_.max_seconds > 0 && spent_ >= options_.max_seconds) stopped = true;
    }
    if (step_ == total_ && updates_ == 0) {
      throw Error("train: none of the " + std::to_string(total_) + " steps had a finite loss; is every label ignored?");
    }
    if (!options_.out.empty() && last_saved < step_) save();
    if (ema_) ema_->swap();
    if (!options_.out.empty()) {
      save_model(options_.out, network_, options_.preprocess, {.dtype = options_.weights_dtype, .license = options_.license});
      write_file_atomically(options_.out + "/curve.svg", learning_curve(LogFile(log_path()).entries()));
    }
    return {step_, total_, step_ == total_, last_loss_, spent_, options_.preprocess};
  }

 private:
  static constexpr Index most_skipped = 10;  // in a row

  Index class_count() const { return static_cast<Index>(network_.labels().size()); }
  std::string log_path() const { return options_.out + "/log.jsonl"; }
  CheckpointFolder checkpoints() const { return CheckpointFolder(options_.out + "/checkpoints"); }

  void check() const {
    if (options_.batch < 1 || options_.log_every < 1 || options_.epochs < 1 || options_.max_steps < 0) {
      throw UsageError("train: batch, epochs and log_every must be at least 1, max_steps at least 0");
    }
    if (static_cast<Index>(dataset_->classes().size()) != class_count()) {
      throw ConfigError("train: the data has " + std::to_string(dataset_->classes().size()) + " classes, the model " +
                        std::to_string(class_count()));
    }
    if (dataset_->size() == 0) throw UsageError("train: the data set is empty");
    const Sample sample = dataset_->get(0);
    if (task_ == Task::segment && sample.mask.empty()) throw UsageError("train: the data has no masks to train a segmentation with");
    if (task_ == Task::classify && sample.label < 0) throw UsageError("train: the data has no labels to train a classification with");
    if (task_ == Task::detect && (!sample.mask.empty() || sample.label >= 0)) {
      throw UsageError("train: the data has no boxes to train a detection with");
    }
    const std::string fault = task_ == Task::detect ? network_.size_fault(options_.size) : std::string();
    if (!fault.empty()) throw UsageError("train: size: " + fault);
  }

  // What the saved model does with a picture of any size.
  void complete_preprocess() {
    Preprocess& p = options_.preprocess;
    if (task_ == Task::detect) p.size = options_.size;
    if (p.resize != ResizePolicy::none) return;
    p.resize = task_ == Task::detect ? ResizePolicy::letterbox : ResizePolicy::stretch;
    p.size = task_ == Task::segment ? dataset_->get(0).image.size() : options_.size;
  }

  LoaderOptions loader_options() const {
    LoaderOptions o{.batch = options_.batch,
                    .drop_last = dataset_->size() >= options_.batch,
                    .seed = options_.seed,
                    .augmentations = options_.augmentations,
                    .preprocess = options_.preprocess,
                    .channels = network_.in_channels(),
                    .workers = options_.workers};
    if (task_ == Task::classify) return o;
    // Crops and mosaics are fed as they are: their scale is the augmentation's business.
    o.preprocess.resize = ResizePolicy::none;
    o.preprocess.do_center_crop = false;
    if (task_ == Task::detect) {
      o.detection = options_.detection_augmentation;
      o.detection->size = options_.size;
    }
    return o;
  }

  TrainingStep make_step() const {
    if (task_ == Task::detect) {
      return {parameters_, [this](const Tensor& images, const Tensor& targets) { return box_losses(images, targets); }, options_.seed};
    }
    return {parameters_, [this](const Tensor& images, const BasicTensor<std::int64_t>& labels) { return losses(images, labels); },
            options_.seed};
  }

  LossTerms box_losses(const Tensor& images, const Tensor& targets) const {
    const std::vector<Tensor> maps = network_.outputs(images);
    DetectionLossOptions options = options_.detection_loss;
    options.assignment.bins = (maps[0].dim(3) - class_count()) / 4;
    return detection_loss(maps, {std::begin(Features::strides), std::end(Features::strides)}, targets, options);
  }

  // (N, M, 5). M grows in steps, so that the shape of a step seldom changes; rows without an object cost nothing.
  Tensor targets_of(const Batch& batch) {
    for (const std::vector<ObjectBox>& boxes : batch.boxes) {
      while (static_cast<Index>(boxes.size()) > most_objects_) most_objects_ *= 2;
    }
    return detection_targets(batch.boxes, most_objects_);
  }

  LossTerms losses(const Tensor& images, const BasicTensor<std::int64_t>& labels) const {
    LossTerms loss;
    Tensor logits = network_.forward(images);
    if (task_ == Task::segment) logits = resize(logits, Size2(labels.dim(1), labels.dim(2)));
    loss.add("cross_entropy", cross_entropy(logits, labels, cross_entropy_));
    if (options_.dice_weight > 0) {
      loss.add("dice", dice_loss(logits, labels, DiceOptions{.ignore_index = cross_entropy_.ignore_index}),
               options_.dice_weight);
    }
    return loss;
  }

  void one_step(TrainProgress& progress) {
    const Batch batch = loader_->next();
    keep_buffers();
    const AnyTensor labels = task_ == Task::detect ? AnyTensor(targets_of(batch)) : AnyTensor(batch.labels);
    const LossTerms loss = training_step_.run(batch.images, labels, static_cast<std::uint32_t>(step_));
    progress.loss = static_cast<double>(loss.total().item());
    double norm = 0;
    if (std::isfinite(progress.loss)) {
      const double most = options_.clip_norm > 0 ? options_.clip_norm : INFINITY;
      norm = clip_grad_norm(parameters_, most);
    }
    progress.skipped = !std::isfinite(progress.loss) || !std::isfinite(norm);
    if (progress.skipped) {
      restore_buffers();
      skip(progress.loss, norm);
      return;
    }
    skipped_ = 0;
    ++updates_;
    optimizer_.set_learning_rate(schedule_.at(step_));
    optimizer_.step();
    if (ema_) ema_->update();
    window_.add(progress.loss, loss, norm);
  }

  // Running statistics move in the forward pass, before anybody knows that the step will be skipped.
  void keep_buffers() {
    buffers_.clear();
    for (const NamedParameter& p : parameters_) {
      if (p.parameter->is_buffer()) buffers_.push_back(p.parameter->clone());
    }
  }
  void restore_buffers() {
    std::size_t i = 0;
    for (const NamedParameter& p : parameters_) {
      if (p.parameter->is_buffer()) std::copy(buffers_[i].begin(), buffers_[i].end(), p.parameter->begin()), ++i;
    }
  }

  void skip(double loss, double norm) {
    const std::string what = "step " + std::to_string(step_) + ": " +
                             (std::isfinite(loss) ? "the gradient's norm is " + std::to_string(norm)
                                                  : "the loss is " + std::to_string(loss));
    if (++skipped_ >= most_skipped) {
      throw Error("train: " + what + ", as in the " + std::to_string(most_skipped - 1) +
                  " steps before; reduce the learning rate, warm up longer or clip gradients");
    }
    log(LogLevel::warning, "train: " + what + "; the step is skipped");
  }

  TrainLogEntry write_line() {
    const double n = static_cast<double>(window_.steps);
    TrainLogEntry e;
    e.step = step_;
    e.epoch = static_cast<double>(step_) / static_cast<double>(loader_->batches_per_epoch());
    e.loss = last_loss_ = window_.loss / n;
    e.terms = window_.terms;
    for (auto& term : e.terms) term.second /= n;
    e.learning_rate = optimizer_.learning_rate();
    e.gradient_norm = window_.gradient_norm / n;
    e.seconds = spent_;
    e.images_per_second = n * static_cast<double>(options_.batch) / std::max(spent_ - window_.began, 1e-9);
    if (!options_.out.empty()) LogFile(log_path()).append(e);
    window_ = {};
    window_.began = spent_;
    return e;
  }

  // What decides the course of the run: a checkpoint made under other settings would give a run that nobody asked for.
  std::string settings() const {
    JsonWriter json;
    json.begin_object()
        .field("model", network_.model_type())
        .field("parameters", parameters_.size())
        .field("labels", network_.labels())
        .field("ignore_index", cross_entropy_.ignore_index)
        .field("samples", dataset_->size())
        .field("total_steps", total_);
    json.field("batch", options_.batch).field("height", options_.size.h).field("width", options_.size.w);
    json.field("learning_rate", options_.learning_rate).field("weight_decay", options_.weight_decay);
    json.field("schedule", static_cast<int>(options_.schedule))
        .field("power", options_.power)
        .field("warmup_steps", options_.warmup_steps);
    json.field("seed", options_.seed).field("clip_norm", options_.clip_norm).field("ema_decay", options_.ema_decay);
    json.field("label_smoothing", options_.label_smoothing)
        .field("class_weighting", static_cast<int>(options_.class_weighting));
    json.field("dice_weight", options_.dice_weight).field("augmentations", options_.augmentations.size());
    if (task_ == Task::detect) {
      const DetectionAugmentation& a = options_.detection_augmentation;
      json.key("detection_augmentation").begin_array();
      for (const float x : {a.mosaic, a.mixup, a.scale, a.translate, a.degrees, a.shear, a.perspective, a.horizontal_flip, a.vertical_flip,
                            a.hue, a.saturation, a.value, static_cast<float>(a.last_mosaic_epoch)}) {
        json.value(static_cast<double>(x));
      }
      for (const int x : {a.fill.red, a.fill.green, a.fill.blue}) json.value(x);
      const DetectionLossOptions& l = options_.detection_loss;
      json.end_array().key("detection_loss").begin_array();
      for (const double x : {l.box, l.classes, l.distribution, static_cast<double>(l.overlap), l.epsilon, l.assignment.alpha,
                             l.assignment.beta, l.assignment.least_side, static_cast<double>(l.assignment.candidates)}) {
        json.value(x);
      }
      json.end_array();
    }
    json.key("preprocess");
    write_preprocessor(json, options_.preprocess);
    json.end_object();
    return json.str();
  }

  void save() const {
    Checkpoint c;
    c.add("model", weights_of(parameters_));
    c.add("optimizer", optimizer_.state());
    if (ema_) c.add("ema", ema_->state());
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.checkpoint/1").field("step", step_);
    json.field("epoch", step_ / loader_->batches_per_epoch())
        .field("batch_of_epoch", step_ % loader_->batches_per_epoch());
    json.field("seconds", spent_).field("skipped", skipped_).field("updates", updates_).field("loss", last_loss_);
    json.field("settings", settings()).key("window");
    window_.write(json);
    json.end_object();
    c.state = json.str();
    checkpoints().write(step_, c);
  }

  void restore() {
    make_folders(options_.out);
    const std::optional<Checkpoint> c = options_.resume ? checkpoints().latest() : std::nullopt;
    if (!options_.resume && !checkpoints().steps().empty()) {
      throw UsageError(options_.out +
                       ": holds the checkpoints of a run; resume it (--resume) or choose another folder");
    }
    if (c) {
      const Json state = Json::parse(c->state, options_.out + "/checkpoints");
      const std::string then = state.get<std::string>("settings");
      if (then != settings()) {
        throw ConfigError(options_.out + ": the run to resume was started with other settings: " + first_difference(then, settings()));
      }
      load_parameters(parameters_, c->part("model"), {}, options_.out + "/checkpoints");
      optimizer_.load_state(c->part("optimizer"));
      if (ema_) ema_->load_state(c->part("ema"));
      step_ = state.get<Index>("step");
      skipped_ = state.get<Index>("skipped");
      updates_ = state.get<Index>("updates");
      last_loss_ = state.get<double>("loss");
      window_.read(state.at("window"));
      spent_ = state.get<double>("seconds");
    }
    // Without a checkpoint the run begins anew, whatever a log in the folder says.
    const double logged = LogFile(log_path()).resume_at(step_);
    if (c) spent_ = std::max(spent_, logged);
  }

  Network& network_;
  Task task_;
  TrainOptions options_;
  std::shared_ptr<const Dataset> dataset_;
  std::vector<NamedParameter> parameters_;
  AdamW optimizer_;
  TrainingStep training_step_;
  std::vector<Tensor> buffers_;  // as they were before the step
  std::optional<Ema> ema_;
  std::optional<Loader> loader_;
  Schedule schedule_;
  CrossEntropyOptions cross_entropy_;
  Index total_ = 0;
  Index most_objects_ = 32;  // of a picture, so far: rows of the targets

  Index step_ = 0;
  Index skipped_ = 0;  // in a row
  Index updates_ = 0;  // steps that changed the weights, all parts together
  double spent_ = 0;   // seconds
  double last_loss_ = 0;
  Window window_;
};

}  // namespace train_detail

OCELLUS_FN std::vector<Augmentation> segmentation_augmentations(Size2 crop, Index ignore_index) {
  RandomScaleCrop scale{.size = crop, .min_scale = 0.5f, .max_scale = 2.0f};
  scale.ignore_id = static_cast<std::uint8_t>(ignore_index < 0 ? train_detail::padding_id : ignore_index);
  return {scale, RandomHorizontalFlip{}, ColourJitter{.brightness = 0.3f, .contrast = 0.3f, .saturation = 0.3f}};
}

OCELLUS_FN TrainResult train_segmenter(Network& network, std::shared_ptr<const Dataset> dataset,
                                       const TrainOptions& options, const TrainCallback& callback) {
  if (network.task() != Task::segment)
    throw UsageError("train_segmenter: " + std::string(network.model_type()) + " does not segment");
  return train_detail::Run(network, std::move(dataset), options).run(callback);
}

OCELLUS_FN TrainResult train_classifier(Network& network, std::shared_ptr<const Dataset> dataset,
                                        const TrainOptions& options, const TrainCallback& callback) {
  if (network.task() != Task::classify)
    throw UsageError("train_classifier: " + std::string(network.model_type()) + " does not classify");
  return train_detail::Run(network, std::move(dataset), options).run(callback);
}

OCELLUS_FN TrainResult train_detector(Network& network, std::shared_ptr<const Dataset> dataset, const TrainOptions& options,
                                      const TrainCallback& callback) {
  if (network.task() != Task::detect) throw UsageError("train_detector: " + std::string(network.model_type()) + " does not detect");
  if (const auto* set = dynamic_cast<const DetectionSet*>(dataset.get()); set && set->size() > 0) {
    const auto teaches = [](const ObjectBox& o) { return !o.crowd && !o.difficult; };
    const auto has_object = [&](const AnnotatedPicture& p) { return std::any_of(p.boxes.begin(), p.boxes.end(), teaches); };
    if (std::none_of(set->data().pictures.begin(), set->data().pictures.end(), has_object)) {
      throw UsageError("train: none of the " + std::to_string(set->size()) + " pictures has an object to learn from; the first is " +
                       set->name(0));
    }
  }
  return train_detail::Run(network, std::move(dataset), options).run(callback);
}

OCELLUS_FN Tensor class_weights(const Dataset& dataset, Index classes, ClassWeighting weighting) {
  if (weighting == ClassWeighting::none) return {};
  std::vector<double> counts(static_cast<std::size_t>(std::max<Index>(classes, 256)));
  for (Index i = 0; i < dataset.size(); ++i) {
    const Sample sample = dataset.get(i);
    if (sample.mask.empty()) {
      if (sample.label < 0 || sample.label >= classes) {
        throw UsageError("class_weights: " + dataset.name(i) + " has the class " + std::to_string(sample.label) + "; there are " +
                         std::to_string(classes));
      }
      counts[static_cast<std::size_t>(sample.label)] += 1;
      continue;
    }
    for (Index y = 0; y < sample.mask.height(); ++y) {
      const std::uint8_t* row = sample.mask.row(y);
      for (Index x = 0; x < sample.mask.width(); ++x) counts[row[x]] += 1;
    }
  }
  if (dataset.ignore_index() >= 0) counts[static_cast<std::size_t>(dataset.ignore_index())] = 0;
  Tensor weights({classes});
  double all = 0, weighted = 0;
  for (Index c = 0; c < classes; ++c) all += counts[static_cast<std::size_t>(c)];
  if (all == 0) throw UsageError("class_weights: no sample of the data set has a label");
  for (Index c = 0; c < classes; ++c) {
    const double share = counts[static_cast<std::size_t>(c)] / all;
    if (share > 0) weights[c] = static_cast<float>(1 / std::sqrt(share));
    weighted += share * static_cast<double>(weights[c]);
  }
  for (float& w : weights) w = static_cast<float>(static_cast<double>(w) / weighted);
  return weights;
}

}  // namespace ocellus
#endif
