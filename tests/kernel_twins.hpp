// What the kernel tests share: data, comparison with scalar twins computed in double, and the check that the number of
// threads does not change a bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <ocellus/kernels/table.hpp>
#include <ocellus/runtime/parallel.hpp>

namespace twins {

using ocellus::Index;

inline std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// A reproducible stream of numbers in [low, high).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2654435761u + 1) {}
  double next(double low, double high) {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return low + (high - low) * static_cast<double>(state_ >> 11) / 9007199254740992.0;
  }

 private:
  std::uint64_t state_;
};

template <class T>
std::vector<T> random(Index n, std::uint64_t seed, double low = -1, double high = 1) {
  Random stream(seed);
  std::vector<T> v(at(n));
  for (T& x : v) x = static_cast<T>(stream.next(low, high));
  return v;
}

template <class T>
std::vector<double> widen(const std::vector<T>& v) {
  return std::vector<double>(v.begin(), v.end());
}

// Largest |got − want| / max(1, |want|); infinite where one is NaN and the other is not, or infinities differ.
template <class T>
double error(const std::vector<T>& got, const std::vector<double>& want) {
  double worst = got.size() == want.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < got.size() && i < want.size(); ++i) {
    const double g = static_cast<double>(got[i]);
    if (std::isnan(g) || std::isnan(want[i])) {
      if (std::isnan(g) != std::isnan(want[i])) return HUGE_VAL;
      continue;
    }
    if (g == want[i]) continue;
    const double e = std::abs(g - want[i]) / std::fmax(1.0, std::abs(want[i]));
    if (!(e <= worst || std::isnan(worst))) worst = e;
  }
  return worst;
}

// The bound for T: the float one as given, double 1e-12.
template <class T>
double bound(double for_float) {
  return sizeof(T) == 4 ? for_float : 1e-12;
}

// An array between guard elements; intact() says whether a kernel wrote outside.
template <class T>
class Guarded {
 public:
  explicit Guarded(Index n) : all_(at(n) + 2 * margin, T(-77)) {}
  T* data() { return all_.data() + margin; }
  std::vector<T> values() const { return std::vector<T>(all_.begin() + margin, all_.end() - margin); }
  bool intact() const {
    for (int i = 0; i < margin; ++i) {
      if (all_[at(i)] != T(-77) || all_[all_.size() - 1 - at(i)] != T(-77)) return false;
    }
    return true;
  }

 private:
  static constexpr int margin = 24;
  std::vector<T> all_;
};

// f(threads) computes with that many threads and returns its outputs; they must be the same bits for 1, 2 and 3.
template <class F>
bool same_for_any_threads(F&& f) {
  const int before = ocellus::num_threads();
  ocellus::set_num_threads(1);
  const auto one = f();
  bool same = true;
  for (int threads : {2, 3}) {
    ocellus::set_num_threads(threads);
    const auto more = f();
    same = same && one.size() == more.size() && std::memcmp(one.data(), more.data(), one.size() * sizeof(one[0])) == 0;
  }
  ocellus::set_num_threads(before);
  return same;
}

// Sizes around the vector widths 2, 4, 8 and 16.
inline const std::vector<Index>& odd_sizes() {
  static const std::vector<Index> sizes = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 19, 31, 33, 35, 64, 67, 131};
  return sizes;
}

}  // namespace twins
