// 07 · A small vision transformer, and what it looks at
//
// The picture is cut into 16 patches of 7 × 7 pixels; every patch becomes a token, [CLS] goes in front, and four layers let the tokens
// look at each other. Afterwards the attention of one layer is computed again with ordinary operations, softmax(QKᵀ/√d), from the
// queries and keys that an observer overhears, and drawn: how much [CLS] takes from each patch.
//
// Run:      OCELLUS_DATA=… ./07_vit [attention.png]      (without MNIST: drawn digits)
// Expected: ≥ 97 % of MNIST's test digits after 4 epochs (drawn digits: ≥ 90 % after 12); every row of attention sums to 1; writes 07_attention.png.
#include <cstdio>
#include <numeric>
#include <vector>

#include <ocellus/ocellus.hpp>

#include "digits.hpp"
#include "expect.hpp"

using namespace ocellus;

// Keeps what one module returns.
class Overhear : public ModuleObserver {
 public:
  explicit Overhear(const std::string& query, const std::string& key) : query_(query), key_(key) {}
  void output(const std::string& path, const AnyTensor& y) override {
    if (path == query_) q = Tensor(y);
    if (path == key_) k = Tensor(y);
  }
  Tensor q, k;

 private:
  std::string query_, key_;
};

// (N, L, H · D) → (N, H, L, D)
Tensor heads_apart(const Tensor& x, Index heads) { return permute(reshape(x, {x.dim(0), x.dim(1), heads, -1}), {0, 2, 1, 3}); }

// The digits above, below each what [CLS] looks at in the last layer, averaged over the heads.
Image attention_picture(const ViT& model, const Digits& digits, Index count) {
  const NoGrad no_grad;
  const std::string layer = "vit.encoder.layer." + std::to_string(model.config.num_hidden_layers - 1) + ".attention.attention.";
  Overhear heard(layer + "query", layer + "key");
  (void)model(digits.images);
  const Index heads = model.config.num_attention_heads, d = model.config.hidden_size / heads;
  const Tensor scores = matmul(heads_apart(heard.q, heads), heads_apart(heard.k, heads), {.transpose_b = true}) / std::sqrt(static_cast<double>(d));
  const Tensor attention = mean(softmax(scores), {.axes = {1}});  // (N, L, L)
  expect("sum of [CLS]'s attention", sum(slice(slice(attention, 0, 0, 1), 1, 0, 1)).item(), 1, 1e-5);

  const Index scale = 4, side = 28 * scale;
  Image picture({2 * side, count * side}, 1);
  std::uint8_t* pixel = picture.writable();
  for (Index n = 0; n < count; ++n) {
    const float* row = attention.data() + n * 17 * 17 + 1;  // [CLS]'s row, without [CLS] itself
    const float most = *std::max_element(row, row + 16);
    for (Index y = 0; y < side; ++y) {
      for (Index x = 0; x < side; ++x) {
        const float ink = digits.images[(n * 28 + y / scale) * 28 + x / scale] * 0.3081f + 0.1307f;
        const float looks = row[y / (7 * scale) * 4 + x / (7 * scale)] / most;
        pixel[y * count * side + n * side + x] = static_cast<std::uint8_t>(255 * std::min(std::max(ink, 0.0f), 1.0f));
        pixel[(side + y) * count * side + n * side + x] = static_cast<std::uint8_t>(255 * looks * (0.35f + 0.65f * std::min(std::max(ink, 0.0f), 1.0f)));
      }
    }
  }
  return picture;
}

int main(int argc, char** argv) {
  const Digits train = load_digits(true, 6000), test = load_digits(false, 1000);
  const Index batch = 64, steps = train.labels.numel() / batch;
  const int epochs = train.mnist ? 4 : 12;
  std::vector<Index> order(static_cast<std::size_t>(train.labels.numel()));
  std::iota(order.begin(), order.end(), Index{0});

  manual_seed(1);
  ViT model({.hidden_size = 64, .num_hidden_layers = 4, .num_attention_heads = 4, .intermediate_size = 128, .image_size = 28, .patch_size = 7,
             .num_channels = 1, .labels = config::default_labels(10)});
  std::printf("ViT: %lld parameters\n", static_cast<long long>(parameter_count(model)));
  AdamW optimizer(named_parameters(model), {.learning_rate = 1e-3, .weight_decay = 0.05});
  const double start = seconds();
  std::uint32_t step = 0;
  const auto accuracy_on_test = [&] {
    const NoGrad no_grad;
    std::vector<Index> all(static_cast<std::size_t>(test.labels.numel()));
    std::iota(all.begin(), all.end(), Index{0});
    double right = 0;
    for (Index i = 0; i + 500 <= test.labels.numel(); i += 500) {
      const Digits b = batch_of(test, all, i, 500);
      right += accuracy(model(b.images), b.labels) * 500;
    }
    return right / static_cast<double>(test.labels.numel() / 500 * 500);
  };
  for (int epoch = 0; epoch < epochs; ++epoch) {
    RandomStream(7, static_cast<std::uint32_t>(epoch)).shuffle(order.data(), train.labels.numel());
    double loss_sum = 0;
    for (Index i = 0; i < steps; ++i, ++step) {
      const Digits b = batch_of(train, order, i * batch, batch);
      const Training training(1, step);
      optimizer.set_learning_rate(5e-4 * (1 + std::cos(3.14159265 * step / static_cast<double>(epochs * steps))));
      optimizer.zero_grad();
      const Tensor loss = cross_entropy(model(b.images), b.labels);
      backward(loss);
      optimizer.step();
      loss_sum += static_cast<double>(loss.item());
    }
    std::printf("epoch %d  loss %.4f  test accuracy %.4f  %.1f s\n", epoch + 1, loss_sum / static_cast<double>(steps), accuracy_on_test(), seconds() - start);
  }
  expect_at_least(train.mnist ? "accuracy on MNIST's test set" : "accuracy on drawn digits", accuracy_on_test(), train.mnist ? 0.97 : 0.9);

  std::vector<Index> first(8);
  std::iota(first.begin(), first.end(), Index{0});
  const char* path = argc > 1 ? argv[1] : "07_attention.png";
  write_png(path, attention_picture(model, batch_of(test, first, 0, 8), 8));
  std::printf("What [CLS] looks at: %s\n", path);
  return 0;
}
