// Plan: a graph made ready to run. Constants are packed for their kernels, every temporary has its place in one arena, found by
// lifetime, and groups of nodes that stay in the cache run strip by strip (graph/strips.hpp). A Plan is const and may be shared; a
// Workspace per thread holds all that a run writes, and once it exists a run allocates nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/graph/precision.hpp>
#include <ocellus/graph/strips.hpp>

namespace ocellus {

// What one node of a plan costs.
struct NodeProfile {
  std::string op, attributes, path;
  Precision precision = Precision::f32;
  Shape shape;       // of the first output
  double macs = 0;   // multiply-adds
  double bytes = 0;  // read and written, constants as they are packed
  double seconds = 0;
};

class Plan {
 public:
  class Workspace {
   public:
    ~Workspace();
    // The outputs of the last run, in the order of the graph; they live here until the next one.
    const std::vector<View>& outputs() const { return outputs_; }
    // A copy of an output that outlives the workspace.
    AnyTensor output(std::size_t i) const;
    // Counts the runs of a training plan: random ops draw from it. The first run uses this value.
    std::uint32_t step = 0;

   private:
    friend class Plan;
    struct Lane;
    explicit Workspace(std::size_t bytes);

    Storage arena_;
    std::vector<Run> runs_;
    std::vector<std::unique_ptr<Lane>> lanes_;  // one a thread
    std::vector<std::vector<View*>> inputs_;  // per graph input: every argument that reads it
    std::vector<std::pair<std::size_t, std::size_t>> echoes_;  // outputs that are graph inputs: (output, input)
    std::vector<View> outputs_;
  };

  // Throws UsageError for a layer of the policy that no node with packed constants belongs to.
  explicit Plan(Graph graph, const PrecisionPolicy& policy = {});
  Plan(Graph graph, Precision everywhere) : Plan(std::move(graph), PrecisionPolicy{everywhere}) {}

  std::unique_ptr<Workspace> workspace() const;
  // Inputs in the order of the graph, of its shapes and types. Throws ShapeError otherwise.
  const std::vector<View>& run(std::span<const AnyTensor> inputs, Workspace& workspace) const;
  // Also adds each node's time to profile[i].seconds; profile comes from describe().
  const std::vector<View>& run(std::span<const AnyTensor> inputs, Workspace& workspace, std::vector<NodeProfile>& profile) const;
  std::vector<NodeProfile> describe() const;

  const Graph& graph() const { return graph_; }
  // The nodes that run strip by strip.
  const std::vector<StripGroup>& strip_groups() const { return groups_; }
  // In which precision each node's constants are packed: f32 also where an op has no other kernel for its shape or this CPU.
  const std::vector<Precision>& precision() const { return precision_; }
  // Of the arena, and of all temporaries if none shared memory.
  std::size_t arena_bytes() const { return arena_bytes_; }
  std::size_t value_bytes() const;

 private:
  void pack_constants(const PrecisionPolicy& policy);
  void gather_packed(std::size_t first);
  void place();
  void bind_inputs(std::span<const AnyTensor> inputs, Workspace& w) const;
  // Runs node i, or its whole group if it is the last of one. Adds the times to profile where that is not null.
  void run_node(std::size_t i, Workspace& w, std::vector<NodeProfile>* profile) const;
  void run_group(std::size_t group, Workspace& w, std::vector<NodeProfile>* profile) const;
  void add_lanes(Workspace& w) const;
  void run_all(std::span<const AnyTensor> inputs, Workspace& w, std::vector<NodeProfile>* profile) const;

  Graph graph_;
  std::vector<StripGroup> groups_;
  std::vector<int> group_;  // of each node; -1: none
  std::vector<Precision> precision_;  // of each node
  std::vector<Index> offset_;  // of each value in the arena; -1: not there
  std::size_t arena_bytes_ = 0;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>
#include <atomic>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>

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

// What one thread needs to run strips.
struct Plan::Workspace::Lane {
  explicit Lane(std::size_t bytes) : buffer(bytes, Storage::Kind::allocated) {}
  Storage buffer;                    // of the group that runs
  std::vector<StripCursor> cursors;  // per group
  std::vector<double> seconds;       // per node of a group, when profiled
};
OCELLUS_FN Plan::Workspace::Workspace(std::size_t bytes) : arena_(bytes, Storage::Kind::allocated) {}
OCELLUS_FN Plan::Workspace::~Workspace() = default;

OCELLUS_FN Plan::Plan(Graph graph, const PrecisionPolicy& policy) : graph_(std::move(graph)), precision_(graph_.nodes.size()) {
  for (const auto& [layer, precision] : policy.layers) {
    const bool known = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [&](const Node& n) { return n.op.info().pack && n.path == layer; });
    if (!known) throw UsageError("plan: no layer of the graph with weights to pack is named \"" + layer + "\"");
  }
  groups_ = find_strip_groups(graph_);
  group_.assign(graph_.nodes.size(), -1);
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (int n : groups_[g].nodes) group_[graph_detail::at(n)] = static_cast<int>(g);
  }
  pack_constants(policy);
  place();
}

