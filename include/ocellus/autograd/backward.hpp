// backward: reverse-mode differentiation over the recorded calls, through the same door, so that a tracer sees it too.
#pragma once

#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/autograd/call.hpp>

namespace ocellus {

// Adds d(y)/d(leaf) to the gradient of every leaf y depends on. `dy` has y's shape; without it y must have one element (dy = 1).
// The records of y's history are used up. Throws UsageError if nothing was recorded or a saved tensor was modified since.
void backward(const AnyTensor& y, const AnyTensor& dy);
void backward(const AnyTensor& y);

// a + b with broadcasting, through the door: how the engine sums gradients.
AnyTensor add_any(const AnyTensor& a, const AnyTensor& b);

template <class T>
BasicTensor<T>& BasicTensor<T>::requires_grad() {
  if (record_ && record_->op) return *this;  // has a history, which stays; a leaf starts anew, without its gradient
  record_ = std::make_shared<Record>();
  record_->outputs = {spec_};
  output_ = 0;
  return *this;
}

template <class T>
BasicTensor<T> BasicTensor<T>::grad() const {
  return BasicTensor(record_ ? record_->grad : AnyTensor());
}

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
namespace ocellus::op {

// y = a + b;  da = Σ dy, db = Σ dy over the repeated axes
struct Add {
  OCELLUS_OP("add(a, b)")
  static constexpr bool in_place = true;

  Shape infer(const Run& r) const { return broadcast_shape(r, r.in[0].shape, r.in[1].shape); }

  Rows reads(const Run& r, int, Rows out) const { return r.in[0].shape == r.in[1].shape ? out : Rows{}; }

  template <class T>
  void forward_rows(const Run& r, Rows rows) const {
    const Shape& y = r.out[0].shape;
    if (rows.size() == y.rows()) {
      broadcast_map<T>(kernels::Binary::add, y, r.in[0].shape, r.in[0], r.in[1].shape, r.in[1], r.out[0]);
      return;
    }
    const Shape part{rows.size(), y[-1]};
    broadcast_map<T>(kernels::Binary::add, part, part, r.in[0].row<const T>(rows.first), part, r.in[1].row<const T>(rows.first),
                     r.out[0].row<T>(rows.first));
  }

