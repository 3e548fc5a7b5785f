// Boxes: COCO, Pascal VOC and YOLO's text labels, good ones and bad ones with the text each must be refused with.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <ocellus/core/log.hpp>
#include <ocellus/data.hpp>
#include <ocellus/data/voc.hpp>
#include <ocellus/vision/image_file.hpp>

#include "io_support.hpp"

using namespace ocellus;
namespace fs = std::filesystem;

namespace {

using io_test::contains;

class Folder : public io_test::TemporaryFolder {
 public:
  void text(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(*this / name).parent_path());
    write(name, content);
  }
  void picture(const std::string& name, Size2 size = {30, 40}) const {
    fs::create_directories(fs::path(*this / name).parent_path());
    write_png(*this / name, Image(size, 3, 100));
  }
};

std::vector<std::string>& warnings() {
  static std::vector<std::string> all;
  return all;
}
// Collects what the library says while it lives.
struct Listening {
  LogSink old = set_log_sink([](LogLevel, const std::string& message) { warnings().push_back(message); });
  Listening() { warnings().clear(); }
  ~Listening() { set_log_sink(old); }
};

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

std::vector<float> edges(const ObjectBox& o) { return {o.box.x1, o.box.y1, o.box.x2, o.box.y2}; }
using Edges = std::vector<float>;

const std::string image = R"({"id": 7, "file_name": "a.png", "width": 40, "height": 30})";
const std::string categories = R"([{"id": 30, "name": "cat"}, {"id": 4, "name": "dog"}])";
std::string annotation(const std::string& id, const std::string& box, const std::string& more = "") {
  return R"({"id": )" + id + R"(, "image_id": 7, "category_id": 30, "bbox": )" + box + more + "}";
}
std::string coco(const std::string& annotations, const std::string& images = "[" + image + "]",
                 const std::string& names = categories) {
  return R"({"images": )" + images + R"(, "annotations": )" + annotations + R"(, "categories": )" + names + "}";
}
std::string coco_error(const std::string& text) {
  return error_of([&] { parse_coco(text, "x.json", "pictures", {}, false); });
}

std::string voc(const std::string& objects,
                const std::string& size = "<size><width>40</width><height>30</height></size>") {
  return "<annotation>" + size + objects + "</annotation>";
}
std::string voc_object(const std::string& name, const std::vector<std::string>& box,
                       const std::string& difficult = "0") {
  return "<object><name>" + name + "</name><difficult>" + difficult + "</difficult><bndbox><xmin>" + box[0] +
         "</xmin><ymin>" + box[1] + "</ymin><xmax>" + box[2] + "</xmax><ymax>" + box[3] + "</ymax></bndbox></object>";
}

}  // namespace

TEST_CASE("COCO: classes by the order of ids, boxes clipped, crowds and areas kept, what has no area reported") {
  const Folder folder;
  folder.picture("val2017/a.png");
  folder.picture("val2017/sub/b.png", {8, 9});
  folder.text(
      "annotations/instances_val2017.json",
      coco("[" + annotation("1", "[-2, 3, 10, 5.5]", R"(, "area": 30.5, "iscrowd": 0)") + "," +
               annotation("2", "[30, 20, 100, 100]") + "," + annotation("3", "[1, 1, 0, 4]") + "," +
               annotation("4", "[41, 1, 5, 5]") + "," + annotation("5", "[0, 0, 4, 4]", R"(, "iscrowd": 1)") + "]",
           "[" + image + R"(, {"id": 2, "file_name": "sub/b.png", "width": 9, "height": 8}])"));
  const Listening listening;
  const auto set = open_detection(folder.path(), "val");
  CHECK(set->size() == 2);
  CHECK(set->classes() == std::vector<std::string>{"dog", "cat"});
  CHECK(set->data().category_ids == std::vector<std::int64_t>{4, 30});
  const AnnotatedPicture& first = set->picture(0);
  CHECK(first.id == 7);
  REQUIRE(first.boxes.size() == 3);
  CHECK(first.boxes[0].label == 1);
  CHECK(edges(first.boxes[0]) == Edges{0, 3, 8, 8.5f});
  CHECK(first.boxes[0].area == 30.5f);
  CHECK(edges(first.boxes[1]) == Edges{30, 20, 40, 30});
  CHECK(first.boxes[1].area == 100);
  CHECK(!first.boxes[1].crowd);
  CHECK(first.boxes[2].crowd);
  CHECK(set->picture(1).boxes.empty());
  REQUIRE(set->data().left_out.size() == 2);
  CHECK(contains(set->data().left_out[0],
                 "annotations[2].bbox: the box (1, 1, 1, 5) has no area"));
  CHECK(contains(
      set->data().left_out[1],
      "annotations[3].bbox: the box (41, 1, 46, 6) lies outside of the picture of"));
  REQUIRE(warnings().size() == 1);
  CHECK(contains(warnings()[0], "were left out: 2, the first: "));
  const Sample sample = set->get(1);
  CHECK(sample.image.size() == Size2(8, 9));
  CHECK(set->get(0).boxes.size() == 3);
  CHECK(set->name(1).ends_with("val2017/sub/b.png"));

  // The model's classes decide.
  CHECK(open_detection(folder.path(), "val", {.classes = {"cat", "bird", "dog"}})->picture(0).boxes[0].label == 0);
  CHECK(contains(error_of([&] { open_detection(folder.path(), "val", {.classes = {"cat"}}); }),
                 "the category \"dog\" is no class of the model"));
}

