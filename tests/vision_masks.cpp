// Masks: pycocotools' runs, texts, areas, boxes and overlaps; polygons there and back; what lies.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <ocellus/core.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/runtime.hpp>
#include <ocellus/vision/masks.hpp>

using namespace ocellus;

namespace {

Image random_mask(Size2 size, float share, std::uint64_t seed) {
  RandomStream random(seed);
  Image mask(size, 1);
  std::uint8_t* to = mask.writable();
  for (Index i = 0; i < size.h * size.w; ++i) to[i] = random.bernoulli(share) ? 255 : 0;
  return mask;
}

// Rows of '#' and '.'.
Image drawn(const std::vector<std::string>& rows) {
  Image mask({static_cast<Index>(rows.size()), static_cast<Index>(rows[0].size())}, 1);
  std::uint8_t* to = mask.writable();
  for (const std::string& row : rows) {
    for (const char c : row) *to++ = c == '#';
  }
  return mask;
}

template <class F>
std::string file_error(F f) {
  try {
    f();
  } catch (const FileError& e) {
    return e.what();
  }
  return "no FileError";
}

}  // namespace

TEST_CASE("masks equal pycocotools") {
  const Json golden = Json::read(OCELLUS_TEST_DIR "/golden/coco_metrics.json");
  const Json rows = golden.at("masks");
  RandomStream random(golden.get<std::uint64_t>("first_seed") - 1);
  std::vector<MaskRuns> masks;
  Size2 size;
  for (Index i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    if (i % 2 == 0) {
      size.h = 5 + random.below(60);
      size.w = 5 + random.below(60);
    }
    std::vector<Polygon> polygons;
    for (Index left = 1 + random.below(3); left > 0; --left) {
      Polygon polygon;
      for (Index corners = 3 + random.below(6); corners > 0; --corners) {
        polygon.push_back(static_cast<double>(random.below((size.w + 8) * 8)) / 8 - 4);
        polygon.push_back(static_cast<double>(random.below((size.h + 8) * 8)) / 8 - 4);
      }
      polygons.push_back(std::move(polygon));
    }
    const MaskRuns mask = MaskRuns::from_polygons(polygons, size, "test");
    masks.push_back(mask);
    const Json row = rows.at(i);
    const std::string text = row.at(0).get<std::string>();
    CHECK(mask.text() == text);
    CHECK(MaskRuns::from_text(text, size, "test") == mask);
    CHECK(mask.area() == row.at(1).get<Index>());
    const auto box = row.at(2).get<std::vector<float>>();
    CHECK(mask.box() == to_box<float>(BoxFormat::xywh, {box[0], box[1], box[2], box[3]}));
  }
  REQUIRE(masks.size() == 60);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    const Json row = rows.at(static_cast<Index>(i));
    CHECK(iou(masks[i], masks[i ^ 1]) == doctest::Approx(row.at(3).get<double>()).epsilon(1e-12));
    CHECK(iou(masks[i], masks[i ^ 1], true) == doctest::Approx(row.at(4).get<double>()).epsilon(1e-12));
  }
}

TEST_CASE("a mask, its runs, its text and its polygons are one") {
  std::vector<Image> images = {
      drawn({"#"}),
      drawn({"."}),
      drawn({"....", ".##.", "...."}),
      drawn({"#..#", ".##.", "#..#"}),                       // parts that touch at corners only
      drawn({"#####", "#.#.#", "##.##", "#...#", "#####"}),  // holes
      drawn({"#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"}),  // a ring in a ring
  };
  for (std::uint64_t seed = 0; seed < 12; ++seed)
    images.push_back(
        random_mask({1 + static_cast<Index>(seed) * 3, 23}, 0.1f + 0.07f * static_cast<float>(seed), seed));
  for (const Image& image : images) {
    const MaskRuns mask(image);
    CAPTURE(mask.text());
    const Image again = mask.image(255);
    Index area = 0;
    bool same = again.size() == image.size();
    for (Index i = 0; i < image.width() * image.height(); ++i) {
      same &= (again.data()[i] == 255) == (image.data()[i] != 0);
      area += image.data()[i] != 0;
    }
    CHECK(same);
    CHECK(mask.area() == area);
    CHECK(MaskRuns::from_text(mask.text(), mask.size(), "test") == mask);
    CHECK(MaskRuns::from_counts({mask.counts().begin(), mask.counts().end()}, mask.size(), "test") == mask);
    CHECK(MaskRuns::from_polygons(mask.polygons(), mask.size(), "test") == mask);
    CHECK(intersection(mask, mask) == area);
    CHECK(iou(mask, mask) == (area ? 1 : 0));
  }
  CHECK(MaskRuns(drawn({"....", ".##.", "...."})).counts() == std::vector<std::uint32_t>{4, 1, 2, 1, 4});
  CHECK(MaskRuns(drawn({"....", ".##.", "...."})).polygons() == std::vector<Polygon>{{3, 1, 3, 2, 1, 2, 1, 1}});
  CHECK(MaskRuns(drawn({"#..#", ".##.", "#..#"})).polygons().size() == 5);
  CHECK(MaskRuns(drawn({"#####", "#.#.#", "##.##", "#...#", "#####"})).polygons().size() == 1);
  CHECK(MaskRuns(drawn({"....", ".##.", "...."})).box() == Box{1, 1, 3, 2});
  CHECK(MaskRuns(drawn({"."})).box() == Box{});
  CHECK(MaskRuns(drawn({"."})).polygons().empty());
}

