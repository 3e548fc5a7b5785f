// Optimizers over the parameters of a module: SGD, Adam, AdamW, as torch.optim computes them, and clipping of
// gradients.
#pragma once

#include <optional>
#include <vector>

#include <ocellus/io/named_tensors.hpp>
#include <ocellus/nn/module.hpp>

namespace ocellus {

// Parameters that share settings.
struct ParameterGroup {
  std::vector<NamedParameter> parameters;
  double learning_rate_scale = 1;
  std::optional<double> weight_decay = {};  // none: the optimizer's
};

// The usual split: matrices and kernels decay, biases and the weights of norms (at most one axis) do not.
std::vector<ParameterGroup> decay_groups(const std::vector<NamedParameter>& parameters);

// Keeps the pointers it is given: the module must stay where it is. Parameters that are frozen or have no gradient are
// left alone, buffers are never touched, a parameter that is named twice (tied) is updated once.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  double learning_rate() const { return learning_rate_; }
  void set_learning_rate(double rate) { learning_rate_ = rate; }

  void zero_grad();
  // One step down the gradients.
  void step();

  // The halves of a step, for one that is traced: update() runs only ops, which read the learning rate and the number
  // of the step from tensors; advance() writes those, for all trainable parameters. Trace update() with state_tensors()
  // as state, then call advance() before each run.
  void advance();
  void update();
  std::vector<AnyTensor> state_tensors() const;

  // What a checkpoint must keep, by "<parameter>.<slot>", in the memory layout of the parameters; the learning rate is
  // not part of it.
  NamedTensors state() const;
  // Throws ConfigError, and changes nothing, unless names and shapes are those of state().
  void load_state(const NamedTensors& state);

 protected:
  struct Slot {
    NamedParameter parameter;
    double learning_rate_scale;
    double weight_decay;
    std::vector<Tensor> moments;  // laid out as the parameter
    BasicTensor<double> clock;    // learning rate, number of this step (from 1)
  };

  Optimizer(const std::vector<ParameterGroup>& groups, double learning_rate, double weight_decay,
            std::vector<const char*> moments);
  virtual void update_slot(const Slot& slot, const Tensor& gradient) const = 0;

 private:
  void advance(const Slot& slot) const;

  double learning_rate_;
  std::vector<const char*> names_;  // of the moments
  std::vector<Slot> slots_;
};

struct SGDOptions {
  double learning_rate = 0.01;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;  // joins the gradient
  bool nesterov = false;    // needs momentum and no dampening
};

// Stochastic gradient descent with momentum (Polyak, 1964; Nesterov's form as in Sutskever et al., 2013).
class SGD : public Optimizer {
 public:
  explicit SGD(const std::vector<NamedParameter>& parameters, const SGDOptions& options = {});
  explicit SGD(const std::vector<ParameterGroup>& groups, const SGDOptions& options = {});

 private:
  OCELLUS_FN void update_slot(const Slot& slot, const Tensor& gradient) const override;
  SGDOptions options_;
};

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;  // joins the gradient
};

// Adam (Kingma and Ba, 2015).
class Adam : public Optimizer {
 public:
  explicit Adam(const std::vector<NamedParameter>& parameters, const AdamOptions& options = {});
  explicit Adam(const std::vector<ParameterGroup>& groups, const AdamOptions& options = {});

 private:
  OCELLUS_FN void update_slot(const Slot& slot, const Tensor& gradient) const override;
  AdamOptions options_;
};

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;  // shrinks the weights by learning_rate · weight_decay a step, apart from the gradient
};

// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
class AdamW : public Optimizer {
 public:
  explicit AdamW(const std::vector<NamedParameter>& parameters, const AdamWOptions& options = {});
  explicit AdamW(const std::vector<ParameterGroup>& groups, const AdamWOptions& options = {});

 private:
  OCELLUS_FN void update_slot(const Slot& slot, const Tensor& gradient) const override;
  AdamWOptions options_;
};

// Scales all gradients by max_norm / (norm + 1e-6) where their common L2 norm exceeds max_norm. Returns the norm
// before; where that is not finite it changes nothing, so that the caller can skip the step.
double clip_grad_norm(const std::vector<NamedParameter>& parameters, double max_norm);

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>

#include <ocellus/autograd/call.hpp>
#include <ocellus/kernels/table.hpp>

namespace ocellus::op {

// The state tensors must be laid out as the weight; `clock` is (2) in double: learning rate, number of the step from 1.
inline void require_step(const Run& r, int moments) {
  for (int i = 1; i <= 1 + moments; ++i) {
    const View& v = r.in[static_cast<std::size_t>(i)];
    r.require(!v.given() || v.shape.numel() == r.in[0].shape.numel(),
              "weight, gradient and moments must be of one size");
  }
  r.require(r.in[static_cast<std::size_t>(2 + moments)].shape == Shape{2}, "clock must be (2)");
}

// g += λ w unless decoupled, else w −= η λ w;  m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g²;
// w −= η m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)
struct AdamStep {
  OCELLUS_OP("adam_step(weight, gradient, first, second, clock)", beta1, beta2, eps, weight_decay, decoupled)
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = true;
  static constexpr bool not_differentiable = true;