TEST_CASE("COCO: where the file and its pictures may lie") {
  for (const auto& [file, picture] : std::vector<std::pair<std::string, std::string>>{
           {"val.json", "a.png"},
           {"val.json", "images/a.png"},
           {"val.json", "val/a.png"},
           {"annotations/val.json", "images/val/a.png"},
           {"annotations/instances_val.json", "val/a.png"},
           {"set/annotations/instances_val2014.json", "set/images/val2014/a.png"},
           {"val/_annotations.coco.json", "val/a.png"}}) {
    CAPTURE(file);
    const Folder folder;
    folder.text(file, coco("[]"));
    folder.picture(picture);
    CHECK(open_detection(folder.path(), "val")->get(0).image.size() == Size2(30, 40));
  }
}

TEST_CASE("COCO: what is refused") {
  const std::string box = "[1, 2, 3, 4]", one = annotation("1", box);
  const auto without = [](std::string text, const std::string& part) {
    return text.erase(text.find(part), part.size());
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"{}", "the key \"categories\" is missing"},
      {"[]", "expected an object"},
      {coco("[" + one + "," + one + "]"), "annotations[1].id: the id 1 stands there twice"},
      {coco("[" + without(one, R"("id": 1, )") + "]"), "annotations[0]: the key \"id\" is missing"},
      {coco("[" + without(one, R"("image_id": 7, )") + "]"), "annotations[0]: the key \"image_id\" is missing"},
      {coco("[" + without(one, R"("category_id": 30, )") + "]"), "annotations[0]: the key \"category_id\" is missing"},
      {coco(R"([{"id": 1, "image_id": 8, "category_id": 30, "bbox": [1, 2, 3, 4]}])"),
       "there is no image with the id 8"},
      {coco(R"([{"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}])"),
       "there is no category with the id 5"},
      {coco(R"([{"id": 1, "image_id": "7", "category_id": 5, "bbox": [1, 2, 3, 4]}])"),
       "annotations[0].image_id: expected an integer"},
      {coco(R"([{"id": 60.0, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}])"),
       "annotations[0].id: expected an integer, got 60.0"},
      {coco("[" + annotation("1", box, R"(, "iscrowd": "1")") + "]"), "annotations[0].iscrowd: expected an integer"},
      {coco("[" + annotation("1", box, R"(, "area": null)") + "]"), "annotations[0].area: expected a number"},
      {coco(R"([{"id": 1, "image_id": 7, "category_id": 30}])"), "the key \"bbox\" is missing"},
      {coco("[" + annotation("1", "[1, 2, 3]") + "]"), "annotations[0].bbox: must be [x, y, width, height]"},
      {coco("[" + annotation("1", "[1, 2, -3, 4]") + "]"), "annotations[0].bbox: has a negative width or height"},
      {coco("[" + annotation("1", "[1, 2, 3, -1e-9]") + "]"), "has a negative width or height"},
      {coco("[" + annotation("1", "[1e300, 2, 3, 4]") + "]"),
       "annotations[0].bbox: the box (1e+300, 2, 1e+300, 6) has an edge that is no number"},
      {coco("[" + annotation("1", "[1, 2, 1e8, 4.25]") + "]"), "the box (1, 2, 1e+08, 6.25) has an edge"},
      {coco("[" + annotation("1", "[NaN, 2, 3, 4]") + "]"), "not valid JSON"},
      {coco("[" + annotation("1", "[1, 2, 3, 1e999]") + "]"), "not valid JSON"},
      {coco("[" + annotation("1", "[1, null, 3, 4]") + "]"), "annotations[0].bbox[1]: expected a number"},
      {coco("[" + annotation("1", box, R"(, "area": -1)") + "]"), "annotations[0].area: is no number of pixels"},
      {coco("[]", "[]"), "there are no images"},
      {coco("[]", "[" + image + "," + image + "]"), "images[1].id: the id 7 stands there twice"},
      {coco("[]", "[" + without(image, R"("id": 7, )") + "]"), "the key \"id\" is missing"},
      {coco("[]", "[" + without(image, R"(, "width": 40)") + "]"), "the key \"width\" is missing"},
      {coco("[]", R"([{"id": 7, "file_name": "a.png", "width": 0, "height": 30}])"),
       "images[0].width: must be from 1 to"},
      {coco("[]", R"([{"id": 7, "file_name": "a.png", "width": 4, "height": 300000}])"),
       "images[0].height: must be from 1 to"},
      {coco("[]", "[" + image + "]", "[]"), "there are no categories"},
      {coco("[]", "[" + image + "]", R"([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}])"),
       "categories[1].id: the id 1 stands there twice"},
      {coco("[]", "[" + image + "]", R"([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}])"),
       "two categories are called \"a\""},
      {coco("[]", "[" + image + "]", R"([{"id": 1}])"), "categories[0]: the key \"name\" is missing"},
  };
  for (const auto& [text, expected] : rows) {
    CAPTURE(text);
    const std::string error = coco_error(text);
    CHECK(contains(error, expected));
    CHECK(error.starts_with("x.json"));
  }
  const Folder folder;
  folder.picture("out.png");
  fs::create_directories(folder / "set/val");
  fs::create_symlink(folder / "out.png", folder / "set/val/link.png");
  for (const auto& [name, expected] :
       std::vector<std::pair<std::string, std::string>>{{"../../out.png", "leaves the folder of the data set"},
                                                        {"link.png", "leaves the folder of the data set"},
                                                        {"/etc/passwd", "is an absolute path"},
                                                        {"b.png", "is no file"}}) {
    folder.text("set/val.json",
                coco("[]", R"([{"id": 7, "file_name": ")" + name + R"(", "width": 40, "height": 30}])"));
    const std::string error = error_of([&] { open_detection(folder / "set", "val"); });
    CHECK(contains(error, "val.json: images[0].file_name: \"" + name + "\" " + expected));
  }
}

