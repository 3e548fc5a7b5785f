// Every layer: shape, forward against its op, gradient of its parameters, keys and layout in files, error text.
// tests/checks counts these rows: layer<…>("Name", …) once for each layer of nn/.
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/io/named_tensors.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/nn.hpp>
#include <ocellus/ops.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

struct LayerRow {
  Shape input, output;
  std::string keys;  // name (file shape), ...
  Shape wrong_input;
  std::string error;  // of forward on wrong_input
};

template <class L>
std::string keys_of(L& layer) {
  std::string text;
  for (const NamedParameter& p : named_parameters(layer)) text += (text.empty() ? "" : " ") + p.name + p.parameter->file_shape().str();
  return text;
}

// ⟨layer(x), r⟩ differentiated by each parameter, against central differences in float with a step that suits it.
template <class L>
void check_parameter_gradients(const std::string& name, L& layer, const Tensor& x) {
  const auto value = [&] {
    const Training training(3);
    const Tensor y = layer(x);
    return sum(y * random_tensor<float>(y.shape(), 9));
  };
  if (parameter_count(layer) == 0) return;
  backward(value());
  for (const NamedParameter& p : named_parameters(layer)) {
    if (!p.parameter->trainable()) continue;
    const Tensor gradient = p.parameter->grad();
    REQUIRE_MESSAGE(gradient, name << "." << p.name << " has no gradient");
    double worst = 0;
    for (Index i = 0; i < std::min<Index>(p.parameter->numel(), 20); ++i) {
      float& w = (*p.parameter)[i];
      const float held = w;
      const NoGrad no_grad;
      w = held + 1e-2f;
      const double above = static_cast<double>(value().item());
      w = held - 1e-2f;
      const double below = static_cast<double>(value().item());
      w = held;
      worst = std::max(worst, std::abs((above - below) / 2e-2 - static_cast<double>(gradient[i])));
    }
    CHECK_MESSAGE(worst <= 5e-3 * std::max(1.0, max_abs(gradient)), name << "." << p.name << ": gradient off by " << worst);
  }
}

template <class L, class Twin>
void layer(const std::string& name, L&& made, const LayerRow& row, Twin twin) {
  INFO(name);
  const Tensor x = random_tensor<float>(row.input, 1);
  const Tensor y = made(x);
  CHECK(y.shape() == row.output);
  CHECK(max_difference(y, twin(made, x)) == 0);
  CHECK(keys_of(made) == row.keys);
  check_parameter_gradients(name, made, x);

  // Through a file's layout and back: the same layer.
  const auto loaded = made;
  auto target = made;
  for (const NamedParameter& p : named_parameters(target)) {
    for (float& v : *p.parameter) v = -7;
  }
  load_state(target, state_of(loaded), {}, name);
  CHECK(max_difference(target(x), loaded(x)) == 0);

  if (row.error.empty()) return;
  CHECK_THROWS_WITH_AS(made(Tensor(row.wrong_input)), row.error.c_str(), ShapeError);
}

}  // namespace

