// Losses of boxes and detection: the reference's terms and gradients, central differences, assignments by hand and
// against trying all, targets that do not fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/testing/gradcheck.hpp>
#include <ocellus/train/training_step.hpp>

using namespace ocellus;

namespace {

using Double = BasicTensor<double>;

const NamedTensors& golden() {
  static const NamedTensors file = read_safetensors(OCELLUS_TEST_DIR "/golden/detection.safetensors");
  return file;
}

constexpr Overlap kinds[] = {Overlap::iou, Overlap::giou, Overlap::diou, Overlap::ciou};
const char* const kind_names[] = {"iou", "giou", "diou", "ciou"};

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// x and y of two corners in any order → a box; keeps the gradient.
template <class T>
BasicTensor<T> corners(const BasicTensor<T>& v) {
  const auto low = slice(v, -1, 0, 2), size = slice(v, -1, 2, 4);
  return concat(std::vector<BasicTensor<T>>{low, low + size}, -1);
}

std::vector<DetectionTarget> golden_targets(Index objects) {
  const Tensor rows(golden().at("loss.targets"));
  std::vector<DetectionTarget> targets(3);
  for (Index i = 0; i < objects; ++i) {
    const float* v = rows.data() + 6 * i;
    DetectionTarget& t = targets[static_cast<std::size_t>(v[0])];
    t.labels.push_back(static_cast<Index>(v[1]));
    t.boxes.push_back({v[2], v[3], v[4], v[5]});
  }
  return targets;
}

// Two pictures, maps of strides 8 and 16 over 32 × 24 pixels, 5 bins, 3 classes.
struct SmallScene {
  static constexpr Index bins = 5, width = 4 * bins + 3, places = 3 * 4 + 2 * 2;
  Tensor centres = map_places({{2, 3, 4, width}, {2, 2, 2, width}}, {8, 16});
  Tensor targets = detection_targets({{{{1, 2, 19, 22}, {9, 3, 30, 20}, {3, 3, 12, 23}}, {2, 0, 1}}, {{}, {}}}, 4);
  AssignmentOptions options{.bins = bins, .candidates = 4};
};

double assignment_cost(const std::vector<double>& costs, Index columns, const std::vector<Index>& column_of) {
  double sum = 0;
  for (std::size_t i = 0; i < column_of.size(); ++i) {
    if (column_of[i] >= 0) sum += costs[i * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column_of[i])];
  }
  return sum;
}

}  // namespace

TEST_CASE("box_loss equals the reference") {
  for (std::size_t k = 0; k < 4; ++k) {
    CAPTURE(k);
    const std::string name = std::string("overlap.") + kind_names[k];
    Double a = convert<double>(golden().at("overlap.a"));
    a.requires_grad();
    const Double y = box_loss(a, convert<double>(golden().at("overlap.b")),
                              {.kind = kinds[k], .epsilon = 1e-7, .reduction = Reduction::none});
    const Tensor value(golden().at(name)), slope(golden().at(name + ".da"));
    double worst = 0;
    for (Index i = 0; i < y.numel(); ++i) worst = std::max(worst, std::abs(1 - y[i] - static_cast<double>(value[i])));
    CHECK(worst <= 2e-7);
    backward(y, Double::full(y.shape(), -1));
    CHECK(max_difference(a.grad(), slope) <= 2e-7);
    CHECK(max_abs(slope) > 0.01);
  }
}

TEST_CASE("the loss of no boxes is 0") {
  for (const Reduction reduction : {Reduction::mean, Reduction::sum}) {
    Tensor none({0, 4});
    none.requires_grad();
    const Tensor loss = box_loss(none, Tensor({0, 4}), {.reduction = reduction});
    CHECK(loss.item() == 0);
    backward(loss);
    CHECK(none.grad().shape() == Shape{0, 4});
  }
}

TEST_CASE("box_loss gradients") {
  // ciou is left to the next case: α is a constant of its gradient, not of its value.
  for (const Overlap kind : {Overlap::iou, Overlap::giou, Overlap::diou}) {
    for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
      const auto report = gradcheck("box_loss",
                                    [&](const auto& v) {
                                      return box_loss(corners(v[0]), corners(v[1]), {kind, 1e-7, reduction});
                                    },
                                    {{3, 7, 4}, {3, 7, 4}}, {.low = 0.5, .high = 2});
      CHECK_MESSAGE(report.ok(), report.str());
    }
  }
  CHECK(message_of([] {
          box_loss(Tensor({2, 4}), Tensor({3, 4}));
        }) == "box_loss: boxes and target must have one shape (..., 4); got boxes=(2, 4), target=(3, 4)");
}

