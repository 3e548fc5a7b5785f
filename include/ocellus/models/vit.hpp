// ViT: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al., 2021), arXiv:2010.11929
//   image (N, H, W, C) → patches as tokens, [CLS] in front, learned positions → n × (attention, MLP) → norm → head on [CLS] → (N, K)
// Field names are the keys of the hub's ViTForImageClassification. Other image sizes: the positions are interpolated (bicubic), as the
// reference does with interpolate_pos_encoding.
#pragma once

#include <string>
#include <vector>

#include <ocellus/models/config.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/dropout.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/nn/state.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/attention.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/resize.hpp>

namespace ocellus {
namespace vit {

struct Config {
  static constexpr const char* model_type = "vit";
  static constexpr Task task = Task::classify;
  static constexpr IgnoredKey ignored_keys[] = {{"vit.pooler.*", "the classifier reads [CLS] itself"}};

  Index hidden_size = 768;
  Index num_hidden_layers = 12;
  Index num_attention_heads = 12;
  Index intermediate_size = 3072;
  Act hidden_act = Act::gelu;
  double hidden_dropout_prob = 0, attention_probs_dropout_prob = 0;
  double layer_norm_eps = 1e-12;
  Size2 image_size = 224;
  Index patch_size = 16;
  Index num_channels = 3;
  bool qkv_bias = true;
  std::vector<std::string> labels = ocellus::config::default_labels(1000);

  // Table 1 of the paper; Ti and S are those of DeiT (Touvron et al., 2021).
  static Config tiny() { return variant(192, 12, 3); }
  static Config small() { return variant(384, 12, 6); }
  static Config base() { return {}; }
  static Config large() { return variant(1024, 24, 16); }
  static Config huge() {
    Config c = variant(1280, 32, 16);
    c.patch_size = 14;
    return c;
  }

  // Patches of image_size. Throws ConfigError if there are none.
  Size2 grid() const;
  static Config from_json(const Json& json);
  void write(JsonWriter& json) const;

 private:
  static Config variant(Index width, Index layers, Index heads) {
    Config c;
    c.hidden_size = width;
    c.num_hidden_layers = layers;
    c.num_attention_heads = heads;
    c.intermediate_size = 4 * width;
    return c;
  }
};

struct PatchEmbeddings : Module<PatchEmbeddings> {
  nn::Conv2d projection;

  explicit PatchEmbeddings(const Config& c) : projection(c.num_channels, c.hidden_size, c.patch_size, {.stride = c.patch_size}) {}
  Tensor forward(const Tensor& image) const { return projection(image); }
  OCELLUS_MODULE(PatchEmbeddings, projection)
};

// Eq. (1)
struct Embeddings : Module<Embeddings> {
  Parameter cls_token, position_embeddings;  // (1, 1, D), (1, 1 + patches, D)
  PatchEmbeddings patch_embeddings;
  nn::Dropout dropout;
  Size2 grid;  // of the positions

  explicit Embeddings(const Config& c);
  Tensor forward(const Tensor& image) const;
  // The positions for another grid of patches. (1, 1 + h · w, D)
  Tensor positions(Size2 patches) const;
  OCELLUS_MODULE(Embeddings, cls_token, position_embeddings, patch_embeddings)
};

struct SelfAttention : Module<SelfAttention> {
  nn::Linear query, key, value;
  Index heads;
  double dropout;

  explicit SelfAttention(const Config& c)
      : query(c.hidden_size, c.hidden_size, {.bias = c.qkv_bias}),
        key(c.hidden_size, c.hidden_size, {.bias = c.qkv_bias}),
        value(c.hidden_size, c.hidden_size, {.bias = c.qkv_bias}),
        heads(c.num_attention_heads),
        dropout(c.attention_probs_dropout_prob) {}
  Tensor forward(const Tensor& x) const {
    return scaled_dot_product_attention(query(x), key(x), value(x), {.heads = heads, .dropout = dropout});
  }
  OCELLUS_MODULE(SelfAttention, query, key, value)
};

struct SelfOutput : Module<SelfOutput> {
  nn::Linear dense;
  nn::Dropout dropout;

  explicit SelfOutput(const Config& c) : dense(c.hidden_size, c.hidden_size), dropout(c.hidden_dropout_prob) {}
  Tensor forward(const Tensor& x) const { return dropout(dense(x)); }
  OCELLUS_MODULE(SelfOutput, dense)
};

struct Attention : Module<Attention> {
  SelfAttention attention;
  SelfOutput output;