TEST_CASE("layers") {
  manual_seed(11);
  layer("Linear", nn::Linear(4, 3), {{2, 5, 4}, {2, 5, 3}, "weight(3, 4) bias(3)", {2, 5}, "linear: last axis of x must equal in_features; got x=(2, 5), weight=(3, 4), bias=(3)"},
        [](const nn::Linear& l, const Tensor& x) { return linear<float>(x, l.weight, l.bias); });
  layer("Linear", nn::Linear(12, 3, {.bias = false, .flattened = {2, 3, 2}}), {{2, 12}, {2, 3}, "weight(3, 12)", {}, ""},
        [](const nn::Linear& l, const Tensor& x) { return linear<float>(x, l.weight); });
  layer("Conv2d", nn::Conv2d(4, 6, 3, {.stride = 2, .padding = 1, .groups = 2}), {{2, 7, 6, 4}, {2, 4, 3, 6}, "weight(6, 2, 3, 3) bias(6)", {}, ""},
        [](const nn::Conv2d& l, const Tensor& x) { return conv2d<float>(x, l.weight, l.bias, l.options); });
  layer("ConvTranspose2d", nn::ConvTranspose2d(4, 6, 2, {.stride = 2}), {{1, 3, 5, 4}, {1, 6, 10, 6}, "weight(4, 6, 2, 2) bias(6)", {}, ""},
        [](const nn::ConvTranspose2d& l, const Tensor& x) { return conv_transpose2d<float>(x, l.weight, l.bias, l.options); });
  layer("LayerNorm", nn::LayerNorm(5), {{2, 3, 5}, {2, 3, 5}, "weight(5) bias(5)", {}, ""},
        [](const nn::LayerNorm& l, const Tensor& x) { return layer_norm<float>(x, l.weight, l.bias, l.eps); });
  layer("GroupNorm", nn::GroupNorm(2, 6), {{2, 3, 4, 6}, {2, 3, 4, 6}, "weight(6) bias(6)", {}, ""},
        [](const nn::GroupNorm& l, const Tensor& x) { return group_norm<float>(x, l.groups, l.weight, l.bias, l.eps); });
  layer("BatchNorm2d", nn::BatchNorm2d(5), {{2, 3, 4, 5}, {2, 3, 4, 5}, "weight(5) bias(5) running_mean(5) running_var(5) num_batches_tracked()", {}, ""},
        [](const nn::BatchNorm2d& l, const Tensor& x) { return batch_norm<float>(x, l.weight, l.bias, l.running_mean, l.running_var, l.num_batches_tracked); });
  layer("ConvNormAct", nn::ConvNormAct(3, 4, 3, {.stride = 2, .act = Act::silu, .norm = {.eps = 1e-3}}),
        {{2, 5, 7, 3}, {2, 3, 4, 4}, "conv.weight(4, 3, 3, 3) bn.weight(4) bn.bias(4) bn.running_mean(4) bn.running_var(4) bn.num_batches_tracked()", {}, ""},
        [](const nn::ConvNormAct& l, const Tensor& x) {
          const Tensor y = conv2d<float>(x, l.conv.weight, {}, {.stride = 2, .padding = 1});
          return silu(batch_norm<float>(y, l.bn.weight, l.bn.bias, l.bn.running_mean, l.bn.running_var, {}, {.eps = 1e-3}));
        });
  layer("Activation", nn::Activation(Act::relu6), {{2, 3}, {2, 3}, "", {}, ""}, [](const nn::Activation&, const Tensor& x) { return relu6(x); });
  layer("MaxPool2d", nn::MaxPool2d({.kernel_size = 2}), {{2, 5, 4, 3}, {2, 2, 2, 3}, "", {2, 1, 4, 3}, "max_pool2d: the window must fit into the padded image; got x=(2, 1, 4, 3)"},
        [](const nn::MaxPool2d&, const Tensor& x) { return max_pool2d(x, {.kernel_size = 2}); });
  layer("Dropout", nn::Dropout(0.5), {{2, 3}, {2, 3}, "", {}, ""}, [](const nn::Dropout&, const Tensor& x) { return x; });
  layer("StochasticDepth", nn::StochasticDepth(0.5), {{2, 3}, {2, 3}, "", {}, ""}, [](const nn::StochasticDepth&, const Tensor& x) { return x; });
}

TEST_CASE("Sequential") {
  const nn::Linear first(4, 6), last(6, 3);
  nn::Sequential inner;
  inner.append(last);
  nn::Sequential list;
  list.append(first).append(nn::Activation(Act::tanh)).append(inner);
  layer("Sequential", list, {{2, 4}, {2, 3}, "0.weight(6, 4) 0.bias(6) 2.0.weight(3, 6) 2.0.bias(3)", {2, 5}, "0 | linear: last axis of x must equal in_features; got x=(2, 5), weight=(6, 4), bias=(6)"},
        [&](const nn::Sequential&, const Tensor& x) { return last(tanh(first(x))); });
  nn::Sequential copy = list;
  (*named_parameters(copy)[0].parameter)[0] += 1;
  CHECK((*named_parameters(copy)[0].parameter)[0] == (*named_parameters(list)[0].parameter)[0] + 1);
  const Tensor x = random_tensor<float>({2, 4}, 1);
  CHECK(max_difference(nn::Sequential()(x), x) == 0);
}

