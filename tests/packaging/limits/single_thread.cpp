// Everything that would use threads, in a library without them: kernels on large inputs, a loader with workers, a runner.
#include <cstdio>
#include <cstdlib>

#include <ocellus/ocellus.hpp>

namespace {

class Squares : public ocellus::Dataset {
 public:
  ocellus::Index size() const override { return 8; }
  ocellus::Sample get(ocellus::Index i) const override { return {.image = ocellus::Image(ocellus::Size2(4, 4), 3), .label = i}; }
  std::string name(ocellus::Index i) const override { return std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  std::vector<std::string> classes_{"square"};
};

void require(bool condition, const char* what) {
  if (condition) return;
  std::printf("failed: %s\n", what);
  std::exit(1);
}

}  // namespace

int main() {
  setenv("OCELLUS_NUM_THREADS", "4", 1);
  require(ocellus::num_threads() == 1, "one thread, whatever the environment says");
  ocellus::set_num_threads(1);
  bool refused = false;
  try {
    ocellus::set_num_threads(2);
  } catch (const ocellus::UsageError&) {
    refused = true;
  }
  require(refused, "two threads are refused");

  const ocellus::Tensor ones = ocellus::Tensor::full({300, 300}, 1);
  require(ocellus::matmul(ones, ones)[89999] == 300, "a product");

  const auto cached = std::make_shared<ocellus::CachedDataset>(std::make_shared<Squares>());
  ocellus::Loader loader(cached, {.batch = 4, .shuffle = false, .workers = 2});
  loader.next();
  require(loader.next().samples == std::vector<ocellus::Index>{4, 5, 6, 7}, "the second batch");

  const auto parse = [](const char* text) { return ocellus::Json::parse(text, "config"); };
  const ocellus::Runner runner(ocellus::make_network(parse(R"({"model_type": "lenet", "num_labels": 10})")));
  require(runner.run(ocellus::Tensor({1, 28, 28, 1})).numel() == 10, "a model");
}
