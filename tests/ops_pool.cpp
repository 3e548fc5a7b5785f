// Pooling: PyTorch's values and gradients, scalar twins at odd sizes, gradients against central differences, ties, NaN,
// sizes that do not fit.
#include "ops_golden.hpp"

#include <cmath>

#include <ocellus/ops/pool.hpp>

using namespace ocellus;
using namespace ops_golden;

namespace {

struct Row {
  const char* name;
  Shape x;
  MaxPoolOptions options;
  Size2 out;
};
const Row rows[] = {
    {"halving", {2, 6, 8, 5}, {}, {3, 4}},
    {"odd", {1, 7, 5, 17}, {}, {3, 2}},
    {"odd, ceil", {1, 7, 5, 3}, {.ceil_mode = true}, {4, 3}},
    {"overlapping", {1, 7, 9, 4}, {.kernel_size = 3, .stride = 2, .padding = 1}, {4, 5}},
    {"overlapping, ceil", {1, 6, 8, 4}, {.kernel_size = 3, .stride = 2, .padding = 1, .ceil_mode = true}, {4, 5}},
    {"every pixel", {1, 5, 6, 33}, {.kernel_size = 5, .stride = 1, .padding = 2}, {5, 6}},
    {"uneven", {2, 5, 8, 2}, {.kernel_size = {2, 3}, .stride = {3, 2}, .padding = {1, 0}}, {2, 3}},
    {"gaps", {1, 8, 7, 3}, {.kernel_size = 2, .stride = 3}, {3, 2}},
    {"larger than the image, ceil", {1, 2, 3, 2}, {.kernel_size = 3, .stride = 2, .ceil_mode = true}, {1, 1}},
};

struct Twin {
  Double max, with_padding, without_padding;
};
Twin twin(const Double& x, const Row& row) {
  const MaxPoolOptions& o = row.options;
  const Size2 k = o.kernel_size, stride = o.stride == Size2(0) ? k : o.stride;
  const Shape shape{x.dim(0), row.out.h, row.out.w, x.dim(3)};
  Twin t{Double(shape), Double(shape), Double(shape)};
  for (Index at = 0; at < shape.numel(); ++at) {
    const Index c = at % shape[3], j = at / shape[3] % shape[2], i = at / shape[3] / shape[2] % shape[1];
    const Index n = at / shape[3] / shape[2] / shape[1];
    double best = -HUGE_VAL, sum = 0;
    Index inside = 0, padded = 0;
    for (Index h = i * stride.h - o.padding.h; h < i * stride.h - o.padding.h + k.h; ++h) {
      for (Index w = j * stride.w - o.padding.w; w < j * stride.w - o.padding.w + k.w; ++w) {
        if (h < x.dim(1) + o.padding.h && w < x.dim(2) + o.padding.w) ++padded;
        if (h < 0 || w < 0 || h >= x.dim(1) || w >= x.dim(2)) continue;
        const double value = x[((n * x.dim(1) + h) * x.dim(2) + w) * x.dim(3) + c];
        best = std::max(best, value);
        sum += value;
        ++inside;
      }
    }
    t.max[at] = best;
    t.with_padding[at] = sum / static_cast<double>(padded);
    t.without_padding[at] = sum / static_cast<double>(inside);
  }
  return t;
}

AvgPoolOptions average(const MaxPoolOptions& o, bool count_include_pad) {
  return {o.kernel_size, o.stride, o.padding, o.ceil_mode, count_include_pad};
}

}  // namespace

TEST_CASE("pooling agrees with PyTorch") {
  for (const Case& c : cases("max_pool2d")) {
    if (!(c.size("dilation") == Size2(1))) continue;  // no model of the zoo dilates a pool
    const MaxPoolOptions o{c.size("kernel_size"), c.size("stride"), c.size("padding"), c.get<bool>("ceil_mode")};
    check_case(c, {"x"}, [&](const auto& x) { return max_pool2d(x[0], o); });
  }
  for (const Case& c : cases("avg_pool2d")) {
    const AvgPoolOptions o{c.size("kernel_size"), c.size("stride"), c.size("padding"), c.get<bool>("ceil_mode"),
                           c.get<bool>("count_include_pad")};
    check_case(c, {"x"}, [&](const auto& x) { return avg_pool2d(x[0], o); });
  }
  for (const Case& c : cases("adaptive_avg_pool2d")) {
    check_case(c, {"x"}, [&](const auto& x) { return adaptive_avg_pool2d(x[0], c.size("size")); });
  }
}