TEST_CASE("Embedding") {
  nn::Embedding table(7, 3);
  const BasicTensor<std::int64_t> index({2, 2}, {0, 6, 3, 6});
  const Tensor y = table(index);
  CHECK(y.shape() == Shape{2, 2, 3});
  CHECK(y[3] == table.weight[18]);
  CHECK(keys_of(table) == "weight(7, 3)");
  backward(sum(y));
  CHECK(table.weight.grad()[18] == 2);
  CHECK(table.weight.grad()[3] == 0);
}

TEST_CASE("BatchNorm2d moves its running statistics in training only") {
  nn::BatchNorm2d norm(1);
  const Tensor x({4, 1}, {1, 2, 3, 4});
  (void)norm(x);
  CHECK(norm.running_mean[0] == 0);
  {
    const Training training;
    const Tensor y = norm(x);
    CHECK(y[0] == doctest::Approx(-1.3416355));
  }
  CHECK(norm.running_mean[0] == doctest::Approx(0.25));
  CHECK(norm.running_var[0] == doctest::Approx(0.9 + 0.1 * 5.0 / 3));
  CHECK(norm.num_batches_tracked.item() == 1);
}

TEST_CASE("random layers are the identity outside of training and repeat under the same seed") {
  const nn::Dropout dropout(0.5);
  const Tensor x = Tensor::full({1000}, 1);
  const auto draw = [&](std::uint64_t seed) {
    const Training training(seed);
    return dropout(x);
  };
  const Tensor a = draw(1), b = draw(1), c = draw(2);
  CHECK(max_difference(a, b) == 0);
  CHECK(max_difference(a, c) == 2);
  CHECK(std::abs(sum(a).item() - 1000) < 120);
}

TEST_CASE("copies of a module have weights of their own") {
  nn::Linear a(2, 2);
  nn::Linear b = a;
  b.weight[0] += 1;
  CHECK(a.weight[0] != b.weight[0]);
  CHECK(parameter_count(a) == 6);
  set_trainable(a, false);
  CHECK(parameter_count(a) == 0);
  CHECK_FALSE(a(Tensor({1, 2})).record());
}

TEST_CASE("loading is strict and says what does not fit") {
  nn::Linear made(2, 3);
  NamedTensors file;
  file.add("weigth", Tensor({3, 2}));
  file.add("bias", Tensor({4}));
  try {
    load_state(made, file, {}, "x.safetensors");
    FAIL("must throw");
  } catch (const ConfigError& e) {
    const std::string text = e.what();
    CHECK(text.find("x.safetensors: the weights do not fit the model") == 0);
    CHECK(text.find("missing in the file (1):\n    weight   (the file has weigth)") != std::string::npos);
    CHECK(text.find("unexpected in the file (1):\n    weigth") != std::string::npos);
    CHECK(text.find("bias: the file has (4), the model needs (3)") != std::string::npos);
  }
  NamedTensors half;
  half.add("weight", convert(random_tensor<float>({3, 2}, 1), DType::bf16));
  half.add("bias", Tensor({3}));
  half.add("old.counter", Tensor({1}));
  const IgnoredKey ignored[] = {{"old.*", "no longer used"}};
  const LoadReport report = load_state(made, half, ignored);
  CHECK(report.loaded == 2);
  REQUIRE(report.ignored.size() == 1);
  CHECK(report.ignored[0] == "old.counter: no longer used");
  REQUIRE(report.converted.size() == 1);
  CHECK(report.converted[0] == "weight: bf16 to f32");
}
