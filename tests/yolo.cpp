// YOLOv8 and YOLO11 beside what golden files show: sizes, costs, keys, starting values, decoding, errors.
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/models/zoo.hpp>
#include <ocellus/models/yolo.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/reduce.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

// A network of random values, statistics included.
template <class M>
M randomised(M model) {
  std::uint64_t seed = 1;
  for (const NamedParameter& p : named_parameters(model)) {
    if (p.name.ends_with("dfl.conv.weight") || p.name.ends_with("tracked")) continue;
    const bool positive = p.name.ends_with("running_var") || p.name.ends_with("bn.weight");
    const Index fan_in = p.parameter->rank() == 4 ? p.parameter->numel() / p.parameter->dim(0) : 4;
    const double width = 2.2 / std::sqrt(static_cast<double>(fan_in));
    const double low = positive ? 0.5 : -width, high = positive ? 1.5 : width;
    const Tensor values = random_tensor<float>(p.parameter->shape(), ++seed, low, high);
    std::copy(values.begin(), values.end(), p.parameter->begin());
  }
  return model;
}

template <class Config>
Config tiny() {
  Config c = Config::n();
  c.width_multiple = 0.125;
  c.max_channels = 64;
  c.labels = {"a", "b", "c"};
  return c;
}

}  // namespace

TEST_CASE("every size has the published parameters and cost") {
  // With 80 classes, the fixed values of the box distances included; GFLOP (2 per multiply-add) for 640×640 pixels.
  struct Row {
    const char* name;
    Index parameters;
    double gflop;
  };
  static constexpr Row rows[] = {{"yolov8n", 3157200, 8.7},   {"yolov8s", 11166560, 28.6}, {"yolov8m", 25902640, 78.9},
                                 {"yolov8l", 43691520, 165.2}, {"yolov8x", 68229648, 257.8}, {"yolo11n", 2624080, 6.5},
                                 {"yolo11s", 9458752, 21.5},  {"yolo11m", 20114688, 68.0}, {"yolo11l", 25372160, 86.9},
                                 {"yolo11x", 56966176, 194.9}};
  const SkipInit skip;
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const auto network = make_network(row.name, config::default_labels(80), 3, 640, -1);
    Index count = 0;
    for (const NamedParameter& p : network->parameters()) {
      const bool fixed = p.name.ends_with("dfl.conv.weight");
      CHECK(fixed == (p.parameter->is_buffer() && p.name.find(".bn.") == std::string::npos));
      count += p.parameter->trainable() || fixed ? p.parameter->numel() : 0;
    }
    CHECK(count == row.parameters);
    CHECK(2e-9 * network->trace({1, 640, 640, 3}).macs() == doctest::Approx(row.gflop).epsilon(0.03));
  }
}

TEST_CASE("keys are the numbers of the reference's rows, parts have names") {
  YoloV8 v8(tiny<YoloV8Config>());
  Yolo11 v11(tiny<Yolo11Config>());
  const auto has = [](auto& model, const std::string& key, const Parameter* expected) {
    for (const NamedParameter& p : named_parameters(model)) {
      if (p.name == key) return expected == nullptr || p.parameter == expected;
    }
    return false;
  };
  CHECK(has(v8, "model.0.conv.weight", nullptr));
  CHECK(has(v8, "model.12.m.0.cv1.bn.running_mean", nullptr));
  CHECK(has(v8, "model.22.cv3.2.0.conv.weight", nullptr));
  CHECK(has(v8, "model.22.dfl.conv.weight", &v8.head.dfl.conv.weight));
  CHECK(has(v11, "model.10.m.0.attn.qkv.conv.weight", nullptr));
  CHECK(has(v11, "model.6.m.0.m.1.cv2.bn.bias", nullptr));
  CHECK(has(v11, "model.23.cv3.0.1.0.conv.weight", nullptr));
  CHECK(has(v11, "model.23.dfl.conv.weight", &v11.head.dfl.conv.weight));
}

