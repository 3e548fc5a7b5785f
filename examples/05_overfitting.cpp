// 05 · Overfitting, and three remedies
//
// Forty noisy points of a sine and a network with a thousand times as many parameters as it needs. Left alone it learns the noise by
// heart: the training error falls, the error on points it has not seen rises. L1 (Lasso) and L2 (Ridge) make large weights expensive,
// dropout (Srivastava et al., 2014) makes single neurons unreliable.
//
// Run:      ./05_overfitting [curves.svg]
// Expected: without remedy the test error ends ≥ 1.3 times above its best; with L1, L2 and dropout it ends lower than without; writes
//           05_overfitting.svg.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

struct Points {
  Tensor x, y;
};

// y = sin 3x with noise of deviation 0.3, x in [−1, 1]; x goes in as itself and its powers, so that the border can wiggle.
Points draw(Index count, std::uint64_t seed) {
  Points s{Tensor(Shape{count, 1}), Tensor(Shape{count, 1})};
  RandomStream random(seed);
  for (Index i = 0; i < count; ++i) {
    s.x[i] = random.uniform(-1, 1);
    s.y[i] = std::sin(3 * s.x[i]) + 0.3f * random.normal();
  }
  return s;
}

struct Net : Module<Net> {
  nn::Linear first, second, third, last;
  nn::Dropout dropout;
  explicit Net(double p) : first(1, 128), second(128, 128), third(128, 128), last(128, 1), dropout(p) {}
  Tensor forward(const Tensor& x) const {
    const Tensor h = dropout(relu(second(relu(first(x * 4.0)))));
    return last(dropout(relu(third(h))));
  }
  OCELLUS_MODULE(Net, first, second, third, last)
};

struct Remedy {
  const char* name;
  double l1, l2, dropout;
};

// The test error every 20 steps.
std::vector<double> train(const Remedy& r, const Points& seen, const Points& unseen, std::vector<double>& training_error) {
  manual_seed(3);
  Net net(r.dropout);
  Adam optimizer(named_parameters(net), {.learning_rate = 2e-3});
  std::vector<double> errors;
  for (std::uint32_t step = 0; step <= 3000; ++step) {
    {
      const Training training(5, step);
      optimizer.zero_grad();
      LossTerms loss;
      loss.add("mse", mse_loss(net(seen.x), seen.y));
      for (const NamedParameter& p : named_parameters(net)) {
        if (p.parameter->rank() < 2) continue;
        if (r.l1 > 0) loss.add("l1 of " + p.name, sum<float>(abs<float>(*p.parameter)), r.l1);
        if (r.l2 > 0) loss.add("l2 of " + p.name, sum<float>(square<float>(*p.parameter)), r.l2);
      }
      backward(loss.total());
      optimizer.step();
    }
    if (step % 20) continue;
    const NoGrad no_grad;
    errors.push_back(mse_loss(net(unseen.x), unseen.y).item());
    training_error.push_back(mse_loss(net(seen.x), seen.y).item());
  }
  return errors;
}

int main(int argc, char** argv) {
  const Points seen = draw(40, 1), unseen = draw(400, 2);
  Chart chart;
  chart.title = "Overfitting: error on points the network has not seen";
  chart.x_label = "step / 20";
  chart.y_label = "mean squared error";
  double ends[4], best = 1e9;
  const Remedy remedies[] = {{"no remedy", 0, 0, 0}, {"L1", 1.5e-3, 0, 0}, {"L2", 0, 3e-3, 0}, {"dropout 0.3", 0, 0, 0.3}};
  for (int i = 0; i < 4; ++i) {
    std::vector<double> training_error;
    const std::vector<double> errors = train(remedies[i], seen, unseen, training_error);
    ends[i] = errors.back();
    if (i == 0) {
      best = *std::min_element(errors.begin(), errors.end());
      chart.series("no remedy, on the points it was trained on", training_error);
    }
    chart.series(remedies[i].name, errors);
    std::printf("%-12s  training error %.4f, test error %.4f (noise alone: 0.09)\n", remedies[i].name, training_error.back(), errors.back());
  }
  expect_at_least("test error without remedy, end / best", ends[0] / best, 1.3);
  for (int i = 1; i < 4; ++i) expect_at_least((std::string("improvement by ") + remedies[i].name).c_str(), ends[0] / ends[i], 1.05);
  const char* path = argc > 1 ? argv[1] : "05_overfitting.svg";
  write_file_atomically(path, chart.svg());
  std::printf("The curves: %s\n", path);
  return 0;
}
