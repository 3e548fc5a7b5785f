// Data folders, their errors, and the loader: deterministic order, exact seeking, threads, exceptions.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <ocellus/core/error.hpp>
#include <ocellus/data.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/vision/image_file.hpp>

using namespace ocellus;
namespace fs = std::filesystem;

namespace {

// A folder that goes away with the test.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("ocellus_data_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string str() const { return path_.string(); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    write_file_atomically(*this / name, text);
  }
  void picture(const std::string& name, Size2 size, Index channels, std::uint8_t value) const {
    fs::create_directories((path_ / name).parent_path());
    write_png(*this / name, Image(size, channels, value));
  }

 private:
  fs::path path_;
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
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Sample i is a 12×16 picture of value i with a mask of class i % 3.
class Counting : public Dataset {
 public:
  explicit Counting(Index n, Index broken = -1) : n_(n), broken_(broken) {}
  Index size() const override { return n_; }
  Sample get(Index i) const override {
    if (i == broken_) throw FileError("sample", "is broken");
    Image image({12, 16}, 3, static_cast<std::uint8_t>(i));
    image.writable()[0] = 200;
    return {image, Image({12, 16}, 1, static_cast<std::uint8_t>(i % 3))};
  }
  std::string name(Index i) const override { return std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  Index n_, broken_;
  std::vector<std::string> classes_ = {"a", "b", "c"};
};

bool same(const Batch& a, const Batch& b) {
  return a.samples == b.samples && a.epoch == b.epoch && a.number == b.number && a.images.shape() == b.images.shape() &&
         std::memcmp(a.images.data(), b.images.data(), a.images.spec().bytes()) == 0 &&
         a.labels.shape() == b.labels.shape() &&
         std::memcmp(a.labels.data(), b.labels.data(), a.labels.spec().bytes()) == 0;
}

LoaderOptions varied(int workers) {
  return {.batch = 3,
          .seed = 7,
          .augmentations = {RandomScaleCrop{.size = 8}, RandomHorizontalFlip{}, ColourJitter{}},
          .workers = workers};
}

std::string big_endian(std::initializer_list<std::uint32_t> values) {
  std::string bytes;
  for (const std::uint32_t v : values) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(v >> shift);
  }
  return bytes;
}

}  // namespace

TEST_CASE("segmentation folder: list, classes, ignored id, only subfolder") {
  const Folder folder;
  folder.picture("set/images/1.png", {4, 5}, 3, 10);
  folder.picture("set/masks/1.png", {4, 5}, 1, 1);
  folder.picture("set/masks/void.png", {4, 5}, 1, 9);
  folder.write("set/train.txt", "images/1.png masks/1.png\r\n\nimages/1.png\tmasks/void.png\n");
  folder.write("set/classes.txt", "sky\nroad\n");
  const auto data = open_segmentation(folder.str(), "train", {.ignore_index = 9});
  CHECK(data->size() == 2);
  CHECK(data->classes() == std::vector<std::string>{"sky", "road"});
  CHECK(data->ignore_index() == 9);
  const Sample sample = data->get(0);
  CHECK(sample.image.channels() == 3);
  CHECK(*sample.mask.at(3, 4) == 1);
  CHECK(*data->get(1).mask.at(0, 0) == 9);
}

TEST_CASE("segmentation folder: values become those of the model's classes by the names in classes.txt") {
  const Folder folder;
  folder.picture("1.png", {2, 3}, 3, 10);
  folder.picture("mask.png", {2, 3}, 1, 1);
  folder.picture("void.png", {2, 3}, 1, 2);
  folder.write("train.txt", "1.png mask.png\n1.png void.png\n");
  folder.write("classes.txt", "sky\nroad\nvoid\n");
  const auto values = [&](const std::vector<std::string>& classes, Index ignored) {
    const auto data = open_segmentation(folder.str(), "train", {.classes = classes, .ignore_index = ignored});
    CHECK(data->classes() == classes);
    CHECK(data->ignore_index() == ignored);
    const Image mask = data->get(0).mask;
    CHECK(*mask.at(0, 0) == *mask.at(1, 2));
    return std::vector<int>{*mask.at(1, 2), *data->get(1).mask.at(1, 2)};
  };
  CHECK(values({"sky", "road", "void"}, -1) == std::vector<int>{1, 2});
  CHECK(values({"road", "void", "sky"}, -1) == std::vector<int>{0, 1});
  CHECK(values({"road", "sky"}, 2) == std::vector<int>{0, 2});  // what is ignored needs no class
  CHECK(values({"sky", "void", "car", "road"}, 2) == std::vector<int>{3, 2});
  CHECK(contains(error_of([&] { values({"road", "sky"}, 255); }),
                 "classes.txt: its names \"sky\", \"road\", \"void\""));
  CHECK(contains(error_of([&] { values({"car", "sky", "road"}, 2); }),
                 "\"road\" would get the value 2 in the masks, which is the ignored one"));
  std::vector<std::string> many(300);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = std::to_string(i);
  many[1] = "sky", many[2] = "void", many[299] = "road";
  CHECK(contains(error_of([&] { values(many, -1); }),
                 "\"road\" would get the value 299 in the masks, which hold 8 bits"));
  many[299] = "ways";
  const std::string long_list = error_of([&] { values(many, -1); });
  CHECK_MESSAGE(contains(long_list, "\"sky\", \"void\", \"3\""), long_list);
  CHECK_MESSAGE(contains(long_list, "\"11\", … (300) (a model's labels"), long_list);
}

