// 03 · Why backpropagation
//
// The gradient of a network with N parameters, two ways. Naively: nudge every parameter once and run the whole network again, N + 1
// forward passes. By backpropagation: one forward pass and one backward pass that costs about two, whatever N is. Both are counted and
// timed here, on a mini-batch of 64.
//
// Run:      ./03_backprop_cost
// Expected: the same gradient (within 1e-6 of its largest entry), N + 1 = 2 834 passes against about 3; over 100 times faster.
#include <cstdio>

#include <ocellus/ocellus.hpp>
#include <ocellus/testing.hpp>

#include "expect.hpp"

using namespace ocellus;
using Exact = BasicTensor<double>;  // differences of small nudges need double

// A network 8 → 48 → 48 → 1 as a list of weights and biases.
Exact forward(const std::vector<Exact>& p, const Exact& x) {
  return linear(tanh(linear(tanh(linear(x, p[0], p[1])), p[2], p[3])), p[4], p[5]);
}

int main() {
  std::vector<Exact> p;
  for (const Shape& s : {Shape{48, 8}, Shape{48}, Shape{48, 48}, Shape{48}, Shape{1, 48}, Shape{1}}) p.push_back(random_tensor<double>(s, p.size(), -0.3, 0.3));
  const Exact x = random_tensor<double>({64, 8}, 100), y = random_tensor<double>({64, 1}, 101);
  Index parameters = 0;
  for (const Exact& t : p) parameters += t.numel();
  std::printf("A network of %lld parameters, a mini-batch of 64\n", static_cast<long long>(parameters));

  Index passes = 0;
  const auto loss = [&] {
    ++passes;
    return mse_loss(forward(p, x), y);
  };

  std::puts("Naively: nudge each parameter by δ = 1e-6 and look");
  std::vector<Exact> naive;
  const double start = seconds();
  {
    const NoGrad no_grad;
    const double here = loss().item();
    for (Exact& t : p) {
      Exact& gradient = naive.emplace_back(t.shape());
      for (Index i = 0; i < t.numel(); ++i) {
        t[i] += 1e-6;
        gradient[i] = (loss().item() - here) / 1e-6;
        t[i] -= 1e-6;
      }
    }
  }
  const double naive_seconds = seconds() - start;
  std::printf("  %lld forward passes, %.1f ms\n", static_cast<long long>(passes), 1e3 * naive_seconds);
  expect("passes", static_cast<double>(passes), static_cast<double>(parameters + 1), 0);

  std::puts("By backpropagation: one pass forward, one back");
  double backward_seconds = 1e9;
  for (int repeat = 0; repeat < 5; ++repeat) {
    for (Exact& t : p) t.requires_grad();
    const double begin = seconds();
    backward(loss());
    backward_seconds = std::min(backward_seconds, seconds() - begin);
  }
  std::printf("  %.3f ms, %.0f times faster\n", 1e3 * backward_seconds, naive_seconds / backward_seconds);

  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    worst = std::max(worst, max_difference(naive[i], p[i].grad()));
    largest = std::max(largest, max_abs(naive[i]));
  }
  expect("largest difference of the two gradients, relative", worst / largest, 0, 1e-5);
  expect_at_least("speed-up", naive_seconds / backward_seconds, 100);
  return 0;
}