  explicit Attention(const Config& c) : attention(c), output(c) {}
  Tensor forward(const Tensor& x) const { return output(attention(x)); }
  OCELLUS_MODULE(Attention, attention, output)
};

struct Intermediate : Module<Intermediate> {
  nn::Linear dense;
  Act act;

  explicit Intermediate(const Config& c) : dense(c.hidden_size, c.intermediate_size), act(c.hidden_act) {}
  Tensor forward(const Tensor& x) const { return activation(dense(x), act); }
  OCELLUS_MODULE(Intermediate, dense)
};

// The reference adds the residual here, where the MLP ends.
struct Output : Module<Output> {
  nn::Linear dense;
  nn::Dropout dropout;

  explicit Output(const Config& c) : dense(c.intermediate_size, c.hidden_size), dropout(c.hidden_dropout_prob) {}
  Tensor forward(const Tensor& hidden, const Tensor& residual) const { return dropout(dense(hidden)) + residual; }
  OCELLUS_MODULE(Output, dense)
};

// Eq. (2)–(3)
struct Layer : Module<Layer> {
  Attention attention;
  Intermediate intermediate;
  Output output;
  nn::LayerNorm layernorm_before, layernorm_after;

  explicit Layer(const Config& c)
      : attention(c),
        intermediate(c),
        output(c),
        layernorm_before(c.hidden_size, c.layer_norm_eps),
        layernorm_after(c.hidden_size, c.layer_norm_eps) {}
  Tensor forward(const Tensor& input) const {
    const Tensor x = input + attention(layernorm_before(input));
    return output(intermediate(layernorm_after(x)), x);
  }
  OCELLUS_MODULE(Layer, attention, intermediate, output, layernorm_before, layernorm_after)
};

struct Encoder : Module<Encoder> {
  std::vector<Layer> layer;

  explicit Encoder(const Config& c) {
    for (Index i = 0; i < c.num_hidden_layers; ++i) layer.emplace_back(c);
  }
  Tensor forward(const Tensor& tokens) const {
    Tensor x = tokens;
    for (const Layer& l : layer) x = l(x);
    return x;
  }
  OCELLUS_MODULE(Encoder, layer)
};

struct Backbone : Module<Backbone> {
  Embeddings embeddings;
  Encoder encoder;
  nn::LayerNorm layernorm;

  explicit Backbone(const Config& c) : embeddings(c), encoder(c), layernorm(c.hidden_size, c.layer_norm_eps) {}
  // (N, H, W, C) → tokens (N, 1 + patches, D), [CLS] first
  Tensor forward(const Tensor& image) const { return layernorm(encoder(embeddings(image))); }
  OCELLUS_MODULE(Backbone, embeddings, encoder, layernorm)
};

struct ViT : Module<ViT> {
  Backbone vit;
  nn::Linear classifier;
  Config config;

