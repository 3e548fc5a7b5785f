// Whole models with fresh weights: inference through the plan, and the training step (forward, loss, backward, update).
// suite.hpp says what a row shows; the FLOPs of inference are those that remain after folding, a training step counts
// three times the forward pass as it is written.
// Usage: bench_models [--benchmark_filter=infer/segformer] [--benchmark_out=new.json]
#include <memory>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/models/config.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/pipeline/runner.hpp>

#include "suite.hpp"

namespace {

using namespace bench;
using ocellus::Tensor;

struct Case {
  const char* model;
  Index labels, size, batch;
};

constexpr Case inference_cases[] = {{"segformer-b0", 19, 512, 1}, {"segformer-b2", 19, 512, 1}, {"vit-base", 1000, 224, 1},
                                    {"resnet50", 1000, 224, 1},   {"vgg16", 1000, 224, 1},      {"mobilenet_v2", 1000, 224, 1},
                                    {"yolov8n", 80, 640, 1},      {"yolo11n", 80, 640, 1}};
constexpr Case training_cases[] = {{"segformer-b0", 19, 256, 4}, {"vit-small", 1000, 224, 8}, {"resnet18", 1000, 64, 16}};

std::shared_ptr<ocellus::Network> make_network(const Case& c) {
  return ocellus::make_network(c.model, ocellus::config::default_labels(c.labels), 3, c.size, 255);
}

Tensor make_images(const Case& c) {
  Tensor x(ocellus::Shape{c.batch, c.size, c.size, 3});
  ocellus::RandomStream random(1);
  for (float& value : x) value = random.normal();
  return x;
}

Work inference(const Case& c) {
  auto runner = std::make_shared<ocellus::Runner>(make_network(c));
  const Tensor x = make_images(c);
  const double macs = runner->plan(x.shape())->graph().macs();
  return {[runner, x] { (void)runner->outputs(x); }, 2 * macs, 0};
}

Work training(const Case& c) {
  const std::shared_ptr<ocellus::Network> network = make_network(c);
  const Tensor x = make_images(c);
  const bool segments = network->task() == ocellus::Task::segment;
  const ocellus::Shape label_shape = segments ? ocellus::Shape{c.batch, c.size, c.size} : ocellus::Shape{c.batch};
  ocellus::BasicTensor<std::int64_t> labels(label_shape);
  for (Index i = 0; i < labels.numel(); ++i) labels[i] = i % c.labels;
  auto optimizer = std::make_shared<ocellus::AdamW>(network->parameters(), ocellus::AdamWOptions{.learning_rate = 1e-5});
  const auto step = [network, x, labels, optimizer, size = c.size, segments] {
    const ocellus::Training training(0, 0);
    optimizer->zero_grad();
    Tensor logits = network->forward(x);
    if (segments) logits = ocellus::resize(logits, size);
    ocellus::backward(ocellus::cross_entropy(logits, labels));
    optimizer->step();
  };
  return {step, 6 * network->trace(x.shape()).macs(), 0};
}

}  // namespace

int main(int argc, char** argv) {
  const auto add = [](const char* kind, const Case& c, Work (*make)(const Case&)) {
    const std::string shape = std::to_string(c.size) + "/batch" + std::to_string(c.batch);
    add_row(std::string(kind) + c.model + "/" + shape, [c, make] { return make(c); }, benchmark::kMillisecond);
  };
  for (const Case& c : inference_cases) add("infer/", c, inference);
  for (const Case& c : training_cases) add("train/", c, training);
  return run_suite(argc, argv);
}
