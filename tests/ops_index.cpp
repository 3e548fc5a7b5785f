// Embedding, gather and one_hot: values against plain loops, gradients, indices that do not exist.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/index.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

using Indices = BasicTensor<std::int64_t>;

Indices random_indices(const Shape& shape, Index below, std::uint64_t seed) {
  const BasicTensor<double> uniform = random_tensor<double>(shape, seed, 0, 1);
  Indices index(shape);
  for (Index i = 0; i < index.numel(); ++i)
    index[i] = static_cast<std::int64_t>(uniform[i] * static_cast<double>(below) * 0.999);
  return index;
}

}  // namespace

TEST_CASE("embedding") {
  const Tensor weight = random_tensor<float>({7, 5}, 1);
  const Indices index = random_indices({3, 4}, 7, 2);
  const Tensor y = embedding(weight, index);
  REQUIRE(y.shape() == Shape{3, 4, 5});
  bool same = true;
  for (Index i = 0; i < 12; ++i) {
    for (Index d = 0; d < 5; ++d) same = same && y[i * 5 + d] == weight[index[i] * 5 + d];
  }
  CHECK(same);
  CHECK(embedding(weight, Indices(Shape{})).shape() == Shape{5});
}

TEST_CASE("gather along every axis") {
  const Shape shape{3, 4, 5};
  const Tensor x = random_tensor<float>(shape, 1);
  for (int axis = -3; axis < 3; ++axis) {
    CAPTURE(axis);
    Shape picked = shape;
    picked[axis] = 6;
    const Indices index = random_indices(picked, shape[axis], 2);
    const Tensor y = gather(x, axis, index);
    REQUIRE(y.shape() == picked);
    bool same = true;
    for (Index i = 0; i < y.numel(); ++i) {
      Index at[3] = {i / picked[2] / picked[1], i / picked[2] % picked[1], i % picked[2]};
      at[axis < 0 ? axis + 3 : axis] = index[i];
      same = same && y[i] == x[(at[0] * 4 + at[1]) * 5 + at[2]];
    }
    CHECK(same);
  }
}

TEST_CASE("one_hot(index, classes)") {
  const Tensor y = one_hot(Indices({2, 2}, {2, 0, 1, 1}), 3);
  REQUIRE(y.shape() == Shape{2, 2, 3});
  CHECK(max_difference(y, Tensor({2, 2, 3}, {0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0})) == 0);
}

TEST_CASE("gradients") {
  // Rows that are read twice, and one that is not read at all.
  const Indices rows({2, 3}, {1, 4, 1, 0, 4, 4});
  auto report = gradcheck("embedding", [&](const auto& x) { return embedding(x[0], rows); }, {{6, 7}});
  CHECK_MESSAGE(report.ok(), report.str());
  for (int axis = 0; axis < 3; ++axis) {
    const Shape shape{2, 3, 4};
    Shape picked = shape;
    picked[axis] = 5;
    const Indices index = random_indices(picked, shape[axis], 3);
    report = gradcheck("gather", [&](const auto& x) { return gather(x[0], axis, index); }, {shape});
    CHECK_MESSAGE(report.ok(), report.str());
  }
}

TEST_CASE("the same bits for any number of threads at sizes that are cut") {
  const Indices index = random_indices({3000}, 50, 1);
  const Tensor dy = random_tensor<float>({3000, 128}, 2);
  Tensor gradient[2];
  const int threads = num_threads();
  for (int run = 0; run < 2; ++run) {
    set_num_threads(run == 0 ? 1 : 3);
    Tensor weight = random_tensor<float>({50, 128}, 3);
    backward(embedding(weight.requires_grad(), index), dy);
    gradient[run] = weight.grad();
  }
  set_num_threads(threads);
  CHECK(max_difference(gradient[0], gradient[1]) == 0);
}

TEST_CASE("indices and shapes that do not fit are refused") {
  const Tensor x({4, 3});
  CHECK_THROWS_WITH_AS(embedding(x, Indices({2}, {3, 4})),
                       "embedding: index 4 at place 1 lies outside of [0, 4); got weight=(4, 3), index=(2)",
                       ShapeError);
  CHECK_THROWS_AS(embedding(x, Indices({2}, {3, -1})), ShapeError);
  CHECK_THROWS_WITH_AS(embedding(Tensor({4}), Indices({2})),
                       "embedding: weight must be (V, D); got weight=(4), index=(2)", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 1, Indices({4, 1}, {0, 1, 2, 3})),
                       "gather: index 3 at place 3 lies outside of [0, 3); got x=(4, 3), index=(4, 1)", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 1, Indices({2, 1})),
                       "gather: all axes but the gathered one must be equal; got x=(4, 3), index=(2, 1)", ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 1, Indices({4})), "gather: index must have as many axes as x; got x=(4, 3), index=(4)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(gather(x, 2, Indices({4, 1})), "gather: the axis must exist; got x=(4, 3), index=(4, 1)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(one_hot(Indices({1}, {3}), 3),
                       "one_hot: index 3 at place 0 lies outside of [0, 3); got index=(1)", ShapeError);
  CHECK_THROWS_WITH_AS(one_hot(Indices({1}), 0), "one_hot: there must be at least one class; got index=(1)",
                       ShapeError);
}
