// Starting values of weights. Constructors of layers draw from one stream per thread, restarted by manual_seed.
#pragma once

#include <cmath>
#include <utility>

#include <ocellus/autograd/visitor.hpp>
#include <ocellus/runtime/random.hpp>

namespace ocellus {

// Restarts the stream that the constructors of this thread's layers draw from: the same seed builds the same model.
void manual_seed(std::uint64_t seed);

// Constructors leave their weights at zero while it lives, for a model whose weights are loaded next.
class SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

 private:
  bool before_;
};

namespace init {

void zeros(Parameter& p);
void constant(Parameter& p, float value);
void uniform(Parameter& p, float low, float high);
void normal(Parameter& p, float standard_deviation);
// Normal, cut off at two standard deviations.
void truncated_normal(Parameter& p, float standard_deviation);
// Uniform in ±1/√fan_in, PyTorch's start of Linear and Conv2d weights and biases.
void fan_in_uniform(Parameter& p, Index fan_in);
// Normal with variance 2 / fan_out, which keeps the size of gradients through a ReLU (He et al., 2015).
void fan_out_normal(Parameter& p, Index fan_out);

}  // namespace init
}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_NN)
namespace ocellus {
namespace nn_detail {
struct InitState {
  RandomStream stream{0};
  bool skip = false;
};
OCELLUS_FN InitState& init_state() {
  thread_local InitState state;
  return state;
}
template <class F>
void draw(Parameter& p, F next) {
  InitState& state = init_state();
  if (!p || state.skip) return;
  for (float& x : p) x = next(state.stream);
}
}  // namespace nn_detail

OCELLUS_FN void manual_seed(std::uint64_t seed) { nn_detail::init_state().stream = RandomStream(seed); }

OCELLUS_FN SkipInit::SkipInit() : before_(std::exchange(nn_detail::init_state().skip, true)) {}
OCELLUS_FN SkipInit::~SkipInit() { nn_detail::init_state().skip = before_; }

namespace init {

OCELLUS_FN void zeros(Parameter& p) { constant(p, 0); }
OCELLUS_FN void constant(Parameter& p, float value) {
  nn_detail::draw(p, [&](RandomStream&) { return value; });
}
OCELLUS_FN void uniform(Parameter& p, float low, float high) {
  nn_detail::draw(p, [&](RandomStream& r) { return r.uniform(low, high); });
}
OCELLUS_FN void normal(Parameter& p, float standard_deviation) {
  nn_detail::draw(p, [&](RandomStream& r) { return r.normal() * standard_deviation; });
}
OCELLUS_FN void truncated_normal(Parameter& p, float standard_deviation) {
  nn_detail::draw(p, [&](RandomStream& r) { return r.truncated_normal(standard_deviation); });
}
OCELLUS_FN void fan_in_uniform(Parameter& p, Index fan_in) {
  const float bound = fan_in > 0 ? 1.0f / std::sqrt(static_cast<float>(fan_in)) : 0.0f;
  uniform(p, -bound, bound);
}
OCELLUS_FN void fan_out_normal(Parameter& p, Index fan_out) { normal(p, std::sqrt(2.0f / static_cast<float>(fan_out))); }

}  // namespace init
}  // namespace ocellus
#endif
