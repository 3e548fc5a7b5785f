// A detector as one object: boxes in pixels of the picture whatever its proportions, what was suppressed, the picture
// with its boxes, and where each way of resizing puts a picture.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ocellus/autograd/context.hpp>
#include <ocellus/models/zoo.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/pipeline.hpp>
#include <ocellus/runtime/random.hpp>
#include <ocellus/testing/gradcheck.hpp>
#include <ocellus/vision/draw.hpp>
#include <ocellus/vision/image_file.hpp>

#include "io_support.hpp"

using namespace ocellus;

namespace {

// Random weights whose scores lie on either side of the usual thresholds and whose boxes are of many sizes.
std::shared_ptr<Network> detector(const std::string& type = "yolov8") {
  manual_seed(4);
  std::shared_ptr<Network> network = make_network(Json::parse(
      R"({"model_type": ")" + type + R"(", "variant": "n", "width_multiple": 0.125, "max_channels": 64, "num_labels": 3})", "config.json"));
  std::uint64_t seed = 10;
  const std::string head = type == "yolov8" ? "model.22." : "model.23.";
  for (const NamedParameter& p : network->parameters()) {
    if (p.name.ends_with("dfl.conv.weight") || p.name.ends_with("tracked")) continue;
    const bool positive = p.name.ends_with("running_var") || p.name.ends_with("bn.weight");
    const Index fan_in = p.parameter->rank() == 4 ? p.parameter->numel() / p.parameter->dim(0) : 4;
    const double width = 2.2 / std::sqrt(static_cast<double>(fan_in));
    const Tensor values = random_tensor<float>(p.parameter->shape(), ++seed, positive ? 0.5 : -width, positive ? 1.5 : width);
    const bool of_boxes = p.name.starts_with(head + "cv2.") && p.name.ends_with(".2.bias");
    for (Index i = 0; i < values.numel(); ++i) (*p.parameter)[i] = values[i] - (of_boxes ? 0.3f * static_cast<float>(i % 16) : 0.0f);
  }
  return network;
}

Preprocess letterboxed(Index size = 64) {
  Preprocess p;
  p.resize = ResizePolicy::letterbox;
  p.size = size;
  p.do_normalize = false;
  return p;
}

Image noise(Size2 size, Index channels = 3) {
  Image image(size, channels);
  RandomStream random(7);
  std::uint8_t* p = image.writable();
  for (Index i = 0; i < size.h * size.w * channels; ++i) p[i] = static_cast<std::uint8_t>(random.below(256));
  return image;
}

Index pixels_that_differ(const Image& a, const Image& b) {
  Index count = 0;
  for (Index y = 0; y < a.height(); ++y) {
    for (Index x = 0; x < a.width(); ++x) count += std::memcmp(a.row(y) + 3 * x, b.row(y) + 3 * x, 3) != 0;
  }
  return count;
}

bool is(const Image& image, Index x, Index y, Colour c) {
  const std::uint8_t* p = image.row(y) + 3 * x;
  return p[0] == c.red && p[1] == c.green && p[2] == c.blue;
}

}  // namespace

