// Training: resuming bit for bit, the same bits for any number of threads, damaged checkpoints, what a run writes,
// evaluation.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/data/detection_set.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses/cross_entropy.hpp>
#include <ocellus/losses/regression.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim/optimizer.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/train.hpp>

using namespace ocellus;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("ocellus_train_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A bright rectangle (class 1) on a dark ground (class 0), both noisy.
class Rectangles : public Dataset {
 public:
  Index size() const override { return 10; }
  Sample get(Index i) const override {
    RandomStream random(99, static_cast<std::uint32_t>(i));
    Sample sample{Image(40, 3), Image(40, 1)};
    std::uint8_t *pixel = sample.image.writable(), *id = sample.mask.writable();
    const Index top = random.below(20), left = random.below(20);
    for (Index y = 0; y < 40; ++y) {
      for (Index x = 0; x < 40; ++x, ++id, pixel += 3) {
        *id = y >= top && y < top + 20 && x >= left && x < left + 20;
        for (int c = 0; c < 3; ++c) pixel[c] = static_cast<std::uint8_t>((*id ? 150 : 20) + random.below(60));
      }
    }
    return sample;
  }
  std::string name(Index i) const override { return std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }
  Index ignore_index() const override { return 255; }

 private:
  std::vector<std::string> classes_ = {"ground", "rectangle"};
};

// Grey pictures, bright on the left (class 0) or on the right (class 1).
class Sides : public Dataset {
 public:
  Index size() const override { return 16; }
  Sample get(Index i) const override {
    Image image(28, 1, 30);
    for (Index y = 0; y < 28; ++y)
      std::memset(image.writable() + y * 28 + (i % 2) * 14, static_cast<int>(120 + 8 * i), 14);
    return {image, {}, i % 2};
  }
  std::string name(Index i) const override { return std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  std::vector<std::string> classes_ = {"left", "right"};
};

std::unique_ptr<Network> tiny_segformer() {
  manual_seed(3);
  return make_network(Json::parse(R"({"model_type": "segformer", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16, "id2label": {"0": "ground", "1": "rectangle"},
    "classifier_dropout_prob": 0.1, "drop_path_rate": 0.2, "hidden_dropout_prob": 0.1})",
                                  "config"));
}

TrainOptions recipe(const std::string& out) {
  TrainOptions o;
  o.max_steps = 6;
  o.batch = 4;
  o.size = 32;
  o.learning_rate = 3e-3;
  o.warmup_steps = 2;
  o.seed = 5;
  o.ema_decay = 0.9;
  o.label_smoothing = 0.05;
  o.class_weighting = ClassWeighting::sqrt_inverse_frequency;
  o.dice_weight = 0.5;
  o.augmentations = segmentation_augmentations(32);
  o.out = out;
  o.log_every = 2;
  o.checkpoint_every = 2;
  return o;
}

// Trains until `stop` and appends the loss of every step.
TrainResult train_until(Network& network, const TrainOptions& options, Index stop, std::vector<double>& losses) {
  return train_segmenter(network, std::make_shared<Rectangles>(), options, [&](const TrainProgress& p) {
    losses.push_back(p.loss);
    return p.step < stop;
  });
}

bool same_weights(Network& a, Network& b) {
  const auto x = a.parameters(), y = b.parameters();
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::memcmp(x[i].parameter->data(), y[i].parameter->data(), x[i].parameter->spec().bytes()) != 0) return false;
  }
  return x.size() == y.size();
}

Checkpoint small_checkpoint() {
  Checkpoint c;
  NamedTensors tensors;
  tensors.add("w", Tensor({3}, {1, 2, 3}));
  tensors.add("n", BasicTensor<std::int64_t>::scalar(7));
  c.add("model", tensors);
  c.state = R"({"step": 4})";
  return c;
}

std::vector<std::string> warnings;

}  // namespace

