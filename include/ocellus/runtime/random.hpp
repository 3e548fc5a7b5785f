// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011).
// A number is a pure function of (seed, step, stream, element): the same on every platform, for any number of threads, in any order.
#pragma once

#include <cmath>
#include <cstdint>

#include <ocellus/core/shape.hpp>

namespace ocellus {

struct PhiloxBlock {
  std::uint32_t word[4];
};

// Ten rounds on a 128-bit counter under a 64-bit key.
inline PhiloxBlock philox(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
  std::uint32_t c0 = static_cast<std::uint32_t>(low), c1 = static_cast<std::uint32_t>(low >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(high), c3 = static_cast<std::uint32_t>(high >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Names one sequence of random numbers: the seed of the run, the step of training, the consumer within the step.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t stream = 0;

  // 32 random bits for element i.
  std::uint32_t bits(Index i) const {
    const std::uint64_t u = static_cast<std::uint64_t>(i);
    return block(u >> 2).word[u & 3u];
  }
  // The four words that serve elements 4 * b to 4 * b + 3.
  PhiloxBlock block(std::uint64_t b) const { return philox(seed, b, (std::uint64_t{step} << 32) | stream); }
  // Uniform in [0, 1), a multiple of 2^-24.
  float uniform(Index i) const { return static_cast<float>(bits(i) >> 8) * 0x1p-24f; }
};

// The same numbers drawn one after another, for code that consumes an unknown amount. A value: copy it to replay it.
class RandomStream {
 public:
  explicit RandomStream(std::uint64_t seed = 0, std::uint32_t step = 0, std::uint32_t stream = 0) : key_{seed, step, stream} {}

  std::uint32_t bits() { return key_.bits(next_++); }
  // Uniform in [0, 1).
  float uniform() { return static_cast<float>(bits() >> 8) * 0x1p-24f; }
  // Uniform in [low, high).
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  bool bernoulli(float p) { return uniform() < p; }
  // Uniform in [0, n) for n from 1 to 2^31: the multiply-shift of Lemire (2019), biased by at most n / 2^32.
  Index below(Index n) { return static_cast<Index>((std::uint64_t{bits()} * static_cast<std::uint64_t>(n)) >> 32); }
  // Standard normal (Box and Muller, 1958).
  float normal() {
    const double u = (static_cast<double>(bits()) + 1.0) * 0x1p-32;
    const double v = static_cast<double>(bits()) * 0x1p-32;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v));
  }
  // Normal, drawn again outside of two standard deviations, scaled (the usual start of transformer weights).
  float truncated_normal(float standard_deviation) {
    for (;;) {
      const float x = normal();
      if (std::abs(x) <= 2.0f) return x * standard_deviation;
    }
  }
  // Fisher-Yates.
  template <class T>
  void shuffle(T* first, Index n) {
    for (Index i = n - 1; i > 0; --i) {
      const Index j = below(i + 1);
      T held = first[i];
      first[i] = first[j];
      first[j] = held;
    }
  }

  const RandomKey& key() const { return key_; }
  Index position() const { return next_; }

 private:
  RandomKey key_;
  Index next_ = 0;
};

}  // namespace ocellus
