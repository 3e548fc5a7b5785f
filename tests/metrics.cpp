// Metrics against hand-computed values, absent classes, ignored labels, labels that do not fit.
#include <doctest/doctest.h>

#include <cmath>

#include <ocellus/core.hpp>
#include <ocellus/metrics.hpp>

using namespace ocellus;

namespace {

using Labels = BasicTensor<std::int64_t>;

doctest::Approx approx(double value) { return doctest::Approx(value).epsilon(1e-12); }

}  // namespace

TEST_CASE("accuracy and top-k accuracy") {
  const Tensor logits({4, 3}, {3, 2, 1, /**/ 1, 2, 3, /**/ 2, 3, 1, /**/ 5, 5, 0});
  const Labels labels({4}, {0, 0, 0, 1});
  CHECK(accuracy(logits, labels) == 0.25);  // the tie of the last row goes to class 0
  CHECK(top_k_accuracy(logits, labels, 2) == 0.75);
  CHECK(top_k_accuracy(logits, labels, 3) == 1);
  CHECK(top_k_accuracy(logits, labels, 9) == 1);
  CHECK(accuracy(logits, Labels({4}, {0, 255, 255, 0}), 255) == 1);
  CHECK(std::isnan(accuracy(logits, Labels({4}, {255, 255, 255, 255}), 255)));
  CHECK(accuracy(Tensor({1, 2}, {NAN, NAN}), Labels({1}, {0})) == 0);
  CHECK(accuracy(reshape(logits, {2, 2, 3}), reshape(labels, {2, 2})) == 0.25);
  CHECK_THROWS_AS(accuracy(logits, Labels({3})), ShapeError);
  CHECK_THROWS_WITH_AS(accuracy(logits, Labels({4}, {0, 1, 3, 0})),
                       "top_k_accuracy: label 3 at index 2 lies outside of [0, 3)", ShapeError);
}

TEST_CASE("a confusion matrix by hand") {
  // truth:     0 0 0 1 1 1 1 2 2 | 255
  // predicted: 0 0 1 1 1 2 0 2 3 | 0       class 3 is only predicted, class 4 is absent
  ConfusionMatrix m(5);
  m.add(Labels({2, 5}, {0, 0, 1, 1, 1, 2, 0, 2, 3, 0}), Labels({2, 5}, {0, 0, 0, 1, 1, 1, 1, 2, 2, 255}), 255);
  CHECK(m.total() == 9);
  CHECK(m.at(0, 1) == 1);
  CHECK(m.at(2, 3) == 1);
  CHECK(m.truth(1) == 4);
  CHECK(m.predicted(0) == 3);
  CHECK(m.iou(0) == approx(2.0 / 4));
  CHECK(m.iou(1) == approx(2.0 / 5));
  CHECK(m.iou(2) == approx(1.0 / 3));
  CHECK(m.iou(3) == 0);
  CHECK(std::isnan(m.iou(4)));
  CHECK(m.dice(0) == approx(4.0 / 6));
  CHECK(m.precision(1) == approx(2.0 / 3));
  CHECK(m.recall(1) == approx(2.0 / 4));
  CHECK(m.precision(3) == 0);
  CHECK(m.recall(3) == 0);
  CHECK(std::isnan(m.precision(4)));
  CHECK(m.mean_iou() == approx((0.5 + 0.4 + 1.0 / 3 + 0) / 4));
  CHECK(m.mean_dice() == approx((4.0 / 6 + 4.0 / 7 + 0.5 + 0) / 4));
  CHECK(m.mean_precision() == approx((2.0 / 3 + 2.0 / 3 + 0.5 + 0) / 4));
  CHECK(m.mean_recall() == approx((2.0 / 3 + 0.5 + 0.5 + 0) / 4));
  CHECK(m.pixel_accuracy() == approx(5.0 / 9));
  CHECK(m.pooled_iou() == approx(5.0 / 13));
  CHECK(m.frequency_weighted_iou() == approx((3 * 0.5 + 4 * 0.4 + 2 * (1.0 / 3)) / 9));
}

TEST_CASE("a class that is never predicted has precision 0") {
  ConfusionMatrix m(2);
  m.add(Labels({2}, {0, 0}), Labels({2}, {0, 1}));
  CHECK(m.precision(1) == 0);
  CHECK(m.mean_precision() == approx(0.25));
}

TEST_CASE("parts of a split join") {
  const Labels predicted({6}, {0, 1, 2, 2, 1, 0}), labels({6}, {0, 1, 1, 2, 0, 0});
  ConfusionMatrix whole(3), first(3), second(3);
  whole.add(predicted, labels);
  first.add(Labels({3}, {0, 1, 2}), Labels({3}, {0, 1, 1}));
  second.add(Labels({3}, {2, 1, 0}), Labels({3}, {2, 0, 0}));
  first.add(second);
  CHECK(first.mean_iou() == whole.mean_iou());
  CHECK(first.total() == 6);
  CHECK_THROWS_AS(first.add(ConfusionMatrix(2)), UsageError);
}

TEST_CASE("an empty matrix has no metrics; what does not fit is refused whole") {
  ConfusionMatrix m(3);
  CHECK(std::isnan(m.mean_iou()));
  CHECK(std::isnan(m.pixel_accuracy()));
  CHECK_THROWS_WITH_AS(m.add(Labels({2}, {0, 1}), Labels({2}, {0, 7})),
                       "ConfusionMatrix: label 7 at index 1 lies outside of [0, 3)", ShapeError);
  CHECK_THROWS_WITH_AS(m.add(Labels({2}, {0, -1}), Labels({2}, {0, 1})),
                       "ConfusionMatrix: prediction -1 at index 1 lies outside of [0, 3)", ShapeError);
  CHECK_THROWS_AS(m.add(Labels({2}), Labels({3})), ShapeError);
  CHECK(m.total() == 0);
  CHECK_THROWS_AS(ConfusionMatrix(0), UsageError);
}
