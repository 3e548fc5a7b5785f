// call: the only door. It runs an op, records it when gradients are on, and shows it with its attributes to a tracer when one listens.
// Everything behind the door is untyped and compiled once.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <ocellus/autograd/context.hpp>
#include <ocellus/autograd/op.hpp>

namespace ocellus {

enum class Phase : std::uint8_t { forward, backward };

// How many tensors of each kind a call has: backward takes in, out, aux, dout in one flat list and gives din.
struct Counts {
  std::size_t in = 0, out = 0, aux = 0;
};

// Where an input of a recorded call came from; `spec` has the shape that this reader saw.
struct Source {
  std::shared_ptr<Record> record;  // null: no gradient flows
  int output = 0;
  Spec spec;
};

// One recorded call, or a leaf (no op). It owns no handle of its own outputs, so there are no cycles.
struct Record {
  AnyOp op;
  std::vector<Source> inputs;
  std::vector<Spec> outputs;
  std::vector<AnyTensor> saved;           // in…, out…, aux…; without data what backward does not keep
  std::vector<std::uint32_t> versions;    // of the storage of each saved tensor when it was saved
  std::uint32_t step = 0;                 // for random ops
  AnyTensor grad;                         // leaves only

  Record() = default;
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();  // iterative: a chain of a million calls must not recurse a million frames
};

// Sees every call that touches a value of its trace.
class Tracer {
 public:
  virtual ~Tracer() = default;
  // Does this value belong to the trace? Calls on other values are constants and just run.
  virtual bool wants(const AnyTensor& value) const = 0;
  virtual std::vector<AnyTensor> add(const AnyOp& op, Phase phase, Counts counts, std::span<const AnyTensor> in,
                                     const std::vector<Spec>& out) = 0;
};

// Lays the flat lists of a call out as a Run. in(i) and out(i) give the i-th View of each list.
void bind_views(Run& run, const OpTable& table, Phase phase, Counts counts, const std::vector<View>& in, const std::vector<View>& out);

// Runs one phase of an op now, or hands it to the tracer. A spec without element type is an output nobody wants.
std::vector<AnyTensor> execute(const OpTable& table, const void* op, const AnyOp* owned, Phase phase, Counts counts,
                               std::span<const AnyTensor> in, const std::vector<Spec>& out, std::uint32_t step);

std::vector<AnyTensor> call_any(const OpTable& table, const void* op, std::span<const AnyTensor> in);
AnyTensor call_one(const OpTable& table, const void* op, std::span<const AnyTensor> in);

namespace autograd_detail {
template <class Op, class T>
struct ResultType {
  using type = T;
};
template <class Op, class T>
  requires requires { typename Op::Result; }
struct ResultType<Op, T> {
  using type = typename Op::Result;
};
}  // namespace autograd_detail

// Calls an op on a list of inputs; an empty tensor is an absent optional input. One output or several, as `infer` returns.
template <class T, class Op>
auto call_list(const Op& op, std::span<const AnyTensor> in) {
  using Out = BasicTensor<typename autograd_detail::ResultType<Op, T>::type>;
  if constexpr (std::is_same_v<decltype(op.infer(std::declval<const Run&>())), Shape>) {
    return Out(call_one(op_table<Op, T>, &op, in));
  } else {
    std::vector<Out> typed;
    for (AnyTensor& t : call_any(op_table<Op, T>, &op, in)) typed.emplace_back(std::move(t));
    return typed;
  }
}

// Calls an op; its element type is that of the first input.
template <class Op, class T, class... Rest>
auto call(const Op& op, const BasicTensor<T>& first, const Rest&... rest) {
  const AnyTensor in[] = {first, rest...};
  return call_list<T>(op, in);
}
template <class Op, class T>
auto call(const Op& op, const std::vector<BasicTensor<T>>& list) {
  return call_list<T>(op, std::vector<AnyTensor>(list.begin(), list.end()));
}

// The stream number of the next random op of this step: an attribute of that op.
inline RandomKey next_random_stream() {
  Context& c = context();
  const RandomKey key = c.random;
  ++c.random.stream;
  return key;
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <algorithm>

#include <ocellus/autograd/visitor.hpp>
#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN Record::~Record() {
  if (inputs.empty()) return;
  thread_local std::vector<std::shared_ptr<Record>>* queue = nullptr;
  std::vector<std::shared_ptr<Record>> mine;
  const bool outermost = !queue;
  if (outermost) queue = &mine;
  saved.clear();
  for (Source& s : inputs) {
    if (s.record) queue->push_back(std::move(s.record));
  }
  if (!outermost) return;
  while (!mine.empty()) {
    const std::shared_ptr<Record> next = std::move(mine.back());
    mine.pop_back();
  }
  queue = nullptr;
}

OCELLUS_COLD OCELLUS_FN void Run::fail(const std::string& rule) const {
  const std::string path = module_path();
  std::string m = (path.empty() ? "" : path + " | ") + op->name() + ": " + rule + "; got ";
  const char* n = op->signature;
  while (*n && *n != '(') ++n;
  if (*n) ++n;
  bool first = true;
  for (const View& v : in) {
    std::string name;
    while (*n && *n != ',' && *n != ')') name += *n++;
    while (*n == ',' || *n == ' ') ++n;
    if (!v.given()) continue;
    m += (first ? "" : ", ") + (name.empty() ? std::string("input") : name) + "=" + v.shape.str();
    first = false;
  }
  throw ShapeError(m);
}

OCELLUS_FN void bind_views(Run& r, const OpTable& table, Phase phase, Counts n, const std::vector<View>& in, const std::vector<View>& out) {
  const auto take = [](std::vector<View>& to, const std::vector<View>& from, std::size_t& at, std::size_t count) {
    to.assign(from.begin() + static_cast<std::ptrdiff_t>(at), from.begin() + static_cast<std::ptrdiff_t>(at + count));
    at += count;
  };
  r.op = &table.info;
  std::size_t i = 0, o = 0;
  take(r.in, in, i, n.in);
  if (phase == Phase::forward) {
    take(r.out, out, o, n.out);
    take(r.aux, out, o, n.aux);
  } else {
    take(r.out, in, i, n.out);
    take(r.aux, in, i, n.aux);
    take(r.dout, in, i, n.out);
    take(r.din, out, o, n.in);
    const unsigned keeps = table.info.keeps;
    for (std::size_t j = 0; j < n.in; ++j) r.in[j].kept = !r.in[j].given() || (keeps & input(static_cast<int>(std::min<std::size_t>(j, 15))));
    for (std::size_t j = 0; j < n.out; ++j) r.out[j].kept = (keeps & output(static_cast<int>(std::min<std::size_t>(j, 15)))) != 0;
    while (static_cast<int>(r.din.size()) < table.info.arity) r.din.emplace_back();
  }
  while (static_cast<int>(r.in.size()) < table.info.arity) r.in.emplace_back();
  while (r.aux.size() < 4) r.aux.emplace_back();  // not recording: every aux is a null pointer
}

OCELLUS_FN std::vector<AnyTensor> execute(const OpTable& table, const void* op, const AnyOp* owned, Phase phase, Counts counts,
                                          std::span<const AnyTensor> in, const std::vector<Spec>& specs, std::uint32_t step) {
  if (Tracer* tracer = context().tracer) {
    const bool traced = std::any_of(in.begin(), in.end(), [&](const AnyTensor& a) { return a && tracer->wants(a); });
    if (traced) return tracer->add(owned ? *owned : AnyOp(table, op), phase, counts, in, specs);
  }
  std::vector<AnyTensor> out;
  std::vector<View> in_views, out_views;
  out.reserve(specs.size());
  in_views.reserve(in.size());
  out_views.reserve(specs.size());
  for (const Spec& s : specs) {
    out.push_back(s.dtype == DType::none ? AnyTensor() : AnyTensor(s));
    out_views.emplace_back(out.back().spec(), out.back().raw());
  }
  for (const AnyTensor& t : in) {
    if (t.symbolic()) throw UsageError("call: a tensor of a finished trace was used as a value in " + table.info.name());
    in_views.emplace_back(t.spec(), t.raw());
  }
  Run r;
  r.step = step;
  bind_views(r, table, phase, counts, in_views, out_views);
  (phase == Phase::forward ? table.forward : table.backward)(op, r);
  if (phase == Phase::forward && table.info.mutates) {
    const unsigned written = table.info.mutates(op);
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (in[i] && (written & input(static_cast<int>(std::min<std::size_t>(i, 15))))) in[i].storage()->bump_version();
    }
  }
  return out;
}