TEST_CASE("YOLO's text labels: shares to pixels, polygons, pictures without a file") {
  for (const bool split_first : {false, true}) {
    const Folder folder;
    const std::string images = split_first ? "set/train/images/" : "set/images/train/",
                      labels = split_first ? "set/train/labels/" : "set/labels/train/";
    folder.picture(images + "a.png");
    folder.picture(images + "b.c.png", {10, 20});
    folder.text(images + "notes.md", "");
    folder.text(labels + "a.txt", "1 0.5 0.5 0.25 0.2\r\n\n0 1.0 0.5 0.5 1\n0 0.5 0.5 0 0.1\n");
    folder.text("set/classes.txt", "red\nwhite\n");
    const Listening listening;
    const auto set = open_detection(folder.path(), "train");
    CHECK(set->size() == 2);
    CHECK(set->classes() == std::vector<std::string>{"red", "white"});
    REQUIRE(set->picture(0).boxes.size() == 2);
    CHECK(set->picture(0).boxes[0].label == 1);
    CHECK(edges(set->picture(0).boxes[0]) == Edges{15, 12, 25, 18});
    CHECK(set->picture(0).boxes[0].area == 60);
    CHECK(edges(set->picture(0).boxes[1]) == Edges{30, 0, 40, 30});
    CHECK(set->picture(1).boxes.empty());
    CHECK(set->picture(1).size == Size2(10, 20));
    CHECK(set->data().left_out.size() == 1);

    folder.text(labels + "b.c.txt", "1\t0.1 0.2  0.5 0.4 0.3 0.9\n");
    CHECK(edges(open_detection(folder.path(), "train")->picture(1).boxes.at(0)) == Edges{2, 2, 10, 9});
    for (const auto& [line, expected] : std::vector<std::pair<std::string, std::string>>{
             {"2 0.5 0.5 0.1 0.1", "line 1: the class is 2; there are 2 classes"},
             {"-1 0.5 0.5 0.1 0.1", "the class is -1"},
             {"0.5 0.5 0.5 0.1 0.1", "the class is 0.5"},
             {"0 0.5 0.5 0.1", "got 4 numbers"},
             {"0 0.5 0.5 0.1 0.1 0.1", "got 6 numbers"},
             {"0 nan 0.5 0.1 0.1", "expected a number, got \"nan\""},
             {"0 0.5 inf 0.1 0.1", "expected a number, got \"inf\""},
             {"0 0.5 1e999 0.1 0.1", "expected a number, got \"1e999\""},
             {"0 0.5 0x1 0.1 0.1", "expected a number, got \"0x1\""},
             {"0 20 15 4 4", "20 is no share of the picture"},
             {"0 0.5 0.5 -0.2 0.1", "-0.2 is no share"}}) {
      CAPTURE(line);
      folder.text(labels + "a.txt", line);
      const std::string error = error_of([&] { open_detection(folder.path(), "train"); });
      CHECK(contains(error, expected));
      CHECK(contains(error, labels + "a.txt: line 1"));
    }
    fs::remove(folder / "set/classes.txt");
    CHECK(
        contains(error_of([&] { open_detection(folder.path(), "train"); }), "the names of the classes are not known"));
  }
}

