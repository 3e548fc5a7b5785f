// Pictures and boxes in step: every movement is checked on pictures whose pixels tell where the boxes must be.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/data/loader.hpp>
#include <ocellus/vision/detection_augment.hpp>

using namespace ocellus;

namespace {

constexpr Colour colours[4] = {{250, 10, 10}, {10, 250, 10}, {10, 10, 250}, {250, 250, 10}};

void paint(Image& image, const Box& box, Colour colour) {
  std::uint8_t* pixels = image.writable();
  for (Index y = static_cast<Index>(box.y1); y < static_cast<Index>(box.y2); ++y) {
    for (Index x = static_cast<Index>(box.x1); x < static_cast<Index>(box.x2); ++x) {
      std::uint8_t* p = pixels + y * image.stride() + 3 * x;
      p[0] = colour.red, p[1] = colour.green, p[2] = colour.blue;
    }
  }
}

// A black picture with one rectangle, and its box.
BoxedImage rectangle(Size2 size, const Box& box, std::size_t label = 0) {
  BoxedImage made{Image(size, 3), {}};
  paint(made.image, box, colours[label]);
  ObjectBox object;
  object.box = box;
  object.label = static_cast<Index>(label);
  made.boxes.push_back(object);
  return made;
}

// The smallest box around the pixels that are closer to this colour than half of its way from black.
Box seen(const Image& image, std::size_t label) {
  const std::array<int, 3> wanted = {colours[label].red, colours[label].green, colours[label].blue};
  Box found{1e9f, 1e9f, -1, -1};
  for (Index y = 0; y < image.height(); ++y) {
    for (Index x = 0; x < image.width(); ++x) {
      int difference = 0;
      for (std::size_t c = 0; c < 3; ++c) difference = std::max(difference, std::abs(image.at(y, x)[c] - wanted[c]));
      if (difference > 125) continue;
      found.x1 = std::min(found.x1, static_cast<float>(x));
      found.y1 = std::min(found.y1, static_cast<float>(y));
      found.x2 = std::max(found.x2, static_cast<float>(x) + 1);
      found.y2 = std::max(found.y2, static_cast<float>(y) + 1);
    }
  }
  return found;
}

float distance(const Box& a, const Box& b) {
  return std::max({std::abs(a.x1 - b.x1), std::abs(a.y1 - b.y1), std::abs(a.x2 - b.x2), std::abs(a.y2 - b.y2)});
}

bool same(const BoxedImage& a, const BoxedImage& b) {
  if (!(a.image.size() == b.image.size()) || a.boxes.size() != b.boxes.size()) return false;
  for (std::size_t i = 0; i < a.boxes.size(); ++i) {
    if (distance(a.boxes[i].box, b.boxes[i].box) != 0 || a.boxes[i].label != b.boxes[i].label) return false;
  }
  return std::memcmp(a.image.data(), b.image.data(), static_cast<std::size_t>(a.image.height() * a.image.stride())) ==
         0;
}

// Pictures of one rectangle each, sizes and places varied.
class Rectangles : public Dataset {
 public:
  Index size() const override { return 6; }
  Sample get(Index i) const override {
    const auto at = static_cast<float>(i);
    BoxedImage made = rectangle({40 + 3 * i, 60 - 2 * i}, {4 + at, 6, 24, 30 - at}, static_cast<std::size_t>(i) % 4);
    ObjectBox crowd = made.boxes[0], difficult = made.boxes[0];
    crowd.crowd = difficult.difficult = true;
    crowd.label = difficult.label = 7;
    made.boxes.push_back(crowd);
    made.boxes.push_back(difficult);
    Sample sample{made.image};
    if (i != 5) sample.boxes = made.boxes;
    return sample;
  }
  std::string name(Index i) const override { return "picture " + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  std::vector<std::string> classes_ = {"a", "b", "c", "d"};
};

}  // namespace

TEST_CASE("without chance the picture is as large as it fits, in the middle") {
  for (const Size2 from : {Size2(30, 60), Size2(60, 30), Size2(64, 64), Size2(256, 128), Size2(301, 77)}) {
    CAPTURE(from.str());
    const auto w = static_cast<float>(from.w), h = static_cast<float>(from.h);
    const BoxedImage picture =
        rectangle(from, {std::floor(w / 4), std::floor(h / 4), std::floor(w / 2), std::floor(h / 2)});
    RandomStream random(1);
    const BoxedImage placed = place_pictures({&picture, 1}, DetectionAugmentation::none({64, 96}), random);
    REQUIRE(placed.boxes.size() == 1);
    CHECK(placed.image.size() == Size2(64, 96));
    const float fit = std::min(64 / h, 96 / w);
    const Box b = picture.boxes[0].box;
    const float left = (96 - fit * w) / 2, top = (64 - fit * h) / 2;
    CHECK(distance(placed.boxes[0].box, {b.x1 * fit + left, b.y1 * fit + top, b.x2 * fit + left, b.y2 * fit + top}) <
          1e-3f);
    CHECK(distance(placed.boxes[0].box, seen(placed.image, 0)) <= 1.0f);
    CHECK(*placed.image.at(0, 0) == (left >= 1 || top >= 1 ? 114 : 0));
  }
}

TEST_CASE("boxes lie where the pixels are after every movement") {
  struct Row {
    const char* what;
    DetectionAugmentation options;
    float tolerance;
  };
  const Size2 size = {128, 160};
  const auto none = [&] { return DetectionAugmentation::none(size); };
  std::vector<Row> rows(6, {"scale and translation", none(), 1.0f});
  rows[0].options.scale = 0.5f, rows[0].options.translate = 0.2f;
  rows[1] = {"flips", none(), 1.0f};
  rows[1].options.horizontal_flip = rows[1].options.vertical_flip = 0.5f;
  rows[2] = {"rotation", none(), 1.5f};
  rows[2].options.degrees = 180;
  rows[3] = {"shear", none(), 1.5f};
  rows[3].options.shear = 20;
  rows[4] = {"perspective", none(), 1.5f};
  rows[4].options.perspective = 0.0015f;
  rows[5] = {"all of it, with colour",
             {.size = size,
              .mosaic = 0,
              .scale = 0.2f,
              .translate = 0.05f,
              .degrees = 30,
              .shear = 10,
              .perspective = 0.0005f,
              .hue = 0,
              .saturation = 0.2f,
              .value = 0.2f,
              .fill = {}},
             1.5f};
  for (const Row& row : rows) {
    Index kept = 0;
    for (std::uint32_t step = 0; step < 40; ++step) {
      INFO(std::string(row.what));
      CAPTURE(step);
      const BoxedImage picture = rectangle({90, 120}, {42, 28, 78, 62}, step % 4);
      RandomStream random(3, step);
      const BoxedImage moved = colour_and_flip(place_pictures({&picture, 1}, row.options, random), row.options, random);
      if (moved.boxes.empty()) continue;
      ++kept;
      CHECK(distance(moved.boxes[0].box, seen(moved.image, step % 4)) <= row.tolerance);
      CHECK(moved.boxes[0].label == step % 4);
    }
    CHECK(kept >= 38);
  }
}

TEST_CASE("a mosaic holds four pictures around one point, their boxes where their pixels are") {
  DetectionAugmentation options{.size = 128, .scale = 0, .translate = 0, .hue = 0, .saturation = 0, .value = 0};
  std::vector<BoxedImage> four;
  for (std::size_t i = 0; i < 4; ++i) {
    four.push_back(rectangle({100 + static_cast<Index>(10 * i), 90 + static_cast<Index>(25 * i)}, {20, 15, 70, 80}, i));
  }
  std::size_t shown = 0;
  for (std::uint32_t step = 0; step < 30; ++step) {
    CAPTURE(step);
    RandomStream random(5, step);
    const BoxedImage made = place_pictures(four, options, random);
    for (const ObjectBox& object : made.boxes) {
      const Box& b = object.box;
      CHECK(distance(b, seen(made.image, static_cast<std::size_t>(object.label))) <= 1.0f);
      CHECK(object.area == doctest::Approx((b.x2 - b.x1) * (b.y2 - b.y1)));
      ++shown;
    }
  }
  CHECK(shown > 60);  // of 120; the window shows a quarter of the canvas
}

TEST_CASE("boxes of which too little is left are dropped") {
  const DetectionAugmentation options = DetectionAugmentation::none(64);
  const auto left = [&](const Box& box) {
    const BoxedImage picture = [&] {
      BoxedImage made{Image({64, 64}, 3), {}};
      made.boxes.emplace_back().box = box;
      return made;
    }();
    RandomStream random(1);
    return place_pictures({&picture, 1}, options, random).boxes.size();
  };
  CHECK(left({10, 10, 13, 13}) == 1);
  CHECK(left({10, 10, 12, 30}) == 0);  // two pixels wide
  CHECK(left({10, 10, 30, 11.9f}) == 0);
  CHECK(left({0, 0, 64, 64}) == 1);
  // A shift by half of the width leaves a box at the border less than a tenth of its area.
  DetectionAugmentation shifted = options;
  shifted.translate = 0.5f;
  Index kept = 0, dropped = 0;
  for (std::uint32_t step = 0; step < 200; ++step) {
    BoxedImage picture{Image({64, 64}, 3), {}};
    picture.boxes.emplace_back().box = {40, 24, 60, 44};
    RandomStream random(9, step);
    const BoxedImage moved = place_pictures({&picture, 1}, shifted, random);
    if (moved.boxes.empty()) {
      ++dropped;
      continue;
    }
    ++kept;
    CHECK(moved.boxes[0].area > 0.1f * 400);
  }
  CHECK(kept > 100);
  CHECK(dropped > 5);
}

TEST_CASE("small, grey, empty-handed and missing pictures") {
  const DetectionAugmentation options{.size = 32};
  for (const Size2 size : {Size2(1, 1), Size2(1, 300), Size2(300, 1), Size2(3, 2)}) {
    const std::vector<BoxedImage> four(4, BoxedImage{Image(size, 1, 77), {}});
    RandomStream random(1);
    const BoxedImage made = colour_and_flip(place_pictures(four, options, random), options, random);
    CHECK(made.image.size() == Size2(32, 32));
    CHECK(made.image.channels() == 3);
    CHECK(made.boxes.empty());
  }
  const std::vector<BoxedImage> none(4), two(2, BoxedImage{Image({4, 4}, 3), {}});
  RandomStream random(1);
  CHECK_THROWS_WITH_AS(place_pictures(none, options, random), doctest::Contains("a picture is empty"), UsageError);
  CHECK_THROWS_WITH_AS(place_pictures(two, options, random), doctest::Contains("one picture or four; got 2"),
                       UsageError);
  CHECK_THROWS_WITH_AS(colour_and_flip({}, options, random), doctest::Contains("the picture is empty"), UsageError);
  CHECK_THROWS_WITH_AS(mix(two[0], BoxedImage{Image({4, 5}, 3), {}}, random), doctest::Contains("differ in size"),
                       UsageError);
}

TEST_CASE("mix is a mean of both pictures with the boxes of both") {
  const BoxedImage a = rectangle({8, 8}, {0, 0, 8, 8}, 0), b = rectangle({8, 8}, {0, 0, 8, 8}, 2);
  double sum = 0, squares = 0;
  constexpr int draws = 500;
  for (std::uint32_t step = 0; step < draws; ++step) {
    RandomStream random(2, step);
    const BoxedImage made = mix(a, b, random);
    CHECK(made.boxes.size() == 2);
    const double share = (*made.image.at(3, 3) - 10) / 240.0;
    CHECK(std::abs(*(made.image.at(3, 3) + 2) - (10 + 240 * (1 - share))) <= 2);
    sum += share;
    squares += share * share;
  }
  // Beta(32, 32): mean 1/2, variance 1/260.
  const double mean = sum / draws, variance = squares / draws - mean * mean;
  CHECK(mean == doctest::Approx(0.5).epsilon(0.02));
  CHECK(variance == doctest::Approx(1.0 / 260).epsilon(0.2));
}

TEST_CASE("hue, saturation and value against their definition in double precision") {
  // Smith, 1978.
  const auto reference = [](const std::array<double, 3>& rgb, double turn, double saturation, double value) {
    const double most = std::max({rgb[0], rgb[1], rgb[2]}), range = most - std::min({rgb[0], rgb[1], rgb[2]});
    double hue = 0;
    if (range > 0) {
      hue = most == rgb[0]   ? (rgb[1] - rgb[2]) / range
            : most == rgb[1] ? 2 + (rgb[2] - rgb[0]) / range
                             : 4 + (rgb[0] - rgb[1]) / range;
    }
    hue = std::fmod(hue / 6 + turn + 2, 1.0) * 6;
    const double s = std::min(1.0, (most > 0 ? range / most : 0) * saturation), v = std::min(255.0, most * value);
    const double f = hue - std::floor(hue), p = v * (1 - s), q = v * (1 - s * f), t = v * (1 - s * (1 - f));
    const std::array<std::array<double, 3>, 6> sextants = {
        {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}}};
    return sextants[static_cast<std::size_t>(hue) % 6];
  };
  for (const auto& [turn, saturation, value] : std::vector<std::array<double, 3>>{
           {0, 1, 1}, {0.015, 1.7, 1.4}, {-0.015, 0.3, 0.6}, {0.5, 0, 1}, {-0.5, 1, 0}, {0.3, 5, 9}}) {
    Image image({32, 32 * 32}, 3);
    std::uint8_t* p = image.writable();
    for (int i = 0; i < 32 * 32 * 32; ++i, p += 3) {
      p[0] = static_cast<std::uint8_t>((i & 31) * 255 / 31), p[1] = static_cast<std::uint8_t>((i >> 5 & 31) * 255 / 31);
      p[2] = static_cast<std::uint8_t>((i >> 10) * 255 / 31);
    }
    const Image before = image;
    adjust_hsv(image, static_cast<float>(turn), static_cast<float>(saturation), static_cast<float>(value));
    double worst = 0;
    for (Index y = 0; y < 32; ++y) {
      for (Index x = 0; x < 1024; ++x) {
        const std::uint8_t* from = before.at(y, x);
        const auto expected = reference({double(from[0]), double(from[1]), double(from[2])}, turn, saturation, value);
        for (std::size_t c = 0; c < 3; ++c) worst = std::max(worst, std::abs(image.at(y, x)[c] - expected[c]));
      }
    }
    CHECK(worst <= 0.51);
  }
}

