// Boxes and their suppression: formats, overlaps by hand, a plain-loop twin of the suppression, ties, what suppressed
// what.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <ocellus/core.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/runtime.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/preprocess.hpp>

using namespace ocellus;

namespace {

using DoubleBox = BasicBox<double>;

const NamedTensors& golden() {
  static const NamedTensors file = read_safetensors(OCELLUS_TEST_DIR "/golden/detection.safetensors");
  return file;
}

// The cases of one kind that the file lists.
Json cases(const char* kind) { return Json::parse(golden().metadata.at(kind), "detection.safetensors"); }

Image view_of(const AnyTensor& pixels) {
  const BasicTensor<std::uint8_t> t(pixels);
  return Image::view(t.data(), t.dim(1), t.dim(0), t.dim(1) * 3, PixelOrder::rgb);
}

doctest::Approx approx(double value) { return doctest::Approx(value).epsilon(1e-6); }

struct Scene {
  std::vector<Box> boxes;
  std::vector<float> scores;
  std::vector<Index> labels;
};

// Boxes of 10 to 40 pixels in a square; scores of few distinct values, so that many are equal.
Scene random_scene(Index count, Index classes, float side, std::uint64_t seed, Index distinct_scores) {
  RandomStream random(seed);
  Scene s;
  for (Index i = 0; i < count; ++i) {
    const float x = random.uniform(0, side), y = random.uniform(0, side);
    s.boxes.push_back({x, y, x + random.uniform(10, 40), y + random.uniform(10, 40)});
    s.scores.push_back(static_cast<float>(random.below(distinct_scores)) / static_cast<float>(distinct_scores));
    s.labels.push_back(random.below(classes));
  }
  return s;
}

// Each candidate, best first, against every kept box.
NmsResult twin(const Scene& s, const NmsOptions& o) {
  std::vector<std::size_t> order(s.boxes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return !(s.scores[i] > o.confidence); });
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return s.scores[a] > s.scores[b]; });
  if (static_cast<Index>(order.size()) > o.max_candidates) order.resize(static_cast<std::size_t>(o.max_candidates));
  NmsResult r;
  r.suppressed_by.assign(s.boxes.size(), -1);
  for (const std::size_t i : order) {
    if (static_cast<Index>(r.kept.size()) == o.max_detections) break;
    for (const Index k : r.kept) {
      const auto at = static_cast<std::size_t>(k);
      const bool rivals = o.class_agnostic || s.labels[at] == s.labels[i];
      if (rivals && iou(s.boxes[at], s.boxes[i]) > o.iou) {
        r.suppressed_by[i] = k;
        break;
      }
    }
    if (r.suppressed_by[i] < 0) {
      r.kept.push_back(static_cast<Index>(i));
      r.scores.push_back(s.scores[i]);
    }
  }
  return r;
}

}  // namespace

TEST_CASE("box formats") {
  const Box b{2, 4, 10, 8};
  CHECK(from_box(BoxFormat::xywh, b) == std::array<float, 4>{2, 4, 8, 4});
  CHECK(from_box(BoxFormat::cxcywh, b) == std::array<float, 4>{6, 6, 8, 4});
  for (const BoxFormat format : {BoxFormat::xyxy, BoxFormat::xywh, BoxFormat::cxcywh})
    CHECK(to_box(format, from_box(format, b)) == b);
  CHECK(normalised(b, {16, 20}) == Box{0.1f, 0.25f, 0.5f, 0.5f});
  CHECK(in_pixels(normalised(b, {16, 32}), {16, 32}) == b);
  CHECK(clipped(Box{-3, 1, 50, 9}, {6, 20}) == Box{0, 1, 20, 6});
  CHECK(clipped(Box{-9, -9, -3, -1}, {6, 20}).area() == 0);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  CHECK(in_order(b));
  CHECK(in_order(Box{1, 1, 1, 5}));
  CHECK_FALSE(in_order(Box{3, 1, 1, 5}));
  CHECK_FALSE(in_order(Box{0, 5, 1, 1}));
  CHECK_FALSE(in_order(Box{0, nan, 1, 1}));
  CHECK_FALSE(in_order(Box{0, 0, infinity, 1}));

  const Tensor list({2, 4}, {2, 4, 8, 4, 0, 0, 1, 3});
  const Tensor centres = convert_boxes(list, BoxFormat::xywh, BoxFormat::cxcywh);
  CHECK(std::equal(centres.begin(), centres.end(), Tensor({2, 4}, {6, 6, 8, 4, 0.5f, 1.5f, 1, 3}).begin()));
  CHECK_THROWS_WITH_AS(convert_boxes(Tensor({4, 3}), BoxFormat::xyxy, BoxFormat::xywh),
                       "convert_boxes: boxes must be (..., 4); got (4, 3)", ShapeError);
}

