// 06 · LeNet-5 reads digits
//
// The convolutional network of 1998 and the data set it was made for. The loop is plain: shuffle, take a batch, forward, loss, backward,
// step; that is all that training ever is.
//
// Run:      OCELLUS_DATA=… ./06_lenet_mnist      (without MNIST: drawn digits, a few seconds)
// Expected: ≥ 98.8 % of the 10 000 test digits after 4 epochs (drawn digits: ≥ 97 %).
#include <cstdio>
#include <numeric>
#include <vector>

#include <ocellus/ocellus.hpp>

#include "digits.hpp"
#include "expect.hpp"

using namespace ocellus;

double test_accuracy(const LeNet& model, const Digits& test, const std::vector<Index>& order) {
  const NoGrad no_grad;
  const Index batch = 500, count = test.labels.numel();
  double right = 0;
  for (Index i = 0; i + batch <= count; i += batch) {
    const Digits b = batch_of(test, order, i, batch);
    right += accuracy(model(b.images), b.labels) * static_cast<double>(batch);
  }
  return right / static_cast<double>(count / batch * batch);
}

int main() {
  const Digits train = load_digits(true, 6000), test = load_digits(false, 1000);
  const Index batch = 64, steps = train.labels.numel() / batch;
  const int epochs = 4;
  std::vector<Index> order(static_cast<std::size_t>(train.labels.numel())), test_order(static_cast<std::size_t>(test.labels.numel()));
  std::iota(order.begin(), order.end(), Index{0});
  std::iota(test_order.begin(), test_order.end(), Index{0});

  manual_seed(1);
  LeNet model;
  std::printf("LeNet-5: %lld parameters\n", static_cast<long long>(parameter_count(model)));
  AdamW optimizer(named_parameters(model), {.learning_rate = 2e-3});
  const double start = seconds();
  std::uint32_t step = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    RandomStream(7, static_cast<std::uint32_t>(epoch)).shuffle(order.data(), train.labels.numel());
    double loss_sum = 0;
    for (Index i = 0; i < steps; ++i, ++step) {
      const Digits b = batch_of(train, order, i * batch, batch);
      const Training training(1, step);
      // From 2e-3 down to 0 along half a cosine.
      optimizer.set_learning_rate(1e-3 * (1 + std::cos(3.14159265 * step / static_cast<double>(epochs * steps))));
      optimizer.zero_grad();
      const Tensor loss = cross_entropy(model(b.images), b.labels);
      backward(loss);
      optimizer.step();
      loss_sum += static_cast<double>(loss.item());
    }
    std::printf("epoch %d  loss %.4f  test accuracy %.4f  %.1f s\n", epoch + 1, loss_sum / static_cast<double>(steps),
                test_accuracy(model, test, test_order), seconds() - start);
  }
  expect_at_least(train.mnist ? "accuracy on MNIST's test set" : "accuracy on drawn digits", test_accuracy(model, test, test_order),
                  train.mnist ? 0.988 : 0.97);
  return 0;
}
