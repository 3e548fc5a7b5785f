// Activations: values against the scalar definition, golden GELU, gradients, NaN, sign.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

constexpr Act acts[] = {Act::relu, Act::relu6,   Act::leaky_relu, Act::gelu,         Act::gelu_tanh,
                        Act::silu, Act::sigmoid, Act::tanh,       Act::hard_sigmoid, Act::hard_swish};

}  // namespace

TEST_CASE("values agree with the scalar definition") {
  for (const Act act : acts) {
    for (const Index n : {1, 15, 16, 17, 129}) {
      INFO(std::string(act_names[static_cast<int>(act)]) << " " << n);
      const Tensor x = random_tensor<float>({n}, 3, -8, 8);
      const Tensor y = activation(x, act);
      BasicTensor<double> twin({n});
      for (Index i = 0; i < n; ++i) twin[i] = act_value(act, static_cast<double>(x[i]));
      CHECK(max_difference(y, twin) <= 2e-6);
    }
  }
}

TEST_CASE("gradients") {
  for (const Act act : acts) {
    const auto report = gradcheck("activation", [&](const auto& x) { return activation(x[0], act); }, {{3, 23}},
                                  {.low = -7, .high = 7});
    CHECK_MESSAGE(report.ok(), std::string(act_names[static_cast<int>(act)]) << ": " << report.str());
  }
}

TEST_CASE("named functions") {
  const Tensor x = random_tensor<float>({40}, 7, -7, 7);
  Tensor (*const functions[])(const Tensor&) = {relu, relu6,   leaky_relu, gelu,         gelu_tanh,
                                                silu, sigmoid, tanh,       hard_sigmoid, hard_swish};
  for (int i = 0; i < 10; ++i) CHECK(max_difference(functions[i](x), activation(x, acts[i])) == 0);
  CHECK(activation(x, Act::none).data() == x.data());
}

TEST_CASE("GELU agrees with PyTorch") {
  const NamedTensors golden = read_safetensors(OCELLUS_TEST_DIR "/golden/ops.safetensors");
  for (const auto& [name, act] : {std::pair{"gelu.none", Act::gelu}, std::pair{"gelu.tanh", Act::gelu_tanh}}) {
    const std::string prefix = std::string(name) + ".";
    Tensor x(golden.at(prefix + "x").copy());
    x.requires_grad();
    const Tensor y = activation(x, act);
    backward(y, golden.at(prefix + "dy"));
    CHECK(max_difference(y, Tensor(golden.at(prefix + "y"))) <= 2e-6);
    CHECK(max_difference(x.grad(), Tensor(golden.at(prefix + "dx"))) <= 4e-6);
  }
}

TEST_CASE("NaN stays NaN") {
  for (const Act act : acts) {
    Tensor x({19});
    std::fill_n(x.data(), 19, std::numeric_limits<float>::quiet_NaN());
    const Tensor y = activation(x, act);
    Index numbers = 0;
    for (const float v : y) numbers += !std::isnan(v);
    CHECK_MESSAGE(numbers == 0, std::string(act_names[static_cast<int>(act)]));
  }
}

TEST_CASE("sign is a step without a gradient") {
  Tensor x({4}, {-2, -0.0f, 0, 3});
  CHECK(max_difference(sign(x), Tensor({4}, {-1, 1, 1, 1})) == 0);
  x.requires_grad();
  const Tensor y = sign(x);
  CHECK_THROWS_WITH_AS(backward(y, y), "backward: sign is not differentiable", UsageError);
}