TEST_CASE("parts can be used by themselves") {
  const YoloV8Config c = tiny<YoloV8Config>();
  const yolo::Backbone backbone(c);
  const yolo::Neck neck(c, backbone);
  const NoGrad no_grad;
  const Features f = backbone(random_tensor<float>({1, 64, 96, 3}, 1)), g = neck(f);
  CHECK(f.p3.shape() == Shape{1, 8, 12, backbone.p3});
  CHECK(f.p4.shape() == Shape{1, 4, 6, backbone.p4});
  CHECK(f.p5.shape() == Shape{1, 2, 3, backbone.p5});
  CHECK(g.p3.shape() == Shape{1, 8, 12, neck.p3});
  CHECK(g.p4.shape() == Shape{1, 4, 6, neck.p4});
  CHECK(g.p5.shape() == Shape{1, 2, 3, neck.p5});
  const yolo::Head head(neck.p3, neck.p4, neck.p5, 7, 16, true);
  CHECK(head(g).p4.shape() == Shape{1, 4, 6, 4 * 16 + 7});
}

TEST_CASE("an optimised plan leaves no norm, activation or sum by itself, and the outputs as they are") {
  const NoGrad no_grad;
  const Tensor x = random_tensor<float>({2, 64, 96, 3}, 1);
  const AnyTensor inputs[] = {x};
  const auto check = [&](const auto& model) {
    INFO(std::string(model.config.architecture->model_type) << model.config.variant);
    const std::vector<Tensor> eager = model(x);
    const Plan plan(optimize(trace(model, x.shape())));
    for (const Node& node : plan.graph().nodes) {
      const std::string op = node.op.info().name();
      CHECK_MESSAGE((op != "batch_norm" && op != "activation" && op != "add"), node.path << ": " << op);
    }
    const auto workspace = plan.workspace();
    plan.run(inputs, *workspace);
    REQUIRE(workspace->outputs().size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(max_abs(eager[i]) > 0.1);
      CHECK(max_difference(Tensor(workspace->output(i)), eager[i]) <= 1e-5 * max_abs(eager[i]));
    }
  };
  check(randomised(YoloV8()));
  check(randomised(Yolo11()));
  Yolo11Config nested = Yolo11Config::m();
  nested.width_multiple = 0.25;
  check(randomised(Yolo11(nested)));
}

TEST_CASE("fresh biases are the reference's: 1 for boxes, the logit of five objects in a picture for classes") {
  YoloV8 model;
  for (const NamedParameter& p : named_parameters(model)) {
    for (int level = 0; level < 3; ++level) {
      const double places = std::pow(80.0 / (1 << level), 2);
      const std::string number = std::to_string(level);
      const bool box = p.name == "model.22.cv2." + number + ".2.bias";
      if (!box && p.name != "model.22.cv3." + number + ".2.bias") continue;
      const double expected = box ? 1 : std::log(5 / (80 * places));
      for (const float b : *p.parameter) CHECK(static_cast<double>(b) == doctest::Approx(expected));
    }
    if (p.name == "model.22.dfl.conv.weight") {
      for (Index i = 0; i < 16; ++i) CHECK((*p.parameter)[i] == static_cast<float>(i));
    }
  }
  const yolo::Conv conv(3, 16, 3, 2);
  CHECK(conv.bn.options.eps == 1e-3);
  CHECK(conv.bn.options.momentum == 0.03);
}

// Of two pictures of 64×96 pixels and three classes.
std::vector<Tensor> random_maps() {
  std::vector<Tensor> maps;
  for (const Index stride : Features::strides) {
    const Shape shape{2, 64 / stride, 96 / stride, 64 + 3};
    maps.push_back(random_tensor<float>(shape, static_cast<std::uint64_t>(stride), -3, 3));
  }
  return maps;
}

