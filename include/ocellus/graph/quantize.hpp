// quantize: decides once, layer by layer, where int8 pays: by what it changes in the outputs for calibration inputs and by the time
// that it saves on this machine. The result is a PrecisionPolicy; no plan measures anything when it runs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <ocellus/core/function.hpp>
#include <ocellus/graph/plan.hpp>

namespace ocellus {

struct QuantizeOptions {
  double most_changed = 0.005;  // share of the arg-maxima over the last axis of the outputs that may differ from those of f32
  double least_gain = 0.05;     // share of its own time that a layer must save
  int runs = 7;                 // timed runs, of which the median counts
  bool all = false;             // every layer that has an int8 kernel, whatever it changes and saves
  Function<void(Index done, Index total)> progress = {};  // of the accuracy of the layers
};

// From the outputs of f32 to others, all of them together.
struct OutputChange {
  double error = 0;    // ‖y − y_f32‖ / ‖y_f32‖ over all inputs
  double changed = 0;  // share of changed arg-maxima over the last axis
};

// One layer that has an int8 kernel.
struct LayerChoice {
  std::string path;
  Shape shape;                  // of its output
  double f32 = 0, int8 = 0;     // seconds in the plan
  OutputChange change;          // with this layer alone in int8
  bool chosen = false;
};

struct Quantization {
  std::vector<LayerChoice> layers;  // in the order of the graph
  OutputChange change;              // with all chosen layers in int8
  double f32 = 0, chosen = 0;       // seconds of the whole plan, in f32 and as chosen
  bool given_up = false;            // the chosen layers together were not faster: none is chosen

  PrecisionPolicy policy() const;
};

// `graph_of` gives the optimised graph for the shape of an input. Layers that save enough are taken in the order of their error for the
// time they save, each as long as all taken so far stay within the limit. Throws UsageError without inputs.
Quantization quantize(const Function<Graph(const Shape&)>& graph_of, std::span<const Tensor> inputs, const QuantizeOptions& options = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>
#include <cmath>
#include <tuple>

#include <ocellus/autograd/context.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/runtime/clock.hpp>

namespace ocellus {
namespace graph_detail {

OCELLUS_FN double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The calibration inputs with what f32 answers.
class Calibration {
 public:
  Calibration(const Function<Graph(const Shape&)>& graph_of, std::span<const Tensor> inputs) {
    for (const Tensor& x : inputs) {
      auto found = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return g.inputs[0].shape() == x.shape(); });
      if (found == groups_.end()) found = groups_.insert(found, {graph_of(x.shape()), {}, {}});
      found->inputs.push_back(x);
    }
    for (Group& g : groups_) {
      const Plan plan(g.graph);
      const auto workspace = plan.workspace();
      for (const AnyTensor& x : g.inputs) {
        plan.run({&x, 1}, *workspace);
        std::vector<Tensor>& outputs = g.expected.emplace_back();
        for (std::size_t i = 0; i < workspace->outputs().size(); ++i) outputs.emplace_back(workspace->output(i));
      }
    }
  }

  // Of the first input's shape, on which times are measured.
  const Graph& graph() const { return groups_[0].graph; }
  std::span<const AnyTensor> input() const { return {groups_[0].inputs.data(), 1}; }

  OutputChange change(const PrecisionPolicy& policy) const {
    double distance = 0, norm = 0;
    Index changed = 0, count = 0;
    for (const Group& g : groups_) {
      const Plan plan(g.graph, policy.within(g.graph));
      const auto workspace = plan.workspace();
      for (std::size_t i = 0; i < g.inputs.size(); ++i) {
        const std::vector<View>& outputs = plan.run({&g.inputs[i], 1}, *workspace);
        for (std::size_t o = 0; o < outputs.size(); ++o) {
          const float *y = outputs[o], *expected = g.expected[i][o].data();
          const Index k = g.expected[i][o].dim(-1), rows = g.expected[i][o].shape().rows();
          for (Index row = 0; row < rows; ++row, y += k, expected += k) {
            for (Index j = 0; j < k; ++j) {
              const double difference = static_cast<double>(y[j]) - static_cast<double>(expected[j]);
              distance += difference * difference;
              norm += static_cast<double>(expected[j]) * static_cast<double>(expected[j]);
            }
            changed += std::max_element(y, y + k) - y != std::max_element(expected, expected + k) - expected;
          }
          count += rows;
        }
      }
    }
    if (!std::isfinite(distance + norm)) throw Error("quantize: an output is not finite; the weights are damaged or an input is out of range");
    return {norm > 0 ? std::sqrt(distance / norm) : 0, static_cast<double>(changed) / static_cast<double>(count)};
  }

 private:
  struct Group {  // of one shape
    Graph graph;
    std::vector<AnyTensor> inputs;
    std::vector<std::vector<Tensor>> expected;  // by input: its outputs
  };

  std::vector<Group> groups_;
};

// The layers that have an int8 kernel, with the medians of their times. Runs in f32 and int8 alternate, so that a machine that becomes
// slower or faster does so for both.
OCELLUS_FN std::vector<LayerChoice> timed_layers(const Graph& graph, std::span<const AnyTensor> input, int runs) {
  const Plan f32(graph), int8(graph, Precision::int8);
  const auto f32_workspace = f32.workspace(), int8_workspace = int8.workspace();
  std::vector<LayerChoice> layers;
  std::vector<std::vector<double>> f32_times, int8_times;  // by layer and run
  for (int run = -1; run < runs; ++run) {  // one to warm up
    std::vector<NodeProfile> f32_profile = f32.describe(), int8_profile = int8.describe();
    f32.run(input, *f32_workspace, f32_profile);
    int8.run(input, *int8_workspace, int8_profile);
    if (run < 0) continue;
    for (std::size_t k = 0; k < int8_profile.size(); ++k) {
      const NodeProfile& node = int8_profile[k];
      if (node.precision != Precision::int8) continue;
      const auto found = std::find_if(layers.begin(), layers.end(), [&](const LayerChoice& l) { return l.path == node.path; });
      const auto i = static_cast<std::size_t>(found - layers.begin());
      if (i == layers.size()) {
        layers.push_back({node.path, node.shape, 0, 0, {}, false});
        f32_times.emplace_back(runs);
        int8_times.emplace_back(runs);
      }
      f32_times[i][at(run)] += f32_profile[k].seconds;
      int8_times[i][at(run)] += node.seconds;
    }
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].f32 = median(f32_times[i]);
    layers[i].int8 = median(int8_times[i]);
  }
  return layers;
}

// Medians of the whole plan's time in f32 and with the policy.
OCELLUS_FN std::pair<double, double> timed_plans(const Graph& graph, const PrecisionPolicy& policy, std::span<const AnyTensor> input, int runs) {
  const Plan f32(graph), chosen(graph, policy);
  const auto f32_workspace = f32.workspace(), chosen_workspace = chosen.workspace();
  std::vector<double> f32_times, chosen_times;
  for (int run = -1; run < runs; ++run) {
    const double start = seconds();
    f32.run(input, *f32_workspace);
    const double between = seconds();
    chosen.run(input, *chosen_workspace);
    if (run < 0) continue;
    f32_times.push_back(between - start);
    chosen_times.push_back(seconds() - between);
  }
  return {median(f32_times), median(chosen_times)};
}

// Of the chosen layers, those that fit under the limit together: the least error for the time saved first.
OCELLUS_FN void choose(Quantization& q, const Calibration& calibration, double most_changed) {
  std::vector<LayerChoice*> candidates;
  for (LayerChoice& l : q.layers) {
    if (l.chosen) candidates.push_back(&l);
    l.chosen = false;
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const LayerChoice* a, const LayerChoice* b) {
    return a->change.error * (b->f32 - b->int8) < b->change.error * (a->f32 - a->int8);
  });
  q.change = {};
  for (LayerChoice* l : candidates) {
    l->chosen = true;
    const OutputChange change = calibration.change(q.policy());
    l->chosen = change.changed <= most_changed;
    if (l->chosen) q.change = change;
  }
}

}  // namespace graph_detail