  unsigned mutates() const { return input(0) | input(2) | input(3); }

  std::vector<Shape> infer(const Run& r) const {
    require_step(r, 2);
    return {};
  }

  template <class T>
  void forward(const Run& r) const {
    const double* clock = r.in[4];
    kernels::AdamStep<T> s;
    s.n = r.in[0].shape.numel();
    s.weight = r.in[0];
    s.gradient = r.in[1];
    s.first = r.in[2];
    s.second = r.in[3];
    s.learning_rate = clock[0];
    s.beta1 = beta1;
    s.beta2 = beta2;
    s.eps = eps;
    s.weight_decay = weight_decay;
    s.correction1 = 1 - std::pow(beta1, clock[1]);
    s.correction2 = 1 - std::pow(beta2, clock[1]);
    s.decoupled = decoupled;
    kernels::table<T>().adam_step(s);
  }
};

// g += λ w;  v = μ v + (1 − δ) g (v = g in the first step);  w −= η (nesterov ? g + μ v : v); without velocity w −= η g
struct SgdStep {
  OCELLUS_OP("sgd_step(weight, gradient, velocity, clock)", momentum, dampening, weight_decay, nesterov)
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  static constexpr bool not_differentiable = true;

  unsigned mutates() const { return input(0) | input(2); }

  std::vector<Shape> infer(const Run& r) const {
    require_step(r, 1);
    return {};
  }

  template <class T>
  void forward(const Run& r) const {
    const double* clock = r.in[3];
    kernels::SgdStep<T> s;
    s.n = r.in[0].shape.numel();
    s.weight = r.in[0];
    s.gradient = r.in[1];
    s.velocity = r.in[2];
    s.learning_rate = clock[0];
    s.momentum = momentum;
    s.dampening = dampening;
    s.weight_decay = weight_decay;
    s.nesterov = nesterov;
    s.first_step = clock[1] <= 1;
    kernels::table<T>().sgd_step(s);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPTIM)
#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN std::vector<ParameterGroup> decay_groups(const std::vector<NamedParameter>& parameters) {
  std::vector<ParameterGroup> groups(2);
  groups[1].weight_decay = 0;
  for (const NamedParameter& p : parameters) groups[p.parameter->rank() > 1 ? 0 : 1].parameters.push_back(p);
  return groups;
}

OCELLUS_FN Optimizer::Optimizer(const std::vector<ParameterGroup>& groups, double learning_rate, double weight_decay,
                                std::vector<const char*> moments)
    : learning_rate_(learning_rate), names_(std::move(moments)) {
  std::unordered_map<const void*, int> seen;
  for (const ParameterGroup& group : groups) {
    for (const NamedParameter& p : group.parameters) {
      if (p.parameter->is_buffer() || !seen.emplace(p.parameter->storage().get(), 0).second) continue;
      Slot slot{p, group.learning_rate_scale, group.weight_decay.value_or(weight_decay), {}, BasicTensor<double>({2})};
      for (std::size_t i = 0; i < names_.size(); ++i) slot.moments.emplace_back(p.parameter->shape());
      slots_.push_back(std::move(slot));
    }
  }
}

OCELLUS_FN void Optimizer::zero_grad() {
  for (const Slot& slot : slots_) {
    if (Record* leaf = slot.parameter.parameter->record().get()) leaf->grad = {};
  }
}

OCELLUS_FN void Optimizer::step() {
  for (const Slot& slot : slots_) {
    if (slot.parameter.parameter->grad()) advance(slot);
  }
  update();
}

OCELLUS_FN void Optimizer::advance() {
  for (const Slot& slot : slots_) {
    if (slot.parameter.parameter->trainable()) advance(slot);
  }
}

OCELLUS_FN void Optimizer::advance(const Slot& slot) const {
  slot.clock[0] = learning_rate_ * slot.learning_rate_scale;
  slot.clock[1] += 1;
}

OCELLUS_FN void Optimizer::update() {
  const NoGrad no_grad;
  for (const Slot& slot : slots_) {
    if (const Tensor gradient = slot.parameter.parameter->grad()) update_slot(slot, gradient);
  }
}

OCELLUS_FN std::vector<AnyTensor> Optimizer::state_tensors() const {
  std::vector<AnyTensor> list;
  for (const Slot& slot : slots_) {
    list.push_back(slot.parameter.parameter->detach());
    list.insert(list.end(), slot.moments.begin(), slot.moments.end());
    list.push_back(slot.clock);
  }
  return list;
}

OCELLUS_FN NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (const Slot& slot : slots_) {
    for (std::size_t i = 0; i < names_.size(); ++i)
      state.add(slot.parameter.name + "." + names_[i], slot.moments[i].copy());
    state.add(slot.parameter.name + ".step",
              BasicTensor<std::int64_t>::scalar(static_cast<std::int64_t>(slot.clock[1])));
  }
  return state;
}