TEST_CASE("decoding, against the definition") {
  const YoloV8 model(tiny<YoloV8Config>());
  const std::vector<Tensor> maps = random_maps();
  const NoGrad no_grad;
  const BoxCandidates c = model.head.decode(maps);
  const Index count = 8 * 12 + 4 * 6 + 2 * 3;
  REQUIRE(c.boxes.shape() == Shape{2, count, 4});
  REQUIRE(c.scores.shape() == Shape{2, count, 3});
  double box_error = 0, score_error = 0;
  for (Index n = 0; n < 2; ++n) {
    Index place = 0;
    for (std::size_t level = 0; level < 3; ++level) {
      const Tensor& map = maps[level];
      const double stride = static_cast<double>(Features::strides[level]);
      for (Index y = 0; y < map.dim(1); ++y) {
        for (Index x = 0; x < map.dim(2); ++x, ++place) {
          const float* p = map.data() + ((n * map.dim(1) + y) * map.dim(2) + x) * map.dim(3);
          const float* box = c.boxes.data() + (n * count + place) * 4;
          const double center[] = {static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5};
          for (int side = 0; side < 4; ++side) {
            double sum = 0, mean = 0;
            for (int bin = 0; bin < 16; ++bin) {
              const double e = std::exp(static_cast<double>(p[side * 16 + bin]));
              sum += e;
              mean += bin * e;
            }
            const double expected = stride * (center[side % 2] + (side < 2 ? -1 : 1) * mean / sum);
            box_error = std::max(box_error, std::abs(expected - static_cast<double>(box[side])));
          }
          for (int k = 0; k < 3; ++k) {
            const double expected = 1 / (1 + std::exp(-static_cast<double>(p[64 + k])));
            const double score = static_cast<double>(c.scores[(n * count + place) * 3 + k]);
            score_error = std::max(score_error, std::abs(expected - score));
          }
        }
      }
    }
  }
  CHECK(box_error <= 1e-4);
  CHECK(score_error <= 1e-6);
  CHECK_THROWS_WITH_AS(model.head.decode({maps[0]}), "decode: the maps of three levels are needed; got 1", UsageError);
}

TEST_CASE("decoding what is likely is decoding all, and leaving out the rest") {
  const YoloV8 model(tiny<YoloV8Config>());
  const std::vector<Tensor> maps = random_maps();
  const NoGrad no_grad;
  const BoxCandidates all = model.head.decode(maps);
  for (const float confidence : {1e-6f, 0.3f, 0.9f, 0.94f, 0.96f, 1.0f}) {
    const BoxCandidates likely = model.head.decode(maps, confidence);
    const Index count = all.scores.dim(1), left = likely.scores.dim(1);
    REQUIRE(likely.boxes.shape() == Shape{2, left, 4});
    Index at = 0;
    double difference = 0;
    for (Index place = 0; place < count; ++place) {
      float best = 0;
      for (Index n = 0; n < 2; ++n) {
        for (Index k = 0; k < 3; ++k) best = std::max(best, all.scores[(n * count + place) * 3 + k]);
      }
      if (best <= confidence) continue;
      REQUIRE(at < left);
      for (Index n = 0; n < 2; ++n) {
        for (Index k = 0; k < 3; ++k) CHECK(likely.scores[(n * left + at) * 3 + k] == all.scores[(n * count + place) * 3 + k]);
        for (Index k = 0; k < 4; ++k) {
          difference = std::max(difference, std::abs(static_cast<double>(likely.boxes[(n * left + at) * 4 + k] - all.boxes[(n * count + place) * 4 + k])));
        }
      }
      ++at;
    }
    CHECK(at == left);
    CHECK(difference <= 1e-4);
    CHECK((left > 0) == (confidence < 0.95f));
  }
}

TEST_CASE("boxes pass gradients to the maps") {
  const YoloV8 model(tiny<YoloV8Config>());
  Tensor map = random_tensor<float>({1, 1, 2, 64 + 3}, 1);
  const Tensor direction = random_tensor<float>({1, 2 + 2 + 2, 4}, 2);
  const auto value = [&](const Tensor& m) { return sum(model.head.decode({m, m, m}).boxes * direction); };
  map.requires_grad();
  backward(value(map));
  const Tensor gradient = map.grad();
  const NoGrad no_grad;
  double worst = 0;
  for (Index i = 0; i < 128; i += 7) {
    Tensor above = map.clone(), below = map.clone();
    above[i] += 0.05f;
    below[i] -= 0.05f;
    const double slope = (static_cast<double>(value(above).item()) - static_cast<double>(value(below).item())) / 0.1;
    worst = std::max(worst, std::abs(slope - static_cast<double>(gradient[i])));
  }
  CHECK(worst <= 1e-2);
  CHECK(max_abs(gradient) > 0.1);
}

