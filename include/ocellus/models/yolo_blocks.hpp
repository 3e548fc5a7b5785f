// The blocks that YOLOv8 and YOLO11 are built from. Every map is (N, H, W, C), and every block but a convolution of
// stride 2 keeps H and W. Field names are the checkpoint's keys.
//   bottlenecks: He et al., 2015, arXiv:1512.03385;   cross-stage partial connections: Wang et al., 2019, arXiv:1911.11929
//   pooling pyramid: He et al., 2014, arXiv:1406.4729;   attention: Wang et al., 2024, arXiv:2405.14458, Sec. 3.2
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <ocellus/nn/any_module.hpp>
#include <ocellus/nn/conv_norm_act.hpp>
#include <ocellus/nn/sequential.hpp>

namespace ocellus::yolo {

// Convolution, batch norm, SiLU; Act::none leaves the SiLU out.
struct Conv : nn::ConvNormAct {
  Conv(Index in, Index out, Index kernel_size = 1, Index stride = 1, Index groups = 1, Act f = Act::silu)
      : ConvNormAct(in, out, kernel_size,
                    {.stride = stride, .groups = groups, .act = f, .norm = {.eps = 1e-3, .momentum = 0.03}}) {}
};

// x + conv3×3(conv3×3(x))
struct Bottleneck : Module<Bottleneck> {
  Conv cv1, cv2;
  bool shortcut;

  Bottleneck(Index channels, Index hidden, bool add);
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(Bottleneck, cv1, cv2)
};

// A cross-stage partial block with three convolutions: half of the channels pass n bottlenecks, half pass none.
struct C3k : Module<C3k> {
  Conv cv1, cv2, cv3;
  std::vector<Bottleneck> m;

  C3k(Index channels, Index n);
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(C3k, cv1, cv2, cv3, m)
};

// A cross-stage partial block with two convolutions: of `hidden` channels each, one half goes on as it is, the other
// through n inner blocks in a row, and the output sees what came before and behind each of them.
struct C2f : Module<C2f> {
  Conv cv1, cv2;
  std::vector<nn::AnyModule> m;

  // `inner()` makes an inner block, a module from `hidden` to `hidden` channels.
  template <class F>
  C2f(Index in, Index out, Index hidden, Index n, F inner) : cv1(in, 2 * hidden), cv2((2 + n) * hidden, out) {
    for (Index i = 0; i < n; ++i) m.emplace_back(inner());
  }
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(C2f, cv1, cv2, m)
};

// Windows of 5, 9 and 13 pixels, as one pooling of 5 pixels applied one, two and three times.
struct Sppf : Module<Sppf> {
  Conv cv1, cv2;

  Sppf(Index in, Index out);
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(Sppf, cv1, cv2)
};

// Self-attention over the pixels, keys half as wide as values, and a depthwise convolution that tells it where they
// are.
struct Attention : Module<Attention> {
  Conv qkv, proj, pe;
  Index heads, key_width, value_width;  // of one head

  Attention(Index channels, Index head_count);
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(Attention, qkv, proj, pe)
};

struct PsaBlock : Module<PsaBlock> {
  Attention attn;
  nn::Sequential ffn;

  explicit PsaBlock(Index channels);
  Tensor forward(const Tensor& input) const;
  OCELLUS_MODULE(PsaBlock, attn, ffn)
};

// Half of the channels pass n attention blocks, half pass none.
struct C2psa : Module<C2psa> {
  Conv cv1, cv2;
  nn::Sequential m;

  C2psa(Index channels, Index n);
  Tensor forward(const Tensor& x) const;
  OCELLUS_MODULE(C2psa, cv1, cv2, m)
};

}  // namespace ocellus::yolo

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_MODELS)
#include <ocellus/ops/attention.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/pool.hpp>

namespace ocellus::yolo {

OCELLUS_FN Bottleneck::Bottleneck(Index channels, Index hidden, bool add)
    : cv1(channels, hidden, 3), cv2(hidden, channels, 3), shortcut(add) {}

OCELLUS_FN Tensor Bottleneck::forward(const Tensor& x) const {
  const Tensor y = cv2(cv1(x));
  return shortcut ? x + y : y;
}

OCELLUS_FN C3k::C3k(Index channels, Index n)
    : cv1(channels, channels / 2), cv2(channels, channels / 2), cv3(channels, channels) {
  for (Index i = 0; i < n; ++i) m.emplace_back(channels / 2, channels / 2, true);
}

OCELLUS_FN Tensor C3k::forward(const Tensor& x) const {
  Tensor y = cv1(x);
  for (const Bottleneck& block : m) y = block(y);
  return cv3(concat(std::vector<Tensor>{y, cv2(x)}));
}

OCELLUS_FN Tensor C2f::forward(const Tensor& x) const {
  const Tensor y = cv1(x);
  std::vector<Tensor> parts = split(y, {y.dim(3) / 2, y.dim(3) / 2});
  for (const nn::AnyModule& block : m) parts.push_back(block(parts.back()));
  return cv2(concat(parts));
}

OCELLUS_FN Sppf::Sppf(Index in, Index out) : cv1(in, in / 2), cv2(in / 2 * 4, out) {}

OCELLUS_FN Tensor Sppf::forward(const Tensor& x) const {
  const MaxPoolOptions window{.kernel_size = 5, .stride = 1, .padding = 2};
  std::vector<Tensor> levels{cv1(x)};
  for (int i = 0; i < 3; ++i) levels.push_back(max_pool2d(levels.back(), window));
  return cv2(concat(levels));
}

OCELLUS_FN Attention::Attention(Index channels, Index head_count)
    : qkv(channels, channels + 2 * (channels / head_count / 2) * head_count, 1, 1, 1, Act::none),
      proj(channels, channels, 1, 1, 1, Act::none),
      pe(channels, channels, 3, 1, channels, Act::none),
      heads(head_count),
      key_width(channels / head_count / 2),
      value_width(channels / head_count) {}

OCELLUS_FN Tensor Attention::forward(const Tensor& x) const {
  const Index n = x.dim(0), pixels = x.dim(1) * x.dim(2);
  const std::vector<Tensor> parts = split(reshape(qkv(x), {n, pixels, heads, -1}), {key_width, key_width, value_width});
  const auto tokens = [&](const Tensor& t) { return reshape(t, {n, pixels, -1}); };
  const Tensor y = scaled_dot_product_attention(tokens(parts[0]), tokens(parts[1]), tokens(parts[2]), {.heads = heads});
  return proj(reshape(y, x.shape()) + pe(reshape(parts[2], x.shape())));
}

// Heads of 64 channels.
OCELLUS_FN PsaBlock::PsaBlock(Index channels) : attn(channels, std::max<Index>(channels / 64, 1)) {
  ffn.append(Conv(channels, 2 * channels)).append(Conv(2 * channels, channels, 1, 1, 1, Act::none));
}

OCELLUS_FN Tensor PsaBlock::forward(const Tensor& input) const {
  const Tensor x = input + attn(input);
  return x + ffn(x);
}

OCELLUS_FN C2psa::C2psa(Index channels, Index n) : cv1(channels, channels), cv2(channels, channels) {
  for (Index i = 0; i < n; ++i) m.append(PsaBlock(channels / 2));
}

OCELLUS_FN Tensor C2psa::forward(const Tensor& x) const {
  const Tensor y = cv1(x);
  const std::vector<Tensor> parts = split(y, {y.dim(3) / 2, y.dim(3) / 2});
  return cv2(concat(std::vector<Tensor>{parts[0], m(parts[1])}));
}

}  // namespace ocellus::yolo
#endif