TEST_CASE("Pascal VOC: names, difficult objects, suffixes, what is refused") {
  const Folder folder;
  folder.picture("set/JPEGImages/a.png");
  folder.picture("set/JPEGImages/b.png");
  folder.text("set/ImageSets/Main/train.txt", "a\n\nb  1\n");
  folder.text("set/Annotations/a.xml",
              voc(voc_object("dog", {"1", " 2\n", "20.5", "99"}) + voc_object("cat", {"5", "5", "5", "9"})));
  folder.text("set/Annotations/b.xml",
              "<?xml version='1.0'?><!-- x -->" + voc(voc_object("a&amp;b", {"0", "0", "40", "30"}, "1")));
  const DatasetOptions options{.voc = read_voc};
  const Listening listening;
  const auto set = open_detection(folder.path(), "train", options);
  CHECK(set->classes() == std::vector<std::string>{"a&b", "cat", "dog"});
  REQUIRE(set->picture(0).boxes.size() == 1);
  CHECK(set->picture(0).boxes[0].label == 2);
  CHECK(edges(set->picture(0).boxes[0]) == Edges{1, 2, 20.5f, 30});
  CHECK(!set->picture(0).boxes[0].difficult);
  CHECK(set->picture(1).boxes.at(0).difficult);
  REQUIRE(set->data().left_out.size() == 1);
  CHECK(contains(set->data().left_out[0],
                 "a.xml: object 2 (\"cat\"): the box (5, 5, 5, 9) has no area"));
  CHECK(set->get(0).image.size() == Size2(30, 40));
  CHECK(contains(error_of([&] { open_detection(folder.path(), "train"); }), "link ocellus::voc"));

  const std::string good = voc_object("dog", {"1", "2", "3", "4"});
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"", "not valid XML"},
           {"<annotation>", "not valid XML"},
           {"<html/>", "there is no <annotation>"},
           {voc(good, ""), "<annotation> has no <size>"},
           {voc(good, "<size><width>40</width></size>"), "<size> has no <height>"},
           {voc(good, "<size><width>40</width><height>0</height></size>"), "the height must be from 1 to"},
           {voc(good, "<size><width>1e9</width><height>30</height></size>"), "the width must be from 1 to"},
           {voc("<object><name>dog</name></object>"), "<object> has no <bndbox>"},
           {voc(voc_object("", {"1", "2", "3", "4"})), "an object has no name"},
           {voc(voc_object("dog", {"1", "2", "3", "4"}, "yes")), "<difficult>: expected 0 or 1, got \"yes\""},
           {voc(voc_object("dog", {"1", "2", "3", "4"}, "")), "<difficult>: expected 0 or 1, got \"\""},
           {voc(voc_object("dog", {"nan", "2", "3", "4"})), "<xmin>: expected a number, got \"nan\""},
           {voc(voc_object("dog", {"1", "", "3", "4"})), "<ymin>: expected a number, got \"\""},
           {voc(voc_object("dog", {"1", "2", "1e8", "4"})), "has an edge that is no number of pixels"},
           {voc(voc_object("dog", {"9", "2", "3", "4"})),
            "object 1 (\"dog\"): the box (9, 2, 3, 4) is reversed"},
           {voc(voc_object("dog", {"1", "2", "3", "4"}), "<size><width>41</width><height>30</height></size>"),
            "a.png: has (height, width) (30, 40), its annotation says (30, 41); give the picture that was annotated"},
           {voc(voc_object("dog", {"1", "2", "3", "4"}), "<size><width>30</width><height>40</height></size>"),
            "a.png: has (height, width) (30, 40), its annotation says (40, 30): width and height of the annotation are "
            "swapped, or it was made before the picture was turned upright by its EXIF orientation"},
           {voc(std::string(std::size_t{5} << 20, ' ')), "(Limits::xml_bytes)"},
           {"<annotation>" + std::string(1 << 20, '<'), "not valid XML"}}) {
    CAPTURE(text.substr(0, 200));
    folder.text("set/Annotations/a.xml", text);
    CHECK(contains(error_of([&] { open_detection(folder.path(), "train", options)->get(0); }), expected));
  }
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  for (int i = 0; i < 100'000; ++i) deep += "</a>";
  folder.text("set/Annotations/a.xml", voc(deep + good));
  CHECK(open_detection(folder.path(), "train", options)->picture(0).boxes.size() == 1);
  CHECK(contains(error_of([&] { open_detection(folder.path(), "train", {.classes = {"cat"}, .voc = read_voc}); }),
                 "object 1 (\"dog\") is no class of the model"));
  folder.text("set/ImageSets/Main/train.txt", "../../a\n");
  CHECK(contains(error_of([&] { open_detection(folder.path(), "train", options); }),
                 "train.txt: line 1: \"../../a.xml\" leaves the folder"));
  folder.text("set/ImageSets/Main/train.txt", "\n");
  CHECK(contains(error_of([&] { open_detection(folder.path(), "train", options); }), "names no pictures"));
  CHECK(contains(error_of([&] { open_detection(folder.path(), "val", options); }), "no data for detection; expected"));
}

