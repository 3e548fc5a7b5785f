// AnyTensor: shape, element type, shared storage and the autograd record. BasicTensor<T>: its typed face, adding no data.
// Tensors are dense and row-major; copies share storage; a reshape is a view. Ops never modify their inputs unless they say so.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <utility>

#include <ocellus/core/dtype.hpp>
#include <ocellus/core/shape.hpp>

namespace ocellus {

// How a constant is laid out for its kernel. The logical shape stays, the element type says in which precision it was packed; a kernel
// that was not told refuses the view.
enum class Format : std::uint8_t { plain, packed };

struct Spec {
  Shape shape;
  DType dtype = DType::none;
  Format format = Format::plain;

  std::size_t bytes() const { return static_cast<std::size_t>(shape.numel()) * size_of(dtype); }
};

// Memory aligned to a cache line, or somebody else's that `owner` keeps alive, or none at all (a symbolic value of a trace).
// large_pages: for what is read from one end to the other; the system is asked for pages of 2 MiB where it has them.
class Storage {
 public:
  enum class Kind : std::uint8_t { allocated, large_pages, symbolic };

  Storage(std::size_t bytes, Kind kind);
  Storage(void* data, std::size_t bytes, std::shared_ptr<const void> owner);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  bool symbolic() const { return symbolic_; }

  // Counts the writes into memory that autograd may have saved; backward() compares.
  std::uint32_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint32_t version_ = 0;
  bool symbolic_ = false;
  std::size_t alignment_ = 0;  // of memory of our own, else 0
  std::shared_ptr<const void> owner_;
};

struct Record;  // autograd: the call that made a tensor, or a leaf

class AnyTensor {
 public:
  AnyTensor() = default;
  // Out of line: copies, moves and releases are everywhere, and inlined they are most of an op's object code.
  AnyTensor(const AnyTensor& other);
  AnyTensor(AnyTensor&& other) noexcept;
  AnyTensor& operator=(const AnyTensor& other);
  AnyTensor& operator=(AnyTensor&& other) noexcept;
  ~AnyTensor();

  // Uninitialised memory.
  explicit AnyTensor(const Spec& spec);

  // Shares memory that `owner` keeps alive; nobody writes to it through the library.
  static AnyTensor borrow(const Spec& spec, const void* data, std::shared_ptr<const void> owner);
  // A value of a trace: a shape without memory.
  static AnyTensor symbolic_of(const Spec& spec);
  // A shape whose data was not kept.
  static AnyTensor shape_only(const Spec& spec);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return spec_.shape; }
  Index dim(int axis) const { return spec_.shape[axis]; }
  int rank() const { return spec_.shape.rank(); }
  Index numel() const { return spec_.shape.numel(); }
  DType dtype() const { return spec_.dtype; }
  Format format() const { return spec_.format; }
  const Spec& spec() const { return spec_; }
  bool symbolic() const { return storage_ && storage_->symbolic(); }
  void* raw() const { return storage_ ? storage_->data() : nullptr; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  // The same value without its history.
  AnyTensor detach() const;
  // A view with another shape of as many elements; one size may be -1. Throws ShapeError.
  AnyTensor reshaped(Shape shape) const;
  // The same storage described as a packed constant with this logical shape and element type.
  AnyTensor packed_as(const Spec& logical) const;
  // A deep copy without history.
  AnyTensor copy() const;

  const std::shared_ptr<Record>& record() const { return record_; }
  int output() const { return output_; }
  void set_record(std::shared_ptr<Record> record, int output) {
    record_ = std::move(record);
    output_ = output;
  }

 protected:
  [[noreturn]] void wrong_type(DType asked) const;
  [[noreturn]] static void no_data();

  Spec spec_;
  int output_ = 0;
  std::shared_ptr<Storage> storage_;
  std::shared_ptr<Record> record_;
};

template <class T>
class BasicTensor : public AnyTensor {
 public:
  using value_type = T;

  BasicTensor() = default;
  // Zeros.
  explicit BasicTensor(const Shape& shape) : AnyTensor(Spec{shape, dtype_of<T>}) {
    if (spec_.bytes()) std::memset(raw(), 0, spec_.bytes());
  }
  BasicTensor(const Shape& shape, std::initializer_list<T> values) : AnyTensor(Spec{shape, dtype_of<T>}) {
    if (static_cast<Index>(values.size()) != numel()) wrong_count(static_cast<Index>(values.size()));
    std::copy(values.begin(), values.end(), data());
  }
  // Takes over an untyped tensor. Throws ShapeError if its element type is another.
  explicit BasicTensor(AnyTensor tensor) : AnyTensor(std::move(tensor)) {
    if (storage_ && spec_.dtype != dtype_of<T>) [[unlikely]] wrong_type(dtype_of<T>);
  }