  template <class T>
  void backward(const Run& r) const {
    const T* dy = r.dout[0];
    T *da = r.din[0], *db = r.din[1];
    if (da) reduce_to(r.dout[0].shape, dy, r.in[0].shape, da);
    if (db) reduce_to(r.dout[0].shape, dy, r.in[1].shape, db);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <unordered_map>

#include <ocellus/autograd/visitor.hpp>

namespace ocellus {

OCELLUS_FN void Parameter::set_trainable(bool trainable) {
  trainable_ = trainable;
  if (trainable) {
    requires_grad();
  } else {
    set_record(nullptr, 0);
  }
}

OCELLUS_FN AnyTensor add_any(const AnyTensor& a, const AnyTensor& b) {
  const AnyTensor in[] = {a, b};
  const op::Add add;
  return call_one(a.dtype() == DType::f64 ? op_table<op::Add, double> : op_table<op::Add, float>, &add, in);
}

namespace autograd_detail {

OCELLUS_FN AnyTensor filled(const Spec& spec, double value) {
  if (spec.dtype == DType::f64) return BasicTensor<double>::full(spec.shape, value);
  return Tensor::full(spec.shape, static_cast<float>(value));
}

// Every record that y depends on, each after all that it depends on, and their places in this order. Iterative: nets
// may be deep.
OCELLUS_FN std::vector<Record*> topological_order(Record* root, std::unordered_map<const void*, int>& place) {
  std::vector<Record*> order;
  place.emplace(root, 0);
  std::vector<std::pair<Record*, std::size_t>> stack{{root, 0}};
  while (!stack.empty()) {
    auto& [record, next] = stack.back();
    if (next == record->inputs.size()) {
      place[record] = static_cast<int>(order.size());
      order.push_back(record);
      stack.pop_back();
      continue;
    }
    Record* source = record->inputs[next++].record.get();
    if (source && place.try_emplace(source, 0).second) stack.emplace_back(source, 0);
  }
  return order;
}

// The gradients of one recorded call's inputs, given those of its outputs.
OCELLUS_FN std::vector<AnyTensor> differentiate(Record& r, std::vector<AnyTensor> dout) {
  const OpTable& table = r.op.table();
  if (!table.backward) throw UsageError("backward: " + table.info.name() + " is not differentiable");
  if (r.saved.empty()) throw UsageError("backward: the history of " + table.info.name() + " was already used by an earlier backward()");
  for (std::size_t i = 0; i < r.saved.size(); ++i) {
    if (r.saved[i] && r.saved[i].storage()->version() != r.versions[i]) {
      throw UsageError("backward: a tensor that " + table.info.name() +
                       " saved was modified in place since; run backward() before the optimizer's step");
    }
  }
  for (std::size_t i = 0; i < dout.size(); ++i) {
    if (!dout[i]) dout[i] = filled(r.outputs[i], 0);
  }
  const Counts n{r.inputs.size(), r.outputs.size(), r.saved.size() - r.inputs.size() - r.outputs.size()};
  std::vector<AnyTensor> in = std::move(r.saved);
  r.saved.clear();
  in.insert(in.end(), dout.begin(), dout.end());
  std::vector<Spec> specs;
  for (const Source& s : r.inputs) specs.push_back(s.record ? s.spec : Spec{});
  return execute(table, r.op.get(), &r.op, Phase::backward, n, in, specs, r.step);
}

}  // namespace autograd_detail

OCELLUS_FN void backward(const AnyTensor& y) {
  if (y.numel() != 1) throw UsageError("backward: y has shape " + y.shape().str() + "; a gradient of that shape must be given");
  backward(y, autograd_detail::filled(y.spec(), 1));
}

OCELLUS_FN void backward(const AnyTensor& y, const AnyTensor& dy) {
  if (!y.record()) throw UsageError("backward: nothing was recorded (NoGrad, or no input requires a gradient)");
  if (!(dy.shape() == y.shape()) || dy.dtype() != y.dtype()) {
    throw ShapeError("backward: dy must have y's shape and type; got y=" + y.shape().str() + ", dy=" + dy.shape().str());
  }
  Record* root = y.record().get();
  std::unordered_map<const void*, int> place;
  const std::vector<Record*> order = autograd_detail::topological_order(root, place);
  std::vector<std::vector<AnyTensor>> grads(order.size());  // of each record's outputs
  grads.back().resize(root->outputs.size());
  const std::size_t output = static_cast<std::size_t>(y.output());
  grads.back()[output] = dy.detach().reshaped(root->outputs[output].shape);

  const NoGrad no_grad;
  for (std::size_t at = order.size(); at-- > 0;) {
    Record& r = *order[at];
    std::vector<AnyTensor> dout = std::move(grads[at]);
    if (dout.empty()) continue;  // reached only through inputs that want no gradient
    if (!r.op) {
      r.grad = r.grad ? add_any(r.grad, dout[0]) : dout[0];
      continue;
    }
    std::vector<AnyTensor> din = autograd_detail::differentiate(r, std::move(dout));
    for (std::size_t i = 0; i < r.inputs.size(); ++i) {
      const Source& source = r.inputs[i];
      if (!source.record) continue;
      std::vector<AnyTensor>& slots = grads[static_cast<std::size_t>(place[source.record.get()])];
      slots.resize(source.record->outputs.size());
      AnyTensor& sum = slots[static_cast<std::size_t>(source.output)];
      // An edge may show a reshaped view; the gradient returns to the value's own shape.
      const AnyTensor d = din[i].reshaped(source.record->outputs[static_cast<std::size_t>(source.output)].shape);
      sum = sum ? add_any(sum, d) : d;
    }
  }
}

}  // namespace ocellus
#endif
