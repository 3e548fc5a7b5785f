// Pictures of digits for the examples: MNIST from OCELLUS_DATA/mnist, or, without it, drawn ones (seven-segment glyphs, shifted, sheared
// and noisy), which are easier.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <ocellus/io/idx.hpp>
#include <ocellus/runtime/random.hpp>

struct Digits {
  ocellus::Tensor images;                        // (N, 28, 28, 1), mean 0 and deviation 1 over MNIST
  ocellus::BasicTensor<std::int64_t> labels;     // (N)
  bool mnist = false;
};

inline ocellus::Tensor normalised(const ocellus::BasicTensor<std::uint8_t>& pixels) {
  ocellus::Tensor x(ocellus::Shape{pixels.dim(0), 28, 28, 1});
  for (ocellus::Index i = 0; i < x.numel(); ++i) x[i] = (static_cast<float>(pixels[i]) / 255.0f - 0.1307f) / 0.3081f;
  return x;
}

// Segments a b c d e f g of the digits 0 to 9, clockwise from the top, g in the middle.
inline Digits drawn_digits(ocellus::Index count, std::uint64_t seed) {
  static constexpr unsigned segments[10] = {0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f};
  static constexpr float line[7][4] = {{0, 0, 0, 1}, {0, 1, 1, 1}, {1, 1, 2, 1}, {2, 0, 2, 1}, {1, 0, 2, 0}, {0, 0, 1, 0}, {1, 0, 1, 1}};  // y x, y x
  ocellus::RandomStream random(seed);
  ocellus::BasicTensor<std::uint8_t> pixels(ocellus::Shape{count, 28, 28});
  Digits d{{}, ocellus::BasicTensor<std::int64_t>(ocellus::Shape{count})};
  for (ocellus::Index n = 0; n < count; ++n) {
    const auto digit = random.below(10);
    d.labels[n] = digit;
    const float size = random.uniform(6.5f, 9.0f), shear = random.uniform(-0.25f, 0.25f);
    const float top = random.uniform(3, 8), left = random.uniform(7, 12);
    for (int s = 0; s < 7; ++s) {
      if (!(segments[digit] >> s & 1u)) continue;
      for (int step = 0; step <= 40; ++step) {
        const float t = static_cast<float>(step) / 40;
        const float v = line[s][0] + t * (line[s][2] - line[s][0]), u = line[s][1] + t * (line[s][3] - line[s][1]);
        const float y = top + v * size, x = left + u * size + shear * (1 - v) * size;
        for (int dy = 0; dy < 2; ++dy) {
          for (int dx = 0; dx < 2; ++dx) {
            const auto py = static_cast<ocellus::Index>(y) + dy, px = static_cast<ocellus::Index>(x) + dx;
            if (py >= 0 && py < 28 && px >= 0 && px < 28) pixels[(n * 28 + py) * 28 + px] = 220;
          }
        }
      }
    }
    for (ocellus::Index i = 0; i < 784; ++i) {
      pixels[n * 784 + i] = static_cast<std::uint8_t>(std::min<int>(255, pixels[n * 784 + i] + static_cast<int>(random.below(36))));
    }
  }
  d.images = normalised(pixels);
  return d;
}

// The training or test pictures; `drawn`: how many to draw where there is no MNIST.
inline Digits load_digits(bool train, ocellus::Index drawn) {
  const char* root = std::getenv("OCELLUS_DATA");
  if (!root) {
    if (train) std::puts("OCELLUS_DATA is not set: drawn digits instead of MNIST");
    return drawn_digits(drawn, train ? 1 : 2);
  }
  const std::string prefix = std::string(root) + "/mnist/" + (train ? "train" : "t10k");
  Digits d;
  d.images = normalised(ocellus::BasicTensor<std::uint8_t>(ocellus::read_idx(prefix + "-images-idx3-ubyte.gz")));
  d.labels = ocellus::convert<std::int64_t>(ocellus::read_idx(prefix + "-labels-idx1-ubyte.gz"));
  d.mnist = true;
  return d;
}

// The pictures order[first], order[first + 1], …
inline Digits batch_of(const Digits& all, const std::vector<ocellus::Index>& order, ocellus::Index first, ocellus::Index count) {
  Digits b{ocellus::Tensor(ocellus::Shape{count, 28, 28, 1}), ocellus::BasicTensor<std::int64_t>(ocellus::Shape{count})};
  for (ocellus::Index i = 0; i < count; ++i) {
    const ocellus::Index from = order[static_cast<std::size_t>(first + i)];
    std::copy_n(all.images.data() + from * 784, 784, b.images.data() + i * 784);
    b.labels[i] = all.labels[from];
  }
  return b;
}
