// trace: run a model on symbolic tensors (shapes without memory) and get a small graph; calls on constants just run. rewrite: build a
// graph anew while rules replace nodes by ordinary library calls. A node is never changed in place.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include <ocellus/autograd/call.hpp>
#include <ocellus/autograd/visitor.hpp>

namespace ocellus {

// A use of a value. A reshape lives here: `spec` is the shape that this reader sees.
struct Edge {
  int value = -1;  // -1: an absent optional input, or a tensor of which only the shape is known
  Spec spec;
};

struct Value {
  Spec spec;
  AnyTensor handle;   // symbolic, or the constant or state itself
  int producer = -1;  // node; -1: input, constant or state
  int uses = 0;
  bool state = false;  // memory that the computation changes

  bool has_memory() const { return handle.raw() != nullptr; }
  bool constant() const { return has_memory() && !state; }
};

struct Node {
  AnyOp op;
  Phase phase = Phase::forward;
  Counts counts;
  std::vector<Edge> in;
  std::vector<int> out;  // -1: an output nobody wants
  std::string path;      // of the module that called the op
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;  // in an order that can be executed
  std::vector<int> inputs;
  std::vector<Edge> outputs;

  // The shapes of a node's call, without memory.
  Run shapes(const Node& node) const;
  // Multiply-adds of matrix products, convolutions and attention; a backward counts twice.
  double macs(const Node& node) const;
  double macs() const;
  // Drops what reaches no output and writes nothing in place; counts uses.
  void prune();
};

class GraphBuilder;
// Returns what stands in the place of the op on these inputs; empty: does not match.
using Rule = AnyTensor (*)(GraphBuilder&, const AnyOp& op, std::span<const AnyTensor> in);

class GraphBuilder : public Tracer {
 public:
  explicit GraphBuilder(std::span<const Rule> rules = {}) : rules_(rules) {}

  AnyTensor input(const Spec& spec);
  // Memory that the traced computation changes (parameters of a training step): nothing computed from it is a constant.
  void add_state(const AnyTensor& tensor);
  void add_output(const AnyTensor& tensor);
  Graph finish();

  // What rules ask. The pointers hold until the rule makes its next call.
  const Node* producer(const AnyTensor& t) const;
  // The node that makes t, if it is one of Ops and nobody else reads t.
  template <class... Ops>
  const Node* only_use_of(const AnyTensor& t) const {
    const Node* p = t ? producer(t) : nullptr;
    return p && uses(*p) == 1 && ((p->op.as<Ops>() != nullptr) || ...) ? p : nullptr;
  }
  std::vector<AnyTensor> inputs(const Node& node) const;
  // What the rule makes from here on is named after this module, not after that of the op it matched: a linear map that takes over a
  // sum is still the same layer.
  void name_after(const std::string& path) { path_ = path; }
  // The first output of a node, in its own shape.
  const AnyTensor& output_of(const Node& node) const { return graph_.values[static_cast<std::size_t>(node.out[0])].handle; }

  OCELLUS_FN bool wants(const AnyTensor& value) const override;
  OCELLUS_FN std::vector<AnyTensor> add(const AnyOp& op, Phase phase, Counts counts, std::span<const AnyTensor> in,
                             const std::vector<Spec>& out) override;

 private:
  friend Graph rewrite(const Graph& graph, std::span<const Rule> rules);

  int value(const AnyTensor& t);
  int uses(const Node& node) const { return graph_.values[static_cast<std::size_t>(node.out[0])].uses; }
  std::string path();

  Graph graph_;
  std::span<const Rule> rules_;
  int depth_ = 0;  // of rules matching what rules built
  std::string path_;
  std::map<const void*, int> id_;  // by storage
  std::map<const void*, int> state_;
  ModuleFrame root_{};
  std::vector<std::pair<ModuleFrame, std::string>> paths_;  // of the modules below root_
};

// The calling thread's calls go to this tracer while it lives.
class Tracing {
 public:
  explicit Tracing(Tracer& tracer) : before_(std::exchange(context().tracer, &tracer)) {}
  ~Tracing() { context().tracer = before_; }
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;