TEST_CASE("detect is letterbox, network, decoding, suppression and the way back, for wide and tall pictures") {
  Index in_padding = 0;
  for (const std::string type : {"yolov8", "yolo11"}) {
    const std::shared_ptr<Network> network = detector(type);
    const Model model(network, letterboxed(), "mine");
    for (const Size2 size : {Size2(20, 90), Size2(75, 31), Size2(64, 64), Size2(130, 200)}) {
      INFO(type << " " << size.str());
      const Image picture = noise(size);
      const DetectResult result = model.detect(picture, {.explain = true});

      // By hand: the larger side fills 64 pixels, grey on either side of the other.
      const double scale = 64.0 / static_cast<double>(std::max(size.h, size.w));
      const Index w = std::llrint(static_cast<double>(size.w) * scale), h = std::llrint(static_cast<double>(size.h) * scale);
      const Index left = (64 - w) / 2, top = (64 - h) / 2;
      const Image small = resize(picture, h, w, Filter::bilinear);
      Tensor input = Tensor::full({1, 64, 64, 3}, static_cast<float>(114 * (1.0 / 255.0)));
      for (Index y = 0; y < h; ++y) {
        for (Index i = 0; i < 3 * w; ++i) {
          input[((top + y) * 64 + left) * 3 + i] = static_cast<float>(static_cast<double>(small.row(y)[i]) * (1.0 / 255.0));
        }
      }
      CHECK(max_difference(model.prepare({&picture, 1}), input) == 0);
      const NoGrad no_grad;
      const BoxCandidates all = network->decode(model.runner().outputs(input));
      CHECK(all.boxes.shape() == Shape{1, 64 + 16 + 4, 4});
      // What does not touch the picture is no candidate.
      for (Index i = 0; i < all.boxes.dim(1); ++i) {
        float* b = all.boxes.data() + 4 * i;
        const auto beside = [](float from, float to, Index first, Index count) {
          return to <= static_cast<float>(first) || from >= static_cast<float>(first + count);
        };
        if (!beside(b[0], b[2], left, w) && !beside(b[1], b[3], top, h)) continue;
        in_padding += *std::max_element(all.scores.data() + 3 * i, all.scores.data() + 3 * i + 3) > 0.25f;
        b[0] = std::numeric_limits<float>::quiet_NaN();
      }
      const Detections found = find_detections(all.boxes, all.scores, {}, true)[0];
      REQUIRE(found.kept.size() > 4);
      REQUIRE(found.suppressed.size() > 0);
      REQUIRE(result.objects.size() == found.kept.size());
      REQUIRE(result.suppressed.size() == found.suppressed.size());
      const auto check = [&](const DetectedObject& o, const Detection& d) {
        CHECK(o.id == d.label);
        CHECK(o.name == model.labels()[static_cast<std::size_t>(d.label)]);
        CHECK(o.score == d.score);
        const float edges[] = {d.box.x1, d.box.y1, d.box.x2, d.box.y2}, got[] = {o.box.x1, o.box.y1, o.box.x2, o.box.y2};
        double off = 0;
        for (int e = 0; e < 4; ++e) {
          const bool across = e % 2 == 0;
          const double side = static_cast<double>(across ? size.w : size.h);
          const double back = (static_cast<double>(edges[e]) - static_cast<double>(across ? left : top)) * side / static_cast<double>(across ? w : h);
          off = std::max(off, std::abs(std::clamp(back, 0.0, side) - static_cast<double>(got[e])));
        }
        CHECK_MESSAGE(off <= 1e-4, off);
        CHECK(o.box.area() > 0);
      };
      float last = 1;
      for (std::size_t i = 0; i < result.objects.size(); ++i) {
        check(result.objects[i], found.kept[i]);
        CHECK(result.objects[i].score <= last);
        last = result.objects[i].score;
      }
      CHECK(last > 0.25f);
      for (std::size_t i = 0; i < result.suppressed.size(); ++i) {
        check(result.suppressed[i].object, found.suppressed[i].detection);
        CHECK(result.suppressed[i].by == found.suppressed[i].by);
        const float overlap = iou(found.suppressed[i].detection.box, found.kept[static_cast<std::size_t>(found.suppressed[i].by)].box);
        CHECK(result.suppressed[i].iou == overlap);
        CHECK(overlap > 0.7f);
      }
      CHECK(result.picture.size() == size);
      CHECK(result.class_count == 3);
    }
  }
  CHECK(in_padding > 0);
}

TEST_CASE("the options of detect") {
  const Model model(detector(), letterboxed(), "mine");
  const Image picture = noise({40, 60});
  const DetectResult usual = model.detect(picture);
  REQUIRE(usual.objects.size() > 4);
  CHECK(usual.suppressed.empty());
  const auto count = [&](const NmsOptions& nms) { return model.detect(picture, {.nms = nms}).objects.size(); };
  CHECK(count({.confidence = 0.999999f}) == 0);
  CHECK(count({.confidence = usual.objects[3].score}) == 3);
  CHECK(count({.iou = 1.0f}) > usual.objects.size());
  CHECK(count({.iou = 0.2f, .class_agnostic = true}) < count({.iou = 0.2f}));
  CHECK(count({.max_detections = 2}) == 2);
  CHECK(model.detect(picture, {.nms = {.max_detections = 2}}).objects[1].box == usual.objects[1].box);

  // Without proportions to keep, each axis has its own scale; pictures of one channel are seen as grey.
  Preprocess stretch = letterboxed();
  stretch.resize = ResizePolicy::stretch;
  const Model stretching(detector(), stretch, "mine");
  const Image grey = noise({32, 128}, 1);
  const DetectResult flat = stretching.detect(grey);
  const BoxCandidates all = stretching.candidates(stretching.prepare({&grey, 1}));
  const Detections found = find_detections(all.boxes, all.scores)[0];
  REQUIRE(flat.objects.size() == found.kept.size());
  REQUIRE(!found.kept.empty());
  const Box &a = flat.objects[0].box, &b = found.kept[0].box;
  CHECK(a.x2 == std::clamp(b.x2 * 2, 0.0f, 128.0f));
  CHECK(a.y2 == std::clamp(b.y2 / 2, 0.0f, 32.0f));
  CHECK(flat.picture.channels() == 3);
}

