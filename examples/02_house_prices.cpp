// 02 · Linear regression: what is a flat worth?
//
// Two phases that every model has. Training: the parameters move until the predictions fit the examples. Prediction: the parameters
// stand still. Here the model is a line, price = a · surface + b, so the answer of gradient descent can be compared with the exact one.
//
// Run:      ./02_house_prices
// Expected: a = 3.831 k€/m², b = −27.09 k€, within 0.1 % of least squares; 100 m² are worth 356 k€.
#include <cstdio>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

int main() {
  const Tensor surface({5, 1}, {92, 123, 74, 127, 55});     // m²
  const Tensor price({5, 1}, {298, 470, 253, 450, 198});    // k€

  // Numbers of very different size make gradient descent zigzag: bring both to mean 0 and deviation 1.
  const auto moments = [](const Tensor& t) {
    const float mean_value = mean(t).item();
    return std::pair{mean_value, std::sqrt(mean(square(t - mean_value)).item())};
  };
  const auto [x_mean, x_deviation] = moments(surface);
  const auto [y_mean, y_deviation] = moments(price);
  const Tensor x = (surface - x_mean) / x_deviation, y = (price - y_mean) / y_deviation;

  std::puts("Training: 200 steps of gradient descent on the mean squared error");
  nn::Linear line(1, 1);
  SGD optimizer(named_parameters(line), {.learning_rate = 0.1});
  for (int step = 0; step < 200; ++step) {
    optimizer.zero_grad();
    const Tensor loss = mse_loss(line(x), y);
    backward(loss);
    optimizer.step();
    if (step % 40 == 0) std::printf("  step %3d  loss %.6f\n", step, static_cast<double>(loss.item()));
  }

  std::puts("Prediction: the parameters stand still");
  const NoGrad no_grad;
  const auto predict = [&](float square_metres) {
    return line(Tensor({1, 1}, {(square_metres - x_mean) / x_deviation})).item() * y_deviation + y_mean;
  };
  for (float s : {50.0f, 80.0f, 100.0f, 130.0f}) std::printf("  %3g m²: %.1f k€\n", static_cast<double>(s), static_cast<double>(predict(s)));

  const double a = line.weight.item() * y_deviation / x_deviation;
  const double b = predict(0);
  expect("a, k€ per m²", a, 3.8311, 0.004);
  expect("b, k€", b, -27.09, 0.3);
  expect("price of 100 m², k€", predict(100), 356.02, 0.4);
  return 0;
}