TEST_CASE("overlap by hand") {
  // 10 × 10 each, 5 × 5 shared, 15 × 15 around both, centres 5 apart in x and y
  const DoubleBox a{0, 0, 10, 10}, b{5, 5, 15, 15};
  const double shared = 25.0 / 175;
  CHECK(iou(a, b) == approx(shared));
  CHECK(overlap(Overlap::iou, a, b) == iou(a, b));
  CHECK(overlap(Overlap::giou, a, b) == approx(shared - 50.0 / 225));
  CHECK(overlap(Overlap::diou, a, b) == approx(shared - 50.0 / 450));
  CHECK(overlap(Overlap::ciou, a, b) == approx(shared - 50.0 / 450));  // same proportions
  // 8 × 2 in a square of 8 with the same centre
  const DoubleBox square{0, 0, 8, 8}, flat{0, 3, 8, 5};
  const double turn = 2 / 3.14159265358979 * (std::atan(4.0) - std::atan(1.0)), v = turn * turn;
  CHECK(overlap(Overlap::ciou, square, flat) == approx(0.25 - v * v / (0.75 + v)));
  // Apart, flat and reversed boxes share nothing.
  const DoubleBox apart{20, 0, 30, 10};
  CHECK(iou(a, apart) == 0);
  CHECK(overlap(Overlap::giou, a, apart) == approx(-100.0 / 300));
  CHECK(iou(DoubleBox{1, 1, 1, 5}, DoubleBox{1, 1, 1, 5}) == 0);
  CHECK(iou(DoubleBox{10, 10, 0, 0}, a) == 0);
  for (const Overlap kind : {Overlap::iou, Overlap::giou, Overlap::diou, Overlap::ciou}) {
    CHECK(overlap(kind, a, a) == approx(1));
    CHECK(overlap(kind, a, flat) == overlap(kind, flat, a));
    CHECK(std::isfinite(overlap(kind, Box{1, 1, 1, 1}, Box{1, 1, 1, 1}, 1e-7f)));
  }
  const Tensor table = overlaps(Tensor({2, 4}, {0, 0, 10, 10, 20, 0, 30, 10}), Tensor({1, 4}, {5, 5, 15, 15}));
  CHECK(table.shape() == Shape{2, 1});
  CHECK(static_cast<double>(table[0]) == approx(shared));
  CHECK(table[1] == 0);
  CHECK(overlaps(Tensor({0, 4}), Tensor({3, 4})).shape() == Shape{0, 3});
  CHECK_THROWS_WITH_AS(overlaps(Tensor({4}), Tensor({1, 4})),
                       "overlaps: two lists (N, 4) of boxes are needed; got a=(4), b=(1, 4)", ShapeError);
}

TEST_CASE("boxes through a letterbox and back") {
  const Letterbox letterbox = letterbox_of({333, 500}, 320);
  const Box b{10, 20, 400, 300};
  const Box there = letterbox.to_letterbox(b), back = letterbox.to_original(there);
  CHECK(there.x1 == doctest::Approx(10 * 0.64));
  CHECK(there.y1 == doctest::Approx(20 * 213.0 / 333 + 53));
  CHECK(iou(b, back) == doctest::Approx(1).epsilon(1e-5));
  CHECK(letterbox.to_original(Box{-10, 0, 330, 320}) == Box{0, 0, 500, 333});
  CHECK(there.x2 == doctest::Approx(256));
}

TEST_CASE("boxes in the padding are no candidates") {
  const Letterbox placed = letterbox_of({20, 40}, {64, 64});  // rows 16 to 48
  const Tensor boxes({2, 3, 4}, {0, 0,  64, 16, 10, 0,  20, 17, 10, 47, 20, 60,  //
                                 5, 48, 9,  64, 10, 20, 10, 30, -9, 20, 0,  30});
  const Tensor left = without_padding(boxes, placed);
  REQUIRE(left.shape() == boxes.shape());
  const bool stays[] = {false, true, true, false, false, false};
  for (Index i = 0; i < 6; ++i) {
    for (Index k = 0; k < 4; ++k) {
      const float v = left[4 * i + k];
      CHECK_MESSAGE((stays[i] ? v == boxes[4 * i + k] : std::isnan(v)), i << ", " << k);
    }
  }
  CHECK_THROWS_WITH_AS(without_padding(Tensor({2, 3}), placed), "without_padding: boxes must be (..., 4); got (2, 3)", ShapeError);
}

