// What the readers and writers of model configurations share: class names, activations by the hub's names, and sizes within reason.
#pragma once

#include <string>
#include <vector>

#include <ocellus/io/json.hpp>
#include <ocellus/kernels/activation.hpp>

namespace ocellus {

enum class Task { classify, segment, detect };

inline const char* name_of(Task task) { return task == Task::classify ? "classify" : task == Task::segment ? "segment" : "detect"; }

}  // namespace ocellus

namespace ocellus::config {

// An integer in [low, high], `fallback` where the key is missing. Throws FileError naming the element.
Index integer(const Json& json, std::string_view key, Index fallback, Index low, Index high);
// A probability in [0, 1).
double rate(const Json& json, std::string_view key, double fallback);
// As many integers in [low, high] as `fallback` has, unless `any_length`.
std::vector<Index> integers(const Json& json, std::string_view key, const std::vector<Index>& fallback, Index low, Index high,
                            bool any_length = false);

// Of the architecture's published variants the one that stands in "variant".
template <class Config>
Config variant(const Json& json) {
  const std::string name = json.get<std::string>("variant");
  std::string names;
  for (const Config& c : Config::variants()) {
    if (c.variant == name) return c;
    names += (names.empty() ? "" : ", ") + c.variant;
  }
  json.at("variant").fail("\"" + name + "\" is not a variant that the library has (" + names + ")");
}

// The hub's name of an activation: "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish".
Act activation(const Json& json, std::string_view key, Act fallback);
const char* name_of(Act act);

// Class names from id2label, or "LABEL_0"… from num_labels; the hub's default is two classes. Throws FileError for more
// than `most`, and where the two contradict each other.
std::vector<std::string> labels(const Json& json, Index most = 1'000'000);
std::vector<std::string> default_labels(Index count);
// num_labels, id2label and label2id.
void write_labels(JsonWriter& json, const std::vector<std::string>& labels);

}  // namespace ocellus::config

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <charconv>

#include <ocellus/core/error.hpp>

namespace ocellus::config {

OCELLUS_FN Index integer(const Json& json, std::string_view key, Index fallback, Index low, Index high) {
  const Index value = json.get<Index>(key, fallback);
  if (value < low || value > high) {
    json.at(key).fail("must lie between " + std::to_string(low) + " and " + std::to_string(high) + "; got " + std::to_string(value));
  }
  return value;
}

OCELLUS_FN double rate(const Json& json, std::string_view key, double fallback) {
  const double value = json.get<double>(key, fallback);
  if (!(value >= 0 && value < 1)) json.at(key).fail("must lie in [0, 1); got " + std::to_string(value));
  return value;
}

OCELLUS_FN std::vector<Index> integers(const Json& json, std::string_view key, const std::vector<Index>& fallback, Index low, Index high,
                                       bool any_length) {
  const std::vector<Index> values = json.get<std::vector<Index>>(key, fallback);
  if (!any_length && values.size() != fallback.size()) {
    json.at(key).fail("must have " + std::to_string(fallback.size()) + " elements; got " + std::to_string(values.size()));
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= low && values[i] <= high) continue;
    json.at(key).at(static_cast<Index>(i)).fail("must lie between " + std::to_string(low) + " and " + std::to_string(high) + "; got " +
                                                std::to_string(values[i]));
  }
  return values;
}

OCELLUS_FN Act activation(const Json& json, std::string_view key, Act fallback) {
  const std::string name = json.get<std::string>(key, name_of(fallback));
  if (name == "gelu") return Act::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Act::gelu_tanh;
  if (name == "relu") return Act::relu;
  if (name == "silu" || name == "swish") return Act::silu;
  json.at(key).fail("\"" + name + "\" is not an activation that the library has (gelu, gelu_new, gelu_pytorch_tanh, relu, silu)");
}

OCELLUS_FN const char* name_of(Act act) { return act == Act::gelu_tanh ? "gelu_pytorch_tanh" : act_names[static_cast<int>(act)]; }

OCELLUS_FN std::vector<std::string> default_labels(Index count) {
  std::vector<std::string> names;
  for (Index i = 0; i < count; ++i) names.push_back("LABEL_" + std::to_string(i));
  return names;
}

OCELLUS_FN std::vector<std::string> labels(const Json& json, Index most) {
  if (!json.has("id2label") || json.at("id2label").is_null()) return default_labels(integer(json, "num_labels", 2, 1, most));
  const Json map = json.at("id2label");
  const Index n = map.size();
  if (n < 1 || n > most) map.fail("must name between 1 and " + std::to_string(most) + " classes; got " + std::to_string(n));
  if (const Index told = json.get<Index>("num_labels", n); told != n) {
    json.at("num_labels").fail("is " + std::to_string(told) + ", but id2label names " + std::to_string(n) +
                               " classes; leave one of them out or make them agree");
  }
  std::vector<std::string> names(static_cast<std::size_t>(n));
  std::vector<bool> seen(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    const Json member = map.at(i);
    const std::string key = member.key();
    Index id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= n || seen[static_cast<std::size_t>(id)]) {
      member.fail("keys must be the numbers 0 to " + std::to_string(n - 1) + ", each once; got \"" + key + "\"");
    }
    seen[static_cast<std::size_t>(id)] = true;
    names[static_cast<std::size_t>(id)] = member.get<std::string>();
  }
  return names;
}

OCELLUS_FN void write_labels(JsonWriter& json, const std::vector<std::string>& labels) {
  json.field("num_labels", labels.size()).key("id2label").begin_object();
  for (std::size_t i = 0; i < labels.size(); ++i) json.field(std::to_string(i), labels[i]);
  json.end_object();
  json.key("label2id").begin_object();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    bool again = false;
    for (std::size_t j = 0; j < i && !again; ++j) again = labels[j] == labels[i];
    if (!again) json.field(labels[i], i);
  }
  json.end_object();
}

}  // namespace ocellus::config
#endif
