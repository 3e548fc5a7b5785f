// Convolution and its transpose: PyTorch's values and gradients, scalar twins at odd sizes, gradients against central
// differences, the fused epilogue, packed weights, sizes that do not fit.
#include "ops_golden.hpp"

#define OCELLUS_OP_STRUCTS
#include <ocellus/ops/conv.hpp>

using namespace ocellus;
using namespace ops_golden;

namespace {

struct Row {
  const char* name;
  Shape x;  // (N, H, W, C)
  Index out_channels;
  Size2 kernel;
  Conv2dOptions options;
};
const Row rows[] = {
    {"pointwise", {2, 3, 5, 7}, 9, 1, {}},
    {"3x3", {1, 7, 6, 4}, 17, 3, {.padding = 1}},
    {"3x3 wide", {1, 5, 9, 33}, 18, 3, {.padding = 1}},
    {"strided", {2, 8, 7, 3}, 5, 3, {.stride = 2, .padding = 1}},
    {"uneven", {1, 9, 8, 2}, 3, {3, 2}, {.stride = {2, 3}, .padding = {2, 1}, .dilation = {1, 2}}},
    {"dilated", {1, 8, 9, 5}, 4, 3, {.padding = 2, .dilation = 2}},
    {"patches", {1, 8, 12, 3}, 6, 4, {.stride = 4}},
    {"overlapping patches", {1, 11, 9, 3}, 8, 7, {.stride = 4, .padding = 3}},
    {"larger padding than kernel", {1, 3, 2, 2}, 3, 2, {.padding = 3}},
    {"strided pointwise", {1, 5, 6, 4}, 3, 1, {.stride = 2}},
    {"groups", {1, 5, 6, 6}, 9, 3, {.padding = 1, .groups = 3}},
    {"depthwise", {2, 6, 5, 19}, 19, 3, {.padding = 1, .groups = 19}},
    {"depthwise strided", {1, 7, 8, 5}, 5, {5, 3}, {.stride = {2, 1}, .padding = 2, .groups = 5}},
    {"depthwise multiplier", {1, 5, 5, 3}, 6, 3, {.padding = 1, .groups = 3}},
    {"one row", {1, 1, 9, 3}, 4, {1, 5}, {.padding = {0, 2}}},
};

Shape weight_shape(const Row& row) {
  return {row.out_channels, row.kernel.h, row.kernel.w, row.x[3] / row.options.groups};
}

// y[n, i, j, o] = b[o] + Σ x[n, i s − p + a d, j s − p + b d, c] w[o, a, b, c]
Double conv_twin(const Double& x, const Double& w, const Double& b, const Conv2dOptions& o) {
  const auto out = [](Index n, Index k, Index s, Index p, Index d) { return (n + 2 * p - d * (k - 1) - 1) / s + 1; };
  const Index height = out(x.dim(1), w.dim(1), o.stride.h, o.padding.h, o.dilation.h);
  const Index width = out(x.dim(2), w.dim(2), o.stride.w, o.padding.w, o.dilation.w);
  Double y({x.dim(0), height, width, w.dim(0)});
  const Index in = w.dim(3), per_group = w.dim(0) / o.groups;
  Index at = 0;
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index i = 0; i < height; ++i) {
      for (Index j = 0; j < width; ++j) {
        for (Index k = 0; k < w.dim(0); ++k, ++at) {
          double sum = b ? b[k] : 0;
          for (Index u = 0; u < w.dim(1); ++u) {
            for (Index v = 0; v < w.dim(2); ++v) {
              const Index h = i * o.stride.h - o.padding.h + u * o.dilation.h;
              const Index q = j * o.stride.w - o.padding.w + v * o.dilation.w;
              if (h < 0 || q < 0 || h >= x.dim(1) || q >= x.dim(2)) continue;
              for (Index c = 0; c < in; ++c) {
                sum += x[((n * x.dim(1) + h) * x.dim(2) + q) * x.dim(3) + k / per_group * in + c] *
                       w[((k * w.dim(1) + u) * w.dim(2) + v) * in + c];
              }
            }
          }
          y[at] = sum;
        }
      }
    }
  }
  return y;
}