TEST_CASE("letterbox equals the reference: pixels within 1, boxes exactly") {
  const Json list = cases("letterbox");
  for (Index c = 0; c < list.size(); ++c) {
    const std::string name = list.at(c).get<std::string>("name");
    CAPTURE(name);
    const auto target = list.at(c).get<std::vector<Index>>("target");
    const Image image = view_of(golden().at(name + ".image")), theirs = view_of(golden().at(name + ".boxed"));
    const Image ours = letterbox(image, target[0], target[1]);
    REQUIRE(ours.size() == theirs.size());
    int worst = 0;
    for (Index i = 0; i < target[0] * target[1] * 3; ++i)
      worst = std::max(worst, std::abs(int{ours.data()[i]} - int{theirs.data()[i]}));
    CHECK(worst <= 1);
    const Letterbox box = letterbox_of(image.size(), {target[0], target[1]});
    const Tensor boxes(golden().at(name + ".boxes")), original(golden().at(name + ".original"));
    bool same = true;
    for (Index i = 0; i < boxes.numel(); i += 4) {
      const float *b = boxes.data() + i, *o = original.data() + i;
      same &= box.to_original(Box{b[0], b[1], b[2], b[3]}) == Box{o[0], o[1], o[2], o[3]};
    }
    CHECK(same);
  }
}

TEST_CASE("suppression equals the reference") {
  const Json list = cases("nms");
  for (Index c = 0; c < list.size(); ++c) {
    const Json& row = list.at(c);
    const std::string name = row.get<std::string>("name");
    CAPTURE(name);
    const Tensor prediction(golden().at(name + ".prediction")), theirs(golden().at(name + ".found"));
    const BasicTensor<std::int64_t> rows(golden().at(name + ".rows"));
    const Index count = prediction.dim(0), classes = prediction.dim(1) - 4;
    Tensor boxes({1, count, 4}), scores({1, count, classes});
    for (Index i = 0; i < count; ++i) {
      const float* p = prediction.data() + i * (classes + 4);
      std::copy(p, p + 4, boxes.data() + 4 * i);
      std::copy(p + 4, p + 4 + classes, scores.data() + classes * i);
    }
    boxes = convert_boxes(boxes, BoxFormat::cxcywh, BoxFormat::xyxy);
    NmsOptions options{.confidence = static_cast<float>(row.get<double>("conf_thres")),
                       .iou = static_cast<float>(row.get<double>("iou_thres"))};
    options.class_agnostic = row.get<bool>("agnostic", false);
    options.several_labels = row.get<bool>("multi_label", false);
    options.max_detections = row.get<Index>("max_det", options.max_detections);
    const Detections found = std::move(find_detections(boxes, scores, options).front());
    REQUIRE(static_cast<Index>(found.kept.size()) == theirs.dim(0));
    bool same = true;
    for (Index i = 0; i < theirs.dim(0); ++i) {
      const Detection& d = found.kept[static_cast<std::size_t>(i)];
      const float* t = theirs.data() + 6 * i;
      same &= d.row == rows[i] && d.box == Box{t[0], t[1], t[2], t[3]} && d.score == t[4] &&
              d.label == static_cast<Index>(t[5]);
    }
    CHECK(same);
  }
}

TEST_CASE("suppression equals its twin") {
  const struct {
    Index count, classes;
    float side;
    NmsOptions options;
  } rows[] = {
      {0, 3, 100, {}},
      {1, 3, 100, {}},
      {300, 4, 100, {.iou = 0.3f}},
      {300, 4, 100, {.iou = 0.3f, .class_agnostic = true}},
      {700, 1, 60, {.confidence = 0, .iou = 0.5f, .max_detections = 40}},
      {700, 9, 300, {.confidence = 0, .iou = 0.1f, .max_candidates = 150}},
      {700, 9, 300, {.confidence = 0, .max_candidates = 400, .max_detections = 1000}},
      {50, 2, 30, {.max_detections = 0}},
      {50, 2, 30, {.max_candidates = 0}},
  };
  for (const auto& row : rows) {
    for (const Index distinct : {7, 100000}) {
      CAPTURE(row.count);
      const Scene s = random_scene(row.count, row.classes, row.side, 3, distinct);
      const NmsResult ours = nms(s.boxes, s.scores, s.labels, row.options), theirs = twin(s, row.options);
      CHECK(ours.kept == theirs.kept);
      CHECK(ours.scores == theirs.scores);
      CHECK(ours.suppressed_by == theirs.suppressed_by);
    }
  }
  const Scene s = random_scene(300, 4, 100, 3, 7);
  const NmsResult r = nms(s.boxes, s.scores, s.labels, {.iou = 0.3f});
  CHECK(r.kept.size() > 20);
  CHECK(std::count_if(r.suppressed_by.begin(), r.suppressed_by.end(), [](Index by) { return by >= 0; }) > 5);
}

