// SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers (Xie et al., 2021), arXiv:2105.15203
//   image (N, H, W, 3) → 4 × [overlapping patch embedding, n × (efficient attention, Mix-FFN)] → all-MLP head → (N, H/4, W/4, K)
// Field names are the keys of the hub's SegformerForSemanticSegmentation. Every layer norm has the default ε of 1e-5: the reference
// does not use the configuration's layer_norm_eps.
#pragma once

#include <optional>
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
namespace segformer {

struct Config {
  static constexpr const char* model_type = "segformer";
  static constexpr Task task = Task::segment;

  Index num_channels = 3;
  std::vector<Index> hidden_sizes = {32, 64, 160, 256};
  std::vector<Index> depths = {2, 2, 2, 2};
  std::vector<Index> num_attention_heads = {1, 2, 5, 8};
  std::vector<Index> sr_ratios = {8, 4, 2, 1};
  std::vector<Index> patch_sizes = {7, 3, 3, 3};
  std::vector<Index> strides = {4, 2, 2, 2};
  std::vector<double> mlp_ratios = {4, 4, 4, 4};
  Index decoder_hidden_size = 256;
  Act hidden_act = Act::gelu;
  double hidden_dropout_prob = 0, attention_probs_dropout_prob = 0, classifier_dropout_prob = 0.1, drop_path_rate = 0.1;
  Index semantic_loss_ignore_index = 255;
  std::vector<std::string> labels = ocellus::config::default_labels(150);

  // Table 6 of the paper.
  static Config b0() { return {}; }
  static Config b1() { return variant({64, 128, 320, 512}, {2, 2, 2, 2}, 256); }
  static Config b2() { return variant({64, 128, 320, 512}, {3, 4, 6, 3}, 768); }
  static Config b3() { return variant({64, 128, 320, 512}, {3, 4, 18, 3}, 768); }
  static Config b4() { return variant({64, 128, 320, 512}, {3, 8, 27, 3}, 768); }
  static Config b5() { return variant({64, 128, 320, 512}, {3, 6, 40, 3}, 768); }

  static Config from_json(const Json& json);
  void write(JsonWriter& json) const;

 private:
  static Config variant(const std::vector<Index>& widths, const std::vector<Index>& layers, Index decoder) {
    Config c;
    c.hidden_sizes = widths;
    c.depths = layers;
    c.decoder_hidden_size = decoder;
    return c;
  }
};

// A feature map is a token list by reshape: pixels are tokens, channels come last.
struct Grid {
  Index h, w;
};
inline Tensor to_tokens(const Tensor& x) { return reshape(x, {x.dim(0), -1, x.dim(3)}); }
inline Tensor to_image(const Tensor& x, Grid g) { return reshape(x, {x.dim(0), g.h, g.w, -1}); }

// Sec. 3.1, overlapped patch merging
struct OverlapPatchEmbeddings : Module<OverlapPatchEmbeddings> {
  nn::Conv2d proj;
  nn::LayerNorm layer_norm;

  OverlapPatchEmbeddings(Index in, Index out, Index patch, Index stride)
      : proj(in, out, patch, {.stride = stride, .padding = patch / 2}), layer_norm(out) {}
  Tensor forward(const Tensor& image) const { return layer_norm(proj(image)); }
  OCELLUS_MODULE(OverlapPatchEmbeddings, proj, layer_norm)
};

// Sec. 3.1, eq. (1)–(2): keys and values come from a map reduced by R × R
struct EfficientSelfAttention : Module<EfficientSelfAttention> {
  nn::Linear query, key, value;
  std::optional<nn::Conv2d> sr;
  std::optional<nn::LayerNorm> layer_norm;
  Index heads;
  double dropout;

  EfficientSelfAttention(Index dim, Index num_heads, Index reduction, double dropout_rate)
      : query(dim, dim), key(dim, dim), value(dim, dim), heads(num_heads), dropout(dropout_rate) {
    if (reduction == 1) return;
    sr.emplace(dim, dim, reduction, nn::Conv2dLayerOptions{.stride = reduction});
    layer_norm.emplace(dim);
  }
  Tensor forward(const Tensor& x, Grid g) const {
    const Tensor kv = sr ? (*layer_norm)(to_tokens((*sr)(to_image(x, g)))) : x;
    return scaled_dot_product_attention(query(x), key(kv), value(kv), {.heads = heads, .dropout = dropout});
  }
  OCELLUS_MODULE(EfficientSelfAttention, query, key, value, sr, layer_norm)
};

struct SelfOutput : Module<SelfOutput> {
  nn::Linear dense;
  nn::Dropout dropout;