 private:
  Tracer* before_;
};

// The graph of model(x) for x of this shape, outside of training. The model returns a tensor or a list of tensors.
template <class M>
Graph trace(const M& model, const Shape& input) {
  GraphBuilder builder;
  const Tracing tracing(builder);
  const NoGrad no_grad;
  const Evaluation evaluation;
  const auto y = model(Tensor(builder.input({input, DType::f32})));
  if constexpr (requires { y.begin()->spec(); }) {
    for (const auto& t : y) builder.add_output(t);
  } else {
    builder.add_output(y);
  }
  return builder.finish();
}

// The graph with every match of a rule replaced. What a rule builds may match again.
Graph rewrite(const Graph& graph, std::span<const Rule> rules);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <algorithm>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN Run Graph::shapes(const Node& node) const {
  std::vector<View> in, out;
  for (const Edge& e : node.in) in.emplace_back(e.spec, nullptr);
  for (int o : node.out) out.emplace_back(o < 0 ? Spec{} : values[static_cast<std::size_t>(o)].spec, nullptr);
  Run r;
  bind_views(r, node.op.table(), node.phase, node.counts, in, out);
  return r;
}

OCELLUS_FN double Graph::macs(const Node& node) const {
  const auto count = node.op.info().macs;
  return count ? count(node.op.get(), shapes(node)) * (node.phase == Phase::backward ? 2 : 1) : 0;
}

OCELLUS_FN double Graph::macs() const {
  double sum = 0;
  for (const Node& n : nodes) sum += macs(n);
  return sum;
}

OCELLUS_FN void Graph::prune() {
  const auto at = [](int v) { return static_cast<std::size_t>(v); };
  std::vector<bool> live(values.size());
  std::vector<Node> kept;
  for (Value& v : values) v.uses = 0, v.producer = -1;
  for (const Edge& e : outputs) {
    if (e.value < 0) continue;
    live[at(e.value)] = true;
    ++values[at(e.value)].uses;
  }
  for (std::size_t i = nodes.size(); i-- > 0;) {
    Node* const n = &nodes[i];
    bool needed = n->phase == Phase::forward && n->op.mutates();
    for (int o : n->out) needed |= o >= 0 && live[at(o)];
    if (!needed) continue;
    for (const Edge& e : n->in) {
      if (e.value < 0) continue;
      live[at(e.value)] = true;
      ++values[at(e.value)].uses;
    }
    kept.push_back(std::move(*n));
  }
  std::reverse(kept.begin(), kept.end());
  nodes = std::move(kept);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (int o : nodes[i].out) {
      if (o >= 0) values[at(o)].producer = static_cast<int>(i);
    }
  }
}

OCELLUS_FN void GraphBuilder::add_state(const AnyTensor& tensor) { state_.emplace(tensor.storage().get(), 0); }

OCELLUS_FN bool GraphBuilder::wants(const AnyTensor& t) const { return t.symbolic() || state_.count(t.storage().get()) != 0; }

OCELLUS_FN int GraphBuilder::value(const AnyTensor& t) {
  const auto [it, fresh] = id_.try_emplace(t.storage().get(), static_cast<int>(graph_.values.size()));
  if (fresh) graph_.values.push_back({t.spec(), t.detach(), -1, 0, state_.count(t.storage().get()) != 0});
  return it->second;
}

OCELLUS_FN AnyTensor GraphBuilder::input(const Spec& spec) {
  const AnyTensor t = AnyTensor::symbolic_of(spec);
  graph_.inputs.push_back(value(t));
  return t;
}

OCELLUS_FN void GraphBuilder::add_output(const AnyTensor& t) { graph_.outputs.push_back({value(t), t.spec()}); }

OCELLUS_FN Graph GraphBuilder::finish() {
  graph_.prune();
  return std::move(graph_);
}

// Looking a path up walks the model; a trace asks for every node, so the first question under a root lists all.
OCELLUS_FN std::string GraphBuilder::path() {
  struct Collector : Visitor {
    std::vector<std::pair<ModuleFrame, std::string>>& paths;
    explicit Collector(std::vector<std::pair<ModuleFrame, std::string>>& p) : paths(p) {}
    void enter(const std::string& path, const ModuleFrame& m) override { paths.emplace_back(m, path); }
  };
  const std::vector<ModuleFrame>& stack = context().modules;
  if (stack.empty()) return path_;
  if (!(root_ == stack.front())) {
    root_ = stack.front();
    paths_.clear();
    Collector collector(paths_);
    root_.visit(const_cast<void*>(root_.module), collector);
  }
  for (const auto& [module, path] : paths_) {
    if (module == stack.back()) return path;
  }
  return {};
}