TEST_CASE("the gradient of ciou holds α still") {
  RandomStream random(4);
  for (int row = 0; row < 20; ++row) {
    double v[8];
    for (int i = 0; i < 8; ++i) v[i] = static_cast<double>(random.uniform(0.5f, 2));
    const auto box = [](const double* c) { return BasicBox<double>{c[0], c[1], c[0] + c[2], c[1] + c[3]}; };
    const auto aspect = [&](const double* c) {
      const BasicBox<double> a = box(c), b = box(c + 4);
      const double turn = std::atan(b.width() / b.height()) - std::atan(a.width() / a.height());
      return 4 / (3.14159265358979 * 3.14159265358979) * turn * turn;
    };
    const auto diou = [&](const double* c) { return overlap(Overlap::diou, box(c), box(c + 4)); };
    const double still = aspect(v), alpha = still / (1 - iou(box(v), box(v + 4)) + still);
    CHECK(overlap(Overlap::ciou, box(v), box(v + 4)) == doctest::Approx(diou(v) - alpha * still).epsilon(1e-9));
    Double x({1, 4}, {v[0], v[1], v[2], v[3]}), t({1, 4}, {v[4], v[5], v[6], v[7]});
    x.requires_grad();
    t.requires_grad();
    backward(box_loss(corners(x), corners(t), {.epsilon = 0}));
    for (int i = 0; i < 8; ++i) {
      const double held = v[i], step = 1e-6;
      v[i] = held + step;
      const double above = diou(v) - alpha * aspect(v);
      v[i] = held - step;
      const double below = diou(v) - alpha * aspect(v);
      v[i] = held;
      const double ours = i < 4 ? x.grad()[i] : t.grad()[i - 4];
      CHECK(std::abs(ours + (above - below) / (2 * step)) <= 1e-7);
    }
  }
}

TEST_CASE("focal losses by hand and their gradients") {
  const Tensor x({3}, {0.5f, -1, 2}), t({3}, {1, 0, 0.25f});
  const auto p = [](double v) { return 1 / (1 + std::exp(-v)); };
  const auto entropy = [&](double v, double label) {
    return -label * std::log(p(v)) - (1 - label) * std::log(1 - p(v));
  };
  const auto focal = [&](double v, double label, double alpha, double gamma) {
    const double right = p(v) * label + (1 - p(v)) * (1 - label);
    return (alpha * label + (1 - alpha) * (1 - label)) * std::pow(1 - right, gamma) * entropy(v, label);
  };
  Tensor y = focal_loss(x, t, {.alpha = 0.3, .gamma = 1.5, .reduction = Reduction::none});
  for (Index i = 0; i < 3; ++i)
    CHECK(static_cast<double>(y[i]) ==
          doctest::Approx(focal(static_cast<double>(x[i]), static_cast<double>(t[i]), 0.3, 1.5)).epsilon(1e-6));
  // Without focus and weight it is the binary cross-entropy.
  CHECK(max_difference(focal_loss(x, t, {.alpha = -1, .gamma = 0}), binary_cross_entropy_with_logits(x, t)) <= 1e-7);
  y = varifocal_loss(x, t, {.alpha = 0.75, .gamma = 2, .reduction = Reduction::none});
  CHECK(static_cast<double>(y[0]) == doctest::Approx(entropy(0.5, 1)).epsilon(1e-6));
  CHECK(static_cast<double>(y[1]) == doctest::Approx(0.75 * std::pow(p(-1), 2) * entropy(-1, 0)).epsilon(1e-6));
  CHECK(static_cast<double>(y[2]) == doctest::Approx(0.25 * entropy(2, 0.25)).epsilon(1e-6));
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    for (const double gamma : {0.0, 0.5, 2.0}) {
      auto report = gradcheck(
          "focal_loss", [&](const auto& v) { return focal_loss(v[0], v[1], {.gamma = gamma, .reduction = reduction}); },
          {{4, 5}, {4, 5}}, {.low = 0.05, .high = 0.95});
      CHECK_MESSAGE(report.ok(), report.str());
      report = gradcheck(
          "focal_loss without weight",
          [&](const auto& v) { return focal_loss(v[0], v[0], {.alpha = -1, .gamma = gamma, .reduction = reduction}); },
          {{4, 5}}, {.low = 0.05, .high = 0.95});
      CHECK_MESSAGE(report.ok(), report.str());
    }
    auto report = gradcheck("focal_loss varifocal",
                            [&](const auto& v) { return varifocal_loss(v[0], v[1], {.reduction = reduction}); },
                            {{4, 5}, {4, 5}}, {.low = 0.05, .high = 0.95});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("focal_loss varifocal of background",
                       [&](const auto& v) {
                         return varifocal_loss(v[0], v[0] * 0, {.alpha = 0.6, .gamma = 1.5, .reduction = reduction});
                       },
                       {{4, 5}}, {.low = -2, .high = 2});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  const Tensor far({2}, {-200, 200});
  CHECK(max_difference(focal_loss(far, Tensor({2}, {1, 0}), {.alpha = -1, .reduction = Reduction::none}),
                       Tensor({2}, {200, 200})) <= 1e-4);
  CHECK(message_of([] { focal_loss(Tensor({2}), Tensor({3})); }) ==
        "focal_loss: logits and target must have the same shape; got logits=(2), target=(3)");
  CHECK(message_of([] { focal_loss(Tensor({2}), Tensor({2}), {.gamma = -1}); }) ==
        "focal_loss: gamma must be 0 or more; got logits=(2), target=(2)");
}

