// Metrics of detection: pycocotools' numbers for a hundred data sets, Pascal VOC's by hand, errors by kind, tables and
// charts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include <ocellus/core.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/metrics.hpp>
#include <ocellus/runtime.hpp>

using namespace ocellus;

namespace {

doctest::Approx approx(double value) { return doctest::Approx(value).epsilon(1e-12); }

struct Picture {
  std::vector<TrueObject> truth;
  std::vector<FoundObject> found;
};
struct DataSet {
  Index classes;
  std::vector<Picture> pictures;
};

double quarters(RandomStream& random, Index n, Index first = 0) {
  return static_cast<double>(first + random.below(n)) / 4;
}

// The data sets of weights_tools' coco_metrics.py, number by number.
DataSet draw(Index index, std::uint64_t first_seed) {
  RandomStream random(first_seed + static_cast<std::uint64_t>(index));
  DataSet set;
  set.classes = 1 + random.below(5);
  const Index pictures = 3 + random.below(8);
  for (Index p = 0; p < pictures; ++p) {
    const bool crowded = index % 10 == 0 && p == 0;
    Picture picture;
    Index count = random.below(5) ? random.below(12) : 0;
    for (; count > 0; --count) {
      const Index sides[] = {40, 160, 700};
      const Index side = sides[random.below(3)];
      TrueObject o;
      o.box.x = quarters(random, 1600);
      o.box.y = quarters(random, 1600);
      o.box.width = quarters(random, side, 1);
      o.box.height = quarters(random, side, 1);
      o.label = random.below(set.classes);
      o.crowd = random.below(8) == 0;
      o.area = o.box.area() / (random.below(3) == 0 ? 2 : 1);
      picture.truth.push_back(o);
    }
    count = crowded ? 120 + random.below(200) : (random.below(5) ? random.below(25) : 0);
    for (; count > 0; --count) {
      FoundObject f;
      if (!picture.truth.empty() && random.below(4)) {
        const TrueObject& near =
            picture.truth[static_cast<std::size_t>(random.below(static_cast<Index>(picture.truth.size())))];
        const Index steps[] = {1, 4, 16};
        const double step = static_cast<double>(steps[random.below(3)]) / 4;
        double v[4] = {near.box.x, near.box.y, near.box.width, near.box.height};
        for (double& value : v) value += static_cast<double>(random.below(9) - 4) * step;
        f.box = {v[0], v[1], std::max(v[2], 0.25), std::max(v[3], 0.25)};
        f.label = random.below(6) ? near.label : random.below(set.classes);
      } else {
        f.box.x = quarters(random, 1600);
        f.box.y = quarters(random, 1600);
        f.box.width = quarters(random, 700, 1);
        f.box.height = quarters(random, 700, 1);
        f.label = random.below(set.classes);
      }
      const Index steps = index % 4 == 3 ? 1000 : 12;
      f.score = static_cast<double>(random.below(steps)) / static_cast<double>(steps);
      picture.found.push_back(f);
    }
    set.pictures.push_back(std::move(picture));
  }
  return set;
}

template <class F>
std::string usage_error(F f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no UsageError";
}

}  // namespace

TEST_CASE("COCO's numbers equal pycocotools on a hundred data sets") {
  const Json golden = Json::read(OCELLUS_TEST_DIR "/golden/coco_metrics.json");
  const Json sets = golden.at("sets");
  REQUIRE(sets.size() == 100);
  Index crowds = 0, beyond_limit = 0, empty = 0;
  for (Index i = 0; i < sets.size(); ++i) {
    CAPTURE(i);
    const DataSet set = draw(i, golden.get<std::uint64_t>("first_seed"));
    DetectionMetric metric(set.classes);
    for (const Picture& p : set.pictures) {
      metric.add(p.truth, p.found);
      for (const TrueObject& o : p.truth) crowds += o.crowd;
      empty += p.truth.empty() || p.found.empty();
      beyond_limit += std::count_if(p.found.begin(), p.found.end(), [](const auto& f) { return f.label == 0; }) > 100;
    }
    const auto ours = metric.coco().values();
    const auto theirs = sets.at(i).get<std::vector<double>>();
    REQUIRE(theirs.size() == ours.size());
    for (std::size_t k = 0; k < ours.size(); ++k) {
      const double value = std::isnan(ours[k]) ? -1 : ours[k];  // theirs is −1 where nothing can be measured
      CHECK(std::abs(value - theirs[k]) <= 1e-9);
    }
  }
  CHECK(crowds > 100);
  CHECK(beyond_limit > 0);
  CHECK(empty > 50);
}