TEST_CASE("suppression: what does not belong") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Box> boxes = {{0, 0, 9, 9}, {0, nan, 9, 9}, {20, 0, 29, 9}, {40, 0, 49, 9}};
  const std::vector<float> scores = {nan, 0.9f, 0.25f, 0.5f};
  const std::vector<Index> labels = {0, 0, 0, 0};
  CHECK(nms(boxes, scores, labels).kept == std::vector<Index>{3});
  CHECK_THROWS_WITH_AS(nms(boxes, scores, std::vector<Index>{0}),
                       "nms: as many scores and labels as boxes are needed; got 4 boxes, 4 scores, 1 labels",
                       UsageError);
  CHECK_THROWS_WITH_AS(nms(boxes, scores, std::vector<Index>{0, 1, 70000, 0}),
                       "nms: label 70000 of box 2 lies outside of [0, 65536)", UsageError);

  const std::pair<NmsOptions, const char*> wrong[] = {
      {{.confidence = nan}, "confidence must lie in [0, 1]; got nan"},
      {{.confidence = -0.1f}, "confidence must lie in [0, 1]; got -0.1"},
      {{.confidence = 1.5f}, "confidence must lie in [0, 1]; got 1.5"},
      {{.iou = nan}, "iou must lie in [0, 1]; got nan"},
      {{.iou = -1}, "iou must lie in [0, 1]; got -1"},
      {{.iou = 45}, "iou must lie in [0, 1]; got 45"},
      {{.max_candidates = -1}, "max_candidates must be 0 or more; got -1"},
      {{.max_detections = -300}, "max_detections must be 0 or more; got -300"},
      {{.suppression = Suppression::gaussian, .sigma = 0}, "sigma must be above 0; got 0"},
      {{.suppression = Suppression::gaussian, .sigma = nan}, "sigma must be above 0; got nan"}};
  for (const auto& [options, says] : wrong) {
    CHECK_THROWS_WITH_AS(nms(boxes, scores, labels, options), doctest::Contains((std::string("nms: ") + says).c_str()), UsageError);
    const std::string here = std::string("find_detections: ") + says;
    CHECK_THROWS_WITH_AS(find_detections(Tensor({0, 0, 4}), Tensor({0, 0, 1}), options), doctest::Contains(here.c_str()), UsageError);
  }
}

TEST_CASE("soft suppression by hand") {
  // b shares half of its union with a: IoU 5 × 10 / 150 = 1/3; c is another class, d far away.
  const std::vector<Box> boxes = {{5, 0, 15, 10}, {0, 0, 10, 10}, {0, 0, 10, 10}, {90, 0, 99, 9}};
  const std::vector<float> scores = {0.6f, 0.9f, 0.8f, 0.5f};
  const std::vector<Index> labels = {1, 1, 0, 1};
  const auto run = [&](const NmsOptions& o) { return nms(boxes, scores, labels, o); };
  NmsResult r = run({.confidence = 0.3f, .iou = 0.3f, .suppression = Suppression::linear});
  CHECK(r.kept == std::vector<Index>{1, 2, 3, 0});
  CHECK(static_cast<double>(r.scores[3]) == approx(0.6 * 2 / 3));
  r = run({.confidence = 0.3f, .iou = 0.4f, .suppression = Suppression::linear});
  CHECK(r.kept == std::vector<Index>{1, 2, 0, 3});
  r = run({.confidence = 0.3f, .suppression = Suppression::gaussian, .sigma = 0.5f});
  CHECK(r.kept == std::vector<Index>{1, 2, 3, 0});
  CHECK(static_cast<double>(r.scores[3]) == approx(0.6 * std::exp(-1.0 / 9 / 0.5)));
  r = run({.confidence = 0.49f, .suppression = Suppression::gaussian, .sigma = 0.5f});
  CHECK(r.suppressed_by == std::vector<Index>{1, -1, -1, -1});
  r = run({.confidence = 0.3f, .class_agnostic = true, .suppression = Suppression::gaussian, .sigma = 0.5f});
  CHECK(r.suppressed_by[2] == 1);
  r = run({.confidence = 0.3f, .max_detections = 2, .suppression = Suppression::linear});
  CHECK(r.kept == std::vector<Index>{1, 2});
}

