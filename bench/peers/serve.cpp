// Our side of bench/peers: the line protocol of README.md. Loads a model and its input, writes what is compared, then
// answers each request with one number.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/train/training_step.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/preprocess.hpp>

#include "../measure.hpp"

using namespace ocellus;

namespace {

std::map<std::string, std::string> read_arguments(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  for (const char* needed : {"--model", "--mode", "--threads", "--input", "--output"}) {
    if (!options.count(needed)) throw UsageError(std::string("serve: ") + needed + " is missing");
  }
  return options;
}

// The peak of the resident set above what it was at construction, where the system tells.
class Memory {
 public:
  Memory() {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts again from the present size
    loaded_ = read("VmRSS:");
  }
  // MiB, or NaN.
  double growth() const { return (read("VmHWM:") - loaded_) / 1024; }

 private:
  static double read(const std::string& field) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
      double kibibytes = 0;
      if (word == field && status >> kibibytes) return kibibytes;
    }
    return std::nan("");
  }
  double loaded_ = 0;
};

std::unique_ptr<Optimizer> make_optimizer(const std::string& name, const std::vector<NamedParameter>& parameters) {
  if (name == "sgd") {
    return std::make_unique<SGD>(parameters, SGDOptions{.learning_rate = 0.01, .momentum = 0.9, .weight_decay = 1e-4});
  }
  return std::make_unique<AdamW>(parameters, AdamWOptions{.learning_rate = 6e-5, .weight_decay = 0.01});
}

class TrainingRun {
 public:
  TrainingRun(const Network& network, const Tensor& x, const AnyTensor& y, const std::string& optimizer)
      : network_(network.clone()),
        x_(x),
        y_(y),
        gradients_(make_step()),
        optimizer_(make_optimizer(optimizer, network_->parameters())) {}

  // The loss before the update.
  float step() {
    const Tensor loss = gradients_.run(x_, y_, step_++).total();
    optimizer_->step();
    return loss.item();
  }

 private:
  TrainingStep make_step() const {
    using Labels = BasicTensor<std::int64_t>;
    if (network_->task() == Task::detect) {
      return {network_->parameters(), [this](const Tensor& x, const Tensor& objects) { return box_loss(x, objects); }};
    }
    return {network_->parameters(), [this](const Tensor& x, const Labels& labels) { return loss(x, labels); }};
  }

  LossTerms box_loss(const Tensor& images, const Tensor& objects) const {
    const std::vector<Index> strides(std::begin(Features::strides), std::end(Features::strides));
    return detection_loss(network_->outputs(images), strides, objects);
  }

  LossTerms loss(const Tensor& images, const BasicTensor<std::int64_t>& labels) const {
    LossTerms loss;
    Tensor logits = network_->forward(images);
    if (labels.rank() == 3) logits = resize(logits, Size2(labels.dim(1), labels.dim(2)));
    loss.add("cross_entropy", cross_entropy(logits, labels, {.ignore_index = 255}));
    return loss;
  }

  std::unique_ptr<Network> network_;
  Tensor x_;
  AnyTensor y_;
  TrainingStep gradients_;
  std::unique_ptr<Optimizer> optimizer_;
  std::uint32_t step_ = 0;
};

// A detector's maps (N, h, w, C) as one list (N, A, C), or the only output.
Tensor logits_of(const Model& model, const Tensor& x) {
  const std::vector<Tensor> outputs = model.runner().outputs(x);
  return outputs.size() == 1 ? outputs[0] : join_maps(outputs);
}

// What a detector's picture becomes, and where objects are in it if the network sees x.
void write_detections(const Model& model, const Image& picture, const Tensor& x, const std::string& folder) {
  write_npy(folder + "/preprocessed.npy", model.prepare({&picture, 1}));
  const BoxCandidates all = model.candidates(x);
  const std::vector<Detection> found = find_detections(all.boxes, all.scores)[0].kept;
  const Letterbox place = placement_of(model.preprocess(), picture.size());
  const Tensor boxes({static_cast<Index>(found.size()), 6});
  float* to = boxes.data();
  for (const Detection& d : found) {
    for (const float edge : from_box(BoxFormat::xyxy, place.to_original(d.box))) *to++ = edge;
    *to++ = d.score;
    *to++ = static_cast<float>(d.label);
  }
  write_npy(folder + "/boxes.npy", boxes);
}

void serve(std::map<std::string, std::string> options) {
  set_num_threads(std::atoi(options["--threads"].c_str()));
  const Model model = open(options["--model"]);
  const Tensor x(read_npy(options["--input"]));
  BasicTensor<std::uint8_t> pixels;
  Image picture;
  if (options.count("--picture")) {
    pixels = BasicTensor<std::uint8_t>(read_npy(options["--picture"]));
    picture = Image::view(pixels.data(), pixels.dim(1), pixels.dim(0), 3 * pixels.dim(1), PixelOrder::rgb);
  }
  const std::string folder = options["--output"];
  std::filesystem::create_directories(folder);
  std::unique_ptr<TrainingRun> training;
  if (options["--mode"] == "train") {
    training = std::make_unique<TrainingRun>(model.network(), x, read_npy(options["--labels"]), options["--optimizer"]);
  }
  const Memory memory;
  const auto run = [&] {
    if (training) {
      (void)training->step();
    } else {
      (void)model.runner().outputs(x);
    }
  };
  if (training) {
    Tensor losses(Shape{3});
    for (float& loss : losses) loss = training->step();
    write_npy(folder + "/losses.npy", losses);
  } else {
    write_npy(folder + "/logits.npy", logits_of(model, x));
    if (!picture.empty()) write_detections(model, picture, x, folder);
    run();
  }
  double peak = 0;  // GFLOP/s right behind the last run: at the clock that the work left the processor with
  std::puts("ready");
  std::fflush(stdout);
  for (std::string request; std::getline(std::cin, request);) {
    double answer = 0;
    if (request == "run") {
      const double start = seconds();
      run();
      answer = 1e3 * (seconds() - start);
      peak = bench::peak();
    } else if (request == "preprocess" && !picture.empty()) {
      answer = model.detect(picture).ms.preprocess;
    } else if (request == "postprocess" && !picture.empty()) {
      answer = model.detect(picture).ms.postprocess;
    } else if (request == "peak") {
      answer = peak;
    } else if (request == "memory") {
      answer = memory.growth();
    } else if (request == "macs") {
      answer = model.runner().plan(x.shape())->graph().macs();
    } else {
      throw UsageError("serve: unknown request \"" + request + "\"");
    }
    std::printf("%.6f\n", answer);
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