TEST_CASE("the same bits for any number of threads") {
  const DataSet set = draw(3, 1000);
  const int threads = num_threads();
  std::array<double, 12> values[2];
  for (int k = 0; k < 2; ++k) {
    set_num_threads(1 + 2 * k);
    DetectionMetric metric(set.classes);
    for (const Picture& p : set.pictures) metric.add(p.truth, p.found);
    values[k] = metric.coco().values();
  }
  set_num_threads(threads);
  CHECK(values[0] == values[1]);
}

TEST_CASE("Pascal VOC by hand") {
  // Three objects; detections by score: right, wrong (a duplicate), right, ignored (of a difficult object), wrong.
  DetectionMetric metric(2);
  metric.add({{{0, 0, 10, 10}, 0}, {{50, 0, 10, 10}, 0}, {{0, 50, 10, 10}, 0, -1, false, true}},
             {{{0, 0, 10, 9}, 0, 0.9}, {{0, 0, 10, 10}, 0, 0.8}, {{50, 1, 10, 9}, 0, 0.7}, {{0, 50, 10, 10}, 0, 0.6}});
  metric.add({{{0, 0, 10, 10}, 0}}, {{{20, 20, 10, 10}, 0, 0.5}});
  CHECK(metric.pictures() == 2);
  CHECK(metric.objects(0) == 3);
  CHECK(metric.detections(0) == 5);
  const PrecisionRecall curve = metric.curve(0);
  CHECK(curve.objects == 3);
  CHECK(curve.recall == std::vector<double>{1.0 / 3, 1.0 / 3, 2.0 / 3, 2.0 / 3});
  CHECK(curve.precision == std::vector<double>{1, 0.5, 2.0 / 3, 0.5});
  CHECK(curve.score == std::vector<double>{0.9, 0.8, 0.7, 0.5});
  CHECK(metric.voc_ap(0) == approx(1.0 / 3 + 1.0 / 3 * 2 / 3));
  // recall 0 to 0.3: precision 1; 0.4 to 0.6: 2/3; beyond: 0
  CHECK(metric.voc_ap(0, VocRule::eleven_points) == approx((4 + 3 * 2.0 / 3) / 11));
  CHECK(metric.voc_ap(0, VocRule::all_points, 0.95) == approx(0.5 / 3));  // only the second detection fits that well
  CHECK(std::isnan(metric.voc_ap(1)));
  CHECK(metric.voc_mean_ap() == metric.voc_ap(0));
  CHECK(metric.curve(1).precision.empty());
}

TEST_CASE("detections without objects, objects without detections, nothing") {
  DetectionMetric metric(3);
  CHECK(std::isnan(metric.coco().ap));
  CHECK(std::isnan(metric.voc_mean_ap()));
  metric.add({}, {});
  metric.add({}, {{{0, 0, 10, 10}, 1, 0.9}});
  CHECK(std::isnan(metric.coco().ap));
  CHECK(metric.errors().background == 1);
  metric.add({{{0, 0, 10, 10}, 0}}, {});
  CHECK(metric.coco().ap == 0);
  CHECK(metric.coco().ar100 == 0);
  CHECK(std::isnan(metric.ap(1)));
  CHECK(metric.ap(0) == 0);
  CHECK(std::isnan(metric.coco().ap_large));
  metric.add({{{0, 0, 100, 100}, 2}}, {{{0, 0, 100, 100}, 2, 0.1}});
  CHECK(metric.coco().ap == approx(0.5));
  CHECK(metric.coco().ap_large == approx(1));
  CHECK(metric.ap_at(2, 9) == approx(1));
  CHECK(metric.ar(2, ObjectSize::large) == approx(1));
  CHECK(metric.errors().missed == 1);
}

