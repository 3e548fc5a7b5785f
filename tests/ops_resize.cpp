// Resizing: PyTorch's values and gradients for every mode, an exact scale, the fused residual, gradients against
// central differences, sizes that do not fit.
#include "ops_golden.hpp"

#include <cmath>

#define OCELLUS_OP_STRUCTS
#include <ocellus/ops/resize.hpp>

using namespace ocellus;
using namespace ops_golden;

namespace {

ResizeMode mode_of(const std::string& name) {
  if (name == "nearest") return ResizeMode::nearest;
  return name == "bilinear" ? ResizeMode::bilinear : ResizeMode::bicubic;
}

struct Row {
  const char* name;
  ResizeOptions options;
};
const Row rows[] = {
    {"nearest", {.mode = ResizeMode::nearest}},
    {"bilinear", {}},
    {"bilinear corners", {.align_corners = true}},
    {"bilinear antialias", {.antialias = true}},
    {"bicubic", {.mode = ResizeMode::bicubic}},
    {"bicubic corners", {.mode = ResizeMode::bicubic, .align_corners = true}},
    {"bicubic antialias", {.mode = ResizeMode::bicubic, .antialias = true}},
};
const Size2 sizes[] = {{9, 11}, {3, 2}, {1, 1}, {5, 14}, {10, 3}};

}  // namespace

TEST_CASE("resizing agrees with PyTorch") {
  for (const Case& c : cases("interpolate")) {
    const ResizeOptions o{.mode = mode_of(c.get<std::string>("mode")),
                          .align_corners = c.get<bool>("align_corners"),
                          .antialias = c.get<bool>("antialias")};
    check_case(c, {"x"}, [&](const auto& x) { return resize(x[0], c.size("size"), o); });
  }
}

TEST_CASE("gradients") {
  for (const Row& row : rows) {
    for (const Size2 size : sizes) {
      const auto report = gradcheck("resize " + std::string(row.name) + " " + size.str(),
                                    [&](const auto& x) { return resize(x[0], size, row.options); }, {{2, 5, 7, 3}});
      CHECK_MESSAGE(report.ok(), report.str());
    }
    const auto report = gradcheck("resize from one pixel " + std::string(row.name),
                                  [&](const auto& x) { return resize(x[0], {3, 2}, row.options); }, {{1, 1, 1, 18}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  const auto fused = [](const auto& x) { return call(op::Resize{.size = {4, 6}}, x[0], x[1]); };
  const auto report = gradcheck("resize residual", fused, {{1, 2, 3, 5}, {1, 4, 6, 5}});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("a constant image stays constant and the size of x is the identity") {
  const Tensor x = random_tensor<float>({1, 4, 6, 5}, 1), constant = Tensor::full({1, 4, 6, 5}, 3);
  for (const Row& row : rows) {
    CAPTURE(row.name);
    for (const Size2 size : sizes) {
      CHECK(max_difference(resize(constant, size, row.options), Tensor::full({1, size.h, size.w, 5}, 3)) <= 1e-6);
    }
    CHECK(resize(x, {4, 6}, row.options).storage() == x.storage());
    const ResizeOptions& o = row.options;
    const op::Resize same{.size = {4, 6}, .mode = o.mode, .align_corners = o.align_corners, .antialias = o.antialias};
    CHECK(max_difference(call(same, x), x) == 0);
  }
}

TEST_CASE("a fused residual is added") {
  const Tensor x = random_tensor<float>({2, 3, 5, 7}, 1), residual = random_tensor<float>({2, 6, 4, 7}, 2);
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const ResizeOptions& o = row.options;
    const op::Resize fused{.size = {6, 4}, .mode = o.mode, .align_corners = o.align_corners, .antialias = o.antialias};
    Tensor sum = resize(x, {6, 4}, o).clone();
    for (Index i = 0; i < sum.numel(); ++i) sum[i] += residual[i];
    CHECK(max_difference(call(fused, x, residual), sum) <= 1e-6);
  }
}

TEST_CASE("an exact scale decides the coordinates") {
  const Double x({1, 1, 5, 1}, {10, 20, 30, 40, 50});
  // 12 = ⌊5 · 2.5⌋: pixel i of the output is (i + 1/2) / 2.5 − 1/2 of the input, not (i + 1/2) 5 / 12 − 1/2.
  const Double linear = resize(x, {1, 12}, {.scale_h = 1, .scale_w = 2.5});
  for (Index i = 0; i < 12; ++i) {
    const double at = std::min(std::max((static_cast<double>(i) + 0.5) / 2.5 - 0.5, 0.0), 4.0);
    CHECK(std::abs(linear[i] - (10 + 10 * at)) <= 1e-13);
  }
  const Double nearest = resize(x, {1, 12}, {.mode = ResizeMode::nearest, .scale_w = 2.5});
  CHECK(max_difference(nearest, Double({1, 1, 12, 1}, {10, 10, 10, 20, 20, 30, 30, 30, 40, 40, 50, 50})) == 0);
  CHECK(resize(x, {1, 5}, {.scale_w = 1.1}).storage() != x.storage());
  CHECK_THROWS_WITH_AS(resize(x, {1, 12}, {.scale_w = 2}),
                       "resize: the size must be ⌊scale · size of x⌋; got x=(1, 1, 5, 1)", ShapeError);
  CHECK_THROWS_AS(resize(x, {1, 12}, {.scale_w = -2.5}), ShapeError);
  CHECK_THROWS_AS(resize(x, {1, 12}, {.scale_w = NAN}), ShapeError);
}

TEST_CASE("the same bits for any number of threads at sizes that are cut") {
  const Tensor x = random_tensor<float>({2, 33, 29, 40}, 1), dy = random_tensor<float>({2, 64, 61, 40}, 2);
  const int threads = num_threads();
  for (const Row& row : rows) {
    CAPTURE(row.name);
    Tensor y[2], dx[2];
    for (int run = 0; run < 2; ++run) {
      set_num_threads(run == 0 ? 1 : 3);
      Tensor leaf = x.clone();
      y[run] = resize(leaf.requires_grad(), {64, 61}, row.options);
      backward(y[run], dy);
      dx[run] = leaf.grad();
    }
    set_num_threads(threads);
    CHECK(max_difference(y[0], y[1]) == 0);
    CHECK(max_difference(dx[0], dx[1]) == 0);
  }
}

TEST_CASE("sizes that do not fit are refused") {
  CHECK_THROWS_WITH_AS(resize(Tensor({4, 6, 5}), {2, 3}), "resize: x must be (N, H, W, C); got x=(4, 6, 5)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(resize(Tensor({1, 4, 6, 5}), {0, 3}), "resize: sizes must be positive; got x=(1, 4, 6, 5)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(resize(Tensor({1, 4, 6, 5}), {2, 3}, {.mode = ResizeMode::nearest, .antialias = true}),
                       "resize: nearest knows neither align_corners nor antialias; got x=(1, 4, 6, 5)", ShapeError);
  const auto wrong_residual = [] {
    return call(op::Resize{.size = {2, 3}}, Tensor({1, 4, 6, 5}), Tensor({1, 4, 6, 5}));
  };
  CHECK_THROWS_WITH_AS(wrong_residual(),
                       "resize: residual must have the shape of the output; got x=(1, 4, 6, 5), residual=(1, 4, 6, 5)",
                       ShapeError);
}