TEST_CASE("candidates are those of the network, picture by picture") {
  const std::shared_ptr<Network> network = detector();
  const Model model(network, letterboxed(), "mine");
  const Tensor x = random_tensor<float>({2, 32, 64, 3}, 3, 0, 1);
  const BoxCandidates got = model.candidates(x);
  const NoGrad no_grad;
  const BoxCandidates expected = network->decode(network->outputs(x));
  CHECK(got.boxes.shape() == Shape{2, 32 + 8 + 2, 4});
  CHECK(got.scores.shape() == Shape{2, 32 + 8 + 2, 3});
  CHECK(max_difference(got.boxes, expected.boxes) <= 1e-3);
  CHECK(max_difference(got.scores, expected.scores) <= 1e-5);
}

TEST_CASE("what is no detector does not detect, and what is not finite is no answer") {
  const Image picture = noise({20, 30});
  manual_seed(1);
  const Model classifier(make_network("lenet", {"a", "b"}, 1, 28, -1), {.size = 28}, "lenet");
  CHECK_THROWS_WITH_AS(classifier.detect(picture), "detect: lenet is a lenet model for the task 'classify'", UsageError);
  CHECK_THROWS_WITH_AS(classifier.candidates(Tensor({1, 28, 28, 1})), "candidates: lenet is a lenet model for the task 'classify'", UsageError);
  const Model model(detector(), letterboxed(), "mine");
  CHECK_THROWS_WITH_AS(model.segment(picture), "segment: mine is a yolov8 model for the task 'detect'", UsageError);
  CHECK_THROWS_AS(model.run(Tensor({1, 64, 64, 3})), UsageError);
  CHECK_THROWS_AS(model.detect(Image()), UsageError);

  for (const std::string name : {"model.0.conv.weight", "model.22.cv3.1.2.bias", "model.22.cv2.2.2.weight"}) {
    const std::shared_ptr<Network> network = detector();
    for (const NamedParameter& p : network->parameters()) {
      if (p.name == name) (*p.parameter)[0] = std::numeric_limits<float>::quiet_NaN();
    }
    const Model broken(network, letterboxed(), "mine");
    CHECK_THROWS_WITH_AS(broken.detect(picture), doctest::Contains("is not finite; the weights are damaged"), Error);
    CHECK_THROWS_WITH_AS(broken.candidates(broken.prepare({&picture, 1})), doctest::Contains("is not finite; the weights are damaged"), Error);
  }
  Preprocess crops = letterboxed();
  crops.do_center_crop = true;
  CHECK_THROWS_WITH_AS(Model(detector(), crops, "mine").detect(picture), doctest::Contains("boxes need the whole picture"), UsageError);
}