TEST_CASE("a float box measures like COCO's") {
  const MeasuredBox b(Box{1.5f, 2, 11.5f, 7});
  CHECK(b.x == 1.5);
  CHECK(b.width == 10);
  CHECK(b.area() == 50);
  CHECK(b.edges() == BasicBox<double>{1.5, 2, 11.5, 7});
}

TEST_CASE("each kind of error") {
  DetectionMetric metric(2);
  const TrueObject object{{0, 0, 10, 10}, 0}, crowd{{200, 200, 50, 50}, 0, -1, true};
  const auto with = [&](const FoundObject& f, const std::vector<FoundObject>& more = {}) {
    DetectionMetric one(2);
    std::vector<FoundObject> found = {f};
    found.insert(found.end(), more.begin(), more.end());
    one.add({object, crowd}, found);
    metric.add({object, crowd}, found);
    return one.errors();
  };
  const FoundObject right{{0, 0, 10, 10}, 0, 0.9};
  DetectionErrors e = with(right);
  CHECK(e.found == 1);
  CHECK(e.missed == 0);
  CHECK(e.localisation + e.classification + e.duplicate + e.background + e.both == 0);
  e = with({{0, 0, 10, 4}, 0, 0.9});  // IoU 0.4
  CHECK(e.localisation == 1);
  CHECK(e.missed == 0);
  e = with({{0, 0, 10, 8}, 1, 0.9});
  CHECK(e.classification == 1);
  CHECK(e.missed == 0);
  e = with({{0, 0, 10, 9}, 0, 0.5}, {right});
  CHECK(e.duplicate == 1);
  CHECK(e.found == 1);
  e = with({{100, 0, 10, 10}, 0, 0.9});
  CHECK(e.background == 1);
  CHECK(e.missed == 1);
  e = with({{0, 0, 10, 4}, 1, 0.9});
  CHECK(e.both == 1);
  CHECK(e.missed == 1);
  e = with({{210, 210, 10, 10}, 0, 0.9}, {{{220, 220, 10, 10}, 0, 0.8}});  // inside the crowd
  CHECK(e.found + e.localisation + e.classification + e.duplicate + e.background + e.both == 0);
  CHECK(e.missed == 1);
  // Of an ignored object any number of detections, but none of another class and none that fits badly.
  const TrueObject difficult{{40, 0, 10, 10}, 0, -1, false, true};
  const auto beside_difficult = [&](const FoundObject& f) {
    DetectionMetric one(2);
    one.add({object, difficult}, {{{40, 0, 10, 10}, 0, 0.9}, f});
    return one.errors();
  };
  e = beside_difficult({{40, 0, 10, 9}, 0, 0.8});
  CHECK(e.found + e.localisation + e.classification + e.duplicate + e.background + e.both == 0);
  CHECK(e.missed == 1);
  CHECK(beside_difficult({{40, 0, 10, 4}, 0, 0.8}).background == 1);
  CHECK(beside_difficult({{40, 0, 10, 9}, 1, 0.8}).background == 1);
  // A second detection of an object that counts is a duplicate, whatever ignored one it overlaps less.
  DetectionMetric between(1);
  between.add({{{0, 0, 10, 10}, 0}, {{2, 0, 10, 10}, 0, -1, false, true}},
              {right, {{2, 0, 10, 10}, 0, 0.8}, {{0, 0, 10, 9}, 0, 0.7}, {{3, 0, 10, 10}, 0, 0.6}});
  e = between.errors();
  CHECK(e.found == 1);
  CHECK(e.duplicate == 1);
  CHECK(e.localisation + e.background == 0);

  e = metric.errors();
  CHECK(e.found == 2);
  CHECK(e.missed == 3);
  CHECK(e.duplicate == 1);
}