TEST_CASE("segmentation folder: errors name the line, the file and the pixel") {
  const Folder folder;
  folder.picture("1.png", {4, 5}, 3, 10);
  folder.picture("small.png", {2, 2}, 1, 0);
  Image mask({4, 5}, 1, 0);
  mask.writable()[2 * 5 + 3] = 7;
  write_png(folder / "mask.png", mask);
  const DatasetOptions options{.classes = {"a", "b"}};
  const auto with_list = [&](const std::string& text) {
    folder.write("train.txt", text);
    return error_of([&] { open_segmentation(folder.str(), "train", options)->get(0); });
  };
  const std::string pixel = with_list("1.png mask.png\n");
  CHECK_MESSAGE(contains(pixel, "mask.png: pixel (2, 3) has the class id 7; there are 2 classes"), pixel);
  CHECK(contains(with_list("1.png small.png\n"), "the mask has (height, width) (2, 2), its picture"));
  CHECK(contains(with_list("1.png mask.png\n1.png\n"), "train.txt: line 2: expected \"image label\""));
  CHECK(contains(with_list("1.png mask.png extra\n"), "line 1: expected"));
  CHECK(contains(with_list("/etc/passwd mask.png\n"), "line 1: \"/etc/passwd\" is an absolute path"));
  CHECK(contains(with_list("../1.png mask.png\n"), "leaves the folder"));
  CHECK(contains(with_list("missing.png mask.png\n"), "is no file"));
  CHECK(contains(with_list("\n"), "names no pictures"));
  fs::create_symlink("/etc/passwd", folder / "link.png");
  CHECK(contains(with_list("link.png mask.png\n"), "leaves the folder"));
  CHECK(
      contains(error_of([&] { open_segmentation(folder.str(), "train"); }), "the names of the classes are not known"));
  CHECK(contains(error_of([&] { open_segmentation(folder.str(), "val", options); }), "expected val.txt"));
  CHECK(contains(error_of([&] { open_segmentation(folder / "nowhere", "val", options); }), "is no folder"));
}

TEST_CASE("IDX folder") {
  const Folder folder;
  folder.write("t10k-images-idx3-ubyte",
               big_endian({0x803, 2, 2, 3}) + std::string("\0\1\2\3\4\5\6\7\10\11\12\13", 12));
  folder.write("t10k-labels-idx1-ubyte", big_endian({0x801, 2}) + std::string("\4\1", 2));
  const auto data = open_classification(folder.str(), "val");
  CHECK(data->size() == 2);
  CHECK(data->classes().size() == 5);
  const Sample sample = data->get(1);
  CHECK(sample.label == 1);
  CHECK(sample.image.size() == Size2(2, 3));
  CHECK(*sample.image.at(1, 2) == 11);
  CHECK(contains(error_of([&] { open_classification(folder.str(), "train"); }), "there is no such file"));
  CHECK(contains(error_of([&] { open_classification(folder.str(), "other"); }), "has the splits train and test"));
  CHECK(contains(error_of([&] { open_classification(folder.str(), "test", {.classes = {"a", "b"}}); }),
                 "a label is 4; there are 2 classes"));
  folder.write("classes.txt", "zero\none\ntwo\nthree\nfour\n");
  CHECK(open_classification(folder.str(), "test")->get(0).label == 4);
  const auto turned = open_classification(folder.str(), "test", {.classes = {"four", "three", "two", "one", "zero"}});
  CHECK(turned->get(0).label == 0);
  CHECK(turned->get(1).label == 3);
  CHECK(contains(error_of([&] { open_classification(folder.str(), "test", {.classes = {"0", "1", "2", "3", "4"}}); }),
                 "classes.txt: its names \"zero\", \"one\""));
  folder.write("classes.txt", "zero\none\n");
  const DatasetOptions five{.classes = {"zero", "one", "a", "b", "c"}};
  CHECK(contains(error_of([&] { open_classification(folder.str(), "test", five); }),
                 "a label is 4; there are 2 classes"));
  fs::remove(folder / "classes.txt");
  folder.write("t10k-labels-idx1-ubyte", big_endian({0x801, 1}) + std::string("\4", 1));
  CHECK(contains(error_of([&] { open_classification(folder.str(), "test"); }), "1 labels for 2 pictures"));
}

