// Pictures with classes in the IDX files of MNIST and its relatives: train-images-idx3-ubyte, train-labels-idx1-ubyte
// and the same with t10k, plain or .gz. The split "train" is the first pair, "val" and "test" the second.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/core/tensor.hpp>
#include <ocellus/data/dataset.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

// Held in memory; pictures are grey views into it and live as long as the data set.
class IdxFolder : public Dataset {
 public:
  // Throws FileError; class names are the digits where nobody names them, and classes.txt is matched by name with
  // `options.classes`.
  IdxFolder(const std::string& root, const std::string& split, const DatasetOptions& options = {});
  // The folder among `folder` and its only subfolder that holds IDX files; empty if neither does.
  static std::string find(const std::string& folder);

  Index size() const override { return labels_.numel(); }
  OCELLUS_FN Sample get(Index i) const override;
  std::string name(Index i) const override { return std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  BasicTensor<std::uint8_t> images_;  // (N, H, W)
  BasicTensor<std::uint8_t> labels_;  // (N)
  std::vector<std::string> classes_;
  std::vector<Index> class_of_;  // by label
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <utility>

#include <ocellus/core/error.hpp>
#include <ocellus/io/idx.hpp>

namespace ocellus {
namespace data_detail {

// The file with or without .gz; empty if there is neither.
OCELLUS_FN std::string plain_or_packed(const std::string& path) {
  for (const char* suffix : {"", ".gz"}) {
    if (is_file(path + suffix)) return path + suffix;
  }
  return {};
}

OCELLUS_FN BasicTensor<std::uint8_t> read_idx_of_rank(const std::string& path, int rank) {
  BasicTensor<std::uint8_t> tensor = read_idx(path);
  if (tensor.rank() != rank || tensor.numel() == 0) {
    throw FileError(
        path, "holds " + tensor.shape().str() + "; expected " + (rank == 3 ? "pictures (N, H, W)" : "labels (N)"));
  }
  return tensor;
}

}  // namespace data_detail

OCELLUS_FN std::string IdxFolder::find(const std::string& folder) {
  for (const std::string& place : data_detail::places_in(folder)) {
    for (const char* part : {"/train-images-idx3-ubyte", "/t10k-images-idx3-ubyte"}) {
      if (!data_detail::plain_or_packed(place + part).empty()) return place;
    }
  }
  return {};
}

OCELLUS_FN IdxFolder::IdxFolder(const std::string& root, const std::string& split, const DatasetOptions& options) {
  if (split != "train" && split != "val" && split != "test") {
    throw UsageError(root + ": IDX data has the splits train and test (also called val); got \"" + split + "\"");
  }
  const std::string part = root + (split == "train" ? "/train-" : "/t10k-");
  const auto open = [&](const char* suffix, int rank) {
    const std::string path = data_detail::plain_or_packed(part + suffix);
    if (path.empty()) throw FileError(part + suffix, "there is no such file, nor one with .gz");
    return data_detail::read_idx_of_rank(path, rank);
  };
  images_ = open("images-idx3-ubyte", 3);
  labels_ = open("labels-idx1-ubyte", 1);
  if (images_.dim(0) != labels_.dim(0)) {
    throw FileError(part + "labels-idx1-ubyte",
                    std::to_string(labels_.dim(0)) + " labels for " + std::to_string(images_.dim(0)) + " pictures");
  }
  data_detail::ClassNumbers numbers = data_detail::class_numbers(root, {.classes = options.classes});
  classes_ = std::move(numbers.names);
  class_of_ = std::move(numbers.class_of);
  const Index largest = *std::max_element(labels_.begin(), labels_.end());
  if (classes_.empty()) {
    for (Index c = 0; c <= largest; ++c) {
      classes_.push_back(std::to_string(c));
      class_of_.push_back(c);
    }
  }
  if (largest >= static_cast<Index>(class_of_.size())) {
    throw FileError(part + "labels-idx1-ubyte", "a label is " + std::to_string(largest) + "; there are " +
                                                    std::to_string(class_of_.size()) + " classes");
  }
}

OCELLUS_FN Sample IdxFolder::get(Index i) const {
  if (i < 0 || i >= size()) throw UsageError("IdxFolder: there is no sample " + std::to_string(i));
  const Index h = images_.dim(1), w = images_.dim(2);
  return {Image::view(images_.data() + i * h * w, w, h, w, PixelOrder::grey), {}, class_of_[labels_[i]]};
}

}  // namespace ocellus
#endif
