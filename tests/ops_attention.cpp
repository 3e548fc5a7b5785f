// Scaled dot-product attention: a twin that follows the definition, the composed form that dropout takes, gradients
// against central differences, sizes that do not fit.
#include "ops_golden.hpp"

#include <cmath>

#include <ocellus/ops/attention.hpp>

using namespace ocellus;
using namespace ops_golden;

namespace {

struct Row {
  const char* name;
  Index batch, queries, keys, heads, dim;
};
const Row rows[] = {
    {"one token", 1, 1, 1, 1, 3},  {"self", 2, 7, 7, 2, 5},   {"fewer keys", 1, 33, 6, 1, 32},
    {"more keys", 1, 5, 49, 3, 8}, {"wide", 1, 9, 17, 2, 65}, {"blocks", 1, 67, 130, 1, 16},
    {"many heads", 2, 4, 9, 8, 1},
};

Double twin(const Double& q, const Double& k, const Double& v, Index heads, double scale) {
  const Index channels = q.dim(2), dim = channels / heads, keys = k.dim(1);
  const Index value_channels = v.dim(2), value_dim = value_channels / heads;
  Double y({q.dim(0), q.dim(1), value_channels});
  for (Index n = 0; n < q.dim(0); ++n) {
    for (Index h = 0; h < heads; ++h) {
      for (Index i = 0; i < q.dim(1); ++i) {
        const Index row = (n * q.dim(1) + i) * channels + h * dim;
        std::vector<double> weight(static_cast<std::size_t>(keys));
        double sum = 0;
        for (Index j = 0; j < keys; ++j) {
          double score = 0;
          for (Index d = 0; d < dim; ++d) score += q[row + d] * k[(n * keys + j) * channels + h * dim + d];
          weight[static_cast<std::size_t>(j)] = std::exp(scale * score);
          sum += weight[static_cast<std::size_t>(j)];
        }
        for (Index j = 0; j < keys; ++j) {
          const double p = weight[static_cast<std::size_t>(j)] / sum;
          const Index to = (n * q.dim(1) + i) * value_channels + h * value_dim;
          for (Index d = 0; d < value_dim; ++d) y[to + d] += p * v[(n * keys + j) * value_channels + h * value_dim + d];
        }
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("attention against a twin that follows the definition") {
  for (const Row& row : rows) {
    CAPTURE(row.name);
    const Index channels = row.heads * row.dim;
    const Double q = random_tensor<double>({row.batch, row.queries, channels}, 1, -2, 2);
    const Double k = random_tensor<double>({row.batch, row.keys, channels}, 2, -2, 2);
    const Double v = random_tensor<double>({row.batch, row.keys, channels}, 3);
    const Double y = scaled_dot_product_attention(q, k, v, {.heads = row.heads});
    CHECK(max_difference(y, twin(q, k, v, row.heads, 1 / std::sqrt(static_cast<double>(row.dim)))) <= 1e-13);
    const Double scaled = scaled_dot_product_attention(q, k, v, {.heads = row.heads, .scale = 0.3});
    CHECK(max_difference(scaled, twin(q, k, v, row.heads, 0.3)) <= 1e-13);
  }
}

TEST_CASE("gradients") {
  for (const Row& row : rows) {
    if (row.queries * row.keys * row.heads * row.dim > 5000) continue;
    const Index channels = row.heads * row.dim;
    const std::vector<Shape> shapes{
        {row.batch, row.queries, channels}, {row.batch, row.keys, channels}, {row.batch, row.keys, channels}};
    const auto f = [&](const auto& x) { return scaled_dot_product_attention(x[0], x[1], x[2], {.heads = row.heads}); };
    const auto report = gradcheck("attention " + std::string(row.name), f, shapes);
    CHECK_MESSAGE(report.ok(), report.str());
  }
  const auto with_dropout = [](const auto& x) {
    return scaled_dot_product_attention(x[0], x[1], x[2], {.heads = 2, .dropout = 0.4});
  };
  const auto report =
      gradcheck("attention dropout", with_dropout, {{2, 3, 6}, {2, 5, 6}, {2, 5, 6}}, {.training = true});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("values may be wider or narrower than keys") {
  const auto check = [](Index channels) {
    CAPTURE(channels);
    const Double q = random_tensor<double>({2, 3, 6}, 1, -2, 2), k = random_tensor<double>({2, 5, 6}, 2, -2, 2);
    const Double v = random_tensor<double>({2, 5, channels}, 3);
    const Double y = scaled_dot_product_attention(q, k, v, {.heads = 2});
    CHECK(max_difference(y, twin(q, k, v, 2, 1 / std::sqrt(3.0))) <= 1e-13);
    const auto f = [](const auto& x) { return scaled_dot_product_attention(x[0], x[1], x[2], {.heads = 2}); };
    const auto report = gradcheck("attention, other values", f, {{2, 3, 6}, {2, 5, 6}, {2, 5, channels}});
    CHECK_MESSAGE(report.ok(), report.str());
  };
  check(10);
  check(2);
}

TEST_CASE("dropout acts on the weights, in training only") {
  const Double q = random_tensor<double>({2, 3, 6}, 1), k = random_tensor<double>({2, 5, 6}, 2);
  const Double v = random_tensor<double>({2, 5, 6}, 3);
  const Double plain = scaled_dot_product_attention(q, k, v, {.heads = 2});
  CHECK(max_difference(scaled_dot_product_attention(q, k, v, {.heads = 2, .dropout = 0.4}), plain) == 0);

  // So unlikely that nothing is dropped: the composed form and the fused one agree.
  const Training training(1);
  const Double composed = scaled_dot_product_attention(q, k, v, {.heads = 2, .dropout = 1e-30});
  CHECK(max_difference(composed, plain) <= 1e-15);

  // With v = 1 an output is the sum of the weights kept, times 1 / (1 − p).
  const Double ones = Double::full({2, 5, 6}, 1);
  const Double sums = scaled_dot_product_attention(q, k, ones, {.heads = 2, .dropout = 0.4});
  double mean = 0;
  bool whole = true;
  for (const double s : sums) {
    mean += s / static_cast<double>(sums.numel());
    whole = whole && std::abs(s - 1) < 1e-9;
  }
  CHECK_FALSE(whole);
  CHECK(mean > 0.4);
  CHECK(mean < 1.67);
  CHECK(max_abs(scaled_dot_product_attention(q, k, v, {.heads = 2, .dropout = 1})) == 0);
}

TEST_CASE("large scores do not overflow") {
  const Tensor q = Tensor::full({1, 2, 4}, 300), k = random_tensor<float>({1, 9, 4}, 1),
               v = random_tensor<float>({1, 9, 4}, 2);
  const Tensor y = scaled_dot_product_attention(q, k, v);
  const Double exact = scaled_dot_product_attention(convert<double>(q), convert<double>(k), convert<double>(v));
  CHECK(max_difference(y, exact) <= 1e-3);
}

TEST_CASE("sizes that do not fit are refused") {
  const Tensor q({2, 3, 6}), k({2, 5, 6});
  const char* heads = "attention: heads must divide the channels; got q=(2, 3, 6), k=(2, 5, 6), v=(2, 5, 6)";
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, k, {.heads = 4}), heads, ShapeError);
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, k, {.heads = 0}), heads, ShapeError);
  CHECK_THROWS_WITH_AS(
      scaled_dot_product_attention(q, Tensor({1, 5, 6}), Tensor({1, 5, 6})),
      "attention: batch and channels of q and k must be equal; got q=(2, 3, 6), k=(1, 5, 6), v=(1, 5, 6)", ShapeError);
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, Tensor({2, 4, 6})),
                       "attention: q must be (N, Lq, C), k and v (N, Lk, C); got q=(2, 3, 6), k=(2, 5, 6), v=(2, 4, 6)",
                       ShapeError);
  CHECK_THROWS_AS(scaled_dot_product_attention(q, Tensor({2, 0, 6}), Tensor({2, 0, 6})), ShapeError);
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, Tensor({2, 5, 7}), {.heads = 2}),
                       "attention: heads must divide the channels of v; got q=(2, 3, 6), k=(2, 5, 6), v=(2, 5, 7)", ShapeError);
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, Tensor({2, 4, 8})),
                       "attention: k and v must have the same tokens; got q=(2, 3, 6), k=(2, 5, 6), v=(2, 4, 8)", ShapeError);
  const Training training;
  CHECK_THROWS_WITH_AS(scaled_dot_product_attention(q, k, k, {.heads = 4, .dropout = 0.5}), heads, ShapeError);
}
