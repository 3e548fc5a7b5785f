// Runner: a network behind plans. One optimised plan per input shape, built on first use; a workspace per concurrent call, kept for the
// next one. Const and safe for concurrent use.
#pragma once

#include <memory>
#include <vector>

#include <ocellus/graph/plan.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/runtime/mutex.hpp>

namespace ocellus {

class Runner {
 public:
  // The network's weights are read when a plan is built: change them only through another Runner. Throws UsageError for a layer of the
  // policy that the network does not have.
  explicit Runner(std::shared_ptr<Network> network, const PrecisionPolicy& precision = {});

  // (N, H, W, C) → logits, as Network::forward. Throws UsageError for a network with several outputs.
  Tensor run(const Tensor& input) const;
  // All outputs, as Network::outputs; adds each node's time to `profile` (made on the first call) where that is not null.
  std::vector<Tensor> outputs(const Tensor& input, std::vector<NodeProfile>* profile = nullptr) const;
  // The plan for a shape.
  std::shared_ptr<const Plan> plan(const Shape& input) const;
  const PrecisionPolicy& precision() const { return precision_; }

 private:
  // Plans of the last shapes used; each holds packed weights and, through its workspaces, an arena.
  static constexpr std::size_t kept_plans = 8;

  struct Prepared {
    Shape shape;
    std::shared_ptr<const Plan> plan;
    std::vector<std::unique_ptr<Plan::Workspace>> idle;
  };

  std::shared_ptr<Prepared> prepared(const Shape& input) const;

  std::shared_ptr<Network> network_;
  PrecisionPolicy precision_;
  mutable Mutex mutex_;
  mutable std::vector<std::shared_ptr<Prepared>> plans_;  // most recent last
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
#include <algorithm>

#include <ocellus/core/error.hpp>
#include <ocellus/graph/optimize.hpp>

namespace ocellus {

OCELLUS_FN Runner::Runner(std::shared_ptr<Network> network, const PrecisionPolicy& precision)
    : network_(std::move(network)), precision_(precision) {
  const std::vector<NamedParameter> parameters = network_->parameters();
  for (const auto& [layer, choice] : precision_.layers) {
    const std::string weight = layer + ".weight";
    const bool known = std::any_of(parameters.begin(), parameters.end(), [&](const NamedParameter& p) { return p.name == weight; });
    if (!known) throw UsageError("the precision of a layer \"" + layer + "\" is given, which the " + network_->model_type() + " model does not have");
  }
}

OCELLUS_FN std::shared_ptr<Runner::Prepared> Runner::prepared(const Shape& input) const {
  const Lock lock(mutex_);
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) { return p->shape == input; });
  if (found != plans_.end()) {
    std::rotate(found, found + 1, plans_.end());
    return plans_.back();
  }
  auto made = std::make_shared<Prepared>();
  made->shape = input;
  Graph graph = optimize(network_->trace(input));
  const PrecisionPolicy precision = precision_.within(graph);
  made->plan = std::make_shared<const Plan>(std::move(graph), precision);
  if (plans_.size() == kept_plans) plans_.erase(plans_.begin());
  plans_.push_back(made);
  return made;
}

OCELLUS_FN std::shared_ptr<const Plan> Runner::plan(const Shape& input) const { return prepared(input)->plan; }

OCELLUS_FN std::vector<Tensor> Runner::outputs(const Tensor& input, std::vector<NodeProfile>* profile) const {
  const std::shared_ptr<Prepared> p = prepared(input.shape());
  std::unique_ptr<Plan::Workspace> workspace;
  {
    const Lock lock(mutex_);
    if (!p->idle.empty()) {
      workspace = std::move(p->idle.back());
      p->idle.pop_back();
    }
  }
  if (!workspace) workspace = p->plan->workspace();
  const AnyTensor inputs[] = {input};
  const NoGrad no_grad;
  if (profile) {
    if (profile->empty()) *profile = p->plan->describe();
    p->plan->run(inputs, *workspace, *profile);
  } else {
    p->plan->run(inputs, *workspace);
  }
  std::vector<Tensor> y;
  for (std::size_t i = 0; i < workspace->outputs().size(); ++i) y.emplace_back(workspace->output(i));
  const Lock lock(mutex_);
  p->idle.push_back(std::move(workspace));
  return y;
}

OCELLUS_FN Tensor Runner::run(const Tensor& input) const {
  if (network_->output_names().size() != 1) {
    throw UsageError(std::string("run: ") + network_->model_type() + " has several outputs; outputs() gives all");
  }
  return outputs(input)[0];
}

}  // namespace ocellus
#endif
