// Parameter and Visitor: how everybody walks a model. Modules are plain structs whose macro line names the fields; those names, joined
// by dots, are the checkpoint's keys. One concrete Visitor each gives load, save, optimizer, summary and error paths.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ocellus/autograd/context.hpp>
#include <ocellus/core/tensor.hpp>

namespace ocellus {

// A trained tensor or a buffer (running statistics), a value: copying a module copies its weights.
class Parameter : public Tensor {
 public:
  Parameter() = default;
  // Zeros of this shape; a leaf of autograd if trainable.
  explicit Parameter(const Shape& shape, bool trainable = true);
  Parameter(const Parameter& other);
  Parameter(Parameter&&) noexcept = default;
  Parameter& operator=(Parameter other) noexcept;

  static Parameter buffer(const Shape& shape, float value = 0);

  bool is_buffer() const { return buffer_; }
  bool trainable() const { return trainable_; }
  // A frozen parameter records nothing and gets no gradient.
  void set_trainable(bool trainable);

  // In files this tensor is PyTorch's: `view` = (out, channels, spatial…), in memory the channels come last: (out, spatial…, channels).
  // A Linear over a flattened (C, H, W) map has rank 2 in both, its columns are permuted.
  void set_file_view(const Shape& view) { file_view_ = view; }
  const Shape& file_view() const { return file_view_; }
  Shape file_shape() const { return file_view_.rank() == rank() ? file_view_ : shape(); }

  // Element type in files, f32 unless PyTorch has another (num_batches_tracked is i64).
  void set_file_dtype(DType type) { file_dtype_ = type; }
  DType file_dtype() const { return file_dtype_; }

 private:
  bool trainable_ = false;
  bool buffer_ = false;
  DType file_dtype_ = DType::f32;
  Shape file_view_;
};

class Visitor {
 public:
  virtual ~Visitor() = default;

  // `path` is the checkpoint key of the parameter or the prefix of the module; "" for the root.
  OCELLUS_FN virtual void parameter(const std::string& path, Parameter& p);
  OCELLUS_FN virtual void enter(const std::string& path, const ModuleFrame& module);
  OCELLUS_FN virtual void leave(const std::string& path, const ModuleFrame& module);

  template <class M>
  void root(M& module) {
    value(module);
  }

  // Called by a module whose children have numbers for names.
  template <class M>
  void items(std::vector<M>& modules) {
    value(modules);
  }

  // Called by the macro line of a module with its fields' names and the fields.
  template <class... F>
  void fields([[maybe_unused]] const char* names, F&... members) {
    (field(names, members), ...);
  }

 private:
  class Name {  // the path while one field is visited
   public:
    Name(std::string& path, const char* first, std::size_t length);
    ~Name() { path_.resize(before_); }

   private:
    std::string& path_;
    std::size_t before_;
  };

  template <class F>
  void field(const char*& names, F& member) {
    while (*names == ' ' || *names == ',') ++names;
    const char* first = names;
    while (*names && *names != ',') ++names;
    const Name name(path_, first, static_cast<std::size_t>(names - first));
    value(member);
  }

  void value(Parameter& p) {
    if (p) parameter(path_, p);
  }
  template <class M>
  void value(std::optional<M>& module) {
    if (module) value(*module);
  }
  template <class M>
  void value(std::vector<M>& list) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string number = std::to_string(i);
      const Name name(path_, number.data(), number.size());
      value(list[i]);
    }
  }
  template <class M>
  void value(M& module) {
    const ModuleFrame frame = module.frame();
    enter(path_, frame);
    module.visit(*this);
    leave(path_, frame);
  }

  std::string path_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
#include <ocellus/core/error.hpp>

namespace ocellus {

namespace autograd_detail {

// The shape, once ParameterLimit has room for it and for the module around it.
OCELLUS_FN const Shape& admitted(const Shape& shape) {
  constexpr Index module_elements = 1024;
  Index& room = context().parameter_room;
  if (shape.numel() > room - module_elements) {
    throw ConfigError("the model does not fit its weights: a parameter of " + shape.str() + " would make it too large");
  }
  room -= shape.numel() + module_elements;
  return shape;
}

}  // namespace autograd_detail

OCELLUS_FN Parameter::Parameter(const Shape& shape, bool trainable) : Tensor(autograd_detail::admitted(shape)) { set_trainable(trainable); }

OCELLUS_FN Parameter::Parameter(const Parameter& other)
    : Tensor(other ? other.clone() : Tensor()), buffer_(other.buffer_), file_dtype_(other.file_dtype_), file_view_(other.file_view_) {
  if (*this) set_trainable(other.trainable_);
}

OCELLUS_FN Parameter& Parameter::operator=(Parameter other) noexcept {
  Tensor::operator=(std::move(other));
  trainable_ = other.trainable_;
  buffer_ = other.buffer_;
  file_dtype_ = other.file_dtype_;
  file_view_ = other.file_view_;
  return *this;
}

OCELLUS_FN Parameter Parameter::buffer(const Shape& shape, float value) {
  Parameter p(shape, false);
  p.buffer_ = true;
  std::fill_n(p.data(), p.numel(), value);
  return p;
}

OCELLUS_FN void Visitor::parameter(const std::string&, Parameter&) {}
OCELLUS_FN void Visitor::enter(const std::string&, const ModuleFrame&) {}
OCELLUS_FN void Visitor::leave(const std::string&, const ModuleFrame&) {}

OCELLUS_FN Visitor::Name::Name(std::string& path, const char* first, std::size_t length) : path_(path), before_(path.size()) {
  if (before_) path_ += '.';
  path_.append(first, length);
}

OCELLUS_FN std::string module_path() {
  struct Finder : Visitor {
    ModuleFrame wanted{};
    std::string found;
    void enter(const std::string& path, const ModuleFrame& module) override {
      if (module == wanted) found = path;
    }
  };
  const std::vector<ModuleFrame>& stack = context().modules;
  if (stack.empty()) return {};
  Finder finder;
  finder.wanted = stack.back();
  stack.front().visit(const_cast<void*>(stack.front().module), finder);
  return finder.found;
}

}  // namespace ocellus
#endif