  // Weights start truncated normal 0.02, biases at zero.
  explicit ViT(const Config& c = Config::base());
  // (N, H, W, num_channels) → logits (N, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(ViT, vit, classifier)
};

}  // namespace vit

using ViT = vit::ViT;
using ViTConfig = vit::Config;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <ocellus/core/error.hpp>

namespace ocellus::vit {

OCELLUS_FN Size2 Config::grid() const {
  if (image_size.h < patch_size || image_size.w < patch_size) {
    throw ConfigError("vit: image_size must not be smaller than patch_size; got " + image_size.str() + " and " + std::to_string(patch_size));
  }
  return {image_size.h / patch_size, image_size.w / patch_size};
}

OCELLUS_FN Embeddings::Embeddings(const Config& c)
    : cls_token(Shape{1, 1, c.hidden_size}),
      position_embeddings(Shape{1, 1 + c.grid().h * c.grid().w, c.hidden_size}),
      patch_embeddings(c),
      dropout(c.hidden_dropout_prob),
      grid(c.grid()) {}

OCELLUS_FN Tensor Embeddings::positions(Size2 patches) const {
  if (patches == grid) return position_embeddings;
  const Index dim = position_embeddings.dim(2);
  const Tensor cls = slice<float>(position_embeddings, 1, 0, 1);
  const Tensor map = reshape(slice<float>(position_embeddings, 1, 1, position_embeddings.dim(1)), {1, grid.h, grid.w, dim});
  const Tensor resized = resize(map, patches, {.mode = ResizeMode::bicubic});
  return concat<float>({cls, reshape(resized, {1, -1, dim})}, 1);
}

OCELLUS_FN Tensor Embeddings::forward(const Tensor& image) const {
  const Tensor patches = patch_embeddings(image);
  const Size2 size{patches.dim(1), patches.dim(2)};
  const Index dim = patches.dim(3);
  const Tensor tokens = reshape(patches, {patches.dim(0), -1, dim});
  const Tensor cls = broadcast_to<float>(cls_token, {patches.dim(0), 1, dim});
  return dropout(concat<float>({cls, tokens}, 1) + positions(size));
}

OCELLUS_FN ViT::ViT(const Config& c) : vit(c), classifier(c.hidden_size, static_cast<Index>(c.labels.size())), config(c) {
  for (const NamedParameter& p : named_parameters(*this)) {
    if (p.parameter->rank() > 1) init::truncated_normal(*p.parameter, 0.02f);
    if (p.name.ends_with("bias")) init::zeros(*p.parameter);
  }
}

OCELLUS_FN Tensor ViT::forward(const Tensor& image) const {
  const Tensor tokens = vit(image);
  const Tensor cls = slice(tokens, 1, 0, 1);
  return classifier(reshape(cls, {tokens.dim(0), tokens.dim(2)}));
}

OCELLUS_FN Config Config::from_json(const Json& json) {
  namespace read = ocellus::config;
  Config c;
  c.labels = read::labels(json);
  c.hidden_size = read::integer(json, "hidden_size", c.hidden_size, 1, 65536);
  c.num_hidden_layers = read::integer(json, "num_hidden_layers", c.num_hidden_layers, 1, 1000);
  c.num_attention_heads = read::integer(json, "num_attention_heads", c.num_attention_heads, 1, 4096);
  c.intermediate_size = read::integer(json, "intermediate_size", c.intermediate_size, 1, 1 << 20);
  c.hidden_act = read::activation(json, "hidden_act", c.hidden_act);
  c.hidden_dropout_prob = read::rate(json, "hidden_dropout_prob", c.hidden_dropout_prob);
  c.attention_probs_dropout_prob = read::rate(json, "attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  c.layer_norm_eps = json.get<double>("layer_norm_eps", c.layer_norm_eps);
  if (!(c.layer_norm_eps >= 0 && c.layer_norm_eps < 1)) json.at("layer_norm_eps").fail("must lie in [0, 1)");
  c.patch_size = read::integer(json, "patch_size", c.patch_size, 1, 4096);
  if (json.has("image_size") && json.at("image_size").is_array()) {
    const std::vector<Index> sides = read::integers(json, "image_size", {224, 224}, 1, 16384);
    c.image_size = {sides[0], sides[1]};
  } else {
    c.image_size = read::integer(json, "image_size", 224, 1, 16384);
  }
  if (c.image_size.h < c.patch_size || c.image_size.w < c.patch_size) json.at("image_size").fail("must not be smaller than patch_size");
  c.num_channels = read::integer(json, "num_channels", c.num_channels, 1, 4096);
  c.qkv_bias = json.get<bool>("qkv_bias", c.qkv_bias);
  if (c.hidden_size % c.num_attention_heads != 0) {
    throw ConfigError("config.json: hidden_size = " + std::to_string(c.hidden_size) + " must be a multiple of num_attention_heads = " +
                      std::to_string(c.num_attention_heads));
  }
  return c;
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.key("architectures").begin_array().value("ViTForImageClassification").end_array();
  json.field("hidden_size", hidden_size).field("num_hidden_layers", num_hidden_layers).field("num_attention_heads", num_attention_heads);
  json.field("intermediate_size", intermediate_size).field("hidden_act", ocellus::config::name_of(hidden_act));
  json.field("hidden_dropout_prob", hidden_dropout_prob).field("attention_probs_dropout_prob", attention_probs_dropout_prob);
  json.field("layer_norm_eps", layer_norm_eps).field("patch_size", patch_size).field("num_channels", num_channels);
  if (image_size.h == image_size.w) {
    json.field("image_size", image_size.h);
  } else {
    json.field("image_size", std::vector<Index>{image_size.h, image_size.w});
  }
  json.field("qkv_bias", qkv_bias);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::vit
#endif