TEST_CASE("blood cells: every box of a real set but the two without area") {
  const char* data = std::getenv("OCELLUS_DATA");
  if (!data) {
    MESSAGE("SKIPPED: OCELLUS_DATA is not set");
    return;
  }
  const Listening listening;
  std::map<std::string, int> counts;
  std::vector<std::string> left_out;
  double area = 0;
  Index pictures = 0;
  for (const char* split : {"train", "val"}) {
    const auto set = open_detection(std::string(data) + "/bccd", split, {.voc = read_voc});
    CHECK(set->classes() == std::vector<std::string>{"Platelets", "RBC", "WBC"});
    pictures += set->size();
    for (Index i = 0; i < set->size(); ++i) {
      CHECK(set->picture(i).size == Size2(480, 640));
      for (const ObjectBox& o : set->picture(i).boxes) {
        ++counts[set->classes()[static_cast<std::size_t>(o.label)]];
        area += static_cast<double>(o.area);
      }
    }
    left_out.insert(left_out.end(), set->data().left_out.begin(), set->data().left_out.end());
  }
  CHECK(pictures == 292);
  CHECK(counts == std::map<std::string, int>{{"Platelets", 292}, {"RBC", 3348}, {"WBC", 301}});
  CHECK(area == 46486935.0);
  REQUIRE(left_out.size() == 2);
  CHECK(contains(left_out[0] + left_out[1], "BloodImage_00338.xml: object"));
  CHECK(contains(left_out[0] + left_out[1], "BloodImage_00343.xml: object"));
}