TEST_CASE("distribution_focal_loss by hand and its gradient") {
  const Tensor x({1, 3}, {1, 2, 0.5f});
  const double total = std::log(std::exp(1.0) + std::exp(2.0) + std::exp(0.5));
  const auto loss = [&](float target) {
    return static_cast<double>(distribution_focal_loss(x, Tensor({1}, {target})).item());
  };
  CHECK(loss(0.25f) == doctest::Approx(total - 0.75 * 1 - 0.25 * 2).epsilon(1e-6));
  CHECK(loss(1) == doctest::Approx(total - 2).epsilon(1e-6));
  CHECK(loss(2) == doctest::Approx(total - 0.5).epsilon(1e-6));
  CHECK(loss(7) == loss(2));
  CHECK(loss(-3) == loss(0));
  for (const Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    auto report = gradcheck("distribution_focal_loss",
                            [&](const auto& v) { return distribution_focal_loss(v[0], v[1], {reduction}); },
                            {{3, 4, 6}, {3, 4}}, {.low = 0.1, .high = 4.9});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("distribution_focal_loss beside its range",
                       [&](const auto& v) { return distribution_focal_loss(v[0], v[1] * 10 + 20, {reduction}); },
                       {{3, 4, 6}, {3, 4}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  CHECK(message_of([] {
          distribution_focal_loss(Tensor({2, 4}), Tensor({3}));
        }) ==
        "distribution_focal_loss: target must have the shape of logits without the last axis; got logits=(2, 4), "
        "target=(3)");
}

TEST_CASE("detection loss equals the reference: terms and every gradient") {
  const Json cases = Json::parse(golden().metadata.at("loss"), "detection.safetensors");
  const std::vector<Index> strides = {8, 16, 32};
  for (Index c = 0; c < cases.size(); ++c) {
    const std::string name = cases.at(c).get<std::string>("name");
    CAPTURE(name);
    std::vector<Tensor> maps;
    for (const Index stride : strides) {
      Tensor map = permute(Tensor(golden().at("loss.map." + std::to_string(stride))), {0, 2, 3, 1}).clone();
      maps.push_back(map.requires_grad());
    }
    DetectionLossOptions options;
    options.assignment.least_side = cases.at(c).get<double>("least_side");
    const Tensor targets = detection_targets(golden_targets(cases.at(c).get<Index>("objects")));
    const LossTerms loss = detection_loss(maps, strides, targets, options);
    const Tensor expected(golden().at(name + ".terms"));
    REQUIRE(loss.terms().size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const LossTerms::Term& term = loss.terms()[i];
      const double theirs = static_cast<double>(expected[static_cast<Index>(i)]);
      CHECK(std::abs(term.weight * term.item() - theirs) <= 2e-6 * theirs);
    }
    backward(loss.total() * 3);  // the reference multiplies by the number of pictures
    for (std::size_t i = 0; i < 3; ++i) {
      const Tensor theirs = permute(Tensor(golden().at(name + ".dmap." + std::to_string(strides[i]))), {0, 2, 3, 1});
      CHECK(max_difference(maps[i].grad(), theirs) <= 1e-5 * max_abs(theirs));
    }
  }
}

TEST_CASE("detection_terms gradients") {
  const SmallScene scene;
  const Tensor prediction = random_tensor<float>({2, SmallScene::places, SmallScene::width}, 1, -1, 1);
  const Tensor assignment = task_aligned_assignment(prediction, scene.centres, scene.targets, scene.options);
  Index positives = 0;
  for (Index i = 0; i < assignment.numel(); i += 2) positives += assignment[i] >= 0;
  REQUIRE(positives >= 6);
  for (const Overlap kind : {Overlap::iou, Overlap::giou, Overlap::diou}) {
    for (std::size_t term = 0; term < 3; ++term) {
      const DetectionLossOptions options{.overlap = kind, .assignment = scene.options};
      const auto report = gradcheck("detection_terms",
                                    [&](const auto& v) {
                                      using T = typename std::decay_t<decltype(v[0])>::value_type;
                                      return detection_terms(v[0], convert<T>(scene.centres), convert<T>(scene.targets),
                                                             convert<T>(assignment), options)[term];
                                    },
                                    {{2, SmallScene::places, SmallScene::width}}, {.low = -1, .high = 1});
      CHECK_MESSAGE(report.ok(), term << ": " << report.str());
    }
  }
}

TEST_CASE("a planned step of the detection loss has the bits of the eager one") {
  const SmallScene scene;
  const DetectionLossOptions options{.assignment = scene.options};
  const Tensor images = random_tensor<float>({2, 3, 4, 6}, 7);
  manual_seed(3);
  nn::Linear eager(6, SmallScene::width), planned = eager;
  const auto loss_of = [&](const nn::Linear& head, const Tensor& x, const Tensor& targets) {
    return detection_loss({head(x)}, {8}, targets, options);
  };
  TrainingStep step(named_parameters(planned), [&](const Tensor& x, const Tensor& y) { return loss_of(planned, x, y); });
  for (std::uint32_t i = 0; i < 2; ++i) {
    const LossTerms theirs = step.run(images, scene.targets, i);
    REQUIRE(step.plan() != nullptr);
    for (const NamedParameter& p : named_parameters(eager)) p.parameter->requires_grad();
    const LossTerms ours = loss_of(eager, images, scene.targets);
    backward(ours.total());
    for (std::size_t k = 0; k < 3; ++k) CHECK(ours.terms()[k].item() == theirs.terms()[k].item());
    CHECK(ours.terms()[0].item() > 0);
    CHECK(max_difference(eager.weight.grad(), planned.weight.grad()) == 0);
  }
}

TEST_CASE("detection terms of many places give the same bits for any number of threads") {
  const Tensor places = map_places({{2, 40, 40, 67}}, {8});
  Tensor x = random_tensor<float>({2, 1600, 67}, 3, -2, 2);
  const Tensor targets =
      detection_targets({{{{10, 20, 90, 70}, {100, 90, 180, 200}}, {0, 2}}, {{{5, 5, 60, 300}}, {1}}});
  const auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    x.requires_grad();
    const Tensor assignment = task_aligned_assignment(x, places, targets);
    const auto terms = detection_terms(x, places, targets, assignment);
    backward(terms[0] + terms[1] + terms[2]);
    set_num_threads(before);
    return std::vector<Tensor>{assignment, terms[0], terms[1], terms[2], x.grad()};
  };
  const auto one = run(1), three = run(3);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(max_difference(one[i], three[i]) == 0);
}

TEST_CASE("task-aligned assignment by hand") {
  // One map of stride 8, one row of six places at x = 4, 12, …, 44, y = 4; two bins, two classes; distances of half a
  // stride on all sides, so every place sees the 8 × 8 box around it.
  const Tensor places = map_places({{1, 1, 6, 10}}, {8});
  CHECK(max_difference(places, Tensor({6, 3}, {4, 4, 8, 12, 4, 8, 20, 4, 8, 28, 4, 8, 36, 4, 8, 44, 4, 8})) == 0);
  Tensor x({1, 6, 10});
  // Object 0 covers places 0 to 2, object 1 places 2 and 3 and fits the latter exactly.
  const Tensor targets = detection_targets({{{{0, 0, 24, 8}, {16, 0, 32, 8}}, {0, 1}}});
  AssignmentOptions options{.bins = 2, .candidates = 10};
  Tensor a = task_aligned_assignment(x, places, targets, options);
  const float expected[] = {0, 0, 1, 1, -1, -1};  // place 2 overlaps object 1 more
  for (Index i = 0; i < 6; ++i) CHECK(a[2 * i] == expected[i]);
  const double middle = overlap(Overlap::ciou, BasicBox<double>{8, 0, 16, 8}, BasicBox<double>{0, 0, 24, 8}, 1e-7);
  const double side = overlap(Overlap::ciou, BasicBox<double>{0, 0, 8, 8}, BasicBox<double>{0, 0, 24, 8}, 1e-7);
  CHECK(static_cast<double>(a[3]) == doctest::Approx(middle).epsilon(1e-5));
  CHECK(static_cast<double>(a[1]) == doctest::Approx(std::pow(side / middle, 6) * middle).epsilon(1e-4));
  // One claim per object: equal fits go to the earlier place.
  options.candidates = 1;
  a = task_aligned_assignment(x, places, targets, options);
  const float single[] = {-1, 0, 1, -1, -1, -1};
  for (Index i = 0; i < 6; ++i) CHECK(a[2 * i] == single[i]);
  // The score of the object's own class counts.
  x[3 * 10 + 8 + 1] = 2;
  a = task_aligned_assignment(x, places, targets, options);
  CHECK(a[2 * 2] == -1);
  CHECK(a[2 * 3] == 1);
  // A narrow object between two centres reaches them when it counts as 16 pixels wide.
  const Tensor narrow = detection_targets({{{{5, 1, 11, 7}}, {0}}});
  CHECK(task_aligned_assignment(x, places, narrow, {.bins = 2})[0] == -1);
  CHECK(task_aligned_assignment(x, places, narrow, {.bins = 2, .least_side = 16})[0] == 0);
}

TEST_CASE("detection loss: nothing to find, and what does not fit") {
  Tensor map = random_tensor<float>({2, 3, 4, SmallScene::width}, 1);
  map.requires_grad();
  const DetectionLossOptions options{.assignment = {.bins = 5}};
  const LossTerms loss = detection_loss({map}, {8}, detection_targets({{}, {}}), options);
  CHECK(loss.terms()[0].item() == 0);
  CHECK(loss.terms()[1].item() > 0);
  CHECK(loss.terms()[2].item() == 0);
  backward(loss.total());
  CHECK(max_abs(map.grad()) > 0);
  const auto run = [&](const Tensor& targets) {
    return message_of([&] { detection_loss({map}, {8}, targets, options); });
  };
  Tensor targets = detection_targets({{{{1, 1, 5, 5}}, {0}}, {{{2, 2, 6, 6}}, {2}}});
  CHECK(run(targets) == "no error");
  targets[5] = 3;
  CHECK(run(targets).find("object 0 of picture 1 has label 3") != std::string::npos);
  targets[5] = 2;
  targets[6] = 9;
  CHECK(run(targets).find("object 0 of picture 1 has a box that is not finite or reversed") != std::string::npos);
  CHECK(run(Tensor({2, 1, 4})).find("targets must be (N, M, 5)") != std::string::npos);
  const Tensor list = join_maps(std::vector<Tensor>{map}), places = map_places({map.shape()}, {8});
  for (const float object : {-2.0f, 1.0f, 5.0f}) {
    const Tensor assignment = Tensor::full({2, 12, 2}, -1);
    assignment[2 * 15] = object;
    const std::string message = message_of([&] {
      detection_terms(list, places, detection_targets({{}, {}}, 2), assignment, options);
    });
    CHECK(message.find("place 3 of picture 1 is assigned to object") != std::string::npos);
  }
  CHECK(message_of([&] {
          detection_loss({map}, {8, 16}, targets);
        }).find("a stride for each map") != std::string::npos);
  CHECK(message_of([] { join_maps(std::vector<Tensor>{}); }) == "join_maps: no maps");
  CHECK(message_of([] {
          join_maps(std::vector<Tensor>{Tensor({2, 3})});
        }) == "join_maps: maps must be (N, H, W, C); got (2, 3)");
  CHECK(message_of([] {
          detection_targets({{}, {{{0, 0, 1, 1}}, {}}});
        }) == "detection_targets: picture 1 has 1 boxes and 0 labels");
  CHECK(message_of([] {
          detection_targets({{{{0, 0, 1, 1}, {5, 0, 1, 1}}, {0, 0}}});
        }) == "detection_targets: picture 0, object 1 has a box that is not finite or reversed");
  CHECK(message_of([] {
          detection_targets({{{{0, 0, 1, 1}}, {-1}}});
        }) == "detection_targets: picture 0, object 0 has label -1");
  CHECK(message_of([] {
          detection_targets({{{{0, 0, 1, 1}}, {16777217}}});
        }) == "detection_targets: picture 0, object 0 has label 16777217");
  CHECK(detection_targets({{{{0, 0, 1, 1}}, {16777216}}})[0] == 16777216);
  const std::vector<std::vector<ObjectBox>> objects = {
      {{.box = {1, 2, 3, 4}, .label = 7}, {.box = {0, 0, 9, 9}, .crowd = true}, {.box = {5, 6, 7, 8}, .label = 2}},
      {{.box = {0, 0, 1, 1}, .difficult = true}}};
  const Tensor annotated = detection_targets(objects), listed = detection_targets({{{{1, 2, 3, 4}, {5, 6, 7, 8}}, {7, 2}}, {}});
  REQUIRE(annotated.shape() == Shape{2, 2, 5});
  CHECK(std::equal(annotated.begin(), annotated.end(), listed.begin()));
  CHECK(detection_targets(objects, 6).shape() == Shape{2, 6, 5});
  const Tensor padded = detection_targets({{{{1, 2, 3, 4}}, {7}}, {}}, 2);
  CHECK(max_difference(padded, Tensor({2, 2, 5}, {7, 1, 2, 3, 4, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 0, 0, 0, 0})) ==
        0);
}

TEST_CASE("the cheapest assignment") {
  CHECK(hungarian({}, 0, 0).empty());
  CHECK(hungarian({}, 2, 0) == std::vector<Index>{-1, -1});
  CHECK(hungarian({4, 1, 3, 2, 0, 5, 3, 2, 2}, 3, 3) == std::vector<Index>{1, 0, 2});
  CHECK(hungarian({1, 1, 1, 1}, 2, 2).size() == 2);
  RandomStream random(3);
  for (int round = 0; round < 200; ++round) {
    const Index rows = 1 + random.below(6), columns = 1 + random.below(6);
    std::vector<double> costs;
    // Few values, so that many assignments tie; negative ones too.
    for (Index i = 0; i < rows * columns; ++i)
      costs.push_back(round % 2 ? static_cast<double>(random.below(4)) - 2 : static_cast<double>(random.normal()));
    const std::vector<Index> ours = hungarian(costs, rows, columns);
    std::vector<Index> taken;
    for (const Index j : ours) {
      if (j >= 0) taken.push_back(j);
    }
    std::sort(taken.begin(), taken.end());
    REQUIRE(std::adjacent_find(taken.begin(), taken.end()) == taken.end());
    REQUIRE(static_cast<Index>(taken.size()) == std::min(rows, columns));
    // All orders of the longer side, cut to the shorter one.
    const bool wide = rows <= columns;
    std::vector<Index> order(static_cast<std::size_t>(std::max(rows, columns)));
    std::iota(order.begin(), order.end(), Index{0});
    double best = 1e300;
    do {
      double sum = 0;
      for (Index i = 0; i < std::min(rows, columns); ++i) {
        const Index other = order[static_cast<std::size_t>(i)];
        sum += costs[static_cast<std::size_t>(wide ? i * columns + other : other * columns + i)];
      }
      best = std::min(best, sum);
    } while (std::next_permutation(order.begin(), order.end()));
    CHECK(assignment_cost(costs, columns, ours) == doctest::Approx(best).epsilon(1e-12));
  }
  CHECK(message_of([] { hungarian({1, 2, 3}, 2, 2); }) == "hungarian: a table of 2 x 2 costs is needed; got 3");
  CHECK(message_of([] { hungarian({1, std::nan("")}, 1, 2); }).find("cost 1 is not finite") != std::string::npos);
}