TEST_CASE("class folder: sorted names, the model's order, unknown classes") {
  const Folder folder;
  folder.picture("train/dog/1.png", {3, 3}, 3, 1);
  folder.picture("train/cat/2.PNG", {4, 4}, 1, 2);
  folder.write("train/cat/readme.txt", "no picture");
  const auto data = open_classification(folder.str(), "train");
  CHECK(data->classes() == std::vector<std::string>{"cat", "dog"});
  CHECK(data->size() == 2);
  CHECK(data->get(0).label == 0);
  const auto other = open_classification(folder.str(), "train", {.classes = {"dog", "bird", "cat"}});
  CHECK(other->get(0).label == 2);
  CHECK(contains(error_of([&] { open_classification(folder.str(), "train", {.classes = {"dog"}}); }),
                 "is no class of the model"));
  CHECK(contains(error_of([&] { open_classification(folder.str(), "val"); }), "no data for classification"));
}

TEST_CASE("cache keeps what fits and changes nothing") {
  const auto source = std::make_shared<Counting>(4);
  const CachedDataset cached(source, 2 * 12 * 16 * 4);
  for (int round = 0; round < 2; ++round) {
    for (Index i = 0; i < 4; ++i) {
      const Sample a = cached.get(i), b = source->get(i);
      CHECK(std::memcmp(a.image.data(), b.image.data(), 12 * 16 * 3) == 0);
    }
  }
  CHECK(cached.get(0).image.data() == cached.get(0).image.data());
  CHECK(cached.get(3).image.data() != cached.get(3).image.data());
}

TEST_CASE("loader: an epoch is a permutation, another epoch another one, the same everywhere") {
  const Loader loader(std::make_shared<Counting>(50), varied(0));
  std::vector<Index> first = loader.order(0);
  CHECK(first != loader.order(1));
  CHECK(first == Loader(std::make_shared<Counting>(50), varied(1)).order(0));
  const std::vector<Index> begin(first.begin(), first.begin() + 6);
  CHECK(begin == std::vector<Index>{5, 28, 11, 27, 0, 8});
  std::sort(first.begin(), first.end());
  for (Index i = 0; i < 50; ++i) CHECK_EQ(first[static_cast<std::size_t>(i)], i);
}

TEST_CASE("loader: batches do not depend on the threads and seeking is exact") {
  const auto data = std::make_shared<Counting>(10);
  Loader alone(data, varied(0)), one(data, varied(1)), three(data, varied(3));
  CHECK(alone.batches_per_epoch() == 3);
  Batch seventh;
  for (Index i = 0; i < 8; ++i) {
    const Batch a = alone.next(), b = one.next(), c = three.next();
    CHECK(a.epoch == i / 3);
    CHECK(a.number == i % 3);
    CHECK(a.images.shape() == Shape{3, 8, 8, 3});
    CHECK(a.labels.shape() == Shape{3, 8, 8});
    CHECK(same(a, b));
    CHECK(same(a, c));
    if (i == 7) seventh = a;
  }
  three.seek(0, 7);
  CHECK(same(three.next(), seventh));
  CHECK(same(three.make(2, 1), seventh));
}

TEST_CASE("loader: the last batch, normalisation, labels") {
  Loader loader(std::make_shared<Counting>(4), {.batch = 3, .shuffle = false, .drop_last = false, .workers = 1});
  CHECK(loader.batches_per_epoch() == 2);
  loader.next();
  const Batch last = loader.next();
  CHECK(last.samples == std::vector<Index>{3});
  CHECK(last.images[3] == doctest::Approx((3.0 / 255 - 0.485) / 0.229));
  CHECK(last.labels[0] == 0);
}

TEST_CASE("loader: errors reach the caller, the next batches still come") {
  Loader loader(std::make_shared<Counting>(9, 4), {.batch = 3, .shuffle = false, .workers = 2});
  CHECK(loader.next().number == 0);
  CHECK_THROWS_AS(loader.next(), FileError);
  CHECK(loader.next().number == 2);
  CHECK(
      contains(error_of([] { Loader(std::make_shared<Counting>(2), {.batch = 3}); }), "2 samples make no batch of 3"));
}

TEST_CASE("CamVid and MNIST") {
  const char* root = std::getenv("OCELLUS_DATA");
  if (!root) {
    MESSAGE("SKIPPED: OCELLUS_DATA is not set");
    return;
  }
  const std::vector<std::string> classes(11, "class");
  const auto camvid =
      open_segmentation(std::string(root) + "/camvid", "train", {.classes = classes, .ignore_index = 11});
  CHECK(camvid->size() == 367);
  CHECK(camvid->get(366).mask.size() == Size2(360, 480));
  const auto mnist = open_classification(std::string(root) + "/mnist", "test");
  CHECK(mnist->size() == 10000);
  CHECK(mnist->get(0).label == 7);
}
