// Learning rates as a pure function of the step, equal to torch.optim.lr_scheduler (CosineAnnealingLR, PolynomialLR,
// StepLR) and, with warm-up, to transformers (get_cosine_schedule_with_warmup,
// get_polynomial_decay_schedule_with_warmup); and the one rule that looks at results, ReduceOnPlateau.
#pragma once

#include <cstdint>
#include <string>

#include <ocellus/core/shape.hpp>

namespace ocellus {

enum class ScheduleKind : std::uint8_t { constant, cosine, polynomial, step };

// With base rate b, warm-up of w steps, T steps in all, final rate f and p = (t − w) / (T − w) limited to 1, step t
// from 0 uses
//   t < w:      b t / w
//   constant:   b
//   cosine:     f + (b − f) (1 + cos π p) / 2
//   polynomial: f + (b − f) (1 − p)^power
//   step:       b gamma^⌊(t − w) / period⌋
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  double learning_rate = 1e-3;  // b
  Index total_steps = 0;        // T, for cosine and polynomial
  Index warmup_steps = 0;       // w
  double final_rate = 0;        // f
  double power = 1;
  Index period = 1;  // steps, from 1
  double gamma = 0.1;

  double at(Index step) const;
};

// "constant", "cosine", "polynomial", "step"; another name throws ConfigError.
ScheduleKind schedule_kind(const std::string& name);

// Multiplies the rate by `factor` once a watched number has not improved for more than `patience` observations, as
// PyTorch's ReduceLROnPlateau with relative thresholds.
class ReduceOnPlateau {
 public:
  struct Options {
    double factor = 0.1;
    Index patience = 10;
    double threshold = 1e-4;  // relative improvement that counts
    double minimum_rate = 0;
    bool higher_is_better = false;
  };

  explicit ReduceOnPlateau(const Options& options) : options_(options) {}
  // The rate after one more observation.
  double observe(double value, double learning_rate);

 private:
  Options options_;
  bool seen_ = false;
  double best_ = 0;
  Index waited_ = 0;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_OPTIM)
#include <algorithm>
#include <cmath>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN double Schedule::at(Index t) const {
  if (t < warmup_steps) return learning_rate * static_cast<double>(t) / static_cast<double>(warmup_steps);
  const Index after = t - warmup_steps, length = total_steps - warmup_steps;
  const double progress = length > 0 ? std::min(1.0, static_cast<double>(after) / static_cast<double>(length)) : 1.0;
  constexpr double pi = 3.14159265358979323846;
  switch (kind) {
    case ScheduleKind::constant: return learning_rate;
    case ScheduleKind::cosine: return final_rate + (learning_rate - final_rate) * (1 + std::cos(pi * progress)) / 2;
    case ScheduleKind::polynomial: return final_rate + (learning_rate - final_rate) * std::pow(1 - progress, power);
    case ScheduleKind::step:
      return learning_rate * std::pow(gamma, static_cast<double>(after / std::max<Index>(period, 1)));
  }
  return learning_rate;
}

OCELLUS_FN ScheduleKind schedule_kind(const std::string& name) {
  if (name == "constant") return ScheduleKind::constant;
  if (name == "cosine") return ScheduleKind::cosine;
  if (name == "polynomial") return ScheduleKind::polynomial;
  if (name == "step") return ScheduleKind::step;
  throw ConfigError("schedule \"" + name + "\" is unknown; there are constant, cosine, polynomial and step");
}

OCELLUS_FN double ReduceOnPlateau::observe(double value, double learning_rate) {
  const double margin = options_.threshold * std::abs(best_);
  const bool better = !seen_ || (options_.higher_is_better ? value > best_ + margin : value < best_ - margin);
  waited_ = better ? 0 : waited_ + 1;
  if (better) best_ = value;
  seen_ = true;
  if (waited_ <= options_.patience) return learning_rate;
  waited_ = 0;
  return std::max(options_.minimum_rate, learning_rate * options_.factor);
}

}  // namespace ocellus
#endif
