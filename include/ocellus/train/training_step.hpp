// The forward and backward pass of a training step as one plan: every value has its place in one arena that stays from step to step. The
// bits are those of model, loss and backward() called one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ocellus/autograd/visitor.hpp>
#include <ocellus/core/function.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/losses/terms.hpp>
#include <ocellus/nn/module.hpp>

namespace ocellus {

//   TrainingStep step(named_parameters(model), [&](const Tensor& x, const BasicTensor<std::int64_t>& y) {
//     LossTerms loss;
//     loss.add("cross_entropy", cross_entropy(model(x), y));
//     return loss;
//   });
//   for (std::uint32_t i = 0; i < steps; ++i) {
//     step.run(x, y, i);
//     optimizer.step();
//   }
class TrainingStep {
 public:
  // Traced once per shape of batch: what depends on anything but its arguments and the parameters must not change from step to step.
  // A loss that reads values, and so cannot be traced, is computed eagerly.
  // Labels are class ids, or numbers: a detector's targets.
  template <class T>
  using LossOf = Function<LossTerms(const Tensor& images, const BasicTensor<T>& labels)>;

  // Keeps the pointers it is given. `seed`: of the random ops, as in Training.
  TrainingStep(std::vector<NamedParameter> parameters, LossOf<std::int64_t> loss, std::uint64_t seed = 0);
  TrainingStep(std::vector<NamedParameter> parameters, LossOf<float> loss, std::uint64_t seed = 0);

  // The losses of a batch in training; leaves at each trainable parameter its gradient, in place of the one it had. Both hold until
  // the next run. `step`: as in Training.
  LossTerms run(const Tensor& images, const AnyTensor& labels, std::uint32_t step);

  // None before the first run, or if the loss cannot be traced.
  const Plan* plan() const { return plan_.get(); }

 private:
  using Loss = Function<LossTerms(const Tensor& images, const AnyTensor& labels)>;

  struct Term {
    std::string name;
    double weight;
  };

  void prepare(const Shape& images, const Spec& labels);
  void clear_gradients() const;

  std::vector<NamedParameter> parameters_;
  Loss loss_;
  std::uint64_t seed_;
  bool traceable_ = true;
  Shape images_, labels_;  // that the plan was made for
  std::unique_ptr<const Plan> plan_;
  std::shared_ptr<Plan::Workspace> workspace_;
  // The outputs of the plan: first the terms, then the gradients of these parameters.
  std::vector<Term> terms_;
  std::vector<Parameter*> trained_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_TRAIN)
#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN TrainingStep::TrainingStep(std::vector<NamedParameter> parameters, LossOf<std::int64_t> loss, std::uint64_t seed)
    : parameters_(std::move(parameters)),
      loss_([loss](const Tensor& x, const AnyTensor& y) { return loss(x, BasicTensor<std::int64_t>(y)); }),
      seed_(seed) {}
OCELLUS_FN TrainingStep::TrainingStep(std::vector<NamedParameter> parameters, LossOf<float> loss, std::uint64_t seed)
    : parameters_(std::move(parameters)), loss_([loss](const Tensor& x, const AnyTensor& y) { return loss(x, Tensor(y)); }), seed_(seed) {}

OCELLUS_FN void TrainingStep::clear_gradients() const {
  for (const NamedParameter& p : parameters_) {
    if (Record* leaf = p.parameter->record().get()) leaf->grad = {};
  }
}

OCELLUS_FN void TrainingStep::prepare(const Shape& images, const Spec& labels) {
  plan_.reset();
  workspace_.reset();  // before the next one is made
  terms_.clear();
  trained_.clear();
  GraphBuilder builder;
  {
    const Tracing tracing(builder);
    const Training training(seed_, 0);
    for (const NamedParameter& p : parameters_) builder.add_state(*p.parameter);
    const Tensor x(builder.input({images, DType::f32}));
    const AnyTensor y = builder.input({labels.shape, labels.dtype});
    const LossTerms loss = loss_(x, y);
    backward(loss.total());
    for (const LossTerms::Term& t : loss.terms()) {
      builder.add_output(t.value);
      terms_.push_back({t.name, t.weight});
    }
  }
  for (const NamedParameter& p : parameters_) {
    const Tensor gradient = p.parameter->grad();
    if (!gradient) continue;
    builder.add_output(gradient);
    trained_.push_back(p.parameter);
  }
  clear_gradients();
  plan_ = std::make_unique<const Plan>(builder.finish());
  workspace_ = plan_->workspace();
  images_ = images;
  labels_ = labels.shape;
}

OCELLUS_FN LossTerms TrainingStep::run(const Tensor& images, const AnyTensor& labels, std::uint32_t step) {
  clear_gradients();
  if (traceable_ && !(plan_ && images.shape() == images_ && labels.shape() == labels_)) {
    try {
      prepare(images.shape(), labels.spec());
    } catch (const UsageError&) {  // if it is another mistake, eager execution meets it again
      traceable_ = false;
      clear_gradients();
    }
  }
  if (!traceable_) {
    const Training training(seed_, step);
    const LossTerms loss = loss_(images, labels);
    backward(loss.total());
    return loss;
  }
  workspace_->step = step;
  const AnyTensor inputs[] = {images, labels};
  const std::vector<View>& outputs = plan_->run(inputs, *workspace_);
  const auto value = [&](std::size_t i) {
    return Tensor(AnyTensor::borrow({outputs[i].shape, outputs[i].dtype}, outputs[i].data, workspace_));
  };
  LossTerms loss;
  for (std::size_t i = 0; i < terms_.size(); ++i) loss.add(terms_[i].name, value(i), terms_[i].weight);
  for (std::size_t i = 0; i < trained_.size(); ++i) trained_[i]->record()->grad = value(terms_.size() + i);
  return loss;
}

}  // namespace ocellus
#endif