TEST_CASE("YOLO's text labels: numbers become those of the model's classes by the names in classes.txt") {
  Folder folder;
  folder.text("set/classes.txt", "red\nwhite\n");
  folder.picture("set/images/train/a.png");
  folder.text("set/labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n");
  const auto labels = [&](const std::vector<std::string>& classes) {
    const auto set = open_detection(folder / "set", "train", {.classes = classes});
    if (!classes.empty()) CHECK(set->classes() == classes);
    return std::vector<Index>{set->picture(0).boxes.at(0).label, set->picture(0).boxes.at(1).label};
  };
  CHECK(labels({}) == std::vector<Index>{0, 1});
  CHECK(labels({"red", "white"}) == std::vector<Index>{0, 1});
  CHECK(labels({"red", "white", "blue"}) == std::vector<Index>{0, 1});
  CHECK(labels({"white", "red"}) == std::vector<Index>{1, 0});
  CHECK(labels({"white", "blue", "red"}) == std::vector<Index>{2, 0});
  CHECK(labels({"red", "white", "red"}) == std::vector<Index>{0, 1});
  for (const auto& [classes, expected] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"white", "Red"},
            "set/classes.txt: its names \"red\", \"white\" say what the numbers of the data mean, the classes are "
            "\"white\", \"Red\" (a model's labels or --classes): \"red\" is none of them"},
           {{"red"}, "\"white\" is none of them"},
           {{"white", "red", "red"}, "\"red\" stands in one of the lists twice"}}) {
    CHECK(contains(error_of([&] { labels(classes); }), expected));
  }
  folder.text("set/classes.txt", "red\nred\n");
  CHECK(contains(error_of([&] { labels({"white", "red"}); }), "\"red\" stands in one of the lists twice"));
  // A number that the file does not name means nothing, however many classes the model has.
  folder.text("set/classes.txt", "red\n");
  CHECK(contains(error_of([&] { labels({"red", "white"}); }), "line 2: the class is 1; there are 1 classes"));
}

TEST_CASE("COCO: two categories of one name are refused, with given classes, too") {
  const std::string twice = R"([{"id": 30, "name": "cat"}, {"id": 4, "name": "cat"}])";
  const std::string text = coco("[]", "[" + image + "]", twice);
  for (const std::vector<std::string>& classes : {std::vector<std::string>{}, {"cat"}, {"dog", "cat", "cat"}}) {
    CHECK(contains(error_of([&] { parse_coco(text, "x.json", "p", {.classes = classes}, false); }),
                   "categories: two categories are called \"cat\""));
  }
}

TEST_CASE("YOLO's text labels: label files without a picture are reported, subfolders of pictures named") {
  Folder folder;
  folder.text("set/classes.txt", "red\n");
  folder.picture("set/images/train/a.png");
  folder.picture("set/images/train/b.png");
  folder.text("set/labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n");
  folder.text("set/labels/train/classes.txt", "red\n");
  folder.text("set/labels/train/notes.json", "{}");
  const Listening listening;
  open_detection(folder / "set", "train");
  CHECK(warnings().empty());
  folder.text("set/labels/train/B.txt", "0 0.5 0.5 0.5 0.5\n");
  folder.text("set/labels/train/c.txt", "");
  const auto set = open_detection(folder / "set", "train");
  CHECK(set->picture(1).boxes.empty());
  REQUIRE(warnings().size() == 1);
  CHECK_MESSAGE(contains(warnings()[0], "set/labels/train: label files without a picture"), warnings()[0]);
  CHECK_MESSAGE(contains(warnings()[0], "are ignored: 2, the first: B.txt"), warnings()[0]);

  for (const char* name : {"a.png", "b.png"}) fs::remove(folder / ("set/images/train/" + std::string(name)));
  CHECK(error_of([&] { open_detection(folder / "set", "train"); })
            .ends_with("set/images/train: there are no pictures (.jpg, .jpeg, .png, .bmp)"));
  folder.picture("set/images/train/more/a.png");
  CHECK(error_of([&] { open_detection(folder / "set", "train"); }).ends_with(".bmp); subfolders are not read"));
}

TEST_CASE("Pascal VOC: spaces around <difficult>, none at all, texts in CDATA and around comments") {
  Folder folder;
  folder.picture("JPEGImages/a.png");
  folder.text("ImageSets/Main/train.txt", "a\n");
  folder.text("Annotations/a.xml",
              voc(voc_object(" <![CDATA[cat & <dog>]]> ", {"1", "<!-- one -->1", "9", "9"}, " 1\n") +
                  voc_object("b<!-- -->ir<![CDATA[d]]>s", {"1", "1", "9", "9"}, "\t0 ") +
                  "<object><name>ant</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
                  "</object>"));
  const auto set = open_detection(folder / "", "train", {.voc = read_voc});
  CHECK(set->classes() == std::vector<std::string>{"ant", "birds", "cat & <dog>"});
  const std::vector<ObjectBox>& boxes = set->picture(0).boxes;
  REQUIRE(boxes.size() == 3);
  CHECK((boxes[0].difficult && !boxes[1].difficult && !boxes[2].difficult));
}