TEST_CASE("an interrupted run resumes bit for bit") {
  const Folder folder;
  std::vector<double> straight_losses, losses;
  const auto straight = tiny_segformer();
  const TrainResult whole = train_until(*straight, recipe(folder / "straight"), 100, straight_losses);
  CHECK(whole.finished);
  CHECK(whole.steps == 6);
  CHECK(straight_losses.size() == 6);

  const auto first = tiny_segformer();
  const TrainResult part = train_until(*first, recipe(folder / "parts"), 3, losses);
  CHECK(!part.finished);
  CHECK(part.steps == 3);
  CHECK(!same_weights(*straight, *first));
  manual_seed(1000);
  const auto second = make_network("segformer-b0", {"ground", "rectangle"}, 3, 32, 255);
  CHECK_THROWS_AS(train_until(*second, recipe(folder / "parts"), 100, losses), UsageError);
  const auto third = tiny_segformer();
  for (const NamedParameter& p : third->parameters()) std::fill(p.parameter->begin(), p.parameter->end(), 0.5f);
  TrainOptions options = recipe(folder / "parts");
  options.resume = true;
  const TrainResult rest = train_until(*third, options, 100, losses);
  CHECK(rest.finished);
  CHECK(rest.seconds > part.seconds);
  CHECK(losses == straight_losses);
  CHECK(same_weights(*straight, *third));

  const auto steps = CheckpointFolder(folder / "parts/checkpoints").steps();
  CHECK(steps == std::vector<Index>{4, 6});
  const auto log = read_train_log(folder / "parts/log.jsonl");
  CHECK(log.size() == 3);
  CHECK(log.back().step == 6);
  CHECK(log.back().terms.size() == 2);
  const auto straight_log = read_train_log(folder / "straight/log.jsonl");
  for (std::size_t i = 0; i < log.size(); ++i) {
    CHECK(log[i].loss == straight_log[i].loss);
    CHECK(log[i].terms == straight_log[i].terms);
    CHECK(log[i].gradient_norm == straight_log[i].gradient_norm);
  }
  CHECK(contains(std::string(read_file(folder / "parts/curve.svg").text()), "<svg"));

  options.learning_rate = 1;
  CHECK(contains(error_of([&] { train_until(*third, options, 100, losses); }), "started with other settings: learning_rate was 0.003, now it is 1"));
}

TEST_CASE("a run that is not resumed owes nothing to an old log") {
  const Folder folder;
  std::vector<double> losses;
  train_until(*tiny_segformer(), recipe(folder / "run"), 100, losses);
  fs::remove_all(folder / "run/checkpoints");
  TrainLogEntry old = read_train_log(folder / "run/log.jsonl").back();
  old.seconds = 1e6;
  write_file_atomically(folder / "run/log.jsonl", old.json() + "\n");
  TrainOptions options = recipe(folder / "run");
  options.max_steps = 2;
  const TrainResult result = train_until(*tiny_segformer(), options, 100, losses);
  CHECK(result.seconds < old.seconds);
  CHECK(read_train_log(folder / "run/log.jsonl").size() == 1);
}

// Every pixel ignored.
class Void : public Rectangles {
 public:
  Sample get(Index i) const override {
    Sample s = Rectangles::get(i);
    std::fill_n(s.mask.writable(), s.mask.height() * s.mask.width(), std::uint8_t{255});
    return s;
  }
};

TEST_CASE("a run that learned nothing is an error, and a model keeps the value that its training ignored") {
  const Folder folder;
  TrainOptions options = recipe(folder / "void");
  options.class_weighting = ClassWeighting::none;
  const auto network = tiny_segformer();
  CHECK(contains(error_of([&] { train_segmenter(*network, std::make_shared<Void>(), options); }), "none of the 6 steps had a finite loss"));
  CHECK(!fs::exists(folder / "void/model.safetensors"));
  network->set_ignore_index(11);
  std::vector<double> losses;
  train_until(*network, recipe(folder / "model"), 100, losses);
  CHECK(open(folder / "model").network().ignore_index() == 255);
}

TEST_CASE("work that an interruption threw away is done again and its time counts") {
  const Folder folder;
  std::vector<double> ignored, losses, straight_losses;
  const auto straight = tiny_segformer();
  train_until(*straight, recipe(folder / "straight"), 100, straight_losses);
  const auto network = tiny_segformer();
  train_until(*network, recipe(folder / "run"), 4, ignored);
  fs::remove(folder / "run/checkpoints/checkpoint-00000004.safetensors");  // as if killed before it was written
  const double spent = read_train_log(folder / "run/log.jsonl").back().seconds;
  TrainOptions options = recipe(folder / "run");
  options.resume = true;
  const TrainResult result = train_until(*network, options, 100, losses);
  CHECK(losses == std::vector<double>(straight_losses.begin() + 2, straight_losses.end()));
  CHECK(same_weights(*straight, *network));
  CHECK(result.seconds > spent);
  CHECK(read_train_log(folder / "run/log.jsonl").size() == 3);
}

TEST_CASE("the same bits for one thread and three") {
  std::vector<double> one, three;
  const auto a = tiny_segformer(), b = tiny_segformer();
  const int before = num_threads();
  TrainOptions options = recipe("");
  options.max_steps = 20;
  set_num_threads(1);
  train_until(*a, options, 100, one);
  set_num_threads(3);
  options.workers = 2;
  train_until(*b, options, 100, three);
  set_num_threads(before);
  CHECK(one == three);
  CHECK(same_weights(*a, *b));
  CHECK(one.back() < one.front());
}

