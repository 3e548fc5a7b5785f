// Plan: a graph made ready to run. Constants are packed for their kernels, every temporary has its place in one arena, found by
// lifetime. A Plan is const and may be shared; a Workspace per thread holds all that a run writes, and once it exists a run allocates
// nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>

namespace ocellus {

// What one node of a plan costs.
struct NodeProfile {
  std::string op, attributes, path;
  Shape shape;       // of the first output
  double macs = 0;   // multiply-adds
  double bytes = 0;  // read and written, constants included
  double seconds = 0;
};

class Plan {
 public:
  class Workspace {
   public:
    // The outputs of the last run, in the order of the graph; they live here until the next one.
    const std::vector<View>& outputs() const { return outputs_; }
    // A copy of an output that outlives the workspace.
    AnyTensor output(std::size_t i) const;
    // Counts the runs of a training plan: random ops draw from it. The first run uses this value.
    std::uint32_t step = 0;

   private:
    friend class Plan;
    explicit Workspace(std::size_t bytes) : arena_(bytes, Storage::Kind::allocated) {}

    Storage arena_;
    std::vector<Run> runs_;
    std::vector<std::vector<View*>> inputs_;  // per graph input: every argument that reads it
    std::vector<std::pair<std::size_t, std::size_t>> echoes_;  // outputs that are graph inputs: (output, input)
    std::vector<View> outputs_;
  };

  explicit Plan(Graph graph, Precision precision = Precision::f32);

  std::unique_ptr<Workspace> workspace() const;
  // Inputs in the order of the graph, of its shapes and types. Throws ShapeError otherwise.
  const std::vector<View>& run(std::span<const AnyTensor> inputs, Workspace& workspace) const;
  // Also adds each node's time to profile[i].seconds; profile comes from describe().
  const std::vector<View>& run(std::span<const AnyTensor> inputs, Workspace& workspace, std::vector<NodeProfile>& profile) const;
  std::vector<NodeProfile> describe() const;

  const Graph& graph() const { return graph_; }
  // Of the arena, and of all temporaries if none shared memory.
  std::size_t arena_bytes() const { return arena_bytes_; }
  std::size_t value_bytes() const;

 private:
  void pack_constants(Precision precision);
  void place();
  void bind_inputs(std::span<const AnyTensor> inputs, Workspace& w) const;
  void run_node(std::size_t i, Workspace& w) const;