// The same sum scattered: y[n, i s − p + a d, j s − p + b d, o] += x[n, i, j, c] w[c, a, b, o]
Double conv_transpose_twin(const Double& x, const Double& w, const Double& b, const ConvTranspose2dOptions& o) {
  const auto size = [](Index n, Index k, Index s, Index p, Index d, Index extra) {
    return (n - 1) * s - 2 * p + d * (k - 1) + extra + 1;
  };
  const Index height = size(x.dim(1), w.dim(1), o.stride.h, o.padding.h, o.dilation.h, o.output_padding.h);
  const Index width = size(x.dim(2), w.dim(2), o.stride.w, o.padding.w, o.dilation.w, o.output_padding.w);
  const Index out = w.dim(3), per_group = x.dim(3) / o.groups;
  Double y({x.dim(0), height, width, out * o.groups});
  for (Index i = 0; b && i < y.numel(); ++i) y[i] = b[i % b.numel()];
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index i = 0; i < x.dim(1); ++i) {
      for (Index j = 0; j < x.dim(2); ++j) {
        for (Index u = 0; u < w.dim(1); ++u) {
          for (Index v = 0; v < w.dim(2); ++v) {
            const Index h = i * o.stride.h - o.padding.h + u * o.dilation.h;
            const Index q = j * o.stride.w - o.padding.w + v * o.dilation.w;
            if (h < 0 || q < 0 || h >= height || q >= width) continue;
            for (Index c = 0; c < x.dim(3); ++c) {
              for (Index k = 0; k < out; ++k) {
                y[((n * height + h) * width + q) * out * o.groups + c / per_group * out + k] +=
                    x[((n * x.dim(1) + i) * x.dim(2) + j) * x.dim(3) + c] *
                    w[((c * w.dim(1) + u) * w.dim(2) + v) * out + k];
              }
            }
          }
        }
      }
    }
  }
  return y;
}

struct TransposeRow {
  const char* name;
  Shape x;
  Shape weight;  // (I, kh, kw, O / groups)
  ConvTranspose2dOptions options;
};
const TransposeRow transpose_rows[] = {
    {"plain", {1, 3, 4, 5}, {5, 3, 3, 4}, {}},
    {"doubling", {2, 3, 4, 7}, {7, 2, 2, 5}, {.stride = 2}},
    {"output padding", {1, 4, 3, 3}, {3, 3, 3, 6}, {.stride = 2, .padding = 1, .output_padding = 1}},
    {"uneven",
     {1, 3, 4, 2},
     {2, 3, 2, 3},
     {.stride = {2, 3}, .padding = {1, 0}, .output_padding = {1, 2}, .dilation = {1, 2}}},
    {"more output padding than stride", {1, 3, 3, 2}, {2, 2, 2, 3}, {.output_padding = 1, .dilation = 2}},
    {"groups", {1, 3, 4, 4}, {4, 3, 3, 3}, {.stride = 2, .padding = 1, .groups = 2}},
    {"depthwise", {1, 4, 3, 5}, {5, 4, 4, 1}, {.stride = 2, .padding = 1, .groups = 5}},
    {"gaps between windows", {1, 3, 2, 3}, {3, 2, 2, 2}, {.stride = 3}},
};

}  // namespace

TEST_CASE("conv2d agrees with PyTorch") {
  for (const Case& c : cases("conv2d")) {
    const Conv2dOptions o{c.size("stride"), c.size("padding"), c.size("dilation"), c.get<Index>("groups")};
    check_case(c, {"x", "w", "b"}, [&](const auto& x) { return conv2d(x[0], x[1], x[2], o); });
  }
}

TEST_CASE("conv_transpose2d agrees with PyTorch") {
  for (const Case& c : cases("conv_transpose2d")) {
    const ConvTranspose2dOptions o{c.size("stride"), c.size("padding"), c.size("output_padding"), c.size("dilation"),
                                   c.get<Index>("groups")};
    check_case(c, {"x", "w", "b"}, [&](const auto& x) { return conv_transpose2d(x[0], x[1], x[2], o); });
  }
}

TEST_CASE("conv2d against a scalar twin") {
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const Double x = random_tensor<double>(row.x, 1), w = random_tensor<double>(weight_shape(row), 2);
    const Double b = random_tensor<double>({row.out_channels}, 3);
    CHECK(max_difference(conv2d(x, w, b, row.options), conv_twin(x, w, b, row.options)) <= 1e-13);
    CHECK(max_difference(conv2d(x, w, {}, row.options), conv_twin(x, w, {}, row.options)) <= 1e-13);
  }
}

TEST_CASE("conv_transpose2d against a scalar twin") {
  for (const TransposeRow& row : transpose_rows) {
    CAPTURE(row.name);
    const Double x = random_tensor<double>(row.x, 1), w = random_tensor<double>(row.weight, 2);
    const Double b = random_tensor<double>({row.weight[3] * row.options.groups}, 3);
    CHECK(max_difference(conv_transpose2d(x, w, b, row.options), conv_transpose_twin(x, w, b, row.options)) <= 1e-13);
    CHECK(max_difference(conv_transpose2d(x, w, {}, row.options), conv_transpose_twin(x, w, {}, row.options)) <= 1e-13);
  }
}

