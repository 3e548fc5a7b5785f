// 01 · One neuron
//
// What a neuron computes, what its error is, which way is down, and how far to step. Nothing else is ever done in this course: later
// there are only more neurons.
//
// Run:      ./01_neuron
// Expected: loss 30 at w = 3, 30.006 at w = 3.0001, gradient 60 three ways; w → 2 by gradient descent; a step too large diverges.
#include <cstdio>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

// Children of 0 to 4 years; their weight above that at birth is twice their age, and the neuron has to find that out.
const Tensor age({5}, {0, 1, 2, 3, 4});
const Tensor weight_gain({5}, {0, 2, 4, 6, 8});

// The sum of squared errors of the neuron `w · age`.
Tensor loss_of(const Tensor& w) { return sum(square(w * age - weight_gain)); }

// w ← w − λ dL/dw, `steps` times.
float descend(float start, float learning_rate, int steps) {
  Tensor w = Tensor::scalar(start);
  for (int i = 0; i < steps; ++i) {
    w.requires_grad();
    backward(loss_of(w));
    w = w.detach() - learning_rate * w.grad();
  }
  return w.item();
}

int main() {
  std::puts("A neuron of 1943 (McCulloch and Pitts): sign(Σ wᵢ xᵢ). With weights (1, 1) and threshold 1.5 it is AND:");
  const Tensor cases({4, 3}, {0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1});  // two inputs and a constant 1 for the threshold
  const Tensor fired = sign(linear(cases, Tensor({1, 3}, {1, 1, -1.5f})));
  for (Index i = 0; i < 4; ++i) std::printf("  %g and %g: %+g\n", cases[3 * i], cases[3 * i + 1], fired[i]);
  expect("fires for (1, 1)", fired[3], 1, 0);
  expect("stays quiet for (1, 0)", fired[2], -1, 0);

  std::puts("A neuron with one weight, its error, and the error a little further:");
  const float w = 3, delta = 1e-4f;
  const BasicTensor<double> exact_age = convert<double>(age), exact_gain = convert<double>(weight_gain);
  const auto exact_loss = [&](double v) { return sum(square(exact_age * v - exact_gain)).item(); };
  const double here = exact_loss(3), further = exact_loss(3.0001);
  expect("loss at w = 3", here, 30, 1e-9);
  expect("loss at w = 3.0001", further, 30.006, 1e-5);

  std::puts("The slope, three ways:");
  Tensor leaf = Tensor::scalar(w);
  leaf.requires_grad();
  backward(loss_of(leaf));
  double by_hand = 0;
  for (Index i = 0; i < 5; ++i) by_hand += 2 * age[i] * (w * age[i] - weight_gain[i]);
  expect("(loss(w + δ) − loss(w)) / δ", (further - here) / static_cast<double>(delta), 60, 0.01);
  expect("Σ 2 x (w x − y)", by_hand, 60, 1e-6);
  expect("backward()", leaf.grad().item(), 60, 1e-4);

  std::puts("Downhill from w = 3, with three learning rates:");
  expect("λ = 0.01, 50 steps", descend(3, 0.01f, 50), 2, 1e-4);
  expect("λ = 0.0001, 50 steps: too small", descend(3, 0.0001f, 50), 2.7401, 1e-3);
  expect_at_least("λ = 0.04, 50 steps: too large, |w − 2|", std::abs(descend(3, 0.04f, 50) - 2), 1000);
  return 0;
}