  Graph graph_;
  std::vector<Index> offset_;  // of each value in the arena; -1: not there
  std::size_t arena_bytes_ = 0;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/clock.hpp>

namespace ocellus {
namespace graph_detail {

inline std::size_t at(int v) { return static_cast<std::size_t>(v); }

// Whole cache lines, and one more, so that values of power-of-two sizes do not all begin in the same cache set.
OCELLUS_FN Index padded(const Value& v) { return (static_cast<Index>(v.spec.bytes()) + 63) / 64 * 64 + 64; }

// The argument of a bound call that was the i-th input of its flat list.
OCELLUS_FN View* argument(Run& r, const Node& n, std::size_t i) {
  if (n.phase == Phase::forward) return &r.in[i];
  if (i < n.counts.in) return &r.in[i];
  i -= n.counts.in;
  if (i < n.counts.out) return &r.out[i];
  i -= n.counts.out;
  if (i < n.counts.aux) return &r.aux[i];
  return &r.dout[i - n.counts.aux];
}

}  // namespace graph_detail

OCELLUS_FN Plan::Plan(Graph graph, Precision precision) : graph_(std::move(graph)) {
  pack_constants(precision);
  place();
}

// A constant used twice in one way is packed once.
OCELLUS_FN void Plan::pack_constants(Precision precision) {
  struct Packed {
    int value;
    Shape shape;  // a reshaped view of a value packs differently
    std::size_t input;
    const OpInfo* op;
    std::string attributes;
    int made;
  };
  std::vector<Packed> packed;
  for (Node& n : graph_.nodes) {
    const auto pack = n.op.info().pack;
    if (!pack || n.phase != Phase::forward) continue;
    const Run shapes = graph_.shapes(n);
    for (std::size_t i = 0; i < n.in.size(); ++i) {
      Edge& e = n.in[i];
      if (e.value < 0 || !graph_.values[graph_detail::at(e.value)].constant()) continue;
      auto found = std::find_if(packed.begin(), packed.end(), [&](const Packed& p) {
        return p.value == e.value && p.shape == e.spec.shape && p.input == i && p.op == &n.op.info() && p.attributes == n.op.attributes();
      });
      if (found == packed.end()) {
        found = packed.insert(found, {e.value, e.spec.shape, i, &n.op.info(), n.op.attributes(), -1});
        const AnyTensor t = pack(n.op.get(), static_cast<int>(i), graph_.values[graph_detail::at(e.value)].handle.reshaped(e.spec.shape), shapes, precision);
        if (t) {
          found->made = static_cast<int>(graph_.values.size());
          graph_.values.push_back({t.spec(), t, -1, 1, false});
        }
      }
      if (found->made < 0) continue;
      e.value = found->made;
      e.spec = graph_.values[graph_detail::at(e.value)].spec;
    }
  }
  // What nobody reads any more gives its memory back.
  std::vector<bool> read(graph_.values.size());
  for (const Node& n : graph_.nodes) {
    for (const Edge& e : n.in) {
      if (e.value >= 0) read[graph_detail::at(e.value)] = true;
    }
  }
  for (const Edge& e : graph_.outputs) {
    if (e.value >= 0) read[graph_detail::at(e.value)] = true;
  }
  for (std::size_t v = 0; v < read.size(); ++v) {
    if (!read[v] && graph_.values[v].constant()) graph_.values[v].handle = AnyTensor();
  }
}

// Lifetimes, in-place outputs, then the largest value first at the lowest free offset.
OCELLUS_FN void Plan::place() {
  using graph_detail::at;
  const int nodes = static_cast<int>(graph_.nodes.size());
  const std::size_t count = graph_.values.size();
  std::vector<int> first(count, nodes), last(count, -1), share(count);
  offset_.assign(count, -1);
  for (std::size_t v = 0; v < count; ++v) share[v] = static_cast<int>(v);
  for (int k = 0; k < nodes; ++k) {
    const Node& n = graph_.nodes[at(k)];
    for (int o : n.out) {
      if (o < 0) continue;
      first[at(o)] = k;
      last[at(o)] = std::max(last[at(o)], k);
    }
    for (const Edge& e : n.in) {
      if (e.value >= 0) last[at(e.value)] = std::max(last[at(e.value)], k);
    }
  }
  for (const Edge& e : graph_.outputs) {
    if (e.value >= 0) last[at(e.value)] = nodes;
  }

  for (int k = 0; k < nodes; ++k) {  // an output takes over the memory of a dying first input
    const Node& n = graph_.nodes[at(k)];
    if (n.phase != Phase::forward || !n.op.info().in_place || n.in[0].value < 0 || n.out[0] < 0) continue;
    const int a = n.in[0].value, y = n.out[0];
    const Value& from = graph_.values[at(a)];
    const bool dies = from.producer >= 0 && last[at(a)] == k && last[at(share[at(a)])] == k;
    const bool alone = std::count_if(n.in.begin(), n.in.end(), [&](const Edge& e) { return e.value >= 0 && share[at(e.value)] == share[at(a)]; }) == 1;
    if (!dies || !alone || from.spec.bytes() != graph_.values[at(y)].spec.bytes()) continue;
    const int root = share[at(a)];
    share[at(y)] = root;
    last[at(root)] = std::max(last[at(root)], last[at(y)]);
  }

  std::vector<int> order, placed;
  for (std::size_t v = 0; v < count; ++v) {
    if (first[v] < nodes && share[v] == static_cast<int>(v)) order.push_back(static_cast<int>(v));
  }
  const auto size = [&](int v) { return graph_detail::padded(graph_.values[at(v)]); };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return size(a) > size(b) || (size(a) == size(b) && a < b); });
  Index end = 0;
  for (int v : order) {
    std::vector<std::pair<Index, Index>> busy;
    for (int u : placed) {
      if (first[at(u)] <= last[at(v)] && first[at(v)] <= last[at(u)]) busy.emplace_back(offset_[at(u)], offset_[at(u)] + size(u));
    }
    std::sort(busy.begin(), busy.end());
    Index offset = 0;
    for (const auto& [begin, stop] : busy) {
      if (offset + size(v) <= begin) break;
      offset = std::max(offset, stop);
    }
    offset_[at(v)] = offset;
    placed.push_back(v);
    end = std::max(end, offset + size(v));
  }
  for (std::size_t v = 0; v < count; ++v) {
    if (share[v] != static_cast<int>(v)) offset_[v] = offset_[at(share[v])];
  }
  arena_bytes_ = static_cast<std::size_t>(end);
}

OCELLUS_FN std::size_t Plan::value_bytes() const {
  std::size_t sum = 0;
  for (std::size_t v = 0; v < offset_.size(); ++v) sum += offset_[v] >= 0 ? graph_.values[v].spec.bytes() : 0;
  return sum;
}

OCELLUS_FN std::unique_ptr<Plan::Workspace> Plan::workspace() const {
  using graph_detail::at;
  std::unique_ptr<Workspace> w(new Workspace(arena_bytes_));
  const auto memory = [&](int v) -> void* {
    if (v < 0) return nullptr;
    const Value& value = graph_.values[at(v)];
    if (value.has_memory()) return value.handle.raw();
    return offset_[at(v)] < 0 ? nullptr : static_cast<char*>(w->arena_.data()) + offset_[at(v)];
  };
  for (const Node& n : graph_.nodes) {
    std::vector<View> in, out;
    for (const Edge& e : n.in) in.emplace_back(e.spec, memory(e.value));
    for (int o : n.out) out.emplace_back(o < 0 ? Spec{} : graph_.values[at(o)].spec, memory(o));
    Run r;
    bind_views(r, n.op.table(), n.phase, n.counts, in, out);
    w->runs_.push_back(std::move(r));
  }
  for (int input : graph_.inputs) {
    std::vector<View*>& readers = w->inputs_.emplace_back();
    for (std::size_t k = 0; k < graph_.nodes.size(); ++k) {
      const Node& n = graph_.nodes[k];
      for (std::size_t i = 0; i < n.in.size(); ++i) {
        if (n.in[i].value == input) readers.push_back(graph_detail::argument(w->runs_[k], n, i));
      }
    }
  }
  for (const Edge& e : graph_.outputs) {
    for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i] == e.value) w->echoes_.emplace_back(w->outputs_.size(), i);
    }
    w->outputs_.emplace_back(e.spec, memory(e.value));
  }
  return w;
}