  static BasicTensor full(const Shape& shape, T value) {
    BasicTensor t{AnyTensor(Spec{shape, dtype_of<T>})};
    std::fill_n(t.data(), t.numel(), value);
    return t;
  }
  static BasicTensor scalar(T value) { return full({}, value); }

  // Throws UsageError on a traced value: control flow of a model may depend on shapes, not on values.
  T* data() const {
    if (symbolic()) [[unlikely]] no_data();
    return static_cast<T*>(raw());
  }
  T* begin() const { return data(); }
  T* end() const { return data() + numel(); }
  T& operator[](Index i) const { return data()[i]; }
  // The value of a tensor with one element.
  T item() const {
    if (numel() != 1) [[unlikely]] wrong_count(1);
    return data()[0];
  }

  BasicTensor clone() const { return BasicTensor(copy()); }
  BasicTensor detach() const { return BasicTensor(AnyTensor::detach()); }

  // Makes this tensor a leaf whose gradient backward() fills. Defined in autograd/.
  BasicTensor& requires_grad();
  // The gradient that backward() left at this leaf, empty if none. Defined in autograd/.
  BasicTensor grad() const;

 private:
  [[noreturn]] void wrong_count(Index given) const { wrong_count_of(spec_, given); }
  [[noreturn]] static void wrong_count_of(const Spec& spec, Index given);
};

using Tensor = BasicTensor<float>;

[[noreturn]] void throw_wrong_count(const Spec& spec, Index given);
template <class T>
void BasicTensor<T>::wrong_count_of(const Spec& spec, Index given) {
  throw_wrong_count(spec, given);
}

// A view with another shape; one size may be -1.
template <class T>
BasicTensor<T> reshape(const BasicTensor<T>& x, const Shape& shape) {
  return BasicTensor<T>(x.reshaped(shape));
}

// Converts between element types; half precisions round to nearest even, integers truncate.
AnyTensor convert(const AnyTensor& x, DType to);
template <class To>
BasicTensor<To> convert(const AnyTensor& x) {
  return BasicTensor<To>(convert(x, dtype_of<To>));
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_CORE)
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN Storage::Storage(std::size_t bytes, Kind kind) : bytes_(bytes), symbolic_(kind == Kind::symbolic) {
  if (symbolic_) return;
  constexpr std::size_t large_page = std::size_t{1} << 21;
  alignment_ = kind == Kind::large_pages && bytes >= large_page ? large_page : 64;
  data_ = ::operator new(std::max<std::size_t>(bytes, 64), std::align_val_t{alignment_});
#if defined(__linux__)
  if (alignment_ == large_page) madvise(data_, bytes / large_page * large_page, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
}

OCELLUS_FN Storage::Storage(void* data, std::size_t bytes, std::shared_ptr<const void> owner)
    : data_(data), bytes_(bytes), owner_(std::move(owner)) {}

OCELLUS_FN Storage::~Storage() {
  if (alignment_ > 0) ::operator delete(data_, std::align_val_t{alignment_});
}

[[gnu::noinline]] OCELLUS_FN AnyTensor::AnyTensor(const AnyTensor& other)
    : spec_(other.spec_), output_(other.output_), storage_(other.storage_), record_(other.record_) {}

[[gnu::noinline]] OCELLUS_FN AnyTensor& AnyTensor::operator=(const AnyTensor& other) {
  spec_ = other.spec_;
  output_ = other.output_;
  storage_ = other.storage_;
  record_ = other.record_;
  return *this;
}

[[gnu::noinline]] OCELLUS_FN AnyTensor::AnyTensor(AnyTensor&& other) noexcept
    : spec_(other.spec_), output_(other.output_), storage_(std::move(other.storage_)), record_(std::move(other.record_)) {}
[[gnu::noinline]] OCELLUS_FN AnyTensor& AnyTensor::operator=(AnyTensor&& other) noexcept {
  spec_ = other.spec_;
  output_ = other.output_;
  storage_ = std::move(other.storage_);
  record_ = std::move(other.record_);
  return *this;
}
[[gnu::noinline]] OCELLUS_FN AnyTensor::~AnyTensor() {}

OCELLUS_FN AnyTensor::AnyTensor(const Spec& spec)
    : spec_(spec), storage_(std::make_shared<Storage>(spec.bytes(), Storage::Kind::allocated)) {}

OCELLUS_FN AnyTensor AnyTensor::borrow(const Spec& spec, const void* data, std::shared_ptr<const void> owner) {
  AnyTensor t = shape_only(spec);
  t.storage_ = std::make_shared<Storage>(const_cast<void*>(data), spec.bytes(), std::move(owner));
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::symbolic_of(const Spec& spec) {
  AnyTensor t = shape_only(spec);
  t.storage_ = std::make_shared<Storage>(spec.bytes(), Storage::Kind::symbolic);
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::shape_only(const Spec& spec) {
  AnyTensor t;
  t.spec_ = spec;
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::detach() const {
  AnyTensor t = *this;
  t.set_record(nullptr, 0);
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::reshaped(Shape shape) const {
  Index known = 1;
  int rest = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] >= 0) {
      known *= shape[i];
    } else if (shape[i] == -1 && rest < 0) {
      rest = i;
    } else {
      throw ShapeError("reshape: only one size may be -1; got " + shape.str());
    }
  }
  if (rest >= 0) shape[rest] = known ? numel() / known : 0;
  if (shape.numel() != numel()) {
    throw ShapeError("reshape: " + spec_.shape.str() + " has " + std::to_string(numel()) + " elements and does not fit " +
                     shape.str());
  }
  AnyTensor t = *this;
  t.spec_.shape = shape;
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::packed_as(const Spec& logical) const {
  AnyTensor t = *this;
  t.spec_ = logical;
  t.spec_.format = Format::packed;
  return t;
}

OCELLUS_FN AnyTensor AnyTensor::copy() const {
  if (!storage_) return {};
  if (symbolic()) no_data();
  AnyTensor t(spec_);
  if (spec_.bytes()) std::memcpy(t.raw(), raw(), spec_.bytes());
  return t;
}

OCELLUS_COLD OCELLUS_FN void AnyTensor::wrong_type(DType asked) const {
  throw ShapeError(std::string("BasicTensor: a tensor of ") + name_of(asked) + " was asked for, this one holds " +
                   name_of(spec_.dtype) + "; use convert<T>()");
}

OCELLUS_COLD OCELLUS_FN void AnyTensor::no_data() {
  throw UsageError(
      "data() of a traced tensor: while a model is traced its tensors have shapes and no values; control flow that depends on "
      "values belongs into an op or outside of the model");
}

OCELLUS_COLD OCELLUS_FN void throw_wrong_count(const Spec& spec, Index given) {
  throw ShapeError("BasicTensor: " + std::to_string(given) + " values for shape " + spec.shape.str());
}

namespace core_detail {

template <class To, class From>
void convert_elements(const void* from, void* to, Index n) {
  const From* x = static_cast<const From*>(from);
  To* y = static_cast<To*>(to);
  constexpr bool half = sizeof(From) == 2 || sizeof(To) == 2;  // the two 16-bit types are the half precisions
  for (Index i = 0; i < n; ++i) {
    if constexpr (half) {
      y[i] = static_cast<To>(static_cast<float>(x[i]));
    } else {
      y[i] = static_cast<To>(x[i]);
    }
  }
}

template <class F>
void with_type(DType type, F f) {
  switch (type) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::bf16: return f(bfloat16{});
    case DType::f16: return f(float16{});
    case DType::i8: return f(std::int8_t{});
    case DType::u8: return f(std::uint8_t{});
    case DType::i32: return f(std::int32_t{});
    case DType::i64: return f(std::int64_t{});
    case DType::none: break;
  }
  throw ShapeError("convert: a tensor without an element type");
}

}  // namespace core_detail

OCELLUS_FN AnyTensor convert(const AnyTensor& x, DType to) {
  if (x.dtype() == to) return x.detach();
  AnyTensor y(Spec{x.shape(), to});
  core_detail::with_type(x.dtype(), [&](auto from) {
    core_detail::with_type(to, [&](auto target) {
      core_detail::convert_elements<decltype(target), decltype(from)>(x.raw(), y.raw(), x.numel());
    });
  });
  return y;
}

}  // namespace ocellus
#endif
