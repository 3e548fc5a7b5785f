// What the tests of the ops share: PyTorch's values and gradients from tests/golden/ops.safetensors.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/testing/gradcheck.hpp>

namespace ops_golden {

using namespace ocellus;
using Double = BasicTensor<double>;

// (N, C, ...) → (N, ..., C), also of weights: (O, I, kh, kw) → (O, kh, kw, I)
inline Double channels_last(const Double& x) {
  Shape shape{x.dim(0)};
  for (int d = 2; d < x.rank(); ++d) shape.push_back(x.dim(d));
  shape.push_back(x.dim(1));
  Double y(shape);
  const Index channels = x.dim(1), pixels = x.numel() / std::max<Index>(1, x.dim(0) * channels);
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index c = 0; c < channels; ++c) {
      for (Index p = 0; p < pixels; ++p) y[(n * pixels + p) * channels + c] = x[(n * channels + c) * pixels + p];
    }
  }
  return y;
}

inline const NamedTensors& file() {
  static const NamedTensors tensors = read_safetensors(OCELLUS_TEST_DIR "/golden/ops.safetensors");
  return tensors;
}

// One case of the file: its attributes and its tensors, channels last where they have pixels.
class Case {
 public:
  explicit Case(const Json& attributes) : attributes_(attributes), name_(attributes.get<std::string>("name")) {}

  const std::string& name() const { return name_; }
  Double stored(const std::string& tensor) const { return convert<double>(file().at(name_ + "." + tensor)); }
  Double tensor(const std::string& tensor) const {
    const Double t = stored(tensor);
    return t.rank() == 4 ? channels_last(t) : t;
  }
  template <class T>
  T get(std::string_view attribute) const {
    return attributes_.get<T>(attribute);
  }
  Size2 size(std::string_view attribute) const {
    const auto values = attributes_.get<std::vector<Index>>(attribute);
    return {values[0], values[1]};
  }

 private:
  Json attributes_;
  std::string name_;
};

inline std::vector<Case> cases(std::string_view op) {
  const Json list = Json::parse(file().metadata.at("cases"), "ops.safetensors");
  std::vector<Case> found;
  for (Index i = 0; i < list.size(); ++i) {
    if (list.at(i).get<std::string>("op") == op) found.emplace_back(list.at(i));
  }
  return found;
}

// The file holds float; what we compute from it in double agrees to a float's rounding.
inline void check_close(const std::string& what, const Double& ours, const Double& theirs) {
  CAPTURE(what);
  REQUIRE(ours.shape() == theirs.shape());
  CHECK(max_difference(ours, theirs) <= 3e-7 * std::max(1.0, max_abs(theirs)));
}

// f(inputs) of a case and the gradient of every input against PyTorch's.
template <class F>
void check_case(const Case& c, const std::vector<std::string>& inputs, F f) {
  std::vector<Double> x;
  for (const std::string& name : inputs) x.push_back(c.tensor(name).requires_grad());
  const Double y = f(x);
  check_close(c.name() + ".y", y, c.tensor("y"));
  backward(y, c.tensor("dy"));
  for (std::size_t i = 0; i < x.size(); ++i)
    check_close(c.name() + ".d" + inputs[i], x[i].grad(), c.tensor("d" + inputs[i]));
}

}  // namespace ops_golden
