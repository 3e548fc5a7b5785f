// optimize: passes of rules that make an inference graph cheaper without changing what it computes beyond rounding. No rule names a
// model: SegFormer's folded head comes out of rules about linear maps.
#pragma once

#include <ocellus/autograd/graph.hpp>

namespace ocellus {

// Three passes in this order: normalise (1×1 convolution → linear, batch norm folded, identities dropped), algebra (a linear map over a
// concat is a sum, a linear map commutes with resizing, consecutive linear maps merge), epilogues (activation, residual).
Graph optimize(const Graph& graph);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_GRAPH)
#include <algorithm>
#include <cmath>
#include <optional>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/conv.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/ops/norm.hpp>
#include <ocellus/ops/resize.hpp>

namespace ocellus::rules {

using Inputs = std::span<const AnyTensor>;

inline Tensor f(const AnyTensor& t) { return Tensor(t); }

// The same op on other inputs.
OCELLUS_FN AnyTensor again(const AnyOp& op, Inputs in) { return call_one(op.table(), op.get(), in); }

// The i-th input, empty when the call has fewer.
OCELLUS_FN AnyTensor optional_input(Inputs in, std::size_t i) { return i < in.size() ? in[i] : AnyTensor(); }

// A 1×1 convolution with stride 1 is a linear map of the channels.
OCELLUS_FN AnyTensor pointwise_convolution_is_linear(GraphBuilder&, const AnyOp& op, Inputs in) {
  const auto* c = op.as<op::Conv2d>();
  if (!c || in[1].dim(1) != 1 || in[1].dim(2) != 1 || !(c->stride == Size2(1)) || !(c->padding == Size2(0)) || c->groups != 1) return {};
  std::vector<AnyTensor> list(in.begin(), in.end());
  list[1] = list[1].reshaped({in[1].dim(0), -1});
  return call_list<float>(op::Linear{c->epilogue}, list);
}

// γ (Wx + b − μ) / σ + β  =  (s W) x + s (b − μ) + β,   s = γ / σ
OCELLUS_FN AnyTensor fold_batch_norm(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  const auto* norm = op.as<op::BatchNorm>();
  const Node* p = norm && !norm->training ? builder.only_use_of<op::Linear, op::Conv2d>(in[0]) : nullptr;
  if (!p) return {};
  std::vector<AnyTensor> list = builder.inputs(*p);
  const bool linear_epilogue = p->op.as<op::Linear>() ? p->op.as<op::Linear>()->epilogue.empty() : p->op.as<op::Conv2d>()->epilogue.empty();
  if (!linear_epilogue || (list.size() > 3 && list[3]) || in[0].dim(-1) != builder.output_of(*p).dim(-1)) return {};
  for (std::size_t i = 1; i < 5; ++i) {
    if (in[i].symbolic()) return {};
  }
  if (list[1].symbolic()) return {};
  const Tensor gamma = f(in[1]), beta = f(in[2]), mean = f(in[3]), var = f(in[4]);
  Tensor scale(gamma.shape()), shift(gamma.shape());
  for (Index i = 0; i < scale.numel(); ++i) {
    scale[i] = static_cast<float>(static_cast<double>(gamma[i]) / std::sqrt(static_cast<double>(var[i]) + norm->eps));
    const double bias = list.size() > 2 && list[2] ? static_cast<double>(f(list[2])[i]) : 0;
    shift[i] = static_cast<float>((bias - static_cast<double>(mean[i])) * static_cast<double>(scale[i]) + static_cast<double>(beta[i]));
  }
  Shape per_row{scale.numel()};
  while (per_row.rank() < list[1].rank()) per_row.push_back(1);
  list[1] = f(list[1]) * reshape(scale, per_row);
  list.resize(std::max<std::size_t>(list.size(), 3));
  list[2] = shift;
  builder.name_after(p->path);
  return again(AnyOp(p->op), list).reshaped(in[0].shape());
}

OCELLUS_FN AnyTensor drop_identity_resize(GraphBuilder&, const AnyOp& op, Inputs in) {
  const auto* r = op.as<op::Resize>();
  return r && r->is_identity(in[0].shape()) && !optional_input(in, 1) ? in[0] : AnyTensor();
}

// A linear map with nothing fused into it.
OCELLUS_FN bool plain_linear(const AnyOp& op, Inputs in) {
  const auto* l = op.as<op::Linear>();
  return l && l->epilogue.empty() && !optional_input(in, 3);
}

// W [x₁; x₂; …] = Σ Wᵢ xᵢ
OCELLUS_FN AnyTensor split_linear_over_concat(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  if (!plain_linear(op, in) || in[1].symbolic()) return {};
  const Node* p = builder.only_use_of<op::Concat>(in[0]);
  if (!p || !(in[0].shape() == builder.output_of(*p).shape())) return {};
  const int axis = p->op.as<op::Concat>()->axis;
  if (axis != -1 && axis != in[0].rank() - 1) return {};
  const std::vector<AnyTensor> parts = builder.inputs(*p);
  std::vector<Index> sizes;
  for (const AnyTensor& part : parts) sizes.push_back(part.dim(-1));
  const std::vector<Tensor> weights = split(f(in[1]), sizes, -1);
  Tensor y = linear<float>(f(parts[0]), weights[0], f(optional_input(in, 2)));
  for (std::size_t i = 1; i < parts.size(); ++i) y = y + linear<float>(f(parts[i]), weights[i]);
  return y;
}

// A linear map of the channels commutes with resizing the pixels (whose weights sum to one): do it where there are fewer.
OCELLUS_FN AnyTensor linear_before_resize(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  if (!plain_linear(op, in) || in[0].rank() != 4) return {};
  const Node* p = builder.only_use_of<op::Resize>(in[0]);
  if (!p || p->in.size() > 1 || !(in[0].shape() == builder.output_of(*p).shape())) return {};
  std::vector<AnyTensor> list(in.begin(), in.end());
  list[0] = builder.inputs(*p)[0];
  if (list[0].rank() != 4 || list[0].shape().rows() >= in[0].shape().rows()) return {};
  const AnyOp resize_op = p->op;  // the next call may grow the list of nodes
  const std::string resize_path = p->path;
  const AnyTensor small[] = {again(op, list)};
  builder.name_after(resize_path);
  return again(resize_op, small);
}

// W₂ (W₁ x + b₁) + b₂ = (W₂ W₁) x + (W₂ b₁ + b₂), where that is less work. Named after the layer that reads x: of a linear map split over
// a concat each part keeps a name of its own.
OCELLUS_FN AnyTensor merge_linears(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  if (!op.as<op::Linear>() || in[1].symbolic()) return {};
  const Node* p = builder.only_use_of<op::Linear>(in[0]);
  if (!p || in[0].dim(-1) != builder.output_of(*p).dim(-1)) return {};
  const std::vector<AnyTensor> inner = builder.inputs(*p);
  if (!plain_linear(p->op, inner) || inner[1].symbolic()) return {};
  const Tensor w1 = f(inner[1]), w2 = f(in[1]);
  const Index k = w1.dim(1), m = w1.dim(0), n = w2.dim(0);
  if (n * k > m * k + n * m) return {};
  std::vector<AnyTensor> list(in.begin(), in.end());
  list.resize(std::max<std::size_t>(list.size(), 3));
  Shape shape = in[0].shape();
  shape[-1] = k;
  list[0] = inner[0].reshaped(shape);
  list[1] = matmul(w2, w1);
  const AnyTensor b1 = optional_input(inner, 2);
  if (b1) {
    const Tensor carried = reshape(linear<float>(reshape(f(b1), {1, m}), w2), {n});
    list[2] = list[2] ? f(list[2]) + carried : carried;
  }
  builder.name_after(p->path);
  return again(op, list);
}

// act(linear(x)) or linear(x) + r, moved into the epilogue of the linear map or convolution.
template <class Op>
AnyTensor into_epilogue(GraphBuilder& builder, const Node& p, Act act, const AnyTensor& residual, const Shape& shape) {
  Op op = *p.op.as<Op>();
  std::vector<AnyTensor> list = builder.inputs(p);
  list.resize(4);
  builder.name_after(p.path);
  const bool has_residual = static_cast<bool>(list[3]);
  if (act != Act::none) {
    Act& slot = has_residual ? op.epilogue.after : op.epilogue.before;
    if (slot != Act::none) return {};
    slot = act;
  } else {
    if (has_residual || op.epilogue.after != Act::none) return {};
    const AnyTensor& y = builder.output_of(p);
    list[3] = residual.reshaped(y.shape());
  }
  return AnyTensor(call_list<float>(op, list)).reshaped(shape);
}

OCELLUS_FN AnyTensor fuse_epilogue(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  const auto* a = op.as<op::Activation>();
  const bool sum = op.as<op::Add>() && in[0].shape() == in[1].shape();
  if (!a && !sum) return {};
  if (a && a->act == Act::none) return in[0];
  // Of two candidates the later one: its residual is then certain to exist when it runs.
  const Node* best = nullptr;
  std::size_t which = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Node* p = builder.only_use_of<op::Linear, op::Conv2d>(in[i]);
    if (p && (!best || p > best)) {
      best = p;
      which = i;
    }
  }
  if (!best) return {};
  const AnyTensor residual = sum ? in[1 - which] : AnyTensor();
  const Act act = a ? a->act : Act::none;
  const Node node = *best;  // the call below may grow the list of nodes
  return node.op.as<op::Linear>() ? into_epilogue<op::Linear>(builder, node, act, residual, in[which].shape())
                                  : into_epilogue<op::Conv2d>(builder, node, act, residual, in[which].shape());
}