TEST_CASE("a model directory that opens, and its evaluation") {
  const Folder folder;
  const auto network = tiny_segformer();
  TrainOptions options = recipe(folder / "model");
  options.max_steps = 60;
  options.augmentations = {RandomScaleCrop{.size = 32, .min_scale = 1, .max_scale = 1}};
  options.learning_rate = 1e-2;
  const auto data = std::make_shared<Rectangles>();
  const TrainResult result = train_segmenter(*network, data, options);
  CHECK(result.preprocess.size == Size2(40, 40));
  const Model model = open(folder / "model");
  CHECK(model.preprocess().size == Size2(40, 40));
  CHECK(model.labels() == data->classes());
  const ConfusionMatrix plan =
      evaluate_segmenter([&](const Tensor& x) { return model.run(x); }, *data, 2, {.preprocess = model.preprocess()});
  const ConfusionMatrix eager = evaluate_segmenter([&](const Tensor& x) { return network->forward(x); }, *data, 2,
                                                   {.preprocess = result.preprocess});
  const ConfusionMatrix prior = evaluate_majority_prior(*data, *data, 2);
  CHECK(plan.total() == 10 * 40 * 40);
  CHECK(plan.mean_iou() == doctest::Approx(eager.mean_iou()).epsilon(1e-3));
  CHECK_MESSAGE(plan.mean_iou() > prior.mean_iou(), plan.mean_iou());
  CHECK_MESSAGE(plan.mean_iou() > 0.7, plan.mean_iou());
}

TEST_CASE("classification") {
  manual_seed(1);
  const auto network = make_network("lenet", {"left", "right"}, 1, 28, -1);
  TrainOptions options;
  options.epochs = 15;
  options.batch = 8;
  options.size = 28;
  options.preprocess.mean = options.preprocess.std = {0.5f, 0.5f, 0.5f};
  const auto data = std::make_shared<Sides>();
  const TrainResult result = train_classifier(*network, data, options);
  CHECK(result.steps == 30);
  const ClassificationScore score = evaluate_classifier([&](const Tensor& x) { return network->forward(x); }, *data, 2,
                                                        {.preprocess = result.preprocess, .channels = 1, .batch = 5});
  CHECK(score.matrix.total() == 16);
  CHECK(score.accuracy == 1);
  CHECK(score.top5 == 1);
  CHECK(contains(error_of([&] { train_segmenter(*network, data, options); }), "lenet does not segment"));
  CHECK(contains(error_of([&] { train_classifier(*network, std::make_shared<Rectangles>(), options); }),
                 "has no labels"));
  CHECK(contains(error_of([&] { train_classifier(*network, std::make_shared<FirstSamples>(data, 0), options); }),
                 "is empty"));
}

TEST_CASE("a loss that is not finite ends the run with a clear error, after ten tries") {
  manual_seed(1);
  const auto network = make_network("lenet", {"left", "right"}, 1, 28, -1);
  for (const NamedParameter& p : network->parameters())
    p.parameter->data()[0] = std::numeric_limits<float>::quiet_NaN();
  TrainOptions options;
  options.batch = 8;
  options.size = 28;
  warnings.clear();
  const LogSink before = set_log_sink([](LogLevel, const std::string& text) { warnings.push_back(text); });
  const std::string error = error_of([&] { train_classifier(*network, std::make_shared<Sides>(), options); });
  set_log_sink(before);
  CHECK_MESSAGE(contains(error, "step 9: the loss is"), error);
  CHECK(warnings.size() == 9);
}

TEST_CASE("a planned step gives the bits of model, loss and backward, batch for batch") {
  manual_seed(3);
  SegFormerConfig config = SegFormerConfig::b0();
  config.depths = {1, 1, 1, 1};
  config.labels = {"a", "b", "c"};
  config.hidden_dropout_prob = 0.1;
  SegFormer eager(config), planned = eager;
  const auto loss_of = [](const SegFormer& model, const Tensor& x, const BasicTensor<std::int64_t>& y) {
    LossTerms loss;
    const Tensor logits = resize(model(x), Size2(y.dim(1), y.dim(2)));
    loss.add("cross_entropy", cross_entropy(logits, y));
    loss.add("squares", mse_loss(logits, Tensor(logits.shape())), 0.25);
    return loss;
  };
  const std::vector<NamedParameter> parameters = named_parameters(eager), twins = named_parameters(planned);
  TrainingStep step(twins, [&](const Tensor& x, const BasicTensor<std::int64_t>& y) { return loss_of(planned, x, y); }, 11);
  AdamW optimizer(parameters), twin(twins);
  for (std::uint32_t i = 0; i < 5; ++i) {
    const Index batch = i == 2 ? 1 : 2;  // another shape, and back
    RandomStream random(5, i);
    Tensor x({batch, 32, 32, 3});
    for (float& v : x) v = random.normal();
    BasicTensor<std::int64_t> y({batch, 32, 32});
    for (std::int64_t& v : y) v = random.below(3);

    const Training training(11, i);
    optimizer.zero_grad();
    const LossTerms expected = loss_of(eager, x, y);
    backward(expected.total());
    optimizer.step();
    const LossTerms got = step.run(x, y, i);
    twin.step();
    REQUIRE(step.plan() != nullptr);
    for (std::size_t t = 0; t < 2; ++t) {
      CHECK(got.terms()[t].name == expected.terms()[t].name);
      CHECK(got.terms()[t].item() == expected.terms()[t].item());
    }
    CHECK(got.total().item() == expected.total().item());
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const Tensor &a = *parameters[p].parameter, &b = *twins[p].parameter;
      CHECK_MESSAGE(std::memcmp(a.data(), b.data(), a.spec().bytes()) == 0, "step " << i << ", " << parameters[p].name);
    }
  }
}

