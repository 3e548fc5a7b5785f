// Ops that only move elements, against twins that place one element at a time; gradients; axes and sizes that do not
// fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

using Position = std::vector<Index>;

// Calls f(position) for every element of a tensor of this shape, in order.
template <class F>
void each_position(const Shape& shape, F f) {
  Position position(static_cast<std::size_t>(shape.rank()));
  for (Index i = 0; i < shape.numel(); ++i) {
    Index rest = i;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      position[static_cast<std::size_t>(d)] = rest % shape[d];
      rest /= shape[d];
    }
    f(i, position);
  }
}

Index place(const Shape& shape, const Position& position) {
  Index i = 0;
  for (int d = 0; d < shape.rank(); ++d) i = i * shape[d] + position[static_cast<std::size_t>(d)];
  return i;
}

// Different numbers everywhere.
Tensor counting(const Shape& shape, float first = 0) {
  Tensor x(shape);
  for (Index i = 0; i < x.numel(); ++i) x[i] = first + static_cast<float>(i);
  return x;
}

const Shape shapes[] = {{3, 4, 5}, {1, 7}, {2, 33, 1, 3}, {6}, {2, 1, 3, 2, 2}};

}  // namespace

TEST_CASE("concat and split are inverse") {
  for (const Shape& shape : shapes) {
    for (int axis = -shape.rank(); axis < shape.rank(); ++axis) {
      CAPTURE(shape.str());
      CAPTURE(axis);
      const std::size_t d = static_cast<std::size_t>(axis < 0 ? axis + shape.rank() : axis);
      const std::vector<Index> sizes{2, 0, 3, 1};
      std::vector<Tensor> parts;
      for (const Index size : sizes) {
        Shape part = shape;
        part[axis] = size;
        parts.push_back(counting(part, 1000.0f * static_cast<float>(parts.size())));
      }
      const Tensor joined = concat(parts, axis);
      REQUIRE(joined.dim(axis) == 6);
      bool same = true;
      each_position(joined.shape(), [&](Index i, Position p) {
        std::size_t part = 0;
        while (p[d] >= sizes[part]) p[d] -= sizes[part++];
        same = same && joined[i] == parts[part][place(parts[part].shape(), p)];
      });
      CHECK(same);
      const std::vector<Tensor> cut = split(joined, sizes, axis);
      REQUIRE(cut.size() == parts.size());
      for (std::size_t i = 0; i < cut.size(); ++i) {
        REQUIRE(cut[i].shape() == parts[i].shape());
        CHECK(max_difference(cut[i], parts[i]) == 0);
      }
    }
  }
}

TEST_CASE("stack") {
  const Tensor a = counting({2, 3}), b = counting({2, 3}, 100);
  CHECK(max_difference(stack<float>({a, b}), Tensor({2, 2, 3}, {0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105})) == 0);
  const Tensor last = stack<float>({a, b}, -1);
  REQUIRE(last.shape() == Shape{2, 3, 2});
  CHECK(max_difference(last, Tensor({2, 3, 2}, {0, 100, 1, 101, 2, 102, 3, 103, 4, 104, 5, 105})) == 0);
  const Tensor middle = stack<float>({a, b}, 1);
  REQUIRE(middle.shape() == Shape{2, 2, 3});
  CHECK(max_difference(middle, Tensor({2, 2, 3}, {0, 1, 2, 100, 101, 102, 3, 4, 5, 103, 104, 105})) == 0);
}

TEST_CASE("slice") {
  const Tensor x = counting({2, 4, 3});
  CHECK(max_difference(slice(x, 1, 1, 3), Tensor({2, 2, 3}, {3, 4, 5, 6, 7, 8, 15, 16, 17, 18, 19, 20})) == 0);
  CHECK(max_difference(slice(x, -1, -2, 3), slice(x, 2, 1, 3)) == 0);
  CHECK(max_difference(slice(x, 0, 1, 2), counting({1, 4, 3}, 12)) == 0);
  CHECK(slice(x, 1, 2, 2).shape() == Shape{2, 0, 3});
}

