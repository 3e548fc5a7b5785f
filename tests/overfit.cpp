// One batch learned by heart: every model family, tiny and without dropout, brings the loss of a fixed random batch
// below 1 % of its first value within 300 steps of AdamW. Labels are drawn, so nothing but memory helps. A network
// learns so little by heart even with a layer that stands still or runs backwards; so every weight must also move, and
// every gradient be the slope of the loss along it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/losses/cross_entropy.hpp>
#include <ocellus/models/zoo.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/optim/optimizer.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/random.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

struct Family {
  std::string name;
  const char* config;
  Shape input;
  double learning_rate;
  std::string victim;  // the parameter that the second test damages
};

const Family families[] = {
    {"mlp",
     R"({"model_type": "mlp", "sizes": [48, 32, 16, 3], "num_labels": 3})",
     {16, 4, 4, 3},
     1e-2,
     "layers.0.weight"},
    {"lenet",
     R"({"model_type": "lenet", "num_channels": 2, "image_size": 16, "num_labels": 4})",
     {12, 16, 16, 2},
     3e-3,
     "conv1.weight"},
    {"vit",
     R"({"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 48, "image_size": [12, 16], "patch_size": 4, "num_labels": 4,
         "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0})",
     {12, 12, 16, 3},
     3e-3,
     "vit.encoder.layer.0.attention.attention.query.weight"},
    {"resnet",
     R"({"model_type": "resnet", "variant": "resnet18", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 12, 16],
         "num_labels": 4})",
     {8, 32, 40, 3},
     3e-3,
     "layer2.0.downsample.0.weight"},
    {"resnet with bottlenecks",
     R"({"model_type": "resnet", "variant": "resnet50", "depths": [1, 2, 1, 1], "hidden_sizes": [4, 4, 6, 8],
         "num_labels": 4})",
     {8, 32, 40, 3},
     3e-3,
     "layer1.0.conv3.weight"},
    {"vgg",
     R"({"model_type": "vgg", "variant": "vgg11", "depths": [1, 1, 1, 1, 1], "hidden_sizes": [8, 8, 12, 16, 16],
         "classifier_size": 32, "classifier_dropout_prob": 0, "num_labels": 4})",
     {8, 40, 32, 3},
     1e-3,
     "features.3.weight"},
    {"mobilenet_v2",
     R"({"model_type": "mobilenet_v2", "variant": "mobilenet_v2", "stem_size": 8,
         "expansions": [1, 6, 6, 6, 6, 6, 6], "hidden_sizes": [4, 6, 8, 8, 8, 8, 12], "depths": [1, 1, 1, 2, 1, 1, 1],
         "last_size": 32, "classifier_dropout_prob": 0, "num_labels": 4})",
     {8, 40, 32, 3},
     1e-2,
     "features.2.conv.1.0.weight"},
    {"segformer",
     R"({"model_type": "segformer", "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1],
         "num_attention_heads": [1, 2, 3, 4], "sr_ratios": [4, 2, 1, 1], "mlp_ratios": [2, 2, 2, 2],
         "decoder_hidden_size": 32, "num_labels": 3, "hidden_dropout_prob": 0,
         "attention_probs_dropout_prob": 0, "classifier_dropout_prob": 0, "drop_path_rate": 0})",
     {2, 64, 32, 3},  // the last stage has two tokens to choose from
     5e-3,
     "segformer.encoder.block.0.0.mlp.dwconv.dwconv.weight"},
    {"yolov8",
     R"({"model_type": "yolov8", "variant": "n", "width_multiple": 0.125, "max_channels": 64, "num_labels": 40})",
     {6, 32, 64, 3},
     3e-3,
     "model.22.cv2.0.1.conv.weight"},
    {"yolo11",
     R"({"model_type": "yolo11", "variant": "n", "width_multiple": 0.125, "max_channels": 64, "num_labels": 40})",
     {6, 32, 64, 3},
     3e-3,
     "model.10.m.0.attn.pe.conv.weight"}};

constexpr int most_steps = 300;
constexpr int slopes_at = 8;  // the first steps lead away from zero biases and their tiny gradients
constexpr double learned = 0.01;

struct Outcome {
  double first = 0, last = 0;  // loss
  int steps = 0;
  std::vector<std::string> idle;       // parameters that end as they began
  std::vector<std::string> off_slope;  // parameters whose gradient is not what the loss does along it

  bool ok() const { return last < learned * first && idle.empty() && off_slope.empty(); }
  std::string str() const {
    std::string s = "loss " + std::to_string(first) + " -> " + std::to_string(last) + " in " + std::to_string(steps);
    for (const std::string& name : idle) s += "\n  never moved: " + name;
    for (const std::string& name : off_slope) s += "\n  gradient is not the slope of the loss: " + name;
    return s;
  }
};

// Changes the gradient of a parameter before anybody reads it.
using Spoil = std::function<void(const std::string& name, Tensor& gradient)>;