TEST_CASE("a step whose loss reads values is computed eagerly") {
  Parameter w(Shape{2});
  w[0] = 1;
  w[1] = 2;
  const std::vector<NamedParameter> parameters{{"w", &w}};
  TrainingStep step(parameters, [&](const Tensor& x, const BasicTensor<std::int64_t>&) {
    LossTerms loss;
    loss.add("loss", mse_loss(w * (x[0] > 0 ? 2.0 : 3.0), Tensor({2})));
    return loss;
  });
  for (const float sign : {1.0f, -1.0f}) {
    const LossTerms loss = step.run(Tensor({1}, {sign}), BasicTensor<std::int64_t>({1}), 0);
    const float factor = sign > 0 ? 4 : 9;
    CHECK(step.plan() == nullptr);
    CHECK(loss.total().item() == factor * 2.5f);
    CHECK(w.grad()[1] == factor * 2);  // not summed over the steps
  }
}

namespace {

// One or two bright squares of two colours in each picture, but for one that holds a grid of 36. No files: pixels are drawn when asked for.
class Squares : public DetectionSet {
 public:
  explicit Squares(Index pictures = 8, bool grid = true) : DetectionSet(annotations(pictures, grid)) {}

  Sample get(Index i) const override {
    const AnnotatedPicture& p = picture(i);
    Sample sample{Image(p.size, 3, 40)};
    for (const ObjectBox& o : p.boxes) {
      for (Index y = static_cast<Index>(o.box.y1); y < static_cast<Index>(o.box.y2); ++y) {
        std::uint8_t* row = sample.image.writable() + y * p.size.w * 3;
        for (Index x = static_cast<Index>(o.box.x1); x < static_cast<Index>(o.box.x2); ++x) row[3 * x + 2 * o.label] = 230;
      }
    }
    sample.boxes = p.boxes;
    return sample;
  }

 protected:
  static DetectionData annotations(Index pictures, bool grid) {
    DetectionData data;
    data.classes = {"red", "blue"};
    for (Index i = 0; i < pictures; ++i) {
      AnnotatedPicture& p = data.pictures.emplace_back();
      p.path = "picture" + std::to_string(i) + ".png";
      p.size = {48, 64};
      RandomStream random(8, static_cast<std::uint32_t>(i));
      const auto add = [&](Index x, Index y, Index side) {
        const auto edge = [](Index v) { return static_cast<float>(v); };
        p.boxes.push_back({.box = {edge(x), edge(y), edge(x + side), edge(y + side)}, .label = static_cast<Index>(p.boxes.size()) % 2});
      };
      if (grid && i == 2) {
        for (Index k = 0; k < 36; ++k) add(10 * (k % 6) + 1, 8 * (k / 6), 7);
        continue;
      }
      add(random.below(10), random.below(20), 20 + random.below(8));
      if (i % 2) add(40, 20, 20);
    }
    return data;
  }
};

std::unique_ptr<Network> tiny_detector() {
  manual_seed(3);
  return make_network(Json::parse(R"({"model_type": "yolov8", "variant": "n", "width_multiple": 0.125, "max_channels": 64,
    "id2label": {"0": "red", "1": "blue"}})",
                                  "config"));
}

TrainOptions detector_recipe(const std::string& out) {
  TrainOptions o;
  o.max_steps = 6;
  o.batch = 4;
  o.size = 64;
  o.learning_rate = 3e-3;
  o.warmup_steps = 2;
  o.seed = 5;
  o.ema_decay = 0.9;
  o.detection_augmentation.mosaic = 0.5f;
  o.detection_augmentation.mixup = 0.5f;
  o.preprocess.do_normalize = false;
  o.out = out;
  o.log_every = 2;
  o.checkpoint_every = 2;
  return o;
}

TrainResult detect_until(Network& network, const TrainOptions& options, Index stop, std::vector<double>& losses) {
  return train_detector(network, std::make_shared<Squares>(), options, [&](const TrainProgress& p) {
    losses.push_back(p.loss);
    return p.step < stop;
  });
}

}  // namespace