TEST_CASE("pooling against a scalar twin") {
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const Double x = random_tensor<double>(row.x, 1);
    const Twin t = twin(x, row);
    const Double y = max_pool2d(x, row.options);
    REQUIRE(y.shape() == t.max.shape());
    CHECK(max_difference(y, t.max) == 0);
    CHECK(max_difference(avg_pool2d(x, average(row.options, true)), t.with_padding) <= 1e-15);
    CHECK(max_difference(avg_pool2d(x, average(row.options, false)), t.without_padding) <= 1e-15);
  }
}

TEST_CASE("adaptive pooling to one pixel is the mean") {
  const Double x = random_tensor<double>({2, 7, 5, 3}, 1);
  const Double y = adaptive_avg_pool2d(x, 1);
  for (Index n = 0; n < 2; ++n) {
    for (Index c = 0; c < 3; ++c) {
      double sum = 0;
      for (Index p = 0; p < 35; ++p) sum += x[(n * 35 + p) * 3 + c];
      CHECK(std::abs(y[n * 3 + c] - sum / 35) <= 1e-15);
    }
  }
  CHECK(max_difference(adaptive_avg_pool2d(x, {7, 5}), x) == 0);
}

TEST_CASE("gradients") {
  for (const Row& row : rows) {
    const std::string name = row.name;
    auto report =
        gradcheck("max_pool2d " + name, [&](const auto& x) { return max_pool2d(x[0], row.options); }, {row.x});
    CHECK_MESSAGE(report.ok(), report.str());
    for (const bool count_include_pad : {false, true}) {
      const AvgPoolOptions o = average(row.options, count_include_pad);
      report = gradcheck("avg_pool2d " + name, [&](const auto& x) { return avg_pool2d(x[0], o); }, {row.x});
      CHECK_MESSAGE(report.ok(), report.str());
    }
  }
  for (const Size2 size : {Size2(1), Size2(3, 4), Size2(5, 2), Size2(9, 11)}) {
    const auto report = gradcheck("adaptive_avg_pool2d " + size.str(),
                                  [&](const auto& x) { return adaptive_avg_pool2d(x[0], size); }, {{2, 5, 7, 3}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("of equal maxima the first gets the gradient, NaN wins") {
  Tensor x({1, 2, 4, 1}, {3, 3, 1, NAN, 3, 0, 5, 7});
  const Tensor y = max_pool2d(x.requires_grad());
  CHECK(y[0] == 3);
  CHECK(std::isnan(y[1]));
  backward(y, Tensor({1, 1, 2, 1}, {10, 20}));
  CHECK(max_difference(x.grad(), Tensor({1, 2, 4, 1}, {10, 0, 0, 20, 0, 0, 0, 0})) == 0);
}

TEST_CASE("sizes that do not fit are refused") {
  CHECK_THROWS_WITH_AS(max_pool2d(Tensor({1, 2, 3, 4}), {.kernel_size = 3}),
                       "max_pool2d: the window must fit into the padded image; got x=(1, 2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(avg_pool2d(Tensor({1, 5, 5, 4}), {.kernel_size = 3, .padding = 2}),
                       "avg_pool2d: padding must be at most half of kernel_size; got x=(1, 5, 5, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(Tensor({5, 5, 4})), "max_pool2d: x must be (N, H, W, C); got x=(5, 5, 4)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(Tensor({1, 5, 5, 4}), {.kernel_size = 0}),
                       "max_pool2d: kernel_size and stride must be positive; got x=(1, 5, 5, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(adaptive_avg_pool2d(Tensor({1, 5, 5, 4}), 0),
                       "adaptive_avg_pool2d: sizes must be positive; got x=(1, 5, 5, 4)", ShapeError);
}
