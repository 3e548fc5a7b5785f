// Every model family against its reference, at a tiny configuration: every module's output, the loss, every gradient, five optimizer
// steps. The golden files come from weights_tools (golden.py).
#include <cmath>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/graph/summary.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/reduce.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

struct Golden {
  NamedTensors file;
  std::unique_ptr<Network> network;

  explicit Golden(const std::string& name) : file(read_safetensors(std::string(OCELLUS_TEST_DIR "/golden/") + name + ".safetensors")) {
    network = make_network(Json::parse(file.metadata.at("config"), name));
    if (file.metadata.count("hashed")) {
      fill(Json::parse(file.metadata.at("hashed"), name));
    } else {
      load_parameters(network->parameters(), with_prefix("weight."), network->ignored_keys(), name);
    }
  }

  // Values that follow from their places alone (hashed and hash_values of weights_tools), so that the file need not hold them.
  static Tensor hashed(const Shape& shape, std::uint32_t stream) {
    Tensor values(shape);
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(values.numel()); ++i) {
      std::uint32_t h = i * 2654435761u + stream * 40503u;
      h = (h ^ (h >> 15)) * 2246822519u;
      h = (h ^ (h >> 13)) * 3266489917u;
      values[i] = static_cast<float>((h ^ (h >> 16)) >> 8) / 8388608.0f - 1.0f;
    }
    return values;
  }

  void fill(const Json& settings) {
    const std::uint32_t first = static_cast<std::uint32_t>(settings.get<Index>("seed")) * 1024;
    std::uint32_t place = 0;
    for (const NamedParameter& p : network->parameters()) {
      const std::uint32_t stream = first + place++;
      const bool fixed = p.name.ends_with("dfl.conv.weight") || p.name.ends_with("num_batches_tracked");
      if (fixed) continue;
      const Shape shape = p.parameter->file_shape();
      const bool scale = p.name.ends_with("weight") || p.name.ends_with("running_var");
      Tensor values = hashed(shape, stream);
      const double fan_in = static_cast<double>(shape.numel()) / static_cast<double>(shape[0]);
      const float width = static_cast<float>(std::sqrt(3 / fan_in) * settings.get<double>("gain"));
      for (float& v : values) v = shape.rank() == 4 ? v * width : v * 0.5f + (scale ? 1.0f : 0.0f);
      from_file(values, *p.parameter);
    }
    const Json inputs = settings.at("inputs");
    for (const std::string& key : inputs.keys()) {
      Shape shape;
      for (const Index n : inputs.get<std::vector<Index>>(key)) shape.push_back(n);
      Tensor values = hashed(shape, first + 1023);
      for (float& v : values) v *= static_cast<float>(std::sqrt(3.0));
      file.add(key + "_nhwc", values);
    }
  }

  NamedTensors with_prefix(const std::string& prefix) const {
    NamedTensors list;
    for (const NamedTensor& t : file) {
      if (t.name.starts_with(prefix)) list.add(t.name.substr(prefix.size()), t.tensor);
    }
    return list;
  }

  // A tensor of the file with the channels last, if it is an image.
  Tensor get(const std::string& key) const {
    const Tensor t(file.at(key));
    if (t.rank() != 4) return t;
    Tensor y(Shape{t.dim(0), t.dim(2), t.dim(3), t.dim(1)});
    const Index pixels = t.dim(2) * t.dim(3), channels = t.dim(1);
    for (Index n = 0; n < t.dim(0); ++n) {
      for (Index c = 0; c < channels; ++c) {
        for (Index p = 0; p < pixels; ++p) y[(n * pixels + p) * channels + c] = t[(n * channels + c) * pixels + p];
      }
    }
    return y;
  }

  Tensor loss() const {
    const Tensor image(file.at("input_nhwc"));
    if (network->task() == Task::detect) {
      const std::vector<Tensor> maps = network->outputs(image);
      return mean(square(maps[0])) + mean(square(maps[1])) + mean(square(maps[2]));
    }
    const BasicTensor<std::int64_t> labels(file.at("labels"));
    Tensor logits = network->forward(image);
    if (network->task() == Task::segment) logits = resize(logits, Size2(labels.dim(1), labels.dim(2)));
    return cross_entropy(logits, labels, {.ignore_index = network->ignore_index()});
  }
};

void check_close(const std::string& what, const Tensor& ours, const Tensor& theirs, double relative, double floor = 0) {
  REQUIRE_MESSAGE(ours.numel() == theirs.numel(), what << ": " << ours.shape().str() << " against " << theirs.shape().str());
  const double bound = relative * std::max(max_abs(theirs), floor);
  const double worst = max_difference(ours, theirs);
  CHECK_MESSAGE(worst <= bound, what << ": off by " << worst << ", allowed " << bound);
}

// Modules run from the inputs on, so the first line that fails names the first module that diverges.
class CompareOutputs : public ModuleObserver {
 public:
  CompareOutputs(const Golden& golden, const std::string& prefix) : golden_(golden), prefix_(prefix) {}
  void output(const std::string& path, const AnyTensor& y) override {
    if (!golden_.file.find(prefix_ + path)) return;
    check_close(prefix_ + path, Tensor(y), golden_.get(prefix_ + path), 1e-5);
    ++compared;
  }
  int compared = 0;

 private:
  const Golden& golden_;
  std::string prefix_;
};