TEST_CASE("a detector: the same bits again, with three threads, and after an interruption") {
  const Folder folder;
  std::vector<double> straight_losses, again_losses, three_losses, losses;
  const auto straight = tiny_detector(), again = tiny_detector(), three = tiny_detector();
  const int before = num_threads();
  set_num_threads(1);
  const TrainResult whole = detect_until(*straight, detector_recipe(folder / "straight"), 100, straight_losses);
  CHECK(whole.finished);
  CHECK(straight_losses.size() == 6);
  detect_until(*again, detector_recipe(""), 100, again_losses);
  set_num_threads(3);
  TrainOptions options = detector_recipe("");
  options.workers = 2;
  detect_until(*three, options, 100, three_losses);
  set_num_threads(before);
  CHECK(again_losses == straight_losses);
  CHECK(same_weights(*again, *straight));
  CHECK(three_losses == straight_losses);
  CHECK(same_weights(*three, *straight));

  const auto first = tiny_detector(), second = tiny_detector();
  CHECK(!detect_until(*first, detector_recipe(folder / "parts"), 3, losses).finished);
  CHECK(!same_weights(*first, *straight));
  for (const NamedParameter& p : second->parameters()) {
    if (p.parameter->trainable()) std::fill(p.parameter->begin(), p.parameter->end(), 0.5f);
  }
  options = detector_recipe(folder / "parts");
  options.resume = true;
  CHECK(detect_until(*second, options, 100, losses).finished);
  CHECK(losses == straight_losses);
  CHECK(same_weights(*second, *straight));
  const std::vector<TrainLogEntry> log = read_train_log(folder / "parts/log.jsonl");
  REQUIRE(log.size() == 3);
  REQUIRE(log.back().terms.size() == 3);
  CHECK(log.back().terms[0].first == "box");
  CHECK(log.back().terms[1].first == "cls");
  CHECK(log.back().terms[2].first == "dfl");

  // The saved model does with any picture what its training did.
  const Model model = open(folder / "parts");
  CHECK(model.task() == Task::detect);
  CHECK(model.preprocess().resize == ResizePolicy::letterbox);
  CHECK(model.preprocess().size == Size2(64));
  CHECK_FALSE(model.preprocess().do_normalize);
}

TEST_CASE("a detector learns its pictures, and its directory finds what it learned") {
  const Folder folder;
  const auto network = tiny_detector();
  TrainOptions options = detector_recipe(folder / "model");
  options.max_steps = 300;
  options.checkpoint_every = 0;
  options.batch = 6;
  options.learning_rate = 2e-2;
  options.clip_norm = 1;
  options.ema_decay = 0;
  options.detection_augmentation = DetectionAugmentation::none(64);
  const auto data = std::make_shared<Squares>(6, false);
  train_detector(*network, data, options);
  const Model model = open(folder / "model");
  DetectionEvaluateOptions judge;
  judge.preprocess = model.preprocess();
  const DetectionMetric metric = evaluate_detector([&](const Tensor& x) { return model.candidates(x); }, *data, 2, judge);
  Index found = 0;
  for (Index i = 0; i < data->size(); ++i) {
    const std::vector<ObjectBox>& truth = data->picture(i).boxes;
    const DetectResult result = model.detect(data->get(i).image);
    CHECK(result.objects.size() == truth.size());
    for (const DetectedObject& o : result.objects) {
      found += std::any_of(truth.begin(), truth.end(), [&](const ObjectBox& t) { return t.label == o.id && iou(t.box, o.box) > 0.8f; });
    }
  }
  CHECK(found == 6 + 3);
  const CocoSummary planned = metric.coco();
  const CocoSummary eager = evaluate_detector([&](const Tensor& x) { return network->decode(network->outputs(x)); }, *data, 2, judge).coco();
  CHECK_MESSAGE(planned.ap > 0.9, planned.ap);
  CHECK(planned.ap == doctest::Approx(eager.ap).epsilon(1e-3));
}

