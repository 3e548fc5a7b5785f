// summary: what a model is made of: modules, output shapes, trained parameters, multiply-adds.
#pragma once

#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/nn/module.hpp>

namespace ocellus {

struct SummaryRow {
  std::string module;  // checkpoint prefix of the module that calls ops; "" for the model itself
  std::string ops;     // the ops it calls, "linear", "conv2d, layer_norm"
  Shape output;        // of its last op
  Index parameters = 0;
  double macs = 0;
};

struct Summary {
  std::vector<SummaryRow> rows;
  Index parameters = 0;  // trained
  Index buffers = 0;     // kept, not trained
  double macs = 0;       // multiply-adds of matrix products, convolutions and attention (a GFLOP/s figure counts two per MAC)

  std::string str() const;
};

Summary summarize(const Graph& graph, const std::vector<NamedParameter>& parameters);

// The summary of a model on an input of this shape.
template <class M>
Summary summary(const M& model, const Shape& input) {
  return summarize(trace(model, input), named_parameters(const_cast<M&>(model)));
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>
#include <cstdio>

namespace ocellus {

OCELLUS_FN Summary summarize(const Graph& graph, const std::vector<NamedParameter>& parameters) {
  Summary s;
  const auto row_of = [&](const std::string& module) -> SummaryRow& {
    const auto found = std::find_if(s.rows.begin(), s.rows.end(), [&](const SummaryRow& r) { return r.module == module; });
    if (found != s.rows.end()) return *found;
    s.rows.emplace_back().module = module;
    return s.rows.back();
  };
  for (const Node& n : graph.nodes) {
    SummaryRow& row = row_of(n.path);
    const std::string name = n.op.info().name();
    if ((", " + row.ops + ",").find(", " + name + ",") == std::string::npos) row.ops += (row.ops.empty() ? "" : ", ") + name;
    const double macs = graph.macs(n);
    row.macs += macs;
    s.macs += macs;
    if (!n.out.empty() && n.out[0] >= 0) row.output = graph.values[static_cast<std::size_t>(n.out[0])].spec.shape;
  }
  for (const NamedParameter& p : parameters) {
    const std::size_t dot = p.name.rfind('.');
    const Index n = p.parameter->numel();
    if (p.parameter->is_buffer()) {
      s.buffers += n;
      continue;
    }
    row_of(dot == std::string::npos ? std::string() : p.name.substr(0, dot)).parameters += n;
    s.parameters += n;
  }
  return s;
}

OCELLUS_FN std::string Summary::str() const {
  std::size_t width = 6, ops_width = 3;
  for (const SummaryRow& r : rows) {
    width = std::max(width, r.module.size());
    ops_width = std::max(ops_width, r.ops.size());
  }
  std::string text;
  const auto line = [&](const std::string& module, const std::string& ops, const std::string& shape, const std::string& count, const std::string& cost) {
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, "  %-22s %12s %10s\n", shape.c_str(), count.c_str(), cost.c_str());
    text += module + std::string(width - module.size() + 2, ' ') + ops + std::string(ops_width - ops.size(), ' ') + numbers;
  };
  const auto millions = [](double n) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.3f M", n / 1e6);
    return n > 0 ? std::string(buffer) : std::string();
  };
  line("module", "ops", "output", "parameters", "MACs");
  for (const SummaryRow& r : rows) line(r.module, r.ops, r.output.empty() ? "" : r.output.str(), r.parameters ? std::to_string(r.parameters) : "", millions(r.macs));
  line("total", "", "", std::to_string(parameters), millions(macs));
  return text;
}

}  // namespace ocellus
#endif