TEST_CASE("batches of boxes: the same for any number of threads, another every epoch, crowds left out") {
  const auto set = std::make_shared<Rectangles>();
  LoaderOptions options{.batch = 4,
                        .drop_last = false,
                        .seed = 11,
                        .detection = DetectionAugmentation{.size = 32, .mixup = 0.3f, .degrees = 5}};
  options.preprocess.do_normalize = false;
  const auto equal = [](const Batch& a, const Batch& b) {
    if (a.samples != b.samples || a.boxes.size() != b.boxes.size()) return false;
    for (std::size_t i = 0; i < a.boxes.size(); ++i) {
      if (a.boxes[i].size() != b.boxes[i].size()) return false;
      for (std::size_t k = 0; k < a.boxes[i].size(); ++k) {
        if (distance(a.boxes[i][k].box, b.boxes[i][k].box) != 0) return false;
      }
    }
    return std::memcmp(a.images.data(), b.images.data(), a.images.spec().bytes()) == 0;
  };
  options.workers = 0;
  Loader alone(set, options);
  options.workers = 3;
  Loader together(set, options);
  std::vector<Batch> batches;
  Index boxes = 0;
  for (int i = 0; i < 8; ++i) {
    batches.push_back(alone.next());
    const Batch& b = batches.back();
    CHECK(equal(b, together.next()));
    CHECK(b.images.shape() == Shape{b.number == 0 ? 4 : 2, 32, 32, 3});
    CHECK(b.boxes.size() == b.samples.size());
    for (const auto& picture : b.boxes) {
      for (const ObjectBox& o : picture) CHECK(o.label < 4);
      boxes += static_cast<Index>(picture.size());
    }
  }
  CHECK(boxes > 20);
  CHECK(!equal(batches[0], batches[2]));
  alone.seek(2, 1);
  CHECK(equal(alone.next(), batches[5]));

  // Without chance a sample is itself; the end of mosaics is the same.
  options.detection = DetectionAugmentation::none(64);
  options.shuffle = false;
  const Batch plain = Loader(set, options).make(0, 0);
  CHECK(plain.boxes[0].size() == 1);
  CHECK(plain.boxes[1][0].label == 1);
  DetectionAugmentation ending = DetectionAugmentation::none(64);
  ending.mosaic = 1;
  ending.last_mosaic_epoch = 0;
  options.detection = ending;
  const Loader late(set, options);
  CHECK(!equal(late.make(0, 0), plain));
  CHECK(equal(late.make(1, 0), plain));

  options.detection.reset();
  CHECK_THROWS_WITH_AS(Loader(set, options).make(0, 0),
                       doctest::Contains("picture 0 has boxes; give LoaderOptions::detection"), UsageError);
}

TEST_CASE("the same stream makes the same picture") {
  std::vector<BoxedImage> four;
  for (std::size_t i = 0; i < 4; ++i) four.push_back(rectangle({50, 70}, {10, 10, 40, 40}, i));
  const DetectionAugmentation options{.size = 48, .degrees = 10};
  const auto made = [&](std::uint32_t sample) {
    RandomStream random(1, 2, sample);
    return colour_and_flip(place_pictures(four, options, random), options, random);
  };
  CHECK(same(made(3), made(3)));
  CHECK(!same(made(3), made(4)));
}
