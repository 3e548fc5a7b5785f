// A training loss that is a weighted sum of several, each reported by name.
#pragma once

#include <string>
#include <vector>

#include <ocellus/core/tensor.hpp>

namespace ocellus {

//   LossTerms loss;
//   loss.add("cross_entropy", cross_entropy(logits, labels));
//   loss.add("dice", dice_loss(logits, labels), 2);
//   backward(loss.total());
class LossTerms {
 public:
  struct Term {
    std::string name;
    double weight;
    Tensor value;  // one number, not yet weighted

    double item() const { return static_cast<double>(value.item()); }
  };

  // Throws UsageError unless value has one element and the name is new.
  void add(std::string name, const Tensor& value, double weight = 1);
  // Σ weight · value, recorded. Throws UsageError when there are no terms.
  Tensor total() const;

  const std::vector<Term>& terms() const { return terms_; }

 private:
  std::vector<Term> terms_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
#include <utility>

#include <ocellus/core/error.hpp>
#include <ocellus/ops/elementwise.hpp>

namespace ocellus {

OCELLUS_FN void LossTerms::add(std::string name, const Tensor& value, double weight) {
  if (value.numel() != 1)
    throw UsageError("LossTerms: \"" + name + "\" must be one number; got " + value.shape().str());
  for (const Term& t : terms_) {
    if (t.name == name) throw UsageError("LossTerms: \"" + name + "\" is there already");
  }
  terms_.push_back({std::move(name), weight, value});
}

OCELLUS_FN Tensor LossTerms::total() const {
  if (terms_.empty()) throw UsageError("LossTerms: a loss without terms");
  Tensor total;
  for (const Term& t : terms_) {
    const Tensor weighted = t.weight == 1 ? t.value : t.value * t.weight;
    total = total ? total + weighted : weighted;
  }
  return total;
}

}  // namespace ocellus
#endif
