// What happens to pixels in memory: views, geometry, Pillow's resize, the processors' tensors, augmentation, drawing,
// charts.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <ocellus/core/error.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/vision.hpp>

using namespace ocellus;

namespace {

Image noise(Size2 size, Index channels, std::uint64_t seed) {
  Image image(size, channels);
  std::uint8_t* p = image.writable();
  RandomStream random(seed);
  for (Index i = 0; i < size.h * size.w * channels; ++i) p[i] = static_cast<std::uint8_t>(random.bits());
  return image;
}

bool same(const Image& a, const Image& b) {
  const Image x = a.packed(), y = b.packed();
  if (!(x.size() == y.size()) || x.channels() != y.channels()) return false;
  return std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.height() * x.stride())) == 0;
}

std::uint32_t checksum(const Image& image) {
  return crc32(std::as_bytes(std::span(image.data(), static_cast<std::size_t>(image.height() * image.stride()))));
}

// A uint8 tensor (H, W) or (H, W, 3) as a view; the tensor must live on.
Image view_of(const AnyTensor& tensor) {
  const bool grey = tensor.rank() == 2;
  return Image::view(static_cast<const std::uint8_t*>(tensor.raw()), tensor.dim(1), tensor.dim(0),
                     tensor.dim(1) * (grey ? 1 : 3), grey ? PixelOrder::grey : PixelOrder::rgb);
}

const NamedTensors& golden() {
  static const NamedTensors file = read_safetensors(OCELLUS_TEST_DIR "/golden/pillow_resize.safetensors");
  return file;
}

template <class F>
std::string usage_error(F f) {
  try {
    f();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A picture whose every value is its label: after any movement both must still agree.
struct Pair {
  Image image, mask;
};
Pair labelled(Size2 size, std::uint64_t seed) {
  Image mask(size, 1);
  std::uint8_t* id = mask.writable();
  RandomStream random(seed);
  for (Index i = 0; i < size.h * size.w; ++i) id[i] = static_cast<std::uint8_t>(random.below(11));
  return {mask.to_rgb(), mask};
}

}  // namespace

TEST_CASE("views: every order and stride gives the same RGB") {
  const Image rgb = noise({3, 5}, 3, 1);
  for (const PixelOrder order : {PixelOrder::rgb, PixelOrder::bgr, PixelOrder::rgba, PixelOrder::bgra}) {
    const bool swapped = order == PixelOrder::bgr || order == PixelOrder::bgra;
    const Index step = bytes_per_pixel(order), stride = 5 * step + 7;
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * stride), 99);
    for (Index y = 0; y < 3; ++y) {
      for (Index x = 0; x < 5; ++x) {
        for (Index c = 0; c < 3; ++c)
          pixels[static_cast<std::size_t>(y * stride + x * step + c)] = rgb.at(y, x)[swapped ? 2 - c : c];
      }
    }
    const Image view = Image::view(pixels.data(), 5, 3, stride, order);
    CHECK(view.channels() == 3);
    CHECK(same(view.to_rgb(), rgb));
    CHECK(same(resize(view, 4, 9), resize(rgb, 4, 9)));
    CHECK(same(mirror(view), mirror(rgb)));
    const Image copy = view.to_rgb();
    pixels.assign(pixels.size(), 0);
    CHECK(same(copy, rgb));
  }
  const Image grey = noise({3, 5}, 1, 2);
  bool replicated = true;
  const Image shown = grey.to_rgb();
  for (Index i = 0; i < 45; ++i) replicated &= shown.data()[i] == grey.data()[i / 3];
  CHECK(replicated);
}

TEST_CASE("images share pixels until one of them is written") {
  Image a = noise({2, 2}, 3, 3);
  Image b = a;
  CHECK(a.data() == b.data());
  b.writable()[0] ^= 1;
  CHECK(a.data() != b.data());
  CHECK(!same(a, b));
  const std::uint8_t* before = a.data();
  a.writable();
  CHECK(a.data() == before);
  CHECK(contains(usage_error([] { Image::view(nullptr, 1, 1, 3, PixelOrder::rgb); }), "null"));
  CHECK(contains(usage_error([&] { Image::view(before, 2, 1, 5, PixelOrder::rgb); }), "stride"));
  CHECK(contains(usage_error([&] { Image::view(before, 0, 1, 5, PixelOrder::rgb); }), "height and width"));
  CHECK(contains(usage_error([] { Image({2, 2}, 4); }), "got 4"));
}