OCELLUS_FN void Optimizer::load_state(const NamedTensors& state) {
  std::vector<std::pair<Tensor, Tensor>> moments;  // from, to
  const auto find = [&](const std::string& name, const Spec& spec) {
    const AnyTensor* t = state.find(name);
    if (!t)
      throw ConfigError("optimizer state: \"" + name +
                        "\" is missing; the checkpoint is of another optimizer or model");
    if (!(t->shape() == spec.shape) || t->dtype() != spec.dtype) {
      throw ConfigError("optimizer state: \"" + name + "\" is " + t->shape().str() + " of " + name_of(t->dtype()) +
                        ", needed is " + spec.shape.str() + " of " + name_of(spec.dtype));
    }
    return *t;
  };
  std::vector<double> steps;
  for (const Slot& slot : slots_) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      moments.emplace_back(Tensor(find(slot.parameter.name + "." + names_[i], slot.moments[i].spec())),
                           slot.moments[i]);
    }
    const BasicTensor<std::int64_t> step(find(slot.parameter.name + ".step", {{}, DType::i64}));
    steps.push_back(static_cast<double>(step.item()));
  }
  if (state.size() != moments.size() + steps.size()) {
    throw ConfigError("optimizer state: " + std::to_string(state.size()) + " tensors where " +
                      std::to_string(moments.size() + steps.size()) +
                      " are needed; the checkpoint is of another optimizer or model");
  }
  for (const auto& [from, to] : moments) std::memcpy(to.data(), from.data(), to.spec().bytes());
  for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].clock[1] = steps[i];
}

OCELLUS_FN SGD::SGD(const std::vector<NamedParameter>& parameters, const SGDOptions& options)
    : SGD(std::vector<ParameterGroup>{{parameters, 1, {}}}, options) {}

OCELLUS_FN SGD::SGD(const std::vector<ParameterGroup>& groups, const SGDOptions& options)
    : Optimizer(groups, options.learning_rate, options.weight_decay,
                options.momentum == 0 ? std::vector<const char*>{} : std::vector<const char*>{"velocity"}),
      options_(options) {
  if (options.nesterov && (options.momentum <= 0 || options.dampening != 0)) {
    throw UsageError("SGD: Nesterov's form needs a momentum above 0 and no dampening");
  }
}

OCELLUS_FN void SGD::update_slot(const Slot& slot, const Tensor& gradient) const {
  const Tensor velocity = slot.moments.empty() ? Tensor() : slot.moments[0];
  const Tensor& weight = *slot.parameter.parameter;
  call(op::SgdStep{options_.momentum, options_.dampening, slot.weight_decay, options_.nesterov}, weight, gradient,
       velocity, slot.clock);
}

OCELLUS_FN Adam::Adam(const std::vector<NamedParameter>& parameters, const AdamOptions& options)
    : Adam(std::vector<ParameterGroup>{{parameters, 1, {}}}, options) {}

OCELLUS_FN Adam::Adam(const std::vector<ParameterGroup>& groups, const AdamOptions& options)
    : Optimizer(groups, options.learning_rate, options.weight_decay, {"first", "second"}), options_(options) {}

OCELLUS_FN void Adam::update_slot(const Slot& slot, const Tensor& gradient) const {
  const Tensor& weight = *slot.parameter.parameter;
  call(op::AdamStep{options_.beta1, options_.beta2, options_.eps, slot.weight_decay, false}, weight, gradient,
       slot.moments[0], slot.moments[1], slot.clock);
}

OCELLUS_FN AdamW::AdamW(const std::vector<NamedParameter>& parameters, const AdamWOptions& options)
    : AdamW(std::vector<ParameterGroup>{{parameters, 1, {}}}, options) {}

OCELLUS_FN AdamW::AdamW(const std::vector<ParameterGroup>& groups, const AdamWOptions& options)
    : Optimizer(groups, options.learning_rate, options.weight_decay, {"first", "second"}), options_(options) {}

OCELLUS_FN void AdamW::update_slot(const Slot& slot, const Tensor& gradient) const {
  const Tensor& weight = *slot.parameter.parameter;
  call(op::AdamStep{options_.beta1, options_.beta2, options_.eps, slot.weight_decay, true}, weight, gradient,
       slot.moments[0], slot.moments[1], slot.clock);
}

OCELLUS_FN double clip_grad_norm(const std::vector<NamedParameter>& parameters, double max_norm) {
  double squares = 0;
  std::vector<Tensor> gradients;
  std::unordered_map<const void*, int> seen;
  for (const NamedParameter& p : parameters) {
    const Tensor g = p.parameter->grad();
    if (!g || !seen.emplace(g.storage().get(), 0).second) continue;
    gradients.push_back(g);
    for (const float v : g) squares += static_cast<double>(v) * static_cast<double>(v);
  }
  const double norm = std::sqrt(squares);
  if (!std::isfinite(norm) || norm + 1e-6 <= max_norm) return norm;
  const float scale = static_cast<float>(max_norm / (norm + 1e-6));
  for (const Tensor& g : gradients) {
    for (float& v : g) v *= scale;
    g.storage()->bump_version();
  }
  return norm;
}

}  // namespace ocellus
#endif
