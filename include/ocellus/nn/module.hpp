// Module: plain structs of values. One macro line names the fields, and those names are the checkpoint's keys:
//   struct Mlp : Module<Mlp> {
//     Linear fc1, fc2;
//     Tensor forward(const Tensor& x) const { return fc2(gelu(fc1(x))); }
//     OCELLUS_MODULE(Mlp, fc1, fc2)
//   };
// Copying a module copies its weights. Modules store no path and no mode; calling one opens the scope that errors and traces read.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ocellus/autograd/visitor.hpp>

namespace ocellus {

template <class Self>
struct Module {
  // Runs forward inside this module's scope.
  template <class... A>
  auto operator()(const A&... a) const {
    const ModuleScope scope(frame());
    auto y = static_cast<const Self&>(*this).forward(a...);
    if constexpr (requires { y.spec(); }) {
      if (ModuleObserver* observer = context().observer) [[unlikely]] observer->output(module_path(), y);
    }
    return y;
  }

  ModuleFrame frame() const {
    return {static_cast<const Self*>(this), Self::type_name,
            [](void* module, Visitor& visitor) { visitor.root(*static_cast<Self*>(module)); }};
  }
};

#define OCELLUS_MODULE(Type, ...)                         \
  static constexpr char type_name[] = #Type;              \
  void visit(::ocellus::Visitor& v) {                     \
    v.fields("" #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__); \
  }

struct NamedParameter {
  std::string name;
  Parameter* parameter;
};

namespace nn_detail {
class ParameterList : public Visitor {
 public:
  std::vector<NamedParameter> list;
  OCELLUS_FN void parameter(const std::string& path, Parameter& p) override;
};
}  // namespace nn_detail

// Every parameter and buffer by checkpoint key, in the order of the fields. The pointers hold while the module stays where it is.
template <class M>
std::vector<NamedParameter> named_parameters(M& module) {
  nn_detail::ParameterList visitor;
  visitor.root(module);
  return std::move(visitor.list);
}

// How many numbers are trained.
template <class M>
Index parameter_count(const M& module) {
  Index n = 0;
  for (const NamedParameter& p : named_parameters(const_cast<M&>(module))) n += p.parameter->trainable() ? p.parameter->numel() : 0;
  return n;
}

// Freezes or thaws every parameter of a part of a model; buffers stay buffers.
template <class M>
void set_trainable(M& module, bool trainable) {
  for (const NamedParameter& p : named_parameters(module)) {
    if (!p.parameter->is_buffer()) p.parameter->set_trainable(trainable);
  }
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_NN)
namespace ocellus::nn_detail {
OCELLUS_FN void ParameterList::parameter(const std::string& path, Parameter& p) { list.push_back({path, &p}); }
}  // namespace ocellus::nn_detail
#endif