class Learner {
 public:
  explicit Learner(const Family& family)
      : network_((manual_seed(1), make_network(Json::parse(family.config, family.name)))),
        parameters_(network_->parameters()),
        images_(random_tensor<float>(family.input, 2, -1.7, 1.7)),  // variance 1
        optimizer_(parameters_, {.learning_rate = family.learning_rate, .weight_decay = 0}) {
    std::erase_if(parameters_, [](const NamedParameter& p) { return !p.parameter->trainable(); });
    for (const NamedParameter& p : parameters_) start_.emplace_back(p.parameter->copy());
    // A label for every place that has logits: the picture, each cell of its segmentation, or of each map of a detector.
    const NoGrad no_grad;
    RandomStream random(3);
    for (const Tensor& map : network_->outputs(images_)) {
      const Shape& logits = map.shape();
      BasicTensor<std::int64_t>& labels = labels_.emplace_back(logits.rank() == 4 ? Shape{logits[0], logits[1], logits[2]} : Shape{logits[0]});
      for (std::int64_t& label : labels) label = random.below(logits[-1]);
    }
  }

  Outcome run(const Spoil& spoil) {
    Outcome outcome;
    const Training training(4);
    for (; outcome.steps < most_steps; ++outcome.steps) {
      const Tensor now = loss();
      outcome.last = static_cast<double>(now.item());
      if (outcome.steps == 0) outcome.first = outcome.last;
      if (!(outcome.last >= learned * outcome.first)) break;
      optimizer_.zero_grad();
      backward(now);
      for (const NamedParameter& p : parameters_) {
        Tensor gradient = p.parameter->grad();
        if (spoil) spoil(p.name, gradient);
      }
      if (outcome.steps == slopes_at) check_slopes(outcome);
      optimizer_.step();
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (max_difference(start_[i], *parameters_[i].parameter) == 0) outcome.idle.push_back(parameters_[i].name);
    }
    return outcome;
  }

 private:
  Tensor loss() const {
    const std::vector<Tensor> maps = network_->outputs(images_);
    Tensor sum = cross_entropy(maps[0], labels_[0]);
    for (std::size_t i = 1; i < maps.size(); ++i) sum = sum + cross_entropy(maps[i], labels_[i]);
    return sum;
  }

  // Moves one parameter at a time up and down its gradient. Steps are as short as the rounding of the loss allows; a
  // gradient below that cannot be judged (that of a key's bias, for one, is zero).
  void check_slopes(Outcome& outcome) const {
    const NoGrad no_grad;
    for (const NamedParameter& p : parameters_) {
      const Tensor gradient = p.parameter->grad(), held(p.parameter->copy());
      double norm = 0;
      for (float g : gradient) norm += static_cast<double>(g) * static_cast<double>(g);
      norm = std::sqrt(norm);
      if (norm == 0) continue;  // it will not move
      const double length = std::clamp(3e-5 / norm, 1e-3, 1e-1);
      const auto loss_at = [&](double distance) {
        const float step = static_cast<float>(distance / norm);
        for (Index i = 0; i < held.numel(); ++i) (*p.parameter)[i] = held[i] + step * gradient[i];
        return static_cast<double>(loss().item());
      };
      const double change = loss_at(length) - loss_at(-length), expected = 2 * length * norm;
      std::copy(held.begin(), held.end(), p.parameter->begin());
      const double rounding = 5e-7 * std::max(1.0, outcome.last);
      if (!(std::abs(change - expected) <= 0.25 * expected + rounding)) {
        outcome.off_slope.push_back(p.name + ": " + std::to_string(change / expected) + " of it");
      }
    }
  }

  std::unique_ptr<Network> network_;
  std::vector<NamedParameter> parameters_;
  std::vector<Tensor> start_;
  Tensor images_;
  std::vector<BasicTensor<std::int64_t>> labels_;  // of each output
  AdamW optimizer_;
};

Outcome overfit(const Family& family, const Spoil& spoil = {}) {
  set_num_threads(1);  // the work is so small that threads would only wait for each other
  return Learner(family).run(spoil);
}

}  // namespace

TEST_CASE("every family learns one batch by heart") {
  for (const Family& family : families) {
    const Outcome outcome = overfit(family);
    CHECK_MESSAGE(outcome.ok(), family.name << ": " << outcome.str());
  }
}

TEST_CASE("a gradient that is lost, reversed or halved does not pass") {
  for (const Family& family : families) {
    for (const float factor : {0.0f, -1.0f, 0.5f}) {
      // The check is the same for all families; detectors take long and have to show the finest fault alone.
      if (family.name.starts_with("yolo") && factor != 0.5f) continue;
      const Outcome outcome = overfit(family, [&](const std::string& name, Tensor& gradient) {
        if (name != family.victim) return;
        for (float& g : gradient) g *= factor;
      });
      const std::vector<std::string>& found = factor == 0 ? outcome.idle : outcome.off_slope;
      const bool noticed = std::any_of(found.begin(), found.end(), [&](const std::string& f) { return f.starts_with(family.victim); });
      CHECK_MESSAGE((noticed && !outcome.ok()), family.victim << " times " << factor << ": " << outcome.str());
    }
  }
}