TEST_CASE("a detector's run goes on only with the settings it was started with") {
  const Folder folder;
  std::vector<double> losses;
  TrainOptions options = detector_recipe(folder / "run");
  options.max_steps = 1;
  detect_until(*tiny_detector(), options, 100, losses);
  options.resume = true;
  const auto error = [&](auto change) {
    TrainOptions o = options;
    change(o);
    return error_of([&] { detect_until(*tiny_detector(), o, 100, losses); });
  };
  CHECK(error([](TrainOptions&) {}) == "nothing was thrown");
  using Change = void (*)(DetectionAugmentation&);
  const Change changes[] = {[](DetectionAugmentation& a) { a.mosaic = 0.25f; },
                            [](DetectionAugmentation& a) { a.mixup = 0.25f; },
                            [](DetectionAugmentation& a) { a.scale = 0.25f; },
                            [](DetectionAugmentation& a) { a.translate = 0.25f; },
                            [](DetectionAugmentation& a) { a.degrees = 5; },
                            [](DetectionAugmentation& a) { a.shear = 5; },
                            [](DetectionAugmentation& a) { a.perspective = 0.001f; },
                            [](DetectionAugmentation& a) { a.horizontal_flip = 0.25f; },
                            [](DetectionAugmentation& a) { a.vertical_flip = 0.25f; },
                            [](DetectionAugmentation& a) { a.hue = 0.25f; },
                            [](DetectionAugmentation& a) { a.saturation = 0.25f; },
                            [](DetectionAugmentation& a) { a.value = 0.25f; },
                            [](DetectionAugmentation& a) { a.last_mosaic_epoch = 3; },
                            [](DetectionAugmentation& a) { a.fill.blue = 3; }};
  for (std::size_t i = 0; i < std::size(changes); ++i) {
    const std::string says = error([&](TrainOptions& o) { changes[i](o.detection_augmentation); });
    CHECK_MESSAGE(contains(says, "started with other settings: detection_augmentation was ["), i << ": " << says);
  }
  using LossChange = void (*)(DetectionLossOptions&);
  const LossChange loss_changes[] = {[](DetectionLossOptions& l) { l.box = 1; },
                                     [](DetectionLossOptions& l) { l.classes = 1; },
                                     [](DetectionLossOptions& l) { l.distribution = 1; },
                                     [](DetectionLossOptions& l) { l.overlap = Overlap::giou; },
                                     [](DetectionLossOptions& l) { l.epsilon = 1e-3; },
                                     [](DetectionLossOptions& l) { l.assignment.alpha = 1; },
                                     [](DetectionLossOptions& l) { l.assignment.beta = 1; },
                                     [](DetectionLossOptions& l) { l.assignment.least_side = 1; },
                                     [](DetectionLossOptions& l) { l.assignment.candidates = 1; }};
  for (std::size_t i = 0; i < std::size(loss_changes); ++i) {
    const std::string says = error([&](TrainOptions& o) { loss_changes[i](o.detection_loss); });
    CHECK_MESSAGE(contains(says, "started with other settings: detection_loss was ["), i << ": " << says);
  }
  CHECK(contains(error([](TrainOptions& o) { o.size = 32; }), "height was 64, now it is 32"));
}

TEST_CASE("what a detector cannot be trained with") {
  const auto network = tiny_detector();
  TrainOptions options = detector_recipe("");
  CHECK(contains(error_of([&] { train_segmenter(*network, std::make_shared<Squares>(), options); }), "yolov8 does not segment"));
  CHECK(contains(error_of([&] { train_detector(*tiny_segformer(), std::make_shared<Squares>(), options); }), "segformer does not detect"));
  CHECK(contains(error_of([&] { train_detector(*network, std::make_shared<Rectangles>(), options); }), "the data has no boxes"));
  CHECK(contains(error_of([&] { train_detector(*network, std::make_shared<Sides>(), options); }), "the data has no boxes"));
  DetectionData unlabelled = Squares(3).data();
  for (AnnotatedPicture& p : unlabelled.pictures) p.boxes.clear();
  unlabelled.pictures[1].boxes.push_back({.box = {1, 1, 9, 9}, .crowd = true});
  unlabelled.pictures[2].boxes.push_back({.box = {1, 1, 9, 9}, .difficult = true});
  CHECK(error_of([&] { train_detector(*network, std::make_shared<DetectionSet>(unlabelled), options); }) ==
        "train: none of the 3 pictures has an object to learn from; the first is picture0.png");
  unlabelled.pictures.clear();
  CHECK(contains(error_of([&] { train_detector(*network, std::make_shared<DetectionSet>(unlabelled), options); }), "the data set is empty"));
  DetectionData three = Squares(3).data();
  three.classes.push_back("green");
  CHECK(contains(error_of([&] { train_detector(*network, std::make_shared<DetectionSet>(three), options); }), "the data has 3 classes, the model 2"));
  options.size = {64, 80};
  CHECK(error_of([&] { train_detector(*network, std::make_shared<Squares>(), options); }) ==
        "train: size: yolov8 takes heights and widths that are multiples of 32; got 64x80, the nearest are 64x64 and 64x96");
}

namespace {

// Answers with what it is told, put where the preprocessing puts the picture.
struct Oracle {
  const DetectionSet& set;
  DetectionEvaluateOptions options;
  std::vector<std::vector<ObjectBox>> answers;  // by picture

