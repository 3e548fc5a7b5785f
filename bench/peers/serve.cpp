// Our side of bench/peers: the line protocol of README.md. Loads a model and its input, writes what is compared, then answers each line
// "run" with the milliseconds of one inference or one training step.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/train/training_step.hpp>

using namespace ocellus;

namespace {

std::map<std::string, std::string> read_arguments(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  for (const char* needed : {"--model", "--size", "--batch", "--mode", "--threads", "--input", "--output"}) {
    if (!options.count(needed)) throw UsageError(std::string("serve: ") + needed + " is missing");
  }
  return options;
}

class TrainingRun {
 public:
  TrainingRun(const Network& network, const Tensor& x, const BasicTensor<std::int64_t>& y)
      : network_(network.clone()),
        x_(x),
        y_(y),
        gradients_(network_->parameters(), [this](const Tensor& images, const BasicTensor<std::int64_t>& labels) { return loss(images, labels); }),
        optimizer_(network_->parameters(), {.learning_rate = 6e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01}) {}

  // The loss before the update.
  float step() {
    const Tensor loss = gradients_.run(x_, y_, step_++).total();
    optimizer_.step();
    return loss.item();
  }

 private:
  LossTerms loss(const Tensor& images, const BasicTensor<std::int64_t>& labels) const {
    LossTerms loss;
    const Tensor logits = resize(network_->forward(images), Size2(labels.dim(1), labels.dim(2)));
    loss.add("cross_entropy", cross_entropy(logits, labels, {.ignore_index = 255}));
    return loss;
  }

  std::unique_ptr<Network> network_;
  Tensor x_;
  BasicTensor<std::int64_t> y_;
  TrainingStep gradients_;
  AdamW optimizer_;
  std::uint32_t step_ = 0;
};

void serve(std::map<std::string, std::string> options) {
  set_num_threads(std::atoi(options["--threads"].c_str()));
  const Model model = open(options["--model"]);
  const Tensor x(read_npy(options["--input"]));
  std::filesystem::create_directories(options["--output"]);
  std::unique_ptr<TrainingRun> training;
  if (options["--mode"] == "train") {
    training = std::make_unique<TrainingRun>(model.network(), x, BasicTensor<std::int64_t>(read_npy(options["--labels"])));
    Tensor losses(Shape{3});
    for (float& loss : losses) loss = training->step();
    write_npy(options["--output"] + "/losses.npy", losses);
  } else {
    write_npy(options["--output"] + "/logits.npy", model.run(x));
    (void)model.run(x);
  }
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    if (line != "run") throw UsageError("serve: expected \"run\"; got \"" + line + "\"");
    const double start = seconds();
    if (training) {
      (void)training->step();
    } else {
      (void)model.run(x);
    }
    std::printf("%.6f\n", 1e3 * (seconds() - start));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    serve(read_arguments(argc, argv));
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