OCELLUS_FN AnyTensor Plan::Workspace::output(std::size_t i) const {
  const View& v = outputs_.at(i);
  AnyTensor t(Spec{v.shape, v.dtype});
  std::memcpy(t.raw(), v.data, t.spec().bytes());
  return t;
}

OCELLUS_FN void Plan::bind_inputs(std::span<const AnyTensor> inputs, Workspace& w) const {
  if (inputs.size() != graph_.inputs.size()) {
    throw ShapeError("plan: " + std::to_string(graph_.inputs.size()) + " inputs are needed; got " + std::to_string(inputs.size()));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Spec& spec = graph_.values[graph_detail::at(graph_.inputs[i])].spec;
    if (!(inputs[i].shape() == spec.shape) || inputs[i].dtype() != spec.dtype) {
      throw ShapeError("plan: input " + std::to_string(i) + " must be " + name_of(spec.dtype) + " " + spec.shape.str() + "; got " +
                       name_of(inputs[i].dtype()) + " " + inputs[i].shape().str() + "; another shape needs another plan");
    }
    for (View* reader : w.inputs_[i]) reader->data = inputs[i].raw();
  }
  for (const auto& [output, input] : w.echoes_) w.outputs_[output].data = inputs[input].raw();
}

OCELLUS_FN void Plan::run_node(std::size_t i, Workspace& w) const {
  const Node& n = graph_.nodes[i];
  Run& r = w.runs_[i];
  r.step = w.step;
  const OpTable& table = n.op.table();
  (n.phase == Phase::forward ? table.forward : table.backward)(n.op.get(), r);
}

OCELLUS_FN const std::vector<View>& Plan::run(std::span<const AnyTensor> inputs, Workspace& w) const {
  bind_inputs(inputs, w);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) run_node(i, w);
  ++w.step;
  return w.outputs_;
}

OCELLUS_FN const std::vector<View>& Plan::run(std::span<const AnyTensor> inputs, Workspace& w, std::vector<NodeProfile>& profile) const {
  bind_inputs(inputs, w);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const double start = seconds();
    run_node(i, w);
    profile.at(i).seconds += seconds() - start;
  }
  ++w.step;
  return w.outputs_;
}

OCELLUS_FN std::vector<NodeProfile> Plan::describe() const {
  std::vector<NodeProfile> list;
  for (const Node& n : graph_.nodes) {
    NodeProfile p;
    p.op = n.op.info().name() + (n.phase == Phase::backward ? "'" : "");
    p.attributes = n.op.attributes();
    p.path = n.path;
    p.macs = graph_.macs(n);
    for (const Edge& e : n.in) p.bytes += e.value < 0 ? 0 : static_cast<double>(e.spec.bytes());
    for (int o : n.out) {
      if (o < 0) continue;
      const Spec& spec = graph_.values[graph_detail::at(o)].spec;
      if (p.shape.empty()) p.shape = spec.shape;
      p.bytes += static_cast<double>(spec.bytes());
    }
    list.push_back(std::move(p));
  }
  return list;
}

}  // namespace ocellus
#endif