  explicit Oracle(const DetectionSet& data) : set(data), answers(static_cast<std::size_t>(data.size())) {
    options.preprocess.size = 96;
  }
  DetectionMetric judged() {
    Index next = 0, reported = 0;
    options.progress = [&](Index done, Index total) {
      CHECK(done == ++reported);
      CHECK(total == set.size());
    };
    const DetectionMetric metric = evaluate_detector(
        [&](const Tensor& x) {
          CHECK(x.shape() == Shape{1, 96, 96, 3});
          const std::vector<ObjectBox>& all = answers[static_cast<std::size_t>(next)];
          const Letterbox placement = placement_of(options.preprocess, set.picture(next++).size);
          const Index n = static_cast<Index>(all.size());
          BoxCandidates c{Tensor({1, n, 4}), Tensor({1, n, 2})};
          for (Index i = 0; i < n; ++i) {
            const Box b = placement.to_letterbox(all[static_cast<std::size_t>(i)].box);
            float* edge = c.boxes.data() + 4 * i;
            for (const float v : {b.x1, b.y1, b.x2, b.y2}) *edge++ = v;
            c.scores[2 * i + all[static_cast<std::size_t>(i)].label] = 0.9f;
          }
          return c;
        },
        set, 2, options);
    CHECK(reported == set.size());
    return metric;
  }
};

}  // namespace

TEST_CASE("a detector is judged in the pixels of the data's pictures") {
  const Squares set(6);
  Oracle oracle(set);
  const DetectionMetric nothing = oracle.judged();
  CHECK(nothing.pictures() == 6);
  CHECK(nothing.coco().ap == 0);
  CHECK(nothing.coco().ar100 == 0);
  CHECK(nothing.errors().missed == 36 + 5 + 3);

  for (Index i = 0; i < set.size(); ++i) oracle.answers[static_cast<std::size_t>(i)] = set.picture(i).boxes;
  const DetectionMetric all = oracle.judged();
  CHECK(all.coco().ap == doctest::Approx(1));
  CHECK(all.coco().ar100 == 1);
  CHECK(all.voc_mean_ap() == doctest::Approx(1));
  CHECK(all.errors().found == 44);

  // What is far less likely than anything else still counts, and every class of a place by itself.
  oracle.options.nms.confidence = 0.95f;
  CHECK(oracle.judged().coco().ap == 0);
  oracle.options.nms.confidence = 0.001f;
  for (ObjectBox& o : oracle.answers[2]) o.label = 1 - o.label;
  CHECK(oracle.judged().errors().classification == 36);
}

TEST_CASE("any data set of boxes can be judged, and no other") {
  // Not a DetectionSet: one picture, one box.
  struct One : Dataset {
    std::vector<std::string> names = {"red", "blue"};
    Index size() const override { return 1; }
    Sample get(Index) const override {
      Sample sample{Image({32, 32}, 3)};
      sample.boxes = {{.box = {4, 4, 20, 20}, .label = 1}};
      return sample;
    }
    std::string name(Index) const override { return "one"; }
    const std::vector<std::string>& classes() const override { return names; }
  };
  const auto forward = [](const Tensor&) { return BoxCandidates{Tensor({1, 1, 4}, {4, 4, 20, 20}), Tensor({1, 1, 2}, {0, 0.9f})}; };
  DetectionEvaluateOptions options;
  options.preprocess.size = 32;
  CHECK(evaluate_detector(forward, One(), 2, options).coco().ap == doctest::Approx(1));
  CHECK(error_of([&] { evaluate_detector(forward, Rectangles(), 2, options); }).ends_with(" has no boxes, but a mask or a label"));
  CHECK(error_of([&] { evaluate_detector(forward, Sides(), 2, options); }).ends_with(" has no boxes, but a mask or a label"));
}

TEST_CASE("what lies in the padding takes no object's place") {
  const Squares set(4, false);
  Oracle oracle(set);
  for (Index i = 0; i < set.size(); ++i) {
    std::vector<ObjectBox>& answer = oracle.answers[static_cast<std::size_t>(i)] = set.picture(i).boxes;
    for (const float x : {0.0f, 30.0f}) answer.insert(answer.begin(), {.box = {x, -8, x + 9, 0}});
  }
  oracle.options.nms.max_detections = 2;
  const DetectionMetric metric = oracle.judged();
  CHECK(metric.coco().ap == doctest::Approx(1));
  CHECK(metric.detections(0) + metric.detections(1) == 6);
}