  SelfOutput(Index dim, double dropout_rate) : dense(dim, dim), dropout(dropout_rate) {}
  Tensor forward(const Tensor& x) const { return dropout(dense(x)); }
  OCELLUS_MODULE(SelfOutput, dense)
};

struct Attention : Module<Attention> {
  EfficientSelfAttention self;
  SelfOutput output;

  Attention(Index dim, Index heads, Index reduction, const Config& c)
      : self(dim, heads, reduction, c.attention_probs_dropout_prob), output(dim, c.hidden_dropout_prob) {}
  Tensor forward(const Tensor& x, Grid g) const { return output(self(x, g)); }
  OCELLUS_MODULE(Attention, self, output)
};

// Eq. (3): MLP(GELU(Conv3×3(MLP(x)))), the convolution depthwise: it tells the tokens where they are
struct DepthwiseConv : Module<DepthwiseConv> {
  nn::Conv2d dwconv;

  explicit DepthwiseConv(Index channels) : dwconv(channels, channels, 3, {.padding = 1, .groups = channels}) {}
  Tensor forward(const Tensor& x, Grid g) const { return to_tokens(dwconv(to_image(x, g))); }
  OCELLUS_MODULE(DepthwiseConv, dwconv)
};

struct MixFfn : Module<MixFfn> {
  nn::Linear dense1;
  DepthwiseConv dwconv;
  nn::Linear dense2;
  nn::Dropout dropout;
  Act act;

  MixFfn(Index dim, Index hidden, const Config& c)
      : dense1(dim, hidden), dwconv(hidden), dense2(hidden, dim), dropout(c.hidden_dropout_prob), act(c.hidden_act) {}
  Tensor forward(const Tensor& x, Grid g) const { return dropout(dense2(dropout(activation(dwconv(dense1(x), g), act)))); }
  OCELLUS_MODULE(MixFfn, dense1, dwconv, dense2)
};

struct Layer : Module<Layer> {
  nn::LayerNorm layer_norm_1;
  Attention attention;
  nn::LayerNorm layer_norm_2;
  MixFfn mlp;
  nn::StochasticDepth drop_path;

  Layer(Index dim, Index heads, Index reduction, Index hidden, double drop_path_rate, const Config& c)
      : layer_norm_1(dim), attention(dim, heads, reduction, c), layer_norm_2(dim), mlp(dim, hidden, c), drop_path(drop_path_rate) {}
  Tensor forward(const Tensor& input, Grid g) const {
    const Tensor x = input + drop_path(attention(layer_norm_1(input), g));
    return x + drop_path(mlp(layer_norm_2(x), g));
  }
  OCELLUS_MODULE(Layer, layer_norm_1, attention, layer_norm_2, mlp)
};

// Sec. 3.1: the hierarchical encoder, MiT
struct Encoder : Module<Encoder> {
  std::vector<OverlapPatchEmbeddings> patch_embeddings;
  std::vector<std::vector<Layer>> block;
  std::vector<nn::LayerNorm> layer_norm;

  explicit Encoder(const Config& c);
  // Four maps at strides 4, 8, 16 and 32.
  std::vector<Tensor> forward(const Tensor& image) const;
  OCELLUS_MODULE(Encoder, patch_embeddings, block, layer_norm)
};

struct Backbone : Module<Backbone> {
  Encoder encoder;

  explicit Backbone(const Config& c) : encoder(c) {}
  std::vector<Tensor> forward(const Tensor& image) const { return encoder(image); }
  OCELLUS_MODULE(Backbone, encoder)
};

struct Projection : Module<Projection> {
  nn::Linear proj;

  Projection(Index in, Index out) : proj(in, out) {}
  Tensor forward(const Tensor& x) const { return proj(x); }
  OCELLUS_MODULE(Projection, proj)
};

// Sec. 3.2, eq. (4): the all-MLP decoder
struct DecodeHead : Module<DecodeHead> {
  std::vector<Projection> linear_c;
  nn::Conv2d linear_fuse;
  nn::BatchNorm2d batch_norm;
  nn::Dropout dropout;
  nn::Conv2d classifier;