TEST_CASE("config.json, written and read again; what does not fit is refused") {
  Yolo11Config c = Yolo11Config::m();
  c.box_bins = 8;
  c.width_multiple = 0.3;
  c.labels = {"RBC", "WBC", "platelet"};
  JsonWriter json;
  json.begin_object();
  c.write(json);
  json.end_object();
  const Yolo11Config again = Yolo11Config::from_json(Json::parse(json.str(), "config.json"));
  CHECK(again.variant == "m");
  CHECK(again.nested);
  CHECK(again.box_bins == 8);
  CHECK(again.width_multiple == 0.3);
  CHECK(again.depth_multiple == 0.5);
  CHECK(again.max_channels == 512);
  CHECK(again.labels == c.labels);

  const auto from = [](const std::string& text) { return make_network(Json::parse(text, "config.json")); };
  const auto network = from(R"({"model_type": "yolov8", "variant": "n", "num_labels": 2})");
  CHECK(network->task() == Task::detect);
  CHECK(std::string(network->model_type()) == "yolov8");
  REQUIRE(network->output_names().size() == 3);
  CHECK(std::string(network->output_names()[2]) == "p5");
  CHECK(network->labels().size() == 2);
  CHECK_THROWS_WITH_AS(from(R"({"model_type": "yolov8", "variant": "q"})"),
                       "config.json: variant: \"q\" is not a variant that the library has (n, s, m, l, x)", FileError);
  CHECK_THROWS_AS(from(R"({"model_type": "yolo11", "variant": "n", "width_multiple": 0})"), FileError);
  CHECK_THROWS_AS(from(R"({"model_type": "yolo11", "variant": "n", "depth_multiple": 9})"), FileError);
  CHECK_THROWS_WITH_AS(from(R"({"model_type": "yolo11", "variant": "n", "box_bins": 1})"),
                       "config.json: box_bins: must lie between 2 and 256; got 1", FileError);
  CHECK_THROWS_WITH_AS(from(R"({"model_type": "yolov8", "variant": "n", "num_labels": 65537})"),
                       "config.json: num_labels: must lie between 1 and 65536; got 65537", FileError);
  std::string names;
  for (int i = 0; i < 65537; ++i) names += (i ? ", \"" : "\"") + std::to_string(i) + "\": \"\"";
  CHECK_THROWS_WITH_AS(from(R"({"model_type": "yolov8", "variant": "n", "id2label": {)" + names + "}}"),
                       "config.json: id2label: must name between 1 and 65536 classes; got 65537", FileError);
  CHECK(YoloV8Config::from_json(Json::parse(R"({"variant": "n", "box_bins": 2, "num_labels": 65536})", "config.json")).labels.size() == 65536);

  CHECK_THROWS_WITH_AS(from(R"({"model_type": "yolov8", "variant": "n", "num_labels": 1, "id2label": {"0": "a", "1": "b"}})"),
                       doctest::Contains("config.json: num_labels: is 1, but id2label names 2 classes"), FileError);
  CHECK(from(R"({"model_type": "yolov8", "variant": "n", "num_labels": null, "id2label": {"0": "a", "1": "b"}})")->labels().size() == 2);

  const Tensor x({1, 64, 64, 3});
  CHECK_THROWS_WITH_AS(network->forward(x), "yolov8: forward needs a network with one output; outputs() gives all",
                       UsageError);
  CHECK_THROWS_WITH_AS(network->outputs(Tensor({1, 64, 80, 3})),
                       "yolov8: the picture must be (N, H, W, C), H and W multiples of 32; got (1, 64, 80, 3); a "
                       "letterbox brings it to such a size",
                       ShapeError);
  const auto classifier = from(R"({"model_type": "lenet", "num_labels": 10})");
  CHECK_THROWS_WITH_AS(classifier->decode({}), "decode: lenet does not detect", UsageError);
}
