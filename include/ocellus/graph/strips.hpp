// Strips: nodes whose output rows need few input rows run together, a strip of rows at a time, so that the values between
// them stay in the second-level cache and never have a place in the arena. A mixed FFN (linear, depthwise, linear), an
// inverted residual or a sum of resized maps before a classifier are such groups; no rule names them.
#pragma once

#include <vector>

#include <ocellus/autograd/graph.hpp>

namespace ocellus {

struct StripGroup {
  // A value that only the group's own nodes read; it has a buffer of `rows` rows that slides down the picture.
  struct Buffer {
    int value;
    Index rows = 0;
    Index row_bytes = 0;
    Index bytes() const { return (rows * row_bytes + 127) / 64 * 64; }  // a cache line more: vector loads may run over the end
  };
  std::vector<int> nodes;       // in their order; only the last one's output leaves the group
  std::vector<Buffer> buffers;  // of each node but the last
  Index rows = 0;               // of the output
  Index strip = 0;              // rows of the output that are made at a time

  Index count() const { return (rows + strip - 1) / strip; }
  int root() const { return nodes.back(); }
};

// Where a group pays: the values that stay inside are larger than the cache, and what a strip touches is smaller.
std::vector<StripGroup> find_strip_groups(const Graph& graph);

// The position of one thread in a group: which rows each buffer holds. Used with one graph and group only.
class StripCursor {
 public:
  StripCursor(const Graph& graph, const StripGroup& group);

  // One call per node of the group; next() sets the views on buffers, the others are the caller's.
  std::vector<Run> runs;
  // Rows of each node's output to write in this strip; none where the last strip left enough.
  std::vector<Rows> compute;

  // Forgets what the buffers hold.
  void restart();
  // Moves to a strip: finds the rows that its nodes have to write, slides the buffers and sets the views on them.
  // Without memory it only finds the rows.
  void next(const Graph& graph, const StripGroup& group, Index strip, char* memory);
  // Of the buffers together.
  static Index bytes(const StripGroup& group);

 private:
  struct Read {
    int node;  // of the group
    int argument;
    int buffer;
  };
  void find_rows(const Graph& graph, const StripGroup& group, Index strip);