TEST_CASE("overlap of masks by hand") {
  const MaskRuns a(drawn({"##..", "##.."})), b(drawn({".##.", ".##."})), none(drawn({"....", "...."}));
  CHECK(intersection(a, b) == 2);
  CHECK(iou(a, b) == doctest::Approx(2.0 / 6));
  CHECK(iou(a, b, true) == doctest::Approx(0.5));
  CHECK(iou(a, none) == 0);
  CHECK(iou(none, none) == 0);
  CHECK_THROWS_WITH_AS(iou(a, MaskRuns(drawn({"#"}))),
                       "intersection: masks of one size are needed; got (2, 4) and (1, 1)", UsageError);
  CHECK_THROWS_AS(MaskRuns{Image({2, 2}, 3)}, UsageError);
  CHECK_THROWS_AS(MaskRuns{Image{}}, UsageError);
}

TEST_CASE("masks that lie are refused") {
  const auto counts = [](const std::vector<std::int64_t>& c, Size2 size = {2, 3}) {
    return file_error([&] { MaskRuns::from_counts(c, size, "file.json"); });
  };
  CHECK(counts({6}) == "no FileError");
  CHECK(counts({0, 0, 2, 0, 1, 3}) == "no FileError");  // runs of nothing
  CHECK(counts({1, 2}) == "file.json: the runs of a mask cover 3 pixels of (2, 3)");
  CHECK(counts({1, 2, 4}) == "file.json: run 2 of a mask has 4 pixels; 3 of (2, 3) are left");
  CHECK(counts({7, -1}) == "file.json: run 0 of a mask has 7 pixels; 6 of (2, 3) are left");
  CHECK(counts({2, -1, 5}) == "file.json: run 1 of a mask has -1 pixels; 4 of (2, 3) are left");
  CHECK(counts({std::numeric_limits<std::int64_t>::max(), 7}).find("run 0") != std::string::npos);
  CHECK(counts({}, {0, 3}).find("a mask of (0, 3) pixels") != std::string::npos);
  CHECK(counts({}, {1 << 20, 1}).find("a mask of (1048576, 1) pixels") != std::string::npos);
  CHECK(counts({}, {16384, 16384}).find("at most 100000000 pixels") != std::string::npos);
  CHECK(MaskRuns::from_counts({0, 0, 2, 0, 1, 3}, {2, 3}, "").counts() == std::vector<std::uint32_t>{3, 3});

  const auto text = [](std::string_view t) { return file_error([&] { MaskRuns::from_text(t, {2, 3}, "file.json"); }); };
  CHECK(text("6") == "no FileError");
  CHECK(text("").find("cover 0 pixels") != std::string::npos);
  CHECK(text("1 5") == "file.json: character 1 of the compressed mask is none of '0' to 'o'");
  CHECK(text("1\xff") == "file.json: character 1 of the compressed mask is none of '0' to 'o'");
  CHECK(text("3P") == "file.json: the compressed mask ends within a number");
  CHECK(text("oooooooooooooo0") == "file.json: a number at character 7 of the compressed mask is too long");
  CHECK(text("@").find("run 0 of a mask has -16 pixels") != std::string::npos);

  const auto polygon = [](const Polygon& p) {
    return file_error([&] { MaskRuns::from_polygons({{0, 0, 1, 0, 1, 1}, p}, {9, 9}, "file.json"); });
  };
  CHECK(polygon({-3, -3, 30, 5, 2, 40}) == "no FileError");
  CHECK(polygon({}) == "file.json: polygon 1 of a mask needs x and y of three corners or more");
  CHECK(polygon({0, 0, 5, 5, 3, 3, 1}).find("three corners") != std::string::npos);
  CHECK(polygon({0, 0, 5, std::nan(""), 3, 3}).find("a coordinate that is not a number") != std::string::npos);
  CHECK(polygon({0, 0, 5, 1e9, 3, 3}).find("a coordinate that is not a number or lies far outside") !=
        std::string::npos);
  Polygon zigzag;
  for (int i = 0; i < 2000; ++i) zigzag.insert(zigzag.end(), {i % 2 ? 65000.0 : -65000.0, static_cast<double>(i)});
  CHECK(polygon(zigzag) == "file.json: polygon 1 of a mask has an outline that is too long");
}