TEST_CASE("table and chart") {
  DetectionMetric metric(2);
  metric.add({{{0, 0, 10, 10}, 0}, {{50, 0, 10, 10}, 1}}, {{{0, 0, 10, 10}, 0, 0.9}});
  CHECK(metric.table({"cell", "platelets"}) ==
        "class        objects detections      AP    AP50    AP75      AR\n"
        "cell               1          1  1.0000  1.0000  1.0000  1.0000\n"
        "platelets          1          0  0.0000  0.0000  0.0000  0.0000\n"
        "all                2          1  0.5000  0.5000  0.5000  0.5000\n");
  DetectionMetric nothing(1);
  CHECK(nothing.table({"a"}).find("a              0          0       -       -       -       -\n") !=
        std::string::npos);
  const std::string svg = metric.chart({"cell", "platelets"});
  CHECK(svg.find("Precision over recall at IoU 0.50") != std::string::npos);
  CHECK(svg.find("cell 1.000") != std::string::npos);
  CHECK(svg.find("all classes 0.500") != std::string::npos);
  CHECK(usage_error([&] { metric.table({"a"}); }) == "DetectionMetric: table needs 2 names; got 1");
  CHECK(usage_error([&] { metric.chart({}); }) == "DetectionMetric: chart needs 2 names; got 0");
}

TEST_CASE("what a metric refuses") {
  DetectionMetric metric(2);
  const double nan = std::nan("");
  CHECK(usage_error([] { DetectionMetric(0); }) == "DetectionMetric: at least one class is needed; got 0");
  CHECK(usage_error([&] {
          metric.add({{{0, 0, 1, 1}, 2}}, {});
        }) == "DetectionMetric: object 0 has label 2, which lies outside of [0, 2)");
  CHECK(usage_error([&] {
          metric.add({}, {{{0, 0, 1, 1}, 0, 0.5}, {{0, 0, 1, 1}, -1, 0.5}});
        }) == "DetectionMetric: detection 1 has label -1, which lies outside of [0, 2)");
  CHECK(usage_error([&] {
          metric.add({}, {{{0, 0, 1, 1}, 0, nan}});
        }) == "DetectionMetric: detection 0 has a score that is NaN");
  CHECK(usage_error([&] {
          metric.add({{{0, nan, 1, 1}, 0}}, {});
        }) == "DetectionMetric: object 0 has a box that is not finite or has a negative size");
  CHECK(usage_error([&] {
          metric.add({}, {{{0, 0, -1, 1}, 0, 0.5}});
        }) == "DetectionMetric: detection 0 has a box that is not finite or has a negative size");
  CHECK(metric.pictures() == 0);
  CHECK(usage_error([&] { metric.ap(5); }) == "DetectionMetric: ap has label 5, which lies outside of [0, 2)");
  for (const double iou : {nan, 0.0, -1.0, 1.01}) {
    const std::string says = "DetectionMetric: an IoU must lie in (0, 1]; got " + std::to_string(iou);
    CHECK(usage_error([&] { metric.curve(0, iou); }) == says);
    CHECK(usage_error([&] { metric.voc_ap(1, VocRule::eleven_points, iou); }) == says);
    CHECK(usage_error([&] { metric.voc_mean_ap(VocRule::all_points, iou); }) == says);
  }
  CHECK(usage_error([&] { metric.ap_at(0, 10); }) == "DetectionMetric: threshold 10 lies outside of [0, 10)");
}