TEST_CASE("gradients") {
  for (const Row& row : rows) {
    const auto report = gradcheck("conv2d " + std::string(row.name),
                                  [&](const auto& x) { return conv2d(x[0], x[1], x[2], row.options); },
                                  {row.x, weight_shape(row), {row.out_channels}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  for (const TransposeRow& row : transpose_rows) {
    const auto report = gradcheck("conv_transpose2d " + std::string(row.name),
                                  [&](const auto& x) { return conv_transpose2d(x[0], x[1], x[2], row.options); },
                                  {row.x, row.weight, {row.weight[3] * row.options.groups}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("the same bits for any number of threads at sizes that are cut") {
  const Tensor x = random_tensor<float>({2, 37, 41, 24}, 1), w = random_tensor<float>({48, 3, 3, 24}, 2);
  const Tensor dy = random_tensor<float>({2, 37, 41, 48}, 3);
  std::vector<Tensor> results[2];
  const int threads = num_threads();
  for (int run = 0; run < 2; ++run) {
    set_num_threads(run == 0 ? 1 : 3);
    Tensor leaf_x = x.clone(), leaf_w = w.clone();
    const Tensor y = conv2d(leaf_x.requires_grad(), leaf_w.requires_grad(), {}, {.padding = 1});
    backward(y, dy);
    results[run] = {y, leaf_x.grad(), leaf_w.grad()};
  }
  set_num_threads(threads);
  for (std::size_t i = 0; i < 3; ++i) CHECK(max_difference(results[0][i], results[1][i]) == 0);
}

TEST_CASE("the fused epilogue, with plain and packed weights") {
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const Tensor x = random_tensor<float>(row.x, 1), w = random_tensor<float>(weight_shape(row), 2);
    const Tensor b = random_tensor<float>({row.out_channels}, 3);
    const Tensor plain = conv2d(x, w, b, row.options);
    const Tensor residual = random_tensor<float>(plain.shape(), 4);
    Tensor expected = plain.clone();
    for (Index i = 0; i < plain.numel(); ++i) {
      expected[i] = act_value(Act::relu, act_value(Act::relu6, plain[i]) + residual[i]);
    }
    const Conv2dOptions& o = row.options;
    const op::Conv2d fused{o.stride, o.padding, o.dilation, o.groups, {.before = Act::relu6, .after = Act::relu}};
    CHECK(max_difference(call(fused, x, w, b, residual), expected) <= 1e-5);

    Run shapes;
    for (const Tensor* t : {&x, &w}) shapes.in.emplace_back(t->spec(), nullptr);
    shapes.out.emplace_back(plain.spec(), nullptr);
    const AnyTensor packed = fused.pack(1, w, shapes, Precision::f32);
    REQUIRE(packed.format() == Format::packed);
    REQUIRE(packed.shape() == w.shape());
    CHECK(max_difference(call(fused, x, packed, b, residual), expected) <= 1e-5);

    Tensor leaf = x.clone();
    const Tensor y = call(fused, leaf.requires_grad(), w, b, residual);
    CHECK_THROWS_AS(backward(y, residual), ShapeError);
  }
}

TEST_CASE("an empty batch") {
  const Tensor x({0, 5, 5, 3}), w = random_tensor<float>({4, 3, 3, 3}, 1);
  CHECK(conv2d(x, w).shape() == Shape{0, 3, 3, 4});
  CHECK(conv_transpose2d(Tensor({0, 3, 3, 4}), w).shape() == Shape{0, 5, 5, 3});
}

TEST_CASE("sizes that do not fit are refused") {
  const Tensor x({1, 4, 5, 6});
  CHECK_THROWS_WITH_AS(conv2d(x, Tensor({8, 3, 3, 5})),
                       "conv2d: channels of x must equal groups times the last axis of weight; got x=(1, 4, 5, 6), "
                       "weight=(8, 3, 3, 5)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, Tensor({8, 5, 3, 6})),
                       "conv2d: the kernel must fit into the padded image; got x=(1, 4, 5, 6), weight=(8, 5, 3, 6)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, Tensor({8, 3, 3, 2}), {}, {.groups = 3}),
      "conv2d: groups must divide the number of output channels; got x=(1, 4, 5, 6), weight=(8, 3, 3, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, Tensor({8, 3, 3, 6}), Tensor({7})),
                       "conv2d: bias must be (O); got x=(1, 4, 5, 6), weight=(8, 3, 3, 6), bias=(7)", ShapeError);
  CHECK_THROWS_AS(conv2d(x, Tensor({8, 3, 3, 6}), {}, {.stride = 0}), ShapeError);
  CHECK_THROWS_AS(conv2d(Tensor({4, 5, 6}), Tensor({8, 3, 3, 6})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, Tensor()), ShapeError);
  CHECK_THROWS_WITH_AS(conv_transpose2d(x, Tensor({5, 3, 3, 8})),
                       "conv_transpose2d: channels of x must equal the first axis of weight; got x=(1, 4, 5, 6), "
                       "weight=(5, 3, 3, 8)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv_transpose2d(x, Tensor({6, 3, 3, 8}), {}, {.stride = 2, .output_padding = 2}),
                       "conv_transpose2d: output_padding must be smaller than stride or dilation; got x=(1, 4, 5, 6), "
                       "weight=(6, 3, 3, 8)",
                       ShapeError);
  CHECK_THROWS_AS(conv_transpose2d(x, Tensor({6, 1, 1, 8}), {}, {.padding = 2}), ShapeError);
}
