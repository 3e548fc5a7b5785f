// Sequential: modules of any type in a row.
#pragma once

#include <utility>
#include <vector>

#include <ocellus/nn/any_module.hpp>

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
    for (const AnyModule& step : steps_) y = step(y);
    return y;
  }

  static constexpr char type_name[] = "Sequential";
  void visit(Visitor& v) { v.items(steps_); }

 private:
  std::vector<AnyModule> steps_;
};

}  // namespace ocellus::nn
