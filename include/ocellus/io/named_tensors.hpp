// What a weight file holds: tensors by name, in order, and a few lines of text about them.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/core/tensor.hpp>
#include <ocellus/io/file.hpp>

namespace ocellus {

struct NamedTensor {
  std::string name;
  AnyTensor tensor;
};

class NamedTensors {
 public:
  std::map<std::string, std::string> metadata;

  // Throws UsageError when the name is taken.
  void add(std::string name, AnyTensor tensor);
  // Null if there is none. The pointer holds until the next add().
  const AnyTensor* find(std::string_view name) const;
  // Throws UsageError if there is none.
  const AnyTensor& at(std::string_view name) const;

  std::size_t size() const { return tensors_.size(); }
  bool empty() const { return tensors_.empty(); }
  std::vector<NamedTensor>::const_iterator begin() const { return tensors_.begin(); }
  std::vector<NamedTensor>::const_iterator end() const { return tensors_.end(); }

 private:
  std::vector<NamedTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> places_;
};

// The elements that begin at `offset` of `bytes`, all of which must lie inside: shared, or copied if they are not
// aligned to their size.
AnyTensor tensor_from(const Bytes& bytes, std::size_t offset, const Spec& spec);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <cstdint>
#include <cstring>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN void NamedTensors::add(std::string name, AnyTensor tensor) {
  if (!places_.emplace(name, tensors_.size()).second) {
    throw UsageError("NamedTensors: \"" + name + "\" is there already");
  }
  tensors_.push_back({std::move(name), std::move(tensor)});
}

OCELLUS_FN const AnyTensor* NamedTensors::find(std::string_view name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &tensors_[place->second].tensor;
}

OCELLUS_FN const AnyTensor& NamedTensors::at(std::string_view name) const {
  const AnyTensor* tensor = find(name);
  if (!tensor) throw UsageError("NamedTensors: there is no \"" + std::string(name) + "\"");
  return *tensor;
}

OCELLUS_FN AnyTensor tensor_from(const Bytes& bytes, std::size_t offset, const Spec& spec) {
  const std::byte* data = bytes.data() + offset;
  if (spec.bytes() > 0 && reinterpret_cast<std::uintptr_t>(data) % size_of(spec.dtype) == 0) {
    return AnyTensor::borrow(spec, data, bytes.owner());
  }
  AnyTensor tensor(spec);
  if (spec.bytes() > 0) std::memcpy(tensor.raw(), data, spec.bytes());
  return tensor;
}

}  // namespace ocellus
#endif
