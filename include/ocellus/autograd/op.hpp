// The shape of an op. One struct per op (namespace ocellus::op): a macro line with its signature and attributes, `infer`, `forward`,
// `backward`, and where needed `keeps`, `aux`, `mutates`, `in_place`, `pack`, `reads`, `macs`, `Result`. The engine sees it through a constant
// table of functions, one per op and element type.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include <ocellus/core/tensor.hpp>
#include <ocellus/runtime/random.hpp>

namespace ocellus {

struct OpInfo;

// One argument of a call: converts to the pointer that a kernel asks for, and refuses what was not declared.
struct View {
  Shape shape;
  DType dtype = DType::none;
  Format format = Format::plain;
  bool kept = true;  // false: backward reads something that `keeps` does not list
  void* data = nullptr;

  View() = default;
  View(const Spec& spec, void* memory) : shape(spec.shape), dtype(spec.dtype), format(spec.format), data(memory) {}

  // An absent optional input, an unwanted gradient or an auxiliary output nobody saves converts to a null pointer.
  template <class T>
  operator T*() const {  // NOLINT: implicit on purpose, `const T* x = r.in[0]`
    constexpr DType asked = dtype_of<std::remove_const_t<T>>;
    if (!kept || format != Format::plain || (data && dtype != asked)) [[unlikely]] refuse(asked);
    return static_cast<T*>(data);
  }
  // Where a row begins; null where there is no memory.
  template <class T>
  T* row(Index i) const {
    T* first = *this;
    return first ? first + i * shape[-1] : nullptr;
  }
  // The memory of a packed constant, null if this view is plain.
  template <class T>
  const T* packed() const {
    return format == Format::packed ? static_cast<const T*>(data) : nullptr;
  }
  bool given() const { return dtype != DType::none; }

 private:
  [[noreturn]] void refuse(DType asked) const;
};

// One call. `infer` and `macs` see shapes; forward reads `in` and writes `out` and `aux`; backward reads what was kept and `dout` and
// writes (never adds to) `din`.
struct Run {
  const OpInfo* op = nullptr;
  std::vector<View> in, out, aux, dout, din;
  std::uint32_t step = 0;  // of training: a random op draws from (its seed, this step, its stream)

  // Throws ShapeError "path | op: rule; got x=(…), weight=(…)" unless ok.
  void require(bool ok, const char* rule) const {
    if (!ok) [[unlikely]] fail(rule);
  }
  [[noreturn]] void fail(const std::string& rule) const;
  // Every input and output gradient beyond those given reads as absent.
  bool wants(int i) const { return i < static_cast<int>(din.size()) && din[static_cast<std::size_t>(i)].data; }
};

// Writes an op's attributes as text: "stride=(2, 2), padding=(1, 1)".
class AttributeWriter {
 public:
  template <class... A>
  void fields([[maybe_unused]] const char* names, const A&... values) {
    (add(names, values), ...);
  }
  const std::string& text() const { return text_; }

 private:
  void put(const char*& names, const std::string& value);
  static std::string number(double value);

  template <class A>
  void add(const char*& names, const A& value) {
    if constexpr (std::is_same_v<A, bool>) {
      put(names, value ? "true" : "false");
    } else if constexpr (std::is_floating_point_v<A>) {
      put(names, number(value));
    } else if constexpr (std::is_enum_v<A> || std::is_integral_v<A>) {
      put(names, std::to_string(static_cast<std::int64_t>(value)));
    } else if constexpr (requires { value.str(); }) {
      put(names, value.str());
    } else {
      std::string list = "[";
      for (const auto& v : value) list += (list.size() > 1 ? ", " : "") + number(static_cast<double>(v));
      put(names, list + "]");
    }
  }

