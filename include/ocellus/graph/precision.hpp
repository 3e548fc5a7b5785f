// PrecisionPolicy: which layers of a plan compute in which precision, as data: what a caller asks for, or the choice that
// quantize() made once and a checkpoint carries in its metadata.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ocellus/autograd/graph.hpp>

namespace ocellus {

// "f32", "bf16", "int8", and back; nothing for any other name.
const char* name_of(Precision precision);
std::optional<Precision> precision_named(std::string_view name);

struct PrecisionPolicy {
  Precision otherwise = Precision::f32;  // of every layer that is not named
  std::vector<std::pair<std::string, Precision>> layers = {};  // by module path

  Precision of(const std::string& layer) const;
  // The smallest type in it: what the policy is called in reports.
  Precision lowest() const;
  // Without the layers that the graph does not have: at some shapes rules merge a layer into another.
  PrecisionPolicy within(const Graph& graph) const;

  // {"layer": "int8", …}, as in a checkpoint's metadata under `metadata_key`; layers that are not listed are f32. The reader throws
  // FileError; `source` names the text in it.
  static constexpr const char* metadata_key = "ocellus.precision";
  std::string to_json() const;
  static PrecisionPolicy from_json(const std::string& text, const std::string& source);
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>

#include <ocellus/io/json.hpp>

namespace ocellus {
namespace graph_detail {

inline constexpr const char* precision_names[] = {"f32", "bf16", "int8"};  // in the order of Precision

}  // namespace graph_detail

OCELLUS_FN const char* name_of(Precision precision) { return graph_detail::precision_names[static_cast<int>(precision)]; }

OCELLUS_FN std::optional<Precision> precision_named(std::string_view name) {
  for (const Precision p : {Precision::f32, Precision::bf16, Precision::int8}) {
    if (name == name_of(p)) return p;
  }
  return {};
}

OCELLUS_FN Precision PrecisionPolicy::of(const std::string& layer) const {
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const auto& l) { return l.first == layer; });
  return found == layers.end() ? otherwise : found->second;
}

OCELLUS_FN Precision PrecisionPolicy::lowest() const {
  Precision low = otherwise;
  for (const auto& [name, precision] : layers) low = std::max(low, precision);
  return low;
}

OCELLUS_FN PrecisionPolicy PrecisionPolicy::within(const Graph& graph) const {
  PrecisionPolicy rest = *this;
  std::erase_if(rest.layers, [&](const auto& layer) {
    return std::none_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& n) { return n.path == layer.first; });
  });
  return rest;
}

OCELLUS_FN std::string PrecisionPolicy::to_json() const {
  JsonWriter json;
  json.begin_object();
  for (const auto& [name, precision] : layers) json.field(name, name_of(precision));
  return json.end_object().str();
}

OCELLUS_FN PrecisionPolicy PrecisionPolicy::from_json(const std::string& text, const std::string& source) {
  const Json json = Json::parse(text, source);
  PrecisionPolicy policy;
  for (const std::string& name : json.keys()) {
    const std::optional<Precision> precision = precision_named(json.get<std::string>(name));
    if (!precision) json.at(name).fail("must be f32, bf16 or int8");
    policy.layers.emplace_back(name, *precision);
  }
  return policy;
}

}  // namespace ocellus
#endif
