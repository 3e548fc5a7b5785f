// Arrays that the benchmarks compute on, aligned as a tensor's memory is.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include <ocellus/core/shape.hpp>

namespace bench {

template <class T>
struct Aligned {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete (p, std::align_val_t{64}); }
  friend bool operator==(Aligned, Aligned) { return true; }
};
using Numbers = std::vector<float, Aligned<float>>;

// Multiples of 1/8 in [−1, 1]: small products of them are exact.
inline Numbers numbers(ocellus::Index n) {
  Numbers v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 17) * 0.125f - 1;
  return v;
}

}  // namespace bench
