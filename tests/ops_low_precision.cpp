// linear and conv2d planned in bf16 and int8 against float: the error on normal numbers, the packed type, what stays float.
#include <cmath>

#define OCELLUS_OP_STRUCTS
#include <doctest/doctest.h>

#include <ocellus/graph.hpp>
#include <ocellus/ops/conv.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

Tensor normal(const Shape& shape, std::uint64_t seed) {
  Tensor t(shape);
  RandomStream random(seed);
  for (float& x : t) x = random.normal();
  return t;
}

// ‖a − b‖ / ‖b‖ (Frobenius)
double distance(const Tensor& a, const Tensor& b) {
  double difference = 0, norm = 0;
  for (Index i = 0; i < b.numel(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(difference / norm);
}

template <class Model>
Tensor planned(const Model& model, const Tensor& x, Precision precision) {
  const Plan plan(trace(model, x.shape()), precision);
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {x};
  plan.run(inputs, *workspace);
  return Tensor(workspace->output(0));
}

template <class Model>
void check(const char* name, const Model& model, const Tensor& x) {
  INFO(name);
  const NoGrad no_grad;
  const Tensor expected = model(x);
  const double bf16 = distance(planned(model, x, Precision::bf16), expected);
  const double int8 = distance(planned(model, x, Precision::int8), expected);
  CHECK(bf16 <= 4e-3);
  CHECK(int8 <= 2e-2);
  CHECK(bf16 > 1e-4);  // else it was not bf16
  CHECK(int8 > 2e-3);
}

Run shapes_of(const Tensor& x, const Tensor& w, const Tensor& y) {
  Run shapes;
  shapes.in = {View(x.spec(), nullptr), View(w.spec(), nullptr)};
  shapes.out = {View(y.spec(), nullptr)};
  return shapes;
}

}  // namespace

TEST_CASE("linear") {
  const Tensor w = normal({96, 200}, 1), b = normal({96}, 2), residual = normal({3, 11, 96}, 3);
  check("with a bias", [&](const Tensor& x) { return linear(x, w, b); }, normal({3, 11, 200}, 4));
  const op::Linear fused{{.before = Act::relu, .after = Act::relu6}};
  check("fused", [&](const Tensor& x) { return call(fused, x, w, b, residual); }, normal({3, 11, 200}, 4));
}

TEST_CASE("conv2d") {
  const Tensor w = normal({40, 3, 3, 24}, 1), b = normal({40}, 2), patches = normal({33, 4, 4, 3}, 3);
  const Tensor x = normal({2, 9, 10, 24}, 4);
  check("3x3", [&](const Tensor& t) { return conv2d(t, w, b, {.padding = 1}); }, x);
  check("strided", [&](const Tensor& t) { return conv2d(t, w, b, {.stride = 2, .padding = 1}); }, x);
  check("dilated", [&](const Tensor& t) { return conv2d(t, w, {}, {.padding = 2, .dilation = 2}); }, x);
  check("patches", [&](const Tensor& t) { return conv2d(t, patches, {}, {.stride = 4}); }, normal({1, 16, 24, 3}, 5));
  const Tensor residual = normal({2, 9, 10, 40}, 6);
  const op::Conv2d fused{1, 1, 1, 1, {.before = Act::gelu, .after = Act::relu}};
  check("fused", [&](const Tensor& t) { return call(fused, t, w, b, residual); }, x);
}

TEST_CASE("the type of a packed weight is its precision") {
  const Tensor x({5, 32}), w = normal({16, 32}, 1), image({1, 6, 6, 8}), kernel = normal({16, 3, 3, 8}, 2);
  const Run linear_shapes = shapes_of(x, w, Tensor({5, 16}));
  const Run conv_shapes = shapes_of(image, kernel, Tensor({1, 4, 4, 16}));
  for (const auto& [precision, type] : {std::pair{Precision::f32, DType::f32}, {Precision::bf16, DType::bf16}, {Precision::int8, DType::i8}}) {
    for (const AnyTensor& packed : {op::Linear{}.pack(1, w, linear_shapes, precision), op::Conv2d{}.pack(1, kernel, conv_shapes, precision)}) {
      CHECK(packed.format() == Format::packed);
      CHECK(packed.dtype() == type);
    }
  }
}

TEST_CASE("grouped convolutions and sums too long for 32 bits stay float") {
  const NoGrad no_grad;
  const Tensor x = normal({1, 6, 6, 8}, 1), grouped = normal({8, 3, 3, 4}, 2), depthwise = normal({8, 3, 3, 1}, 3);
  const auto same = [](const auto& model, const Tensor& t, Precision precision) {
    CHECK(max_difference(planned(model, t, precision), planned(model, t, Precision::f32)) == 0);
  };
  for (const Precision precision : {Precision::bf16, Precision::int8}) {
    same([&](const Tensor& t) { return conv2d(t, grouped, {}, {.groups = 2}); }, x, precision);
    same([&](const Tensor& t) { return conv2d(t, depthwise, {}, {.groups = 8}); }, x, precision);
  }
  const Tensor wide = normal({2, kernels::most_int8_terms + 1}, 4);
  same([&](const Tensor& t) { return linear(t, wide); }, normal({2, wide.dim(1)}, 5), Precision::int8);
}
