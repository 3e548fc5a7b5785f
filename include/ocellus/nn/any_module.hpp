// AnyModule: a module of any type, for lists whose elements are told apart by their place alone.
#pragma once

#include <memory>
#include <utility>

#include <ocellus/nn/module.hpp>

namespace ocellus::nn {

// A module from one tensor to one tensor. To a visitor it is the module that it holds. A value as every module: a copy
// has weights of its own.
class AnyModule {
 public:
  template <class M>
  explicit AnyModule(M module) : held_(std::make_unique<HeldAs<M>>(std::move(module))) {}
  AnyModule(const AnyModule& other) : held_(other.held_->copy()) {}
  AnyModule(AnyModule&&) noexcept = default;
  AnyModule& operator=(AnyModule other) noexcept {
    held_ = std::move(other.held_);
    return *this;
  }

  Tensor operator()(const Tensor& x) const { return held_->run(x); }
  ModuleFrame frame() const { return held_->frame(); }
  void visit(Visitor& v) { held_->visit(v); }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual std::unique_ptr<Held> copy() const = 0;
    virtual Tensor run(const Tensor& x) const = 0;
    virtual ModuleFrame frame() const = 0;
    virtual void visit(Visitor& v) = 0;
  };
  template <class M>
  struct HeldAs final : Held {
    M module;
    explicit HeldAs(M m) : module(std::move(m)) {}
    std::unique_ptr<Held> copy() const override { return std::make_unique<HeldAs>(*this); }
    Tensor run(const Tensor& x) const override { return module(x); }
    ModuleFrame frame() const override { return module.frame(); }
    void visit(Visitor& v) override { module.visit(v); }
  };

  std::unique_ptr<Held> held_;
};

}  // namespace ocellus::nn