// A constant used twice in one way is packed once.
OCELLUS_FN void Plan::pack_constants(const PrecisionPolicy& policy) {
  struct Packed {
    int value;
    Shape shape;  // a reshaped view of a value packs differently
    std::size_t input;
    const OpInfo* op;
    std::string attributes;
    Precision precision;
    int made;
  };
  std::vector<Packed> packed;
  const std::size_t unpacked = graph_.values.size();
  for (std::size_t k = 0; k < graph_.nodes.size(); ++k) {
    Node& n = graph_.nodes[k];
    const auto pack = n.op.info().pack;
    if (!pack || n.phase != Phase::forward) continue;
    const Run shapes = graph_.shapes(n);
    const Precision precision = policy.of(n.path);
    for (std::size_t i = 0; i < n.in.size(); ++i) {
      Edge& e = n.in[i];
      if (e.value < 0 || !graph_.values[graph_detail::at(e.value)].constant()) continue;
      auto found = std::find_if(packed.begin(), packed.end(), [&](const Packed& p) {
        return p.value == e.value && p.shape == e.spec.shape && p.input == i && p.op == &n.op.info() && p.attributes == n.op.attributes() &&
               p.precision == precision;
      });
      if (found == packed.end()) {
        found = packed.insert(found, {e.value, e.spec.shape, i, &n.op.info(), n.op.attributes(), precision, -1});
        const AnyTensor t = pack(n.op.get(), static_cast<int>(i), graph_.values[graph_detail::at(e.value)].handle.reshaped(e.spec.shape), shapes, precision);
        if (t) {
          found->made = static_cast<int>(graph_.values.size());
          graph_.values.push_back({t.spec(), t, -1, 1, false});
        }
      }
      if (found->made < 0) continue;
      e.value = found->made;
      e.spec = graph_.values[graph_detail::at(e.value)].spec;
      precision_[k] = e.spec.dtype == DType::bf16 ? Precision::bf16 : e.spec.dtype == DType::i8 ? Precision::int8 : Precision::f32;
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
  gather_packed(unpacked);
}

// Moves the packed constants, values from `first` on, behind each other into large pages: a run reads all of them once, and
// with small pages it would wait for address translations more than for the memory.
OCELLUS_FN void Plan::gather_packed(std::size_t first) {
  const auto bytes = [&](const Value& v) { return v.handle.storage()->bytes(); };
  const auto room = [&](const Value& v) { return (bytes(v) + 64 + 63) / 64 * 64; };  // vector loads may run over the end
  std::size_t size = 0;
  for (std::size_t v = first; v < graph_.values.size(); ++v) size += room(graph_.values[v]);
  const auto pool = std::make_shared<Storage>(size, Storage::Kind::large_pages);
  auto* to = static_cast<char*>(pool->data());
  for (std::size_t v = first; v < graph_.values.size(); ++v) {
    Value& value = graph_.values[v];
    const std::size_t count = bytes(value), next = room(value);
    std::memcpy(to, value.handle.raw(), count);
    value.handle = AnyTensor::borrow({Shape{static_cast<Index>(count)}, DType::u8}, to, pool).packed_as(value.spec);
    to += next;
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
    const int when = group_[at(k)] < 0 ? k : groups_[at(group_[at(k)])].root();  // a group runs where its last node stands
    for (int o : n.out) {
      if (o < 0 || when != k) continue;  // what stays inside a group has a buffer there
      first[at(o)] = k;
      last[at(o)] = std::max(last[at(o)], k);
    }
    for (const Edge& e : n.in) {
      if (e.value >= 0) last[at(e.value)] = std::max(last[at(e.value)], when);
    }
  }
  for (const Edge& e : graph_.outputs) {
    if (e.value >= 0) last[at(e.value)] = nodes;
  }

  for (int k = 0; k < nodes; ++k) {  // an output takes over the memory of a dying first input
    const Node& n = graph_.nodes[at(k)];
    if (n.phase != Phase::forward || !n.op.info().in_place || n.in[0].value < 0 || n.out[0] < 0 || group_[at(k)] >= 0) continue;
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
  add_lanes(*w);
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

OCELLUS_FN void Plan::add_lanes(Workspace& w) const {
  if (groups_.empty()) return;
  Index bytes = 0;
  for (const StripGroup& g : groups_) bytes = std::max(bytes, StripCursor::bytes(g));
  while (static_cast<int>(w.lanes_.size()) < num_threads()) {
    Workspace::Lane& lane = *w.lanes_.emplace_back(std::make_unique<Workspace::Lane>(static_cast<std::size_t>(bytes)));
    std::size_t longest = 0;
    for (const StripGroup& g : groups_) {
      lane.cursors.emplace_back(graph_, g);
      longest = std::max(longest, g.nodes.size());
    }
    lane.seconds.resize(longest);
  }
}

// Threads take segments of neighbouring strips; in a segment each strip begins with the rows that the one before it left behind.
OCELLUS_FN void Plan::run_group(std::size_t index, Workspace& w, std::vector<NodeProfile>* profile) const {
  using graph_detail::at;
  const StripGroup& group = groups_[index];
  struct Job {
    const Plan& plan;
    const StripGroup& group;
    std::size_t index;
    Workspace& w;
    bool timed;
    Index segments;
    std::atomic<Index> next;
  } job{*this, group, index, w, profile != nullptr, num_threads() == 1 ? 1 : std::min<Index>(group.count(), 4 * num_threads()), 0};
  const Index lanes = std::min<Index>(job.segments, static_cast<Index>(w.lanes_.size()));
  const auto work = [](void* context, Index piece) {
    Job& j = *static_cast<Job*>(context);
    Workspace::Lane& lane = *j.w.lanes_[static_cast<std::size_t>(piece)];
    StripCursor& cursor = lane.cursors[j.index];
    for (std::size_t i = 0; i < j.group.nodes.size(); ++i) {
      const Run& bound = j.w.runs_[at(j.group.nodes[i])];
      for (std::size_t k = 0; k < bound.in.size(); ++k) cursor.runs[i].in[k].data = bound.in[k].data;
      cursor.runs[i].out[0].data = bound.out[0].data;
      cursor.runs[i].step = j.w.step;
      lane.seconds[i] = 0;
    }
    for (Index segment; (segment = j.next.fetch_add(1, std::memory_order_relaxed)) < j.segments;) {
      cursor.restart();
      const Index end = j.group.count() * (segment + 1) / j.segments;
      for (Index strip = j.group.count() * segment / j.segments; strip < end; ++strip) {
        cursor.next(j.plan.graph_, j.group, strip, static_cast<char*>(lane.buffer.data()));
        for (std::size_t i = 0; i < j.group.nodes.size(); ++i) {
          if (cursor.compute[i].empty()) continue;
          const double start = j.timed ? seconds() : 0;
          const AnyOp& op = j.plan.graph_.nodes[at(j.group.nodes[i])].op;
          op.table().forward_rows(op.get(), cursor.runs[i], cursor.compute[i]);
          if (j.timed) lane.seconds[i] += seconds() - start;
        }
      }
    }
  };
  run_pieces(lanes, work, &job);
  for (Index lane = 0; profile && lane < lanes; ++lane) {  // threads at work together: what one of them took on average
    for (std::size_t i = 0; i < group.nodes.size(); ++i) {
      profile->at(at(group.nodes[i])).seconds += w.lanes_[static_cast<std::size_t>(lane)]->seconds[i] / static_cast<double>(lanes);
    }
  }
}

OCELLUS_FN void Plan::run_node(std::size_t i, Workspace& w, std::vector<NodeProfile>* profile) const {
  if (group_[i] >= 0) {
    const auto group = graph_detail::at(group_[i]);
    if (groups_[group].root() == static_cast<int>(i)) run_group(group, w, profile);
    return;
  }
  const double start = profile ? seconds() : 0;
  const Node& n = graph_.nodes[i];
  Run& r = w.runs_[i];
  r.step = w.step;
  const OpTable& table = n.op.table();
  (n.phase == Phase::forward ? table.forward : table.backward)(n.op.get(), r);
  if (profile) profile->at(i).seconds += seconds() - start;
}

OCELLUS_FN void Plan::run_all(std::span<const AnyTensor> inputs, Workspace& w, std::vector<NodeProfile>* profile) const {
  bind_inputs(inputs, w);
  add_lanes(w);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) run_node(i, w, profile);
  ++w.step;
}

OCELLUS_FN const std::vector<View>& Plan::run(std::span<const AnyTensor> inputs, Workspace& w) const {
  run_all(inputs, w, nullptr);
  return w.outputs_;
}

OCELLUS_FN const std::vector<View>& Plan::run(std::span<const AnyTensor> inputs, Workspace& w, std::vector<NodeProfile>& profile) const {
  run_all(inputs, w, &profile);
  return w.outputs_;
}

OCELLUS_FN std::vector<NodeProfile> Plan::describe() const {
  std::vector<NodeProfile> list;
  for (std::size_t k = 0; k < graph_.nodes.size(); ++k) {
    const Node& n = graph_.nodes[k];
    NodeProfile p;
    p.precision = precision_[k];
    p.op = n.op.info().name() + (n.phase == Phase::backward ? "'" : "");
    p.attributes = n.op.attributes();
    p.path = n.path;
    p.macs = graph_.macs(n);
    for (const Edge& e : n.in) {
      if (e.value < 0) continue;
      const bool packed = e.spec.format == Format::packed;
      p.bytes += static_cast<double>(packed ? graph_.values[graph_detail::at(e.value)].handle.storage()->bytes() : e.spec.bytes());
    }
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