OCELLUS_FN std::vector<AnyTensor> call_any(const OpTable& table, const void* op, std::span<const AnyTensor> in) {
  Run shapes;
  shapes.op = &table.info;
  bool recording = false;
  for (const AnyTensor& a : in) {
    shapes.in.emplace_back(a.spec(), nullptr);
    recording |= a.record() != nullptr;
  }
  while (static_cast<int>(shapes.in.size()) < table.info.arity) shapes.in.emplace_back();
  recording = recording && context().recording;

  std::vector<Spec> specs;
  table.info.infer(op, shapes, specs, table.result);
  Counts n{in.size(), specs.size(), 0};
  const std::uint32_t step = context().random.step;
  if (!recording) return execute(table, op, nullptr, Phase::forward, n, in, specs, step);

  if (table.info.aux) {
    for (const Spec& s : specs) shapes.out.emplace_back(s, nullptr);
    table.info.aux(op, shapes, specs, table.dtype);
    n.aux = specs.size() - n.out;
  }
  const auto record = std::make_shared<Record>();
  record->op = AnyOp(table, op);
  record->step = step;
  std::vector<AnyTensor> out = execute(table, op, &record->op, Phase::forward, n, in, specs, step);
  const auto save = [&](const AnyTensor& t, bool kept) {
    record->saved.push_back(kept ? t.detach() : AnyTensor::shape_only(t.spec()));
    record->versions.push_back(kept && t ? t.storage()->version() : 0);
  };
  for (std::size_t i = 0; i < n.in; ++i) {
    record->inputs.push_back({in[i].record(), in[i].output(), in[i].spec()});
    save(in[i], (table.info.keeps & input(static_cast<int>(std::min<std::size_t>(i, 15)))) != 0);
  }
  for (std::size_t i = 0; i < n.out; ++i) {
    record->outputs.push_back(specs[i]);
    save(out[i], (table.info.keeps & output(static_cast<int>(std::min<std::size_t>(i, 15)))) != 0);
  }
  for (std::size_t i = n.out; i < out.size(); ++i) save(out[i], true);
  out.resize(n.out);
  for (std::size_t i = 0; i < n.out; ++i) out[i].set_record(record, static_cast<int>(i));
  return out;
}

OCELLUS_FN AnyTensor call_one(const OpTable& table, const void* op, std::span<const AnyTensor> in) {
  return std::move(call_any(table, op, in)[0]);
}

}  // namespace ocellus
#endif