  std::string text_;
};

// First line of every op: OCELLUS_OP("linear(x, weight, bias)", attribute, attribute)
#define OCELLUS_OP(signature_, ...)                       \
  static constexpr char signature[] = signature_;         \
  void attributes(::ocellus::AttributeWriter& w) const {  \
    w.fields("" #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__); \
  }

// Bits for `keeps` and `mutates`.
constexpr unsigned input(int i) { return 1u << i; }
constexpr unsigned output(int i) { return 1u << (16 + i); }

enum class Precision : std::uint8_t { f32, bf16, int8 };  // of a plan's matrix products

// A run of rows of a tensor: all axes but the last, flattened.
struct Rows {
  Index first = 0, last = 0;  // one past the end

  bool empty() const { return first >= last; }
  Index size() const { return last - first; }
  bool holds(Index row) const { return first <= row && row < last; }
};

// What does not depend on the element type.
struct OpInfo {
  const char* signature;  // "linear(x, weight, bias)"
  int arity;
  unsigned keeps;  // what backward reads
  bool in_place;   // output 0 may take over the memory of input 0 where that dies
  bool random;     // draws from Run::step
  std::size_t size;
  void (*copy)(void* to, const void* op);  // null: the bytes will do
  void (*destroy)(void* op);
  void (*infer)(const void* op, const Run&, std::vector<Spec>& out, DType);
  void (*aux)(const void* op, const Run&, std::vector<Spec>& aux, DType);
  double (*macs)(const void* op, const Run&);
  void (*attributes)(const void* op, AttributeWriter&);
  unsigned (*mutates)(const void* op);
  AnyTensor (*pack)(const void* op, int input, const AnyTensor& constant, const Run& shapes, Precision);
  Rows (*reads)(const void* op, const Run& shapes, int input, Rows out);  // null: the op cannot write some rows alone

  std::string name() const;
};

// What does. A null backward: not differentiable.
struct OpTable {
  const OpInfo& info;
  DType dtype;
  DType result;
  void (*forward)(const void* op, const Run&);
  void (*backward)(const void* op, const Run&);
  void (*forward_rows)(const void* op, const Run&, Rows);  // null where info.reads is
};

namespace autograd_detail {

void put_specs(std::vector<Spec>& to, const Shape& shape, DType type);
void put_specs(std::vector<Spec>& to, const std::vector<Shape>& shapes, DType type);
void put_specs(std::vector<Spec>& to, const std::vector<Spec>& specs, DType type);

template <class Op>
const Op& as_op(const void* op) {
  return *static_cast<const Op*>(op);
}

template <class Op>
constexpr int arity_of() {
  int n = 1;
  for (const char* c = Op::signature; *c; ++c) n += *c == ',';
  return n;
}

template <class Op, class T>
constexpr DType result_of() {
  if constexpr (requires { typename Op::Result; }) {
    return dtype_of<typename Op::Result>;
  } else {
    return dtype_of<T>;
  }
}

template <class Op>
constexpr OpInfo make_info() {
  OpInfo info{};
  info.signature = Op::signature;
  info.arity = arity_of<Op>();
  info.size = sizeof(Op);
  if constexpr (requires { Op::keeps; }) info.keeps = Op::keeps;
  if constexpr (requires { Op::in_place; }) info.in_place = Op::in_place;
  if constexpr (requires { Op::random; }) info.random = Op::random;
  if constexpr (!std::is_trivially_copyable_v<Op>) info.copy = [](void* to, const void* op) { new (to) Op(as_op<Op>(op)); };
  if constexpr (!std::is_trivially_destructible_v<Op>) info.destroy = [](void* op) { static_cast<Op*>(op)->~Op(); };
  info.infer = [](const void* op, const Run& r, std::vector<Spec>& out, DType t) { put_specs(out, as_op<Op>(op).infer(r), t); };
  if constexpr (requires(const Op& o, const Run& r) { o.aux(r); }) {
    info.aux = [](const void* op, const Run& r, std::vector<Spec>& aux, DType t) { put_specs(aux, as_op<Op>(op).aux(r), t); };
  }
  if constexpr (requires(const Op& o, const Run& r) { o.macs(r); }) {
    info.macs = [](const void* op, const Run& r) -> double { return as_op<Op>(op).macs(r); };
  }
  info.attributes = [](const void* op, AttributeWriter& w) { as_op<Op>(op).attributes(w); };
  if constexpr (requires(const Op& o) { o.mutates(); }) {
    info.mutates = [](const void* op) -> unsigned { return as_op<Op>(op).mutates(); };
  }
  if constexpr (requires(const Op& o, const AnyTensor& t, const Run& r) { o.pack(0, t, r, Precision::f32); }) {
    info.pack = [](const void* op, int i, const AnyTensor& t, const Run& r, Precision p) { return as_op<Op>(op).pack(i, t, r, p); };
  }
  if constexpr (requires(const Op& o, const Run& r) { o.reads(r, 0, Rows{}); }) {
    info.reads = [](const void* op, const Run& r, int i, Rows out) { return as_op<Op>(op).reads(r, i, out); };
  }
  return info;
}

// An op that can write some rows alone says so by `reads` and has `forward_rows` in the place of `forward`.
template <class Op, class T>
void run_forward(const void* op, const Run& r) {
  if constexpr (requires(const Op& o) { o.template forward_rows<T>(r, Rows{}); }) {
    as_op<Op>(op).template forward_rows<T>(r, Rows{0, r.out[0].shape.rows()});
  } else {
    as_op<Op>(op).template forward<T>(r);
  }
}

template <class Op, class T>
constexpr auto forward_rows_of() -> void (*)(const void*, const Run&, Rows) {
  if constexpr (requires(const Op& o, const Run& r) { o.template forward_rows<T>(r, Rows{}); }) {
    return [](const void* op, const Run& r, Rows rows) { as_op<Op>(op).template forward_rows<T>(r, rows); };
  } else {
    return nullptr;
  }
}

template <class Op, class T>
constexpr auto backward_of() -> void (*)(const void*, const Run&) {
  if constexpr (requires(const Op& o, const Run& r) { o.template backward<T>(r); }) {
    return [](const void* op, const Run& r) { as_op<Op>(op).template backward<T>(r); };
  } else {
    static_assert(Op::not_differentiable, "an op has a backward or says `static constexpr bool not_differentiable = true`");
    return nullptr;
  }
}

}  // namespace autograd_detail

// An op is identified by the address of its info.
template <class Op>
inline constexpr OpInfo op_info = autograd_detail::make_info<Op>();
template <class Op, class T>
inline constexpr OpTable op_table{op_info<Op>, dtype_of<T>, autograd_detail::result_of<Op, T>(),
                                  autograd_detail::run_forward<Op, T>, autograd_detail::backward_of<Op, T>(),
                                  autograd_detail::forward_rows_of<Op, T>()};

// An op with its attributes, by value.
class AnyOp {
 public:
  AnyOp() = default;
  AnyOp(const OpTable& table, const void* op);

  template <class Op>
  const Op* as() const {
    return table_ && &table_->info == &op_info<Op> ? static_cast<const Op*>(op_.get()) : nullptr;
  }
  explicit operator bool() const { return table_ != nullptr; }
  const OpTable& table() const { return *table_; }
  const OpInfo& info() const { return table_->info; }
  const void* get() const { return op_.get(); }
  std::string attributes() const;
  unsigned mutates() const { return info().mutates ? info().mutates(get()) : 0u; }

 private:
  const OpTable* table_ = nullptr;
  std::shared_ptr<const void> op_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <cstdio>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_COLD OCELLUS_FN void View::refuse(DType asked) const {
  if (!kept) throw UsageError("View: backward reads an argument that the op's `keeps` does not list");
  if (format != Format::plain) throw UsageError("View: a constant packed for another kernel");
  throw ShapeError(std::string("View: the kernel asks for ") + name_of(asked) + ", the tensor holds " + name_of(dtype));
}

OCELLUS_FN void AttributeWriter::put(const char*& names, const std::string& value) {
  if (!text_.empty()) text_ += ", ";
  while (*names == ' ' || *names == ',') ++names;
  while (*names && *names != ',') text_ += *names++;
  text_ += '=' + value;
}

OCELLUS_FN std::string AttributeWriter::number(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", value);
  return buffer;
}

OCELLUS_FN std::string OpInfo::name() const {
  const char* end = signature;
  while (*end && *end != '(') ++end;
  return std::string(signature, end);
}

namespace autograd_detail {

OCELLUS_FN void put_specs(std::vector<Spec>& to, const Shape& shape, DType type) { to.push_back({shape, type}); }
OCELLUS_FN void put_specs(std::vector<Spec>& to, const std::vector<Shape>& shapes, DType type) {
  for (const Shape& s : shapes) to.push_back({s, type});
}
OCELLUS_FN void put_specs(std::vector<Spec>& to, const std::vector<Spec>& specs, DType type) {
  for (const Spec& s : specs) to.push_back({s.shape, s.dtype == DType::none ? type : s.dtype});
}

}  // namespace autograd_detail

OCELLUS_FN AnyOp::AnyOp(const OpTable& table, const void* op) : table_(&table) {
  void* copy = ::operator new(table.info.size);
  if (table.info.copy) {
    table.info.copy(copy, op);
  } else {
    std::memcpy(copy, op, table.info.size);
  }
  op_ = std::shared_ptr<const void>(copy, [destroy = table.info.destroy](const void* p) {
    if (destroy) destroy(const_cast<void*>(p));
    ::operator delete(const_cast<void*>(p));
  });
}

OCELLUS_FN std::string AnyOp::attributes() const {
  AttributeWriter w;
  info().attributes(get(), w);
  return w.text();
}

}  // namespace ocellus
#endif