TEST_CASE("crop: every window equals its definition") {
  const Image image = noise({4, 3}, 3, 4);
  const Colour fill{1, 2, 3};
  bool equal = true;
  for (Index top = -6; top <= 6; ++top) {
    for (Index left = -6; left <= 6; ++left) {
      for (const Size2 size : {Size2(2, 2), Size2(5, 7)}) {
        const Image window = crop(image, top, left, size, fill);
        for (Index y = 0; y < size.h; ++y) {
          for (Index x = 0; x < size.w; ++x) {
            const bool inside = top + y >= 0 && top + y < 4 && left + x >= 0 && left + x < 3;
            const std::uint8_t outside[3] = {1, 2, 3};
            equal &= std::memcmp(window.at(y, x), inside ? image.at(top + y, left + x) : outside, 3) == 0;
          }
        }
      }
    }
  }
  CHECK(equal);
}

TEST_CASE("upright: the eight orientations") {
  const Image image = noise({2, 3}, 1, 5);
  const auto at = [&](Index y, Index x) { return image.at(y, x)[0]; };
  // (row, column) of the stored picture for each pixel of the upright one: EXIF 2.3, tag 0x0112.
  const auto expected = [&](int orientation, Index y, Index x) {
    switch (orientation) {
      case 2: return at(y, 2 - x);
      case 3: return at(1 - y, 2 - x);
      case 4: return at(1 - y, x);
      case 5: return at(x, y);
      case 6: return at(1 - x, y);
      case 7: return at(1 - x, 2 - y);
      case 8: return at(x, 2 - y);
      default: return at(y, x);
    }
  };
  for (int orientation = 0; orientation <= 9; ++orientation) {
    CAPTURE(orientation);
    const Image turned = upright(image, orientation);
    bool equal = turned.size() == (orientation >= 5 && orientation <= 8 ? Size2(3, 2) : Size2(2, 3));
    for (Index y = 0; equal && y < turned.height(); ++y) {
      for (Index x = 0; x < turned.width(); ++x) equal &= turned.at(y, x)[0] == expected(orientation, y, x);
    }
    CHECK(equal);
  }
  CHECK(same(rotate90(image, 1), upright(image, 8)));
  CHECK(same(rotate90(image, -1), upright(image, 6)));
  CHECK(same(rotate90(rotate90(image, 3), 5), image));
}

TEST_CASE("rotate: quarter turns are exact, small ones keep the middle") {
  const Image image = noise({9, 9}, 3, 6);
  for (const Sampling sampling : {Sampling::nearest, Sampling::bilinear}) {
    CHECK(same(rotate(image, 0, sampling), image));
    CHECK(same(rotate(image, 90, sampling), rotate90(image, 1)));
    CHECK(same(rotate(image, 180, sampling), rotate90(image, 2)));
    CHECK(std::memcmp(rotate(image, 10, sampling).at(4, 4), image.at(4, 4), 3) == 0);
    const Image turned = rotate(image, 45, sampling, {7, 8, 9});
    CHECK(std::memcmp(turned.at(0, 0), "\7\10\11", 3) == 0);
  }
}

TEST_CASE("resize equals Pillow bit for bit") {
  const Image image = view_of(golden().at("image")), labels = view_of(golden().at("labels"));
  int compared = 0;
  for (const NamedTensor& expected : golden()) {
    const bool of_labels = expected.name.starts_with("resize_labels.");
    if (!of_labels && !expected.name.starts_with("resize.")) continue;
    CAPTURE(expected.name);
    Filter filter = Filter::bilinear;
    if (contains(expected.name, ".nearest.")) filter = Filter::nearest;
    if (contains(expected.name, ".bicubic.")) filter = Filter::bicubic;
    const Image resized = resize(of_labels ? labels : image, expected.tensor.dim(0), expected.tensor.dim(1), filter);
    CHECK(same(resized, view_of(expected.tensor)));
    ++compared;
  }
  CHECK(compared == 24);
}

