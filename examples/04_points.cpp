// 04 · Points in a plane
//
// A network draws a border between two clouds of points that no straight line separates: two spirals. The picture shows what it would
// answer everywhere, not only where there are points.
//
// Run:      ./04_points [out.png]
// Expected: a 3-4-1 network has 21 parameters; two hidden layers of 32 reach ≥ 98 % on the spirals; writes 04_points.png.
#include <cmath>
#include <cstdio>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

struct Points {
  Tensor x{Shape{400, 2}};
  BasicTensor<std::int64_t> label{Shape{400}};
};

// Two arms of a spiral, 200 points each, with a little noise.
Points two_spirals(std::uint64_t seed) {
  Points p;
  RandomStream random(seed);
  for (Index i = 0; i < 400; ++i) {
    const Index arm = i % 2;
    const float t = 0.25f + 2.75f * random.uniform(), angle = t * 3.0f + static_cast<float>(arm) * 3.14159265f;
    p.x[2 * i] = t / 3 * std::cos(angle) + 0.02f * random.normal();
    p.x[2 * i + 1] = t / 3 * std::sin(angle) + 0.02f * random.normal();
    p.label[i] = arm;
  }
  return p;
}

// The answer everywhere: blue for class 0, orange for class 1, paler where the network is unsure; the points on top.
Image decision_picture(const Mlp& model, const Points& points, Index side) {
  Tensor grid(Shape{side * side, 2});
  for (Index i = 0; i < side * side; ++i) {
    grid[2 * i] = 2.4f * static_cast<float>(i % side) / static_cast<float>(side) - 1.2f;
    grid[2 * i + 1] = 2.4f * static_cast<float>(i / side) / static_cast<float>(side) - 1.2f;
  }
  const NoGrad no_grad;
  const Tensor p = softmax(model(grid));
  Image picture({side, side}, 3);
  std::uint8_t* pixel = picture.writable();
  const float blue[] = {70, 130, 200}, orange[] = {240, 150, 60};
  for (Index i = 0; i < side * side; ++i) {
    const float pale = 0.25f + 0.5f * std::abs(2 * p[2 * i + 1] - 1);
    for (Index c = 0; c < 3; ++c) {
      const float colour = p[2 * i + 1] > 0.5f ? orange[c] : blue[c];
      pixel[3 * i + c] = static_cast<std::uint8_t>(255 + pale * (colour - 255));
    }
  }
  for (Index k = 0; k < points.label.numel(); ++k) {
    const Index cx = static_cast<Index>((points.x[2 * k] + 1.2f) / 2.4f * static_cast<float>(side));
    const Index cy = static_cast<Index>((points.x[2 * k + 1] + 1.2f) / 2.4f * static_cast<float>(side));
    for (Index y = std::max<Index>(cy - 2, 0); y <= std::min(cy + 2, side - 1); ++y) {
      for (Index x = std::max<Index>(cx - 2, 0); x <= std::min(cx + 2, side - 1); ++x) {
        for (Index c = 0; c < 3; ++c) pixel[3 * (y * side + x) + c] = static_cast<std::uint8_t>(0.7f * (points.label[k] ? orange[c] : blue[c]));
      }
    }
  }
  return picture;
}

int main(int argc, char** argv) {
  const Summary small = summary(Mlp({.sizes = {3, 4, 1}}), {1, 3});
  std::printf("%s\n", small.str().c_str());
  expect("parameters of a 3-4-1 network: 16 weights and 5 biases", static_cast<double>(small.parameters), 21, 0);

  manual_seed(1);
  Mlp model({.sizes = {2, 32, 32, 2}, .activation = Act::relu});
  const Points train = two_spirals(1), test = two_spirals(2);
  AdamW optimizer(named_parameters(model), {.learning_rate = 0.01, .weight_decay = 0.0});
  for (int step = 0; step <= 1000; ++step) {
    optimizer.zero_grad();
    const Tensor loss = cross_entropy(model(train.x), train.label);
    backward(loss);
    optimizer.step();
    if (step % 200 == 0) std::printf("  step %4d  loss %.4f\n", step, static_cast<double>(loss.item()));
  }
  const NoGrad no_grad;
  expect_at_least("accuracy on points it has never seen", accuracy(model(test.x), test.label), 0.98);

  const char* path = argc > 1 ? argv[1] : "04_points.png";
  write_png(path, decision_picture(model, test, 400));
  std::printf("The border it drew: %s\n", path);
  return 0;
}
