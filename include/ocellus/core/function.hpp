// A callable that headers can keep: std::function without <functional>, which costs a quarter of a reference translation
// unit. Copies share the callable.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace ocellus {

template <class Signature>
class Function;

template <class R, class... A>
class Function<R(A...)> {
 public:
  Function() = default;
  // A pointer that is null, or an empty wrapper, gives an empty Function.
  template <class F>
    requires(!std::is_same_v<F, Function> && std::is_invocable_r_v<R, F&, A...>)
  Function(F f) {
    constexpr bool may_be_empty = std::is_pointer_v<F> || (std::is_constructible_v<bool, F> && !std::is_convertible_v<F, bool>);
    if constexpr (may_be_empty) {
      if (!f) return;
    }
    state_ = std::make_shared<F>(std::move(f));
    call_ = [](void* state, A... a) -> R {
      if constexpr (std::is_void_v<R>) {
        static_cast<void>((*static_cast<F*>(state))(std::forward<A>(a)...));
      } else {
        return (*static_cast<F*>(state))(std::forward<A>(a)...);
      }
    };
  }

  explicit operator bool() const { return call_ != nullptr; }
  R operator()(A... a) const { return call_(state_.get(), std::forward<A>(a)...); }

 private:
  std::shared_ptr<void> state_;
  R (*call_)(void* state, A... a) = nullptr;
};

}  // namespace ocellus