OCELLUS_FN std::vector<AnyTensor> GraphBuilder::add(const AnyOp& op, Phase phase, Counts counts, std::span<const AnyTensor> in,
                                                    const std::vector<Spec>& specs) {
  if (phase == Phase::forward && counts.out == 1 && counts.aux == 0) {
    constexpr int deepest = 64;
    if (depth_ >= deepest) throw UsageError("rewrite: rules keep matching what they build, last on " + op.info().name());
    ++depth_;
    const std::string path = path_;
    AnyTensor made;
    for (std::size_t i = 0; i < rules_.size() && !made; ++i) {
      made = rules_[i](*this, op, in);
      path_ = path;
    }
    --depth_;
    if (made) return {made};
  }
  Node node;
  node.op = op;
  node.phase = phase;
  node.counts = counts;
  node.path = path();
  for (const AnyTensor& t : in) {
    node.in.push_back({t ? value(t) : -1, t.spec()});
  }
  std::vector<AnyTensor> results;
  for (const Spec& s : specs) {
    results.push_back(s.dtype == DType::none ? AnyTensor() : AnyTensor::symbolic_of(s));
    node.out.push_back(results.back() ? value(results.back()) : -1);
    if (node.out.back() < 0) continue;
    Value& made = graph_.values[static_cast<std::size_t>(node.out.back())];
    made.producer = static_cast<int>(graph_.nodes.size());
    made.uses = 1;  // until rewrite() or prune() knows better; a wrong guess can duplicate work, never change a result
  }
  graph_.nodes.push_back(std::move(node));
  return results;
}

OCELLUS_FN const Node* GraphBuilder::producer(const AnyTensor& t) const {
  const auto it = id_.find(t.storage().get());
  const int p = it == id_.end() ? -1 : graph_.values[static_cast<std::size_t>(it->second)].producer;
  return p < 0 ? nullptr : &graph_.nodes[static_cast<std::size_t>(p)];
}

OCELLUS_FN std::vector<AnyTensor> GraphBuilder::inputs(const Node& node) const {
  std::vector<AnyTensor> list;
  for (const Edge& e : node.in) {
    list.push_back(e.value < 0 ? AnyTensor::shape_only(e.spec) : graph_.values[static_cast<std::size_t>(e.value)].handle.reshaped(e.spec.shape));
  }
  return list;
}

OCELLUS_FN Graph rewrite(const Graph& graph, std::span<const Rule> rules) {
  GraphBuilder b(rules);
  const Tracing tracing(b);
  const NoGrad no_grad;
  struct NoModules {  // paths come from the old graph
    std::vector<ModuleFrame> modules = std::exchange(context().modules, {});
    ~NoModules() { context().modules = std::move(modules); }
  } no_modules;
  const auto index = [](int v) { return static_cast<std::size_t>(v); };

  std::vector<AnyTensor> now(graph.values.size());
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (!graph.values[i].has_memory()) continue;
    now[i] = graph.values[i].handle;
    if (graph.values[i].state) b.add_state(now[i]);
  }
  for (int i : graph.inputs) now[index(i)] = b.input(graph.values[index(i)].spec);
  const auto tensor = [&](const Edge& e) { return e.value < 0 ? AnyTensor::shape_only(e.spec) : now[index(e.value)].reshaped(e.spec.shape); };

  for (const Node& n : graph.nodes) {
    std::vector<AnyTensor> in;
    std::vector<Spec> out;
    for (const Edge& e : n.in) in.push_back(tensor(e));
    for (int o : n.out) out.push_back(o < 0 ? Spec{} : graph.values[index(o)].spec);
    b.path_ = n.path;
    const int known = static_cast<int>(b.graph_.values.size());
    const std::vector<AnyTensor> made = b.add(n.op, n.phase, n.counts, in, out);
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (n.out[i] < 0) continue;
      now[index(n.out[i])] = made[i];
      if (!made[i].symbolic()) continue;
      // The readers to come are those of the old value; a replacement that existed before has readers of its own too.
      const int readers = graph.values[index(n.out[i])].uses;
      const int v = b.value(made[i]);
      Value& replacement = b.graph_.values[index(v)];
      replacement.uses = v < known ? replacement.uses + readers - 1 : readers;
    }
  }
  for (const Edge& e : graph.outputs) b.add_output(tensor(e));
  return b.finish();
}

}  // namespace ocellus
#endif
