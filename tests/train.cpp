// Training: resuming bit for bit, the same bits for any number of threads, damaged checkpoints, what a run writes,
// evaluation.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
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
  const double before = read_train_log(folder / "run/log.jsonl").back().seconds;
  TrainOptions options = recipe(folder / "run");
  options.max_steps = 2;
  const TrainResult result = train_until(*tiny_segformer(), options, 100, losses);
  CHECK(result.seconds < before);
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
