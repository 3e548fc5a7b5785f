// Suppression at the size of a YOLO at 640 pixels, 8400 boxes of 80 classes (the figures in the text are candidates and
// what is kept of them), and its training loss at 320 pixels. Usage: OCELLUS_NUM_THREADS=2 bench_detection
#include <memory>
#include <string>

#include <ocellus/autograd.hpp>
#include <ocellus/losses/detection.hpp>
#include <ocellus/vision/nms.hpp>

#include "suite.hpp"

namespace {

using namespace ocellus;

constexpr Index rows = 8400, classes = 80;

struct Scene {
  Tensor boxes{Shape{1, rows, 4}}, scores{Shape{1, rows, classes}};
};

// Objects in many places, each seen by several rows that differ by a few pixels; `shown` rows have a score above
// `confidence` in one class, the others lie below it in all.
Scene scene(Index shown, Index objects, float confidence) {
  Scene s;
  RandomStream random(1);
  for (Index i = 0; i < rows; ++i) {
    RandomStream object(2, 0, static_cast<std::uint32_t>(i % objects));
    const float x = object.uniform(0, 600), y = object.uniform(0, 600), w = object.uniform(20, 120),
                h = object.uniform(20, 120);
    float* b = s.boxes.data() + 4 * i;
    b[0] = x + random.uniform(-4, 4);
    b[1] = y + random.uniform(-4, 4);
    b[2] = x + w + random.uniform(-4, 4);
    b[3] = y + h + random.uniform(-4, 4);
    float* p = s.scores.data() + i * classes;
    for (Index c = 0; c < classes; ++c) p[c] = confidence * 0.9f * random.uniform();
    if (i * shown / rows != (i + 1) * shown / rows) p[i % objects % classes] = random.uniform(confidence, 1);
  }
  return s;
}

// Scores of a trained network at a threshold that lets most classes of many rows pass.
Scene low_threshold_scene(Index passing) {
  Scene s = scene(500, 200, 0.25f);
  RandomStream random(5);
  for (float& p : s.scores) {
    if (p > 0.25f) continue;
    p = random.bernoulli(static_cast<float>(passing) / (rows * classes)) ? random.uniform(0.001f, 0.2f) : 0.0005f;
  }
  return s;
}

void add(const std::string& name, const Scene& made, const NmsOptions& options) {
  const auto scene = std::make_shared<Scene>(made);
  const Detections found = std::move(find_detections(scene->boxes, scene->scores, options, true).front());
  const std::string counts =
      std::to_string(found.kept.size()) + " of at least " + std::to_string(found.kept.size() + found.suppressed.size());
  bench::add_row("nms/" + name + "/kept " + counts, [scene, options] {
    return bench::Work{
        [scene, options] { benchmark::DoNotOptimize(find_detections(scene->boxes, scene->scores, options)); }, 0,
        static_cast<double>(rows * (classes + 4)) * sizeof(float)};
  });
}

// Forward and backward of a batch of 8 pictures with 12 objects each, as noise: every object finds its ten places.
void add_loss(Index kinds) {
  constexpr Index pictures = 8, side = 320;
  const std::vector<Index> strides = {8, 16, 32};
  std::vector<Tensor> maps;
  RandomStream random(3);
  Index elements = 0;
  for (const Index stride : strides) {
    Tensor& map = maps.emplace_back(Shape{pictures, side / stride, side / stride, 64 + kinds});
    for (float& v : map) v = random.normal();
    elements += map.numel();
  }
  std::vector<DetectionTarget> targets(pictures);
  for (DetectionTarget& t : targets) {
    for (int i = 0; i < 12; ++i) {
      const float x = random.uniform(0, 260), y = random.uniform(0, 260);
      t.boxes.push_back({x, y, x + random.uniform(10, 60), y + random.uniform(10, 60)});
      t.labels.push_back(random.below(kinds));
    }
  }
  const Tensor truth = detection_targets(targets);
  bench::add_row("detection_loss/8 pictures of 320, classes " + std::to_string(kinds), [=] {
    return bench::Work{[=] {
                         std::vector<Tensor> leaves = maps;
                         for (Tensor& leaf : leaves) leaf.requires_grad();
                         backward(detection_loss(leaves, strides, truth).total());
                       },
                       0, 3 * static_cast<double>(elements) * sizeof(float)};
  });
}

}  // namespace

int main(int argc, char** argv) {
  add("0.25: 300 candidates", scene(300, 60, 0.25f), {});
  add("0.25: 1000 candidates", scene(1000, 400, 0.25f), {.max_detections = 1000});
  add("0.25: 1000 candidates, agnostic", scene(1000, 400, 0.25f), {.class_agnostic = true, .max_detections = 1000});
  const NmsOptions validation{.confidence = 0.001f, .several_labels = true};
  add("0.001: 30000 candidates", low_threshold_scene(29500), validation);
  add("0.001: 600000 candidates", low_threshold_scene(600000), validation);
  NmsOptions all = validation;
  all.max_detections = 30000;
  add("0.001: 30000 candidates, no limit of detections", low_threshold_scene(29500), all);
  NmsOptions agnostic = validation;
  agnostic.class_agnostic = true;
  add("0.001: 30000 candidates, agnostic", low_threshold_scene(29500), agnostic);
  NmsOptions soft = validation;
  soft.suppression = Suppression::gaussian;
  add("0.001: 30000 candidates, gaussian", low_threshold_scene(29500), soft);
  add_loss(3);
  add_loss(80);
  return bench::run_suite(argc, argv);
}