TEST_CASE("crowds and difficult objects count as neither found nor missed") {
  DetectionData data = Squares(4, false).data();
  for (const bool crowd : {true, false}) {
    for (AnnotatedPicture& p : data.pictures) p.boxes.resize(1);
    data.pictures[0].boxes.push_back({.box = {2, 30, 60, 47}, .label = 0, .area = 58 * 17, .crowd = crowd, .difficult = !crowd});
    struct Drawn : DetectionSet {  // no files
      using DetectionSet::DetectionSet;
      Sample get(Index i) const override {
        Sample sample{Image(picture(i).size, 3)};
        sample.boxes = picture(i).boxes;
        return sample;
      }
    };
    const Drawn set(data);
    Oracle oracle(set);
    for (Index i = 0; i < set.size(); ++i) oracle.answers[static_cast<std::size_t>(i)] = {set.picture(i).boxes[0]};
    const DetectionMetric missed = oracle.judged();
    CHECK(missed.objects(0) == 4);
    CHECK(missed.coco().ap == doctest::Approx(1));
    CHECK(missed.errors().missed == 0);
    oracle.answers[0].insert(oracle.answers[0].begin(), set.picture(0).boxes[1]);  // before the others of this score
    CHECK(oracle.judged().coco().ap == doctest::Approx(1));
    oracle.answers[0][0].box = {40, 0, 60, 10};
    CHECK(oracle.judged().coco().ap < 0.9);
  }
}

TEST_CASE("a step may be fed numbers in the place of class ids") {
  Parameter w(Shape{3}), twin(Shape{3});
  for (Index i = 0; i < 3; ++i) w[i] = twin[i] = static_cast<float>(i + 1);
  const std::vector<NamedParameter> parameters{{"w", &w}};
  const auto loss_of = [](const Parameter& p, const Tensor& x, const Tensor& y) {
    LossTerms loss;
    loss.add("squares", mse_loss(x * p, y), 0.5);
    return loss;
  };
  TrainingStep step(parameters, [&](const Tensor& x, const Tensor& y) { return loss_of(w, x, y); });
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Tensor x({2, 3}, {1, 2, 3, 4, 5, static_cast<float>(i)}), y({2, 3}, {0, 1, 0, static_cast<float>(2 * i), 1, 1});
    const LossTerms expected = loss_of(twin, x, y);
    if (Record* leaf = twin.record().get()) leaf->grad = {};
    backward(expected.total());
    const LossTerms got = step.run(x, y, i);
    REQUIRE(step.plan() != nullptr);
    CHECK(got.total().item() == expected.total().item());
    CHECK(std::memcmp(w.grad().data(), twin.grad().data(), 3 * sizeof(float)) == 0);
  }
  const std::string error = error_of([&] { step.run(Tensor({2, 3}), BasicTensor<std::int64_t>({2, 3}), 9); });
  CHECK_MESSAGE(contains(error, "i64"), error);
}

TEST_CASE("class weights") {
  const Tensor w = class_weights(Rectangles(), 2, ClassWeighting::sqrt_inverse_frequency);  // shares 3/4 and 1/4
  CHECK(w[1] / w[0] == doctest::Approx(std::sqrt(3.0)));
  CHECK(0.75f * w[0] + 0.25f * w[1] == doctest::Approx(1));
  CHECK(!class_weights(Rectangles(), 2, ClassWeighting::none));
}

TEST_CASE("checkpoint: every flipped bit is found, the file before takes over") {
  const Folder folder;
  const CheckpointFolder checkpoints(folder / "run");
  CHECK(!checkpoints.latest());
  for (Index step = 1; step <= 4; ++step) {
    Checkpoint c = small_checkpoint();
    c.state = std::to_string(step);
    checkpoints.write(step, c);
  }
  CHECK(checkpoints.steps() == std::vector<Index>{3, 4});
  const Checkpoint whole = *checkpoints.latest();
  CHECK(whole.state == "4");
  CHECK(whole.part("model").size() == 2);
  CHECK(Tensor(whole.part("model").at("w"))[2] == 3);

  const std::string path = checkpoints.path_of(4);
  const std::string good(read_file(path).text());
  const auto damaged = [](const std::string& bytes) {
    const ByteSpan pieces[] = {as_bytes(bytes)};
    try {
      read_checkpoint(join_bytes(pieces), "bad");
      return false;
    } catch (const FileError&) {
      return true;
    }
  };
  CHECK(!damaged(good));
  Index missed = 0;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    missed += !damaged(bad);
  }
  CHECK(missed == 0);
  missed = 0;
  for (std::size_t size = 0; size < good.size(); ++size) missed += !damaged(good.substr(0, size));
  CHECK(missed == 0);

  write_file_atomically(path, good.substr(0, good.size() - 3));
  warnings.clear();
  const LogSink before = set_log_sink([](LogLevel, const std::string& text) { warnings.push_back(text); });
  CHECK(checkpoints.latest()->state == "3");
  CHECK(warnings.size() == 1);
  write_file_atomically(checkpoints.path_of(3), "");
  CHECK_THROWS_AS(checkpoints.latest(), FileError);
  set_log_sink(before);
}
