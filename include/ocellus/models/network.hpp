// Network: a model of any architecture behind one interface. What it has to know of one stands in the model's Config:
// model_type, task, and where they apply size_divisor, ignored_keys and semantic_loss_ignore_index.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/models/config.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/nn/state.hpp>

namespace ocellus {

class Network {
 public:
  virtual ~Network() = default;

  virtual const char* model_type() const = 0;
  virtual Task task() const = 0;
  // (N, H, W, C) → "logits", (N, K) for classification, (N, h, w, K) for segmentation; or the raw maps of a detector, "p3", "p4", "p5".
  virtual std::vector<Tensor> outputs(const Tensor& image) const = 0;
  virtual std::span<const char* const> output_names() const = 0;
  // The only output. Throws UsageError where there are several.
  Tensor forward(const Tensor& image) const;
  // A detector's outputs as boxes and scores; with a confidence above 0 without the places at which no score exceeds it. Throws
  // UsageError if the network does something else.
  virtual BoxCandidates decode(const std::vector<Tensor>& outputs, float confidence = 0) const = 0;
  virtual Graph trace(const Shape& input) const = 0;
  virtual std::vector<NamedParameter> parameters() = 0;
  virtual std::unique_ptr<Network> clone() const = 0;
  virtual const std::vector<std::string>& labels() const = 0;
  virtual Index in_channels() const = 0;
  // Heights and widths of the input must be multiples of this; 1: there is no such rule.
  virtual Index size_divisor() const = 0;
  // What is wrong with a size by that rule, and which are the nearest that fit; empty if nothing is.
  std::string size_fault(Size2 size) const;
  // Label value that the loss leaves out, -1: none. Kept in config.json by models that segment; others have none.
  virtual Index ignore_index() const = 0;
  virtual void set_ignore_index(Index value) = 0;
  // Keys that a checkpoint may hold and the model does not use.
  virtual std::span<const IgnoredKey> ignored_keys() const = 0;
  // The members of config.json after model_type.
  virtual void write_config(JsonWriter& json) const = 0;
};

// How the networks of an architecture are built from their configuration.
struct Architecture {
  const char* model_type;
  std::unique_ptr<Network> (*make)(const Json& config);
};
template <class M>
Architecture architecture();  // models/network_of.hpp

// Builds the one of these architectures that config.json names, with weights of zero under SkipInit. Throws ConfigError for another
// model_type.
std::unique_ptr<Network> make_network(const Json& config, std::span<const Architecture> architectures);
template <class... Models>
std::unique_ptr<Network> make_network_of(const Json& config) {
  const Architecture list[] = {architecture<Models>()...};
  return make_network(config, list);
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <algorithm>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN Tensor Network::forward(const Tensor& image) const {
  const std::vector<Tensor> list = outputs(image);
  if (list.size() != 1) throw UsageError(std::string(model_type()) + ": forward needs a network with one output; outputs() gives all");
  return list[0];
}

OCELLUS_FN std::string Network::size_fault(Size2 size) const {
  const Index divisor = size_divisor();
  if (size.h % divisor == 0 && size.w % divisor == 0) return {};
  const auto text = [](Size2 s) { return std::to_string(s.h) + "x" + std::to_string(s.w); };
  const auto down = [&](Index n) { return std::max(divisor, n / divisor * divisor); };
  const auto up = [&](Index n) { return (n + divisor - 1) / divisor * divisor; };
  const Size2 below(down(size.h), down(size.w)), above(up(size.h), up(size.w));
  return std::string(model_type()) + " takes heights and widths that are multiples of " + std::to_string(divisor) + "; got " + text(size) +
         ", the nearest " + (below == above ? "is " : "are " + text(below) + " and ") + text(above);
}

OCELLUS_FN std::unique_ptr<Network> make_network(const Json& config, std::span<const Architecture> architectures) {
  const std::string type = config.get<std::string>("model_type");
  std::string known;
  for (const Architecture& a : architectures) {
    if (type == a.model_type) return a.make(config);
    known += (known.empty() ? "" : ", ") + std::string(a.model_type);
  }
  throw ConfigError("config.json: model_type \"" + type + "\" is unknown; the program has " + known);
}

}  // namespace ocellus
#endif