TEST_CASE("resize: constants stay, threads do not matter, errors") {
  const Image flat({37, 53}, 3, 200);
  const Image image = noise({300, 257}, 3, 7);
  const int threads = num_threads();
  for (const Filter filter :
       {Filter::nearest, Filter::lanczos, Filter::bilinear, Filter::bicubic, Filter::box, Filter::bilinear_two_taps}) {
    CAPTURE(static_cast<int>(filter));
    for (const Size2 size : {Size2(1, 1), Size2(90, 20), Size2(37, 100), Size2(10, 53)}) {
      CHECK(same(resize(flat, size.h, size.w, filter), Image(size, 3, 200)));
    }
    set_num_threads(1);
    const Image one = resize(image, 211, 311, filter);
    set_num_threads(4);
    CHECK(same(resize(image, 211, 311, filter), one));
  }
  set_num_threads(threads);
  CHECK(contains(usage_error([&] { resize(flat, 0, 4); }), "height and width"));
  CHECK(contains(usage_error([] { resize(Image(), 4, 4); }), "empty"));
}

TEST_CASE("to_tensor equals the image processors of SegFormer and ViT bit for bit") {
  const Image image = view_of(golden().at("image"));
  const struct {
    const char* name;
    Preprocess options;
  } rows[] = {{"segformer_processor.output", {.size = {32, 40}}},
              {"vit_processor.output", {.size = {24, 24}, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}}}};
  for (const auto& row : rows) {
    CAPTURE(row.name);
    const Tensor expected(golden().at(row.name));  // channels first
    const Tensor x = to_tensor(image, row.options);
    const Index h = row.options.size.h, w = row.options.size.w;
    REQUIRE(x.shape() == Shape({1, h, w, 3}));
    Index different = 0;
    for (Index i = 0; i < h * w; ++i) {
      for (Index c = 0; c < 3; ++c) different += x[i * 3 + c] != expected[c * h * w + i];
    }
    CHECK(different == 0);
  }
}

TEST_CASE("to_tensor: options, batches, grey pictures") {
  const Image image = noise({20, 30}, 3, 8), grey = noise({20, 30}, 1, 9);
  const Preprocess plain{.resize = ResizePolicy::none, .do_rescale = false, .do_normalize = false};
  const std::vector<Image> both = {image, grey};
  const Tensor x = to_tensor(both, plain);
  CHECK(x.shape() == Shape({2, 20, 30, 3}));
  Index different = 0;
  for (Index i = 0; i < 600; ++i) {
    for (Index c = 0; c < 3; ++c) {
      different += x[i * 3 + c] != static_cast<float>(image.data()[i * 3 + c]);
      different += x[1800 + i * 3 + c] != static_cast<float>(grey.data()[i]);
    }
  }
  CHECK(different == 0);

  Preprocess flipped = plain;
  flipped.flip_channel_order = true;
  CHECK(to_tensor(image, flipped)[0] == x[2]);

  const Preprocess shortest{.resize = ResizePolicy::shortest_edge, .shortest_edge = 15};
  CHECK(prepare(image, shortest).size() == Size2(15, 22));  // int(15 * 30 / 20)
  CHECK(prepare(rotate90(image, 1), shortest).size() == Size2(22, 15));
  const Preprocess cropped{.resize = ResizePolicy::none, .do_center_crop = true, .crop_size = {13, 35}};
  CHECK(same(prepare(image, cropped), crop(image, 3, -3, {13, 35})));

  const std::vector<Image> unequal = {image, rotate90(image, 1)};
  CHECK(contains(usage_error([&] { to_tensor(unequal, shortest); }), "a batch has one size"));
  CHECK(contains(usage_error([&] { to_tensor(std::span<const Image>(), plain); }), "no images"));
}