// resize(x) + r, moved into the resize.
OCELLUS_FN AnyTensor fuse_add_into_resize(GraphBuilder& builder, const AnyOp& op, Inputs in) {
  if (!op.as<op::Add>() || !(in[0].shape() == in[1].shape())) return {};
  for (std::size_t i = 2; i-- > 0;) {
    const Node* p = builder.only_use_of<op::Resize>(in[i]);
    if (!p || p->in.size() > 1 || !(in[i].shape() == builder.output_of(*p).shape())) continue;
    const AnyTensor list[] = {builder.inputs(*p)[0], in[1 - i]};
    builder.name_after(p->path);
    return again(p->op, list);
  }
  return {};
}

}  // namespace ocellus::rules

namespace ocellus {

OCELLUS_FN Graph optimize(const Graph& graph) {
  static constexpr Rule normalise[] = {rules::pointwise_convolution_is_linear, rules::fold_batch_norm, rules::drop_identity_resize};
  static constexpr Rule algebra[] = {rules::split_linear_over_concat, rules::linear_before_resize, rules::merge_linears};
  static constexpr Rule epilogues[] = {rules::fuse_epilogue, rules::fuse_add_into_resize};
  return rewrite(rewrite(rewrite(graph, normalise), algebra), epilogues);
}

}  // namespace ocellus
#endif
