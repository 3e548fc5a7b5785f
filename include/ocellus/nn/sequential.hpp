// Sequential: modules of any type in a row.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <ocellus/nn/module.hpp>

namespace ocellus::nn {

// Modules from one tensor to one tensor, run one after another. Their places are their names: the keys of the first begin with "0.".
// A value as every module: a copy has weights of its own.
class Sequential : public Module<Sequential> {
 public:
  // Adds a module at the end and returns the list.
  template <class M>
  Sequential& append(M module) {
    steps_.emplace_back(std::move(module));
    return *this;
  }

  Tensor forward(const Tensor& x) const {
    Tensor y = x;
    for (const Step& step : steps_) y = step(y);
    return y;
  }

  static constexpr char type_name[] = "Sequential";
  void visit(Visitor& v) { v.items(steps_); }

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

  // To a visitor it is the module that it holds.
  class Step {
   public:
    template <class M>
    explicit Step(M module) : held_(std::make_unique<HeldAs<M>>(std::move(module))) {}
    Step(const Step& other) : held_(other.held_->copy()) {}
    Step(Step&&) noexcept = default;
    Step& operator=(Step other) noexcept {
      held_ = std::move(other.held_);
      return *this;
    }

    Tensor operator()(const Tensor& x) const { return held_->run(x); }
    ModuleFrame frame() const { return held_->frame(); }
    void visit(Visitor& v) { held_->visit(v); }

   private:
    std::unique_ptr<Held> held_;
  };

  std::vector<Step> steps_;
};

}  // namespace ocellus::nn