  explicit DecodeHead(const Config& c);
  Tensor forward(const std::vector<Tensor>& maps) const;
  OCELLUS_MODULE(DecodeHead, linear_c, linear_fuse, batch_norm, classifier)
};

struct SegFormer : Module<SegFormer> {
  Backbone segformer;
  DecodeHead decode_head;
  Config config;

  // Weights start as the paper's code has them: truncated normal 0.02 for linear maps, √(2 / fan_out) for convolutions but 0.01 for the
  // classifier, zero biases.
  explicit SegFormer(const Config& c = Config::b0());
  // (N, H, W, num_channels) → logits (N, ⌈H/4⌉, ⌈W/4⌉, K)
  Tensor forward(const Tensor& image) const;
  OCELLUS_MODULE(SegFormer, segformer, decode_head)
};

}  // namespace segformer

using SegFormer = segformer::SegFormer;
using SegFormerConfig = segformer::Config;

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <ocellus/core/error.hpp>

namespace ocellus::segformer {

OCELLUS_FN Encoder::Encoder(const Config& c) : block(c.depths.size()) {
  Index total = 0;
  for (Index d : c.depths) total += d;
  Index layer = 0;
  for (std::size_t s = 0; s < c.depths.size(); ++s) {
    const Index dim = c.hidden_sizes[s];
    const Index hidden = static_cast<Index>(static_cast<double>(dim) * c.mlp_ratios[s]);
    patch_embeddings.emplace_back(s ? c.hidden_sizes[s - 1] : c.num_channels, dim, c.patch_sizes[s], c.strides[s]);
    for (Index d = 0; d < c.depths[s]; ++d, ++layer) {
      const double rate = total > 1 ? c.drop_path_rate * static_cast<double>(layer) / static_cast<double>(total - 1) : 0;
      block[s].emplace_back(dim, c.num_attention_heads[s], c.sr_ratios[s], hidden, rate, c);
    }
    layer_norm.emplace_back(dim);
  }
}

OCELLUS_FN std::vector<Tensor> Encoder::forward(const Tensor& image) const {
  std::vector<Tensor> maps;
  Tensor x = image;
  for (std::size_t s = 0; s < block.size(); ++s) {
    x = patch_embeddings[s](x);
    const Grid grid{x.dim(1), x.dim(2)};
    Tensor tokens = to_tokens(x);
    for (const Layer& layer : block[s]) tokens = layer(tokens, grid);
    x = to_image(layer_norm[s](tokens), grid);
    maps.push_back(x);
  }
  return maps;
}

OCELLUS_FN DecodeHead::DecodeHead(const Config& c)
    : linear_fuse(static_cast<Index>(c.hidden_sizes.size()) * c.decoder_hidden_size, c.decoder_hidden_size, 1, {.bias = false}),
      batch_norm(c.decoder_hidden_size),
      dropout(c.classifier_dropout_prob),
      classifier(c.decoder_hidden_size, static_cast<Index>(c.labels.size()), 1) {
  for (Index width : c.hidden_sizes) linear_c.emplace_back(width, c.decoder_hidden_size);
}

OCELLUS_FN Tensor DecodeHead::forward(const std::vector<Tensor>& maps) const {
  const Size2 size{maps[0].dim(1), maps[0].dim(2)};
  std::vector<Tensor> levels;
  for (std::size_t s = maps.size(); s-- > 0;) levels.push_back(resize(linear_c[s](maps[s]), size));  // coarse first, as the checkpoints have it
  return classifier(dropout(relu(batch_norm(linear_fuse(concat(levels))))));
}

OCELLUS_FN SegFormer::SegFormer(const Config& c) : segformer(c), decode_head(c), config(c) {
  for (const NamedParameter& p : named_parameters(*this)) {
    Parameter& w = *p.parameter;
    if (w.is_buffer()) continue;
    if (w.rank() == 2) init::truncated_normal(w, 0.02f);
    if (w.rank() == 4) {
      const bool depthwise = w.dim(3) == 1;
      const Index fan_out = w.dim(1) * w.dim(2) * (depthwise ? 1 : w.dim(0));
      init::fan_out_normal(w, fan_out);
    }
    if (p.name.ends_with("bias")) init::zeros(w);
  }
  init::normal(decode_head.classifier.weight, 0.01f);
}

OCELLUS_FN Tensor SegFormer::forward(const Tensor& image) const { return decode_head(segformer(image)); }

OCELLUS_FN Config Config::from_json(const Json& json) {
  namespace read = ocellus::config;
  Config c;
  c.labels = read::labels(json);
  c.num_channels = read::integer(json, "num_channels", c.num_channels, 1, 4096);
  const Index stages = read::integer(json, "num_encoder_blocks", 4, 1, 16);
  const auto list = [&](const char* key, const std::vector<Index>& fallback, Index low, Index high) {
    const std::vector<Index> values = read::integers(json, key, fallback, low, high, true);
    if (static_cast<Index>(values.size()) == stages) return values;
    throw ConfigError("config.json: " + std::string(key) + " must have num_encoder_blocks = " + std::to_string(stages) + " elements; got " +
                      std::to_string(values.size()));
  };
  c.hidden_sizes = list("hidden_sizes", c.hidden_sizes, 1, 65536);
  c.depths = list("depths", c.depths, 1, 1000);
  c.num_attention_heads = list("num_attention_heads", c.num_attention_heads, 1, 4096);
  c.sr_ratios = list("sr_ratios", c.sr_ratios, 1, 256);
  c.patch_sizes = list("patch_sizes", c.patch_sizes, 1, 256);
  c.strides = list("strides", c.strides, 1, 256);
  c.mlp_ratios = json.get<std::vector<double>>("mlp_ratios", c.mlp_ratios);
  if (static_cast<Index>(c.mlp_ratios.size()) != stages) throw ConfigError("config.json: mlp_ratios must have num_encoder_blocks elements");
  for (double ratio : c.mlp_ratios) {
    if (!(ratio > 0 && ratio <= 64)) json.at("mlp_ratios").fail("must lie in (0, 64]");
  }
  for (std::size_t s = 0; s < c.hidden_sizes.size(); ++s) {
    if (c.hidden_sizes[s] % c.num_attention_heads[s] == 0) continue;
    throw ConfigError("config.json: hidden_sizes[" + std::to_string(s) + "] = " + std::to_string(c.hidden_sizes[s]) +
                      " must be a multiple of num_attention_heads = " + std::to_string(c.num_attention_heads[s]));
  }
  c.decoder_hidden_size = read::integer(json, "decoder_hidden_size", c.decoder_hidden_size, 1, 65536);
  c.hidden_act = read::activation(json, "hidden_act", c.hidden_act);
  c.hidden_dropout_prob = read::rate(json, "hidden_dropout_prob", c.hidden_dropout_prob);
  c.attention_probs_dropout_prob = read::rate(json, "attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  c.classifier_dropout_prob = read::rate(json, "classifier_dropout_prob", c.classifier_dropout_prob);
  c.drop_path_rate = read::rate(json, "drop_path_rate", c.drop_path_rate);
  c.semantic_loss_ignore_index = read::integer(json, "semantic_loss_ignore_index", c.semantic_loss_ignore_index, -1'000'000, 1'000'000);
  if (!json.get<bool>("reshape_last_stage", true)) throw ConfigError("config.json: reshape_last_stage = false is not supported");
  return c;
}

OCELLUS_FN void Config::write(JsonWriter& json) const {
  json.key("architectures").begin_array().value("SegformerForSemanticSegmentation").end_array();
  json.field("num_channels", num_channels).field("num_encoder_blocks", hidden_sizes.size());
  json.field("hidden_sizes", hidden_sizes).field("depths", depths).field("num_attention_heads", num_attention_heads);
  json.field("sr_ratios", sr_ratios).field("patch_sizes", patch_sizes).field("strides", strides);
  json.field("mlp_ratios", mlp_ratios).field("decoder_hidden_size", decoder_hidden_size);
  json.field("hidden_act", ocellus::config::name_of(hidden_act)).field("hidden_dropout_prob", hidden_dropout_prob);
  json.field("attention_probs_dropout_prob", attention_probs_dropout_prob).field("classifier_dropout_prob", classifier_dropout_prob);
  json.field("drop_path_rate", drop_path_rate).field("semantic_loss_ignore_index", semantic_loss_ignore_index);
  ocellus::config::write_labels(json, labels);
}

}  // namespace ocellus::segformer
#endif
