// What a data set is: numbered samples, each a picture with its class, its label mask or its boxes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <ocellus/core/shape.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/object_box.hpp>

namespace ocellus {

struct Sample {
  Image image;
  Image mask = {};   // segmentation: one channel, value = class id; empty for classification
  Index label = -1;  // classification: the class id
  std::vector<ObjectBox> boxes = {};  // detection
};

// get() may be called from several threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual Index size() const = 0;
  // Sample i in [0, size). Throws FileError for a file that cannot be used.
  virtual Sample get(Index i) const = 0;
  // What names sample i in reports: the picture's path or its number.
  virtual std::string name(Index i) const = 0;
  // The names of the classes by id.
  virtual const std::vector<std::string>& classes() const = 0;
  // The value of the mask that belongs to no class, -1 if there is none.
  virtual Index ignore_index() const { return -1; }
};

// Keeps decoded samples in memory, the first ones asked for, until `bytes` of pixels are used; the others are read
// every time.
class CachedDataset : public Dataset {
 public:
  explicit CachedDataset(std::shared_ptr<const Dataset> source, std::size_t bytes = std::size_t{512} << 20);

  Index size() const override { return source_->size(); }
  OCELLUS_FN Sample get(Index i) const override;
  std::string name(Index i) const override { return source_->name(i); }
  const std::vector<std::string>& classes() const override { return source_->classes(); }
  Index ignore_index() const override { return source_->ignore_index(); }

 private:
  struct Store;

  std::shared_ptr<const Dataset> source_;
  std::shared_ptr<Store> store_;
};

// The first `count` samples of another set, for quick looks and tests.
class FirstSamples : public Dataset {
 public:
  FirstSamples(std::shared_ptr<const Dataset> source, Index count) : source_(std::move(source)), count_(count) {}

  Index size() const override { return count_ < source_->size() ? count_ : source_->size(); }
  Sample get(Index i) const override { return source_->get(i); }
  std::string name(Index i) const override { return source_->name(i); }
  const std::vector<std::string>& classes() const override { return source_->classes(); }
  Index ignore_index() const override { return source_->ignore_index(); }

 private:
  std::shared_ptr<const Dataset> source_;
  Index count_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <utility>

#include <ocellus/runtime/mutex.hpp>

namespace ocellus {

struct CachedDataset::Store {
  Mutex mutex;
  std::size_t bytes_left;
  std::vector<Sample> samples;  // empty images: not kept
};

OCELLUS_FN CachedDataset::CachedDataset(std::shared_ptr<const Dataset> source, std::size_t bytes)
    : source_(std::move(source)), store_(std::make_shared<Store>()) {
  store_->bytes_left = bytes;
  store_->samples.resize(static_cast<std::size_t>(source_->size()));
}

OCELLUS_FN Sample CachedDataset::get(Index i) const {
  const auto slot = static_cast<std::size_t>(i);
  {
    const Lock lock(store_->mutex);
    if (!store_->samples[slot].image.empty()) return store_->samples[slot];
  }
  Sample sample = source_->get(i);
  const auto bytes_of = [](const Image& image) { return static_cast<std::size_t>(image.height() * image.stride()); };
  const std::size_t bytes = bytes_of(sample.image) + bytes_of(sample.mask);
  const Lock lock(store_->mutex);
  if (store_->samples[slot].image.empty() && bytes <= store_->bytes_left) {
    store_->bytes_left -= bytes;
    store_->samples[slot] = sample;
  }
  return sample;
}

}  // namespace ocellus
#endif