TEST_CASE("an overlay shows each box at its edges, inside of the picture") {
  DetectResult result;
  result.picture = Image({60, 90}, 3, 128);
  result.class_count = 2;
  const Palette palette = distinct_palette(2);
  CHECK(pixels_that_differ(result.overlay(), result.picture) == 0);
  result.objects = {{1, "cat", 0.9f, {20.2f, 30.0f, 69.6f, 50.4f}}};
  const Image one = result.overlay();
  CHECK(one.size() == result.picture.size());
  for (const auto& [x, y] : {std::pair<Index, Index>{20, 30}, {69, 30}, {20, 49}, {69, 49}, {45, 30}, {45, 49}, {20, 40}, {69, 40}}) {
    CHECK_MESSAGE(is(one, x, y, palette[1]), "(" << x << ", " << y << ")");
  }
  for (const auto& [x, y] : {std::pair<Index, Index>{45, 40}, {21, 40}, {19, 40}, {70, 40}, {45, 50}, {10, 10}}) {
    CHECK_MESSAGE(is(one, x, y, {128, 128, 128}), "(" << x << ", " << y << ")");
  }
  CHECK(pixels_that_differ(result.picture, Image({60, 90}, 3, 128)) == 0);  // stays as it was

  // The likeliest lies on top; a name longer than the picture, flat boxes and those at its edges are cut off.
  result.objects.push_back({0, "dog", 0.5f, {20.2f, 30.0f, 69.6f, 50.4f}});
  CHECK(is(result.overlay(), 45, 49, palette[1]));
  std::swap(result.objects[0], result.objects[1]);
  CHECK(is(result.overlay(), 45, 49, palette[0]));
  result.objects = {{0, std::string(40, 'x'), 1, {0, 0, 90, 60}}, {1, "", 0.3f, {90, 60, 90, 60}}, {1, "flat", 0.3f, {0, 12, 0, 12}}};
  const Image edges = result.overlay();
  CHECK(is(edges, 0, 59, palette[0]));
  CHECK(is(edges, 89, 59, palette[0]));

  // Lines grow with the picture.
  result.picture = Image({900, 1200}, 3, 128);
  result.objects = {{0, "dog", 0.5f, {200, 300, 600, 700}}};
  const Image large = result.overlay();
  CHECK(is(large, 203, 500, palette[0]));
  CHECK(is(large, 204, 500, {128, 128, 128}));

  // Of a real answer, written and read again.
  const Model model(detector(), letterboxed(), "mine");
  const Image picture = noise({48, 70});
  const DetectResult real = model.detect(picture);
  REQUIRE(!real.objects.empty());
  const io_test::TemporaryFolder folder;
  real.save_overlay(folder / "overlay.png");
  const Image written = read_image(folder / "overlay.png");
  REQUIRE(written.size() == picture.size());
  CHECK(pixels_that_differ(written, real.overlay()) == 0);
  CHECK(pixels_that_differ(written, picture) > 0);
}

TEST_CASE("where each way of resizing puts a picture") {
  struct Row {
    ResizePolicy policy;
    Size2 original, scaled;
    Index pad_left = 0, pad_top = 0;
    bool may_enlarge = true;
  };
  const Row rows[] = {{ResizePolicy::none, {30, 50}, {30, 50}},
                      {ResizePolicy::stretch, {30, 50}, {64, 96}},
                      {ResizePolicy::shortest_edge, {30, 60}, {40, 80}},
                      {ResizePolicy::shortest_edge, {100, 50}, {80, 40}},
                      {ResizePolicy::letterbox, {30, 60}, {48, 96}, 0, 8},
                      {ResizePolicy::letterbox, {60, 30}, {64, 32}, 32, 0},
                      {ResizePolicy::letterbox, {31, 41}, {64, 85}, 5, 0},
                      {ResizePolicy::letterbox, {31, 41}, {31, 41}, 27, 16, false}};
  for (const Row& row : rows) {
    Preprocess p;
    p.resize = row.policy;
    p.size = {64, 96};
    p.shortest_edge = 40;
    p.letterbox_may_enlarge = row.may_enlarge;
    INFO(static_cast<int>(row.policy) << " " << row.original.str());
    const Letterbox placed = placement_of(p, row.original);
    CHECK(placed.original == row.original);
    CHECK(placed.scaled == row.scaled);
    CHECK(placed.pad_left == row.pad_left);
    CHECK(placed.pad_top == row.pad_top);

    // A white picture is found there, and nowhere else.
    p.pad_value = 0;
    const Image prepared = prepare(Image(row.original, 3, 255), p);
    Index white = 0, stray = 0;
    for (Index y = 0; y < prepared.height(); ++y) {
      for (Index x = 0; x < prepared.width(); ++x) {
        const Index column = x - placed.pad_left, line = y - placed.pad_top;
        const bool inside = column >= 0 && column < placed.scaled.w && line >= 0 && line < placed.scaled.h;
        white += inside && prepared.row(y)[3 * x] == 255;
        stray += !inside && prepared.row(y)[3 * x] != 0;
      }
    }
    CHECK(white == placed.scaled.h * placed.scaled.w);
    CHECK(stray == 0);

    const Box box{3, 4, 20, 25}, back = placed.to_original(placed.to_letterbox(box));
    CHECK(std::abs(back.x1 - box.x1) + std::abs(back.y1 - box.y1) + std::abs(back.x2 - box.x2) + std::abs(back.y2 - box.y2) <= 1e-4f);

    p.do_center_crop = true;
    CHECK_THROWS_WITH_AS(placement_of(p, row.original), "placement_of: boxes need the whole picture; this preprocessing crops it", UsageError);
  }
}