TEST_CASE("letterbox: placement, padding and the way back") {
  const struct {
    Size2 original, target;
    bool may_enlarge;
    Size2 scaled;
    Index left, top;
  } rows[] = {
      {{480, 640}, {640, 640}, true, {480, 640}, 0, 80}, {{720, 1280}, {416, 416}, true, {234, 416}, 0, 91},
      {{100, 50}, {640, 640}, true, {640, 320}, 160, 0}, {{100, 50}, {640, 640}, false, {100, 50}, 295, 270},
      {{333, 500}, {320, 320}, true, {213, 320}, 0, 53},  // 107 rows of padding: 53 above, 54 below
  };
  for (const auto& row : rows) {
    CAPTURE(row.original.str());
    const Letterbox box = letterbox_of(row.original, row.target, row.may_enlarge);
    CHECK(box.scaled == row.scaled);
    CHECK(box.pad_left == row.left);
    CHECK(box.pad_top == row.top);
    const double x = 0.3 * static_cast<double>(row.original.w), y = 0.7 * static_cast<double>(row.original.h);
    CHECK(std::abs(box.to_original_x(x * box.scale_x() + static_cast<double>(box.pad_left)) - x) < 1e-9);
    CHECK(std::abs(box.to_original_y(y * box.scale_y() + static_cast<double>(box.pad_top)) - y) < 1e-9);
  }
  const Image image = noise({10, 20}, 3, 10);
  const Image boxed = letterbox(image, 41, 40);
  CHECK(boxed.size() == Size2(41, 40));
  CHECK(same(crop(boxed, 0, 0, {10, 40}), Image({10, 40}, 3, 114)));
  CHECK(same(crop(boxed, 10, 0, {20, 40}), resize(image, 20, 40, Filter::bilinear_two_taps)));
  CHECK(same(crop(boxed, 30, 0, {11, 40}), Image({11, 40}, 3, 114)));
}

TEST_CASE("colour: HSV and luminance equal Pillow's on every 37th colour") {
  constexpr Index colours = 453439;
  Image hsv({1, colours}, 3), rgb({1, colours}, 3);
  std::uint8_t *to_hsv_pixel = hsv.writable(), *to_rgb_pixel = rgb.writable();
  for (std::uint32_t i = 0; i < (1u << 24); i += 37, to_hsv_pixel += 3, to_rgb_pixel += 3) {
    const std::uint8_t a = static_cast<std::uint8_t>(i >> 16), b = static_cast<std::uint8_t>(i >> 8),
                       c = static_cast<std::uint8_t>(i);
    const Hsv h = to_hsv(Colour{a, b, c});
    const Colour r = to_rgb(Hsv{a, b, c});
    std::memcpy(to_hsv_pixel, &h, 3);
    std::memcpy(to_rgb_pixel, &r, 3);
  }
  CHECK(checksum(hsv) == 0xdfdc1d01u);
  CHECK(checksum(rgb) == 0x92c3d54bu);
  CHECK(checksum(to_grey(view_of(golden().at("image")))) == 0x758f7876u);
}

TEST_CASE("jitter: each adjustment equals torchvision's on Pillow") {
  const Image image = view_of(golden().at("image"));
  const struct {
    Image (*adjust)(const Image&, float);
    float amount;
    std::uint32_t crc;
  } rows[] = {
      {adjust_brightness, 0.0f, 0xa3b1a3f0}, {adjust_brightness, 0.6f, 0x10ee37ba},
      {adjust_brightness, 1.0f, 0xd5a06847}, {adjust_brightness, 1.7f, 0x9321542b},
      {adjust_contrast, 0.0f, 0xc26f8142},   {adjust_contrast, 0.6f, 0xc0ab9914},
      {adjust_contrast, 1.0f, 0xd5a06847},   {adjust_contrast, 1.7f, 0x78e536d2},
      {adjust_saturation, 0.0f, 0x46d3e50b}, {adjust_saturation, 0.6f, 0xfef4b986},
      {adjust_saturation, 1.0f, 0xd5a06847}, {adjust_saturation, 1.7f, 0xbcd4551b},
      {adjust_hue, -0.3f, 0xa4dab7cf},       {adjust_hue, 0.1f, 0x60b2e6ad},
      {adjust_hue, 0.5f, 0xddd51585},
  };
  for (const auto& row : rows) {
    CAPTURE(&row - rows);
    CHECK(checksum(row.adjust(image, row.amount)) == row.crc);
  }
  const Image grey = noise({4, 4}, 1, 11);
  CHECK(same(adjust_saturation(grey, 0.2f), grey));
  CHECK(same(adjust_hue(grey, 0.2f), grey));
}

