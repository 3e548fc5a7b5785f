// A model as a Network. Split programs do not see it: models/zoo.hpp keeps architecture<M>() of every model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ocellus/autograd/graph.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/models/network.hpp>

namespace ocellus {
namespace network_detail {

// What a model is built from: its member `config`, or where that is shared by a family, M::Config.
template <class M>
struct ConfigOfModel {
  using Type = decltype(M::config);
};
template <class M>
  requires requires { typename M::Config; }
struct ConfigOfModel<M> {
  using Type = typename M::Config;
};
template <class M>
using ConfigOf = typename ConfigOfModel<M>::Type;

template <class M>
class NetworkOf final : public Network {
 public:
  using Config = ConfigOf<M>;

  explicit NetworkOf(const Config& config) : model_(config) {}

  const char* model_type() const override { return Config::model_type; }
  Task task() const override { return Config::task; }
  std::vector<Tensor> outputs(const Tensor& image) const override {
    if constexpr (detects) {
      return model_(image);
    } else {
      return {model_(image)};
    }
  }
  std::span<const char* const> output_names() const override {
    static constexpr const char *logits[] = {"logits"}, *maps[] = {"p3", "p4", "p5"};
    if constexpr (detects) {
      return maps;
    } else {
      return logits;
    }
  }
  BoxCandidates decode([[maybe_unused]] const std::vector<Tensor>& outputs, [[maybe_unused]] float confidence) const override {
    if constexpr (detects) {
      return model_.head.decode(outputs, confidence);
    } else {
      throw UsageError(std::string("decode: ") + Config::model_type + " does not detect");
    }
  }
  Graph trace(const Shape& input) const override { return ocellus::trace(model_, input); }
  std::vector<NamedParameter> parameters() override { return named_parameters(model_); }
  std::unique_ptr<Network> clone() const override { return std::make_unique<NetworkOf>(*this); }
  const std::vector<std::string>& labels() const override { return model_.config.labels; }
  Index in_channels() const override { return model_.config.num_channels; }
  Index size_divisor() const override {
    if constexpr (requires { Config::size_divisor; }) return Config::size_divisor;
    return 1;
  }
  Index ignore_index() const override {
    if constexpr (ignores_a_label) return model_.config.semantic_loss_ignore_index;
    return -1;
  }
  void set_ignore_index([[maybe_unused]] Index value) override {
    if constexpr (ignores_a_label) model_.config.semantic_loss_ignore_index = value;
  }
  std::span<const IgnoredKey> ignored_keys() const override {
    if constexpr (requires { Config::ignored_keys; }) return Config::ignored_keys;
    return {};
  }
  void write_config(JsonWriter& json) const override { model_.config.write(json); }

 private:
  static constexpr bool detects = Config::task == Task::detect;
  static constexpr bool ignores_a_label = requires(Config c) { c.semantic_loss_ignore_index; };

  M model_;
};

}  // namespace network_detail

template <class M>
Architecture architecture() {
  using network_detail::ConfigOf, network_detail::NetworkOf;
  return {ConfigOf<M>::model_type, [](const Json& config) -> std::unique_ptr<Network> {
            return std::make_unique<NetworkOf<M>>(ConfigOf<M>::from_json(config));
          }};
}

}  // namespace ocellus