TEST_CASE("find_detections: best or several labels, batches, explanations, threads") {
  const Index rows = 3000, classes = 19, pictures = 3;
  RandomStream random(11);
  Tensor boxes({pictures, rows, 4}), scores({pictures, rows, classes});
  for (Index i = 0; i < pictures * rows; ++i) {
    const float x = random.uniform(0, 300), y = random.uniform(0, 300);
    const float values[] = {x, y, x + random.uniform(20, 60), y + random.uniform(20, 60)};
    std::copy(values, values + 4, boxes.data() + 4 * i);
  }
  for (float& s : scores) s = random.bernoulli(0.01f) ? random.uniform() : 0.1f * random.uniform();

  for (const bool several : {false, true}) {
    const NmsOptions options{.iou = 0.4f, .several_labels = several, .max_detections = 10000};
    const auto found = find_detections(boxes, scores, options, true);
    REQUIRE(found.size() == 3);
    for (Index n = 0; n < pictures; ++n) {
      Scene s;
      std::vector<Index> row_of;
      for (Index i = 0; i < rows; ++i) {
        const float* p = scores.data() + (n * rows + i) * classes;
        const float* b = boxes.data() + (n * rows + i) * 4;
        const Index best = std::max_element(p, p + classes) - p;
        for (Index c = 0; c < classes; ++c) {
          if (several ? p[c] <= options.confidence : c != best) continue;
          s.boxes.push_back({b[0], b[1], b[2], b[3]});
          s.scores.push_back(p[c]);
          s.labels.push_back(c);
          row_of.push_back(i);
        }
      }
      const NmsResult expected = twin(s, options);
      const Detections& d = found[static_cast<std::size_t>(n)];
      REQUIRE(d.kept.size() == expected.kept.size());
      bool same = true;
      for (std::size_t i = 0; i < d.kept.size(); ++i) {
        const auto k = static_cast<std::size_t>(expected.kept[i]);
        same &= d.kept[i].row == row_of[k] && d.kept[i].label == s.labels[k] && d.kept[i].score == s.scores[k] &&
                d.kept[i].box == s.boxes[k];
      }
      CHECK(same);
      std::size_t suppressed = 0;
      for (const Index by : expected.suppressed_by) suppressed += by >= 0;
      CHECK(suppressed > 10);
      REQUIRE(d.suppressed.size() == suppressed);
      for (std::size_t i = 0; i < suppressed; ++i) {
        const Detections::Suppressed& gone = d.suppressed[i];
        const Detection& by = d.kept[static_cast<std::size_t>(gone.by)];
        same &= by.label == gone.detection.label && iou(by.box, gone.detection.box) > options.iou;
        same &= by.score >= gone.detection.score;
        same &= i == 0 || d.suppressed[i - 1].detection.score >= gone.detection.score;
      }
      CHECK(same);
    }
    const int threads = num_threads();
    set_num_threads(3);
    const auto again = find_detections(boxes, scores, options);
    set_num_threads(threads);
    bool same = true;
    for (std::size_t n = 0; n < 3; ++n) {
      same &= again[n].suppressed.empty() && again[n].kept.size() == found[n].kept.size();
      for (std::size_t i = 0; same && i < again[n].kept.size(); ++i)
        same &= again[n].kept[i].row == found[n].kept[i].row && again[n].kept[i].label == found[n].kept[i].label;
    }
    CHECK(same);
  }
  CHECK(find_detections(Tensor({2, 0, 4}), Tensor({2, 0, 5})).size() == 2);
  CHECK_THROWS_WITH_AS(find_detections(Tensor({2, 5, 4}), Tensor({2, 4, 3})),
                       "find_detections: boxes (N, A, 4) and scores (N, A, K) are needed; got boxes=(2, 5, 4), "
                       "scores=(2, 4, 3)",
                       ShapeError);
}