TEST_CASE("augmentation moves picture and mask in step") {
  const Augmentation steps[] = {
      RandomHorizontalFlip{.probability = 0.7f},
      RandomRotate90{.probability = 0.7f},
      RandomScaleCrop{.size = {24, 40}, .filter = Filter::nearest, .fill = {255, 255, 255}},
      RandomScaleCrop{.size = {33, 31},
                      .min_scale = 1,
                      .max_scale = 1,
                      .padding = 4,
                      .filter = Filter::nearest,
                      .fill = {255, 255, 255}},
      RandomResizedCrop{.size = {19, 23}, .filter = Filter::nearest},
  };
  for (std::uint32_t stream = 0; stream < 60; ++stream) {
    CAPTURE(stream);
    Pair pair = labelled({31, 33}, stream);
    const Pair before = pair;
    RandomStream random(1, 2, stream);
    std::vector<Augmentation> chosen(std::begin(steps), std::end(steps));
    random.shuffle(chosen.data(), static_cast<Index>(chosen.size()));
    RandomStream again = random;
    augment(chosen, pair.image, &pair.mask, random);
    CHECK(same(pair.image, pair.mask.to_rgb()));
    Pair replay = before;
    augment(chosen, replay.image, &replay.mask, again);
    CHECK(same(replay.image, pair.image));
    CHECK(same(before.image, before.mask.to_rgb()));
  }
}

TEST_CASE("rotation: the mask follows, what was outside is ignored") {
  // Two halves: away from their border the bilinear picture has the value of its label too.
  Image mask({40, 40}, 1);
  std::uint8_t* id = mask.writable();
  for (Index i = 0; i < 1600; ++i) id[i] = i % 40 < 20 ? 10 : 200;
  const Image before = mask;
  for (std::uint32_t stream = 0; stream < 10; ++stream) {
    CAPTURE(stream);
    Image turned = before.to_rgb(), labels = before;
    RandomStream random(3, 0, stream);
    RandomRotation{.degrees = 30, .probability = 1, .fill = {255, 255, 255}}(turned, &labels, random);
    Index wrong = 0, classes = 0;
    for (Index y = 0; y < 40; ++y) {
      for (Index x = 0; x < 40; ++x) {
        const int label = labels.at(y, x)[0], value = turned.at(y, x)[0];
        classes += label != 10 && label != 200 && label != 255;
        wrong += label == 255 ? value != 255 : std::abs(label - value) > 95;
      }
    }
    CHECK(classes == 0);
    CHECK(wrong == 0);
    CHECK(!same(labels, before));
  }
}

TEST_CASE("augmentation: what must not change does not, errors") {
  Pair pair = labelled({8, 9}, 12);
  const Image mask = pair.mask;
  RandomStream random(5);
  for (int i = 0; i < 20; ++i) {
    Image image = noise({8, 9}, 3, static_cast<std::uint64_t>(i));
    ColourJitter{0.4f, 0.4f, 0.4f, 0.1f}(image, &pair.mask, random);
    CHECK(same(pair.mask, mask));
    const Image kept = image;
    ColourJitter{0, 0, 0, 0}(image, nullptr, random);
    RandomScaleCrop{.size = {8, 9}, .min_scale = 1, .max_scale = 1}(image, nullptr, random);
    RandomHorizontalFlip{.probability = 0}(image, nullptr, random);
    CHECK(same(image, kept));
  }
  Image other({4, 4}, 1);
  CHECK(contains(usage_error([&] { RandomHorizontalFlip{}(pair.image, &other, random); }),
                 "the size of the image (8, 9)"));
  CHECK(contains(usage_error([&] { RandomHorizontalFlip{}(pair.image, &pair.image, random); }), "one channel"));
}

TEST_CASE("palettes are distinct") {
  for (const Index classes : {1, 11, 21, 60}) {
    const Palette palette = default_palette(classes);
    CHECK(palette.size() == static_cast<std::size_t>(classes));
    int equal = 0;
    for (std::size_t i = 0; i < palette.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) equal += palette[i] == palette[j];
    }
    CHECK(equal == 0);
  }
}