TEST_CASE("names with NUL, line ends or broken UTF-8 are shown escaped and whole") {
  Folder folder;
  const std::string nul = R"({"id": 7, "file_name": "a.png\u0000", "width": 40, "height": 30})";
  CHECK(contains(error_of([&] { parse_coco(coco("[]", "[" + nul + "]"), "x.json", folder / "", {}); }),
                 "x.json: images[0].file_name: \"a.png\\u0000\" contains a NUL character"));
  const std::string deep = std::string(200, 'd') + "/a.png";
  const std::string line_end = R"({"id": 7, "file_name": ")" + deep + R"(\n", "width": 40, "height": 30})";
  CHECK(contains(error_of([&] { parse_coco(coco("[]", "[" + line_end + "]"), "x.json", folder / "", {}); }),
                 "\"" + deep + "\\n\" is no file"));
  const std::string cat = R"([{"id": 1, "name": "c\u0000t"}])";
  CHECK(contains(error_of([&] { parse_coco(coco("[]", "[" + image + "]", cat), "x", "p", {.classes = {"a"}}, false); }),
                 "the category \"c\\u0000t\" is no class of the model"));
  const auto yolo = [&](const std::string& number) {
    folder.text("yolo/classes.txt", "red\n");
    folder.picture("yolo/images/train/a.png");
    folder.text("yolo/labels/train/a.txt", number + " 0.5 0.5 0.5 0.5\n");
    return error_of([&] { open_detection(folder / "yolo", "train"); });
  };
  CHECK(contains(yolo(std::string("0\0", 2)), "line 1: expected a number, got \"0\\u0000\""));
  CHECK(contains(yolo("\xff"), "line 1: expected a number, got \"\xef\xbf\xbd\""));
  // Cut between characters.
  CHECK(contains(yolo(std::string(59, 'x') + "\xc3\xa4\xc3\xa4"), "got \"" + std::string(59, 'x') + "\"..."));
}

TEST_CASE("COCO: crowds as numbers and as words, an area of 0 kept") {
  for (const auto& [more, crowd, area] : std::vector<std::tuple<std::string, bool, float>>{
           {"", false, 12.0f},
           {R"(, "iscrowd": true, "area": 0)", true, 0.0f},
           {R"(, "iscrowd": false, "area": 7)", false, 7.0f},
           {R"(, "iscrowd": 1, "area": 0.0)", true, 0.0f},
           {R"(, "iscrowd": 0)", false, 12.0f}}) {
    CAPTURE(more);
    const DetectionData data =
        parse_coco(coco("[" + annotation("1", "[1, 2, 3, 4]", more) + "]"), "x.json", "pictures", {}, false);
    const ObjectBox& object = data.pictures.at(0).boxes.at(0);
    CHECK(object.crowd == crowd);
    CHECK(object.area == area);
  }
}

TEST_CASE("Pascal VOC: suffixes of pictures, a missing one is named with its folder") {
  for (const char* suffix : {".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP"}) {
    CAPTURE(suffix);
    const Folder folder;
    folder.picture("JPEGImages/a" + std::string(suffix));
    folder.picture("JPEGImages/ab.png", {3, 3});
    folder.text("ImageSets/Main/train.txt", "a\n");
    folder.text("Annotations/a.xml", voc(voc_object("cat", {"1", "1", "9", "9"})));
    const auto set = open_detection(folder.path(), "train", {.voc = read_voc});
    CHECK(set->name(0).ends_with(std::string("JPEGImages/a") + suffix));
    fs::remove(set->name(0));
    CHECK(contains(error_of([&] { open_detection(folder.path(), "train", {.voc = read_voc}); }),
                   "train.txt: line 1: there is no picture \"a\" in " + folder.path() +
                       "/JPEGImages (.jpg, .jpeg, .png, .bmp, or these in capitals)"));
  }
}

TEST_CASE("boxes of one's own: what is not named is empty") {
  const DetectionSet set({.pictures = {{.path = "a.png", .size = {30, 40}}}, .classes = {"cat"}});
  CHECK(set.size() == 1);
  CHECK(set.picture(0).boxes.empty());
  CHECK(set.picture(0).id == -1);
  CHECK((set.data().category_ids.empty() && set.data().left_out.empty()));
}