TEST_CASE("pad") {
  for (const Shape& shape : shapes) {
    CAPTURE(shape.str());
    const Tensor x = counting(shape);
    std::vector<Padding> padding;
    for (int d = 0; d < shape.rank(); ++d) padding.push_back({(d + 1) % 3, d % 2});
    const Tensor y = pad(x, padding, -1);
    bool same = true;
    each_position(y.shape(), [&](Index i, Position p) {
      bool inside = true;
      for (int d = 0; d < shape.rank(); ++d) {
        Index& at = p[static_cast<std::size_t>(d)];
        at -= padding[static_cast<std::size_t>(d)].before;
        inside = inside && at >= 0 && at < shape[d];
      }
      same = same && y[i] == (inside ? x[place(shape, p)] : -1);
    });
    CHECK(same);
  }
}

TEST_CASE("permute in every order") {
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 35, 2, 41}, Shape{33, 1, 1, 70}, Shape{3, 64}, Shape{7}}) {
    const Tensor x = counting(shape);
    std::vector<int> axes;
    for (int d = 0; d < shape.rank(); ++d) axes.push_back(d);
    do {
      const Tensor y = permute(x, axes);
      bool same = true;
      each_position(y.shape(), [&](Index i, const Position& p) {
        Position from(p.size());
        for (std::size_t d = 0; d < p.size(); ++d) from[static_cast<std::size_t>(axes[d])] = p[d];
        same = same && y[i] == x[place(shape, from)];
      });
      CHECK(same);
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
  CHECK(max_difference(permute(counting({2, 3, 4}), {0, -1, 1}), permute(counting({2, 3, 4}), {0, 2, 1})) == 0);
  CHECK(max_difference(transpose(counting({2, 3, 4}), 0, -1), permute(counting({2, 3, 4}), {2, 1, 0})) == 0);
  CHECK(permute(Tensor({0, 3}), {1, 0}).shape() == Shape{3, 0});
  CHECK(permute(Tensor::scalar(5), {}).item() == 5);
}

TEST_CASE("flip") {
  const Tensor x = counting({2, 3, 2});
  CHECK(max_difference(flip(x, 1), Tensor({2, 3, 2}, {4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7})) == 0);
  CHECK(max_difference(flip(x, -1), Tensor({2, 3, 2}, {1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10})) == 0);
  for (int axis = 0; axis < 3; ++axis) CHECK(max_difference(flip(flip(x, axis), axis), x) == 0);
}

TEST_CASE("broadcast_to") {
  const Tensor x({2, 1}, {1, -0.0f});
  const Tensor y = broadcast_to(x, {3, 2, 2});
  CHECK(max_difference(y, Tensor({3, 2, 2}, {1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0})) == 0);
  CHECK(std::signbit(y[3]));
  CHECK(broadcast_to(x, {2, 1}).storage() == x.storage());
}

TEST_CASE("gradients") {
  for (int axis = 0; axis < 3; ++axis) {
    Shape wide{2, 3, 4};
    wide[axis] += 2;
    auto report = gradcheck("concat", [&](const auto& x) { return concat(x, axis); }, {{2, 3, 4}, wide, {2, 3, 4}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("concat stack", [&](const auto& x) { return stack(x, axis); }, {{2, 3}, {2, 3}});
    CHECK_MESSAGE(report.ok(), report.str());
    const auto first_and_last = [&](const auto& x) {
      const auto parts = split(x[0], {1, 2, 2}, axis);  // the middle one is not used
      return concat(std::vector{parts[2], parts[0]}, axis);
    };
    report = gradcheck("split", first_and_last, {{5, 5, 5}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("slice", [&](const auto& x) { return slice(x[0], axis, 1, 3); }, {{3, 4, 3}});
    CHECK_MESSAGE(report.ok(), report.str());
    report = gradcheck("flip", [&](const auto& x) { return flip(x[0], axis); }, {{3, 2, 4}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  auto report = gradcheck("pad", [](const auto& x) { return pad(x[0], {{1, 0}, {0, 2}, {3, 1}}, 5); }, {{2, 3, 4}});
  CHECK_MESSAGE(report.ok(), report.str());
  for (const std::vector<int>& axes : {std::vector<int>{0, 2, 1}, {2, 0, 1}, {1, 2, 0}, {2, 1, 0}, {1, 0, 2}}) {
    report = gradcheck("permute", [&](const auto& x) { return permute(x[0], axes); }, {{2, 3, 4}});
    CHECK_MESSAGE(report.ok(), report.str());
  }
  report = gradcheck("broadcast_to", [](const auto& x) { return broadcast_to(x[0], {3, 2, 4, 5}); }, {{2, 1, 5}});
  CHECK_MESSAGE(report.ok(), report.str());
  report = gradcheck("broadcast_to token", [](const auto& x) { return broadcast_to(x[0], {4, 1, 6}); }, {{1, 1, 6}});
  CHECK_MESSAGE(report.ok(), report.str());
}

TEST_CASE("the same elements for any number of threads at sizes that are cut") {
  const Tensor x = counting({8, 96, 100, 7});
  const auto all = [&] {
    return std::vector<Tensor>{permute(x, {0, 3, 1, 2}), concat<float>({x, x}), slice(x, 2, 3, 90),
                               pad(x, {{1, 1}, {1, 1}, {1, 1}, {1, 1}}), flip(x, 1)};
  };
  const int threads = num_threads();
  set_num_threads(1);
  const std::vector<Tensor> one = all();
  set_num_threads(3);
  const std::vector<Tensor> three = all();
  set_num_threads(threads);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(max_difference(one[i], three[i]) == 0);
}

TEST_CASE("axes and sizes that do not fit are refused") {
  const Tensor x({2, 3, 4}), other({2, 5, 4});
  CHECK_THROWS_WITH_AS(concat<float>({x, other}),
                       "concat: all axes but the joined one must be equal; got x=(2, 3, 4), input=(2, 5, 4)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(concat<float>({x, Tensor({2, 3})}),
                       "concat: all tensors must have the same number of axes; got x=(2, 3, 4), input=(2, 3)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(concat<float>({x}, 3), "concat: the axis must exist; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_AS(concat<float>({}), ShapeError);
  CHECK_THROWS_AS(stack<float>({x, other}), ShapeError);
  CHECK_THROWS_AS(stack<float>({x, x}, 4), ShapeError);
  CHECK_THROWS_WITH_AS(split(x, {1, 2}), "split: sizes must sum to the axis; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(split(x, {5, -1}), "split: sizes must not be negative; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(slice(x, 1, 2, 4), "slice: [2, 4) must lie inside of axis 1; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_AS(slice(x, 1, 2, 1), ShapeError);
  CHECK_THROWS_AS(slice(x, 3, 0, 1), ShapeError);
  CHECK_THROWS_WITH_AS(pad(x, {{1, 1}}), "pad: one padding per axis is needed; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(pad(x, {{0, 0}, {0, 0}, {-1, 0}}),
                       "pad: padding must not be negative; slice cuts; got x=(2, 3, 4)", ShapeError);
  const char* once = "permute: every axis must be named once; got x=(2, 3, 4)";
  CHECK_THROWS_WITH_AS(permute(x, {0, 1}), once, ShapeError);
  CHECK_THROWS_WITH_AS(permute(x, {0, 1, 1}), once, ShapeError);
  CHECK_THROWS_WITH_AS(permute(x, {0, 1, 3}), once, ShapeError);
  CHECK_THROWS_AS(transpose(x, 0, 3), ShapeError);
  CHECK_THROWS_WITH_AS(flip(x, -4), "flip: the axis must exist; got x=(2, 3, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(broadcast_to(x, {2, 2, 3, 5}), "broadcast_to: x must repeat to (2, 2, 3, 5); got x=(2, 3, 4)",
                       ShapeError);
  CHECK_THROWS_AS(broadcast_to(x, {3, 4}), ShapeError);
}