TEST_CASE("overlay and coloured labels") {
  Image image({1, 3}, 3, 100);
  Image labels({1, 3}, 1);
  std::uint8_t* id = labels.writable();
  id[1] = 1;
  id[2] = 255;
  const Palette palette = {{200, 0, 100}, {0, 50, 100}};
  const Image mixed = overlay(image, labels, palette, 0.5f);
  CHECK(std::memcmp(mixed.data(), "\226\62\144\62\113\144\144\144\144", 9) == 0);  // 150 50 100, 50 75 100, 100 100 100
  CHECK(same(overlay(image, labels, palette, 0.0f), image));
  CHECK(std::memcmp(colour_labels(labels, palette).data(), "\310\0\144\0\62\144\0\0\0", 9) == 0);
  CHECK(overlay(Image({1, 3}, 1), labels, palette).channels() == 3);
  CHECK(contains(usage_error([&] { overlay(Image({2, 3}, 3), labels, palette); }), "resize the labels"));
  CHECK(contains(usage_error([&] { overlay(image, labels, {{1, 2, 3}}); }), "class 1"));
  CHECK(contains(usage_error([&] { overlay(image, labels, palette, 2.0f); }), "alpha"));
}

TEST_CASE("drawing stays inside and off the caller's pixels") {
  const Image blank({20, 30}, 3);
  Image image = blank;
  draw_rectangle(image, 5, 4, 14, 12, {255, 0, 0}, 2);
  CHECK(same(blank, Image({20, 30}, 3)));
  Index red = 0;
  for (Index i = 0; i < 600; ++i) red += image.data()[3 * i] == 255;
  CHECK(red == 10 * 9 - 6 * 5);

  Image line = blank;
  draw_line(line, 0, 0, 19, 19, {255, 255, 255});
  Index lit = 0;
  for (Index i = 0; i < 20; ++i) lit += line.at(i, i)[0] == 255;
  CHECK(lit == 20);
  CHECK(line.at(3, 4)[0] == 0);
  Image far_line = blank;
  draw_line(far_line, -1000000000, 5, 1000000000, 5, {255, 255, 255});
  lit = 0;
  for (Index x = 0; x < 30; ++x) lit += far_line.at(5, x)[0] == 255;
  CHECK(lit == 30);

  Image all = blank;
  draw_text(all, -3, -3, "Ocellus \xc3\xa9~ 0.93", {1, 2, 3}, 3);
  draw_text(all, 28, 18, "cut", {1, 2, 3});
  draw_line(all, -5, 40, 50, -40, {9, 9, 9}, 5);
  draw_line(all, 3, 3, 3, 3, {9, 9, 9});
  draw_box(all, -10, -10, 100, 100, "a long caption that does not fit", {200, 200, 0});
  draw_box(all, 25, 15, 2, 3, "reversed", {0, 0, 0}, 50);
  fill_rectangle(all, 40, 40, 50, 50, {1, 1, 1});
  Image grey({20, 30}, 1);
  draw_box(grey, 2, 12, 20, 18, "x", {255, 0, 0});
  CHECK(grey.channels() == 3);
}

TEST_CASE("charts are well-formed SVG") {
  Chart chart{.title = "loss < 1 & \"more\"", .x_label = "epoch", .y_label = "loss"};
  chart.series("train", {3.0, 2.0, NAN, 1.5}).series("val", {0, 2}, {2.5, INFINITY});
  const std::string svg = chart.svg();
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(contains(svg, "loss &lt; 1 &amp; &quot;more&quot;"));
  CHECK(contains(svg, ">train</text>"));
  CHECK(!contains(svg, "nan"));
  CHECK(!contains(svg, "inf"));
  for (const bool log_y : {false, true}) {
    for (const std::vector<double>& y :
         {std::vector<double>{}, {5}, {0, 0}, {-1, -2}, {1e-9, 1e9}, {1e300, -1e300}, {NAN}}) {
      Chart odd{.log_y = log_y};
      const std::string text = odd.series("", y).svg();
      CHECK(text.size() < 40000);
      CHECK(!contains(text, "nan"));
    }
  }
  CHECK(contains(usage_error([&] { chart.series("bad", {1, 2}, {1}); }), "2 x and 1 y"));
}