  std::vector<Read> reads_;  // by node
  std::vector<Rows> held_, needed_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace ocellus {
namespace strip_detail {

// Bytes. A core's second-level cache has 1 to 2 MiB on the machines that this is for; half of it is for strips.
inline constexpr Index strip_budget = 1 << 20;
inline constexpr Index least_saved = 1 << 20;     // inner values smaller than this stay in the cache anyway
inline constexpr Index most_constants = 1 << 19;  // weights are read again for every strip
inline constexpr Index token_rows = 64;           // of a strip where no node has picture rows

inline std::size_t at(int i) { return static_cast<std::size_t>(i); }

OCELLUS_FN Rows join(Rows a, Rows b) {
  if (a.empty()) return b;
  return b.empty() ? a : Rows{std::min(a.first, b.first), std::max(a.last, b.last)};
}

// The call can write some rows of its one output.
OCELLUS_FN bool by_rows(const Graph& g, const Node& n) {
  const auto reads = n.op.info().reads;
  if (n.phase != Phase::forward || !reads || n.out[0] < 0 || n.in[0].value < 0) return false;
  const bool one = std::all_of(n.out.begin() + 1, n.out.end(), [](int o) { return o < 0; });
  return one && !reads(n.op.get(), g.shapes(n), 0, {0, g.values[at(n.out[0])].spec.shape.rows()}).empty();
}

// A row of output pixels needs more than its share of the input: a depthwise convolution, a resize.
OCELLUS_FN bool has_window(const Graph& g, const Node& n) {
  const Shape& y = g.values[at(n.out[0])].spec.shape;
  if (y.rank() != 4) return false;
  const Index middle = y.rows() / y[2] / 2 * y[2];
  const Rows in = n.op.info().reads(n.op.get(), g.shapes(n), 0, {middle, middle + y[2]});
  return in.size() * y.rows() > y[2] * n.in[0].spec.shape.rows();
}

// The rows of a value are the rows that this edge's reader sees.
OCELLUS_FN bool same_rows(const Graph& g, const Edge& e) { return e.spec.shape.rank() > 0 && e.spec.shape[-1] == g.values[at(e.value)].spec.shape[-1]; }

// Grows a group upwards from its last node: a producer joins when all readers of its output have.
OCELLUS_FN std::vector<int> grow(const Graph& g, int root, const std::vector<bool>& taken, const std::vector<int>& reads) {
  std::vector<int> joined(g.values.size());  // reads of a value from inside
  std::vector<int> nodes;
  for (int n = root; n >= 0; --n) {  // readers come after their producer
    const Node& node = g.nodes[at(n)];
    if (n != root) {
      if (taken[at(n)] || !by_rows(g, node)) continue;
      const int v = node.out[0];
      if (joined[at(v)] == 0 || joined[at(v)] != reads[at(v)]) continue;
    }
    nodes.push_back(n);
    for (const Edge& e : node.in) {
      if (e.value >= 0 && same_rows(g, e)) ++joined[at(e.value)];
    }
  }
  std::reverse(nodes.begin(), nodes.end());
  return nodes;
}

// The most windows on a way through the group: each makes the strips above it taller.
OCELLUS_FN int windows(const Graph& g, const std::vector<int>& nodes) {
  std::vector<int> below(g.values.size());  // windows between a value and the output
  int most = 0;
  for (std::size_t i = nodes.size(); i-- > 0;) {
    const Node& node = g.nodes[at(nodes[i])];
    for (std::size_t j = 0; j < node.in.size(); ++j) {  // only the first input is read through the window
      const int count = below[at(node.out[0])] + (j == 0 && has_window(g, node));
      const int v = node.in[j].value;
      if (v >= 0) below[at(v)] = std::max(below[at(v)], count);
      most = std::max(most, count);
    }
  }
  return most;
}

// Bytes of the values that could have stayed inside had the group begun earlier.
OCELLUS_FN Index cut_bytes(const Graph& g, const std::vector<int>& all, std::size_t begin) {
  Index sum = 0;
  for (std::size_t i = 0; i < begin; ++i) {
    const int v = g.nodes[at(all[i])].out[0];
    const auto reads = [&](int n) {
      const Node& node = g.nodes[at(n)];
      return std::any_of(node.in.begin(), node.in.end(), [&](const Edge& e) { return e.value == v; });
    };
    if (std::any_of(all.begin() + static_cast<std::ptrdiff_t>(begin), all.end(), reads)) sum += static_cast<Index>(g.values[at(v)].spec.bytes());
  }
  return sum;
}

// Strip height and buffers for a group of nodes; strip = 0: it cannot be cut, or does not pay.
OCELLUS_FN StripGroup shape_group(const Graph& g, std::vector<int> nodes) {
  StripGroup group;
  group.nodes = std::move(nodes);
  const Value& output = g.values[at(g.nodes[at(group.root())].out[0])];
  group.rows = output.spec.shape.rows();
  Index saved = 0, constants = 0, unit = 1;
  for (int n : group.nodes) {
    const Node& node = g.nodes[at(n)];
    const Spec& spec = g.values[at(node.out[0])].spec;
    if (spec.shape.rank() == 4 && spec.shape.rows() == group.rows) unit = std::max(unit, spec.shape[-2]);
    for (const Edge& e : node.in) {
      if (e.value >= 0 && g.values[at(e.value)].constant()) constants += static_cast<Index>(e.spec.bytes());
    }
    if (n == group.root()) break;
    saved += static_cast<Index>(spec.bytes());
    group.buffers.push_back({node.out[0], 0, static_cast<Index>(spec.bytes()) / std::max<Index>(spec.shape.rows(), 1)});
  }
  if (saved < least_saved || constants > most_constants || windows(g, group.nodes) > 1) return group;
  if (unit == 1) unit = token_rows;

  // The tallest strip that fits the budget.
  for (Index strip = unit; strip < group.rows; strip *= 2) {
    StripGroup taller = group;
    taller.strip = strip;
    StripCursor cursor(g, taller);
    bool fits = true;
    for (Index s = 0; s < taller.count() && fits; ++s) {
      cursor.restart();
      cursor.next(g, taller, s, nullptr);
      for (std::size_t i = 0; i < taller.nodes.size(); ++i) {
        const Rows rows = cursor.compute[i];
        fits = fits && !rows.empty();
        if (i < taller.buffers.size()) taller.buffers[i].rows = std::max(taller.buffers[i].rows, rows.size());
      }
    }
    if (!fits || StripCursor::bytes(taller) > (strip == unit ? 2 * strip_budget : strip_budget)) break;
    group = taller;
  }
  return group;
}

}  // namespace strip_detail

OCELLUS_FN std::vector<StripGroup> find_strip_groups(const Graph& graph) {
  using namespace strip_detail;
  std::vector<StripGroup> groups;
  std::vector<bool> taken(graph.nodes.size());
  std::vector<int> reads(graph.values.size());
  for (const Node& n : graph.nodes) {
    for (const Edge& e : n.in) {
      if (e.value >= 0) ++reads[at(e.value)];
    }
  }
  for (const Edge& e : graph.outputs) {
    if (e.value >= 0) ++reads[at(e.value)];
  }
  for (int root = static_cast<int>(graph.nodes.size()); root-- > 0;) {
    const Node& node = graph.nodes[at(root)];
    if (taken[at(root)] || !by_rows(graph, node)) continue;
    // Without its first nodes a group may fit that does not as a whole, or leave its neighbour a smaller value to read.
    const std::vector<int> nodes = grow(graph, root, taken, reads);
    StripGroup best;
    Index least = 0;
    for (std::size_t begin = 0; begin + 1 < nodes.size(); ++begin) {
      const Index cut = cut_bytes(graph, nodes, begin);
      if (best.strip > 0 && cut >= least) continue;
      StripGroup group = shape_group(graph, {nodes.begin() + static_cast<std::ptrdiff_t>(begin), nodes.end()});
      if (group.strip == 0) continue;
      best = std::move(group);
      least = cut;
    }
    if (best.strip == 0) continue;
    for (int n : best.nodes) taken[at(n)] = true;
    groups.push_back(std::move(best));
  }
  return groups;
}

OCELLUS_FN StripCursor::StripCursor(const Graph& graph, const StripGroup& group)
    : compute(group.nodes.size()), held_(group.buffers.size()), needed_(group.buffers.size()) {
  using strip_detail::at;
  for (std::size_t i = 0; i < group.nodes.size(); ++i) {
    const Node& node = graph.nodes[at(group.nodes[i])];
    runs.push_back(graph.shapes(node));
    for (std::size_t j = 0; j < node.in.size(); ++j) {
      for (std::size_t b = 0; b < group.buffers.size(); ++b) {
        if (group.buffers[b].value == node.in[j].value) reads_.push_back({static_cast<int>(i), static_cast<int>(j), static_cast<int>(b)});
      }
    }
  }
}

OCELLUS_FN void StripCursor::restart() { std::fill(held_.begin(), held_.end(), Rows{}); }

OCELLUS_FN Index StripCursor::bytes(const StripGroup& group) {
  Index sum = 0;
  for (const StripGroup::Buffer& b : group.buffers) sum += b.bytes();
  return sum;
}

// From the last node to the first: what is read of a value has to be written, unless the last strip left it behind.
OCELLUS_FN void StripCursor::find_rows(const Graph& graph, const StripGroup& group, Index strip) {
  using strip_detail::at;
  std::fill(needed_.begin(), needed_.end(), Rows{});
  std::size_t read = reads_.size();
  for (std::size_t i = group.nodes.size(); i-- > 0;) {
    if (i == group.buffers.size()) {
      compute[i] = {strip * group.strip, std::min(group.rows, (strip + 1) * group.strip)};
    } else {
      compute[i] = needed_[i];
      if (held_[i].holds(compute[i].first)) compute[i].first = std::min(held_[i].last, compute[i].last);
    }
    for (; read > 0 && reads_[read - 1].node == static_cast<int>(i); --read) {
      const Read& r = reads_[read - 1];
      if (compute[i].empty()) continue;
      const AnyOp& op = graph.nodes[at(group.nodes[i])].op;
      Rows& needed = needed_[at(r.buffer)];
      needed = strip_detail::join(needed, op.info().reads(op.get(), runs[i], r.argument, compute[i]));
    }
  }
}

OCELLUS_FN void StripCursor::next(const Graph& graph, const StripGroup& group, Index strip, char* memory) {
  using strip_detail::at;
  find_rows(graph, group, strip);
  if (!memory) return;
  for (std::size_t b = 0; b < group.buffers.size(); ++b) {
    const StripGroup::Buffer& buffer = group.buffers[b];
    if (const Rows now = needed_[b]; !now.empty()) {
      if (held_[b].first < now.first && held_[b].holds(now.first)) {
        const Index rest = held_[b].last - now.first;
        std::memmove(memory, memory + (now.first - held_[b].first) * buffer.row_bytes, static_cast<std::size_t>(rest * buffer.row_bytes));
      }
      held_[b] = now;
    }
    // Kernels count rows from the first of the whole value, so a view points to where that one would lie.
    const auto first = static_cast<std::uintptr_t>(held_[b].first * buffer.row_bytes);
    runs[b].out[0].data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(memory) - first);
    memory += buffer.bytes();
  }
  for (const Read& r : reads_) runs[at(r.node)].in[at(r.argument)].data = runs[at(r.buffer)].out[0].data;
}

}  // namespace ocellus
#endif