void check_outputs(const Golden& g, const std::string& prefix, const std::string& input) {
  const Tensor x(g.file.at(input));
  const NoGrad no_grad;
  const AnyTensor inputs[] = {x};
  const Plan traced(g.network->trace(x.shape())), optimised(optimize(g.network->trace(x.shape())));
  const auto first = traced.workspace(), second = optimised.workspace();
  traced.run(inputs, *first);
  optimised.run(inputs, *second);

  CompareOutputs compare(g, prefix + "output.");
  const std::vector<Tensor> eager = g.network->outputs(x);
  CHECK(compare.compared > 10);
  const auto names = g.network->output_names();
  REQUIRE(eager.size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string name = prefix + names[i];
    const Tensor expected = g.get(prefix + "output." + names[i]);
    check_close(name, eager[i], expected, 1e-5);
    check_close(name + " of the plan as traced", Tensor(first->output(i)), eager[i], 1e-5);
    check_close(name + " of the optimised plan", Tensor(second->output(i)), expected, 1e-5);
  }
}

void check_gradients(const Golden& g, double relative = 1e-5) {
  const Training training;
  const Tensor loss = g.loss();
  CHECK(static_cast<double>(loss.item()) == doctest::Approx(static_cast<double>(Tensor(g.file.at("train.loss")).item())).epsilon(1e-5));
  backward(loss);

  double largest = 0;
  for (const NamedTensor& t : g.with_prefix("train.grad.")) largest = std::max(largest, max_abs(Tensor(t.tensor)));
  for (const NamedParameter& p : g.network->parameters()) {
    if (!p.parameter->trainable()) {
      if (const AnyTensor* after = g.file.find("train.buffer." + p.name)) check_close(p.name, *p.parameter, convert<float>(*after), 1e-5);
      continue;
    }
    Parameter gradient = *p.parameter;  // brings the layout of the file along
    const Tensor ours = p.parameter->grad();
    REQUIRE_MESSAGE(ours, p.name << " has no gradient");
    std::memcpy(gradient.data(), ours.data(), ours.spec().bytes());
    check_close("gradient of " + p.name, Tensor(to_file(gradient)), Tensor(g.file.at("train.grad." + p.name)), relative, 1e-3 * largest);
  }
}

void check_adamw(const Golden& g) {
  const Json settings = Json::parse(g.file.metadata.at("adamw"), "adamw");
  AdamW optimizer(g.network->parameters(), {.learning_rate = settings.get<double>("lr"),
                                            .beta1 = settings.get<double>("beta1"),
                                            .beta2 = settings.get<double>("beta2"),
                                            .eps = settings.get<double>("eps"),
                                            .weight_decay = settings.get<double>("weight_decay")});
  for (int step = 0; step < 5; ++step) {
    const Training training(0, static_cast<std::uint32_t>(step));
    const Tensor loss = g.loss();
    const double theirs = static_cast<double>(Tensor(g.file.at("adamw.loss." + std::to_string(step))).item());
    CHECK_MESSAGE(static_cast<double>(loss.item()) == doctest::Approx(theirs).epsilon(1e-4), "loss of AdamW step " << step);
    optimizer.zero_grad();
    backward(loss);
    optimizer.step();
  }
}

}  // namespace

TEST_CASE("SegFormer equals the reference") {
  check_outputs(Golden("segformer_tiny"), "eval.", "input_nhwc");
  check_outputs(Golden("segformer_tiny"), "eval_odd.", "eval_odd.input_nhwc");
  check_gradients(Golden("segformer_tiny"));
  check_adamw(Golden("segformer_tiny"));
}

TEST_CASE("ViT equals the reference") {
  check_outputs(Golden("vit_tiny"), "eval.", "input_nhwc");
  check_outputs(Golden("vit_tiny"), "eval_interp.", "eval_interp.input_nhwc");
  const Golden g("vit_tiny");
  check_close("as many patches in another shape", g.network->forward(Tensor(g.file.at("eval_interp_same_count.input_nhwc"))),
              g.get("eval_interp_same_count.output.logits"), 1e-5);
  check_gradients(Golden("vit_tiny"));
  check_adamw(Golden("vit_tiny"));
}

// The convolutional networks of torchvision. `relative`: of the gradients; a dozen batch norms over few values in a row enlarge the
// rounding of the ones before, in the reference as well.
namespace {
void check_convolutional(const std::string& name, double relative) {
  check_outputs(Golden(name), "eval.", "input_nhwc");
  const Golden g(name);
  const Tensor odd(g.file.at("eval_odd.input_nhwc"));
  check_close(name + " at another size", g.network->forward(odd), g.get("eval_odd.output.logits"), 1e-5);
  check_gradients(Golden(name), relative);
  check_adamw(Golden(name));
}
}  // namespace

TEST_CASE("ResNet with basic blocks equals the reference") { check_convolutional("resnet18_tiny", 1e-5); }
TEST_CASE("ResNet with bottlenecks equals the reference") { check_convolutional("resnet50_tiny", 5e-5); }
TEST_CASE("VGG equals the reference") { check_convolutional("vgg_tiny", 1e-5); }
TEST_CASE("MobileNetV2 equals the reference") { check_convolutional("mobilenet_v2_tiny", 5e-5); }

TEST_CASE("YOLOv8 equals the reference") {
  check_outputs(Golden("yolov8_tiny"), "eval.", "eval.input_nhwc");
  check_gradients(Golden("yolov8_tiny"), 1e-4);
}
TEST_CASE("YOLO11 equals the reference") {
  check_outputs(Golden("yolo11_tiny"), "eval.", "eval.input_nhwc");
  check_gradients(Golden("yolo11_tiny"), 2e-4);
}