OCELLUS_FN PrecisionPolicy Quantization::policy() const {
  PrecisionPolicy policy;
  for (const LayerChoice& l : layers) {
    if (l.chosen) policy.layers.emplace_back(l.path, Precision::int8);
  }
  return policy;
}

OCELLUS_FN Quantization quantize(const Function<Graph(const Shape&)>& graph_of, std::span<const Tensor> inputs, const QuantizeOptions& options) {
  if (inputs.empty()) throw UsageError("quantize: at least one calibration input is needed");
  const NoGrad no_grad;
  const graph_detail::Calibration calibration(graph_of, inputs);
  Quantization q;
  q.layers = graph_detail::timed_layers(calibration.graph(), calibration.input(), options.runs);

  Index done = 0;
  for (LayerChoice& l : q.layers) {
    l.change = calibration.change({.layers = {{l.path, Precision::int8}}});
    l.chosen = options.all || l.int8 <= (1 - options.least_gain) * l.f32;
    if (options.progress) options.progress(++done, static_cast<Index>(q.layers.size()));
  }
  q.change = calibration.change(q.policy());
  if (!options.all && q.change.changed > options.most_changed) graph_detail::choose(q, calibration, options.most_changed);

  std::tie(q.f32, q.chosen) = graph_detail::timed_plans(calibration.graph(), q.policy(), calibration.input(), options.runs);
  if (!options.all && !q.policy().layers.empty() && q.chosen >= q.f32) {
    for (LayerChoice& l : q.layers) l.chosen = false;
    q.change = {};
    q.chosen = q.f32;
    q.given_up = true;
  }
  return q;
}

}  // namespace ocellus
#endif
