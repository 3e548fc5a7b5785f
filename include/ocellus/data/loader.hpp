// Loader: batches of augmented, normalised samples, made ahead by threads. Which samples a batch holds, in which order
// and how they are varied is a pure function of (seed, epoch, number of the batch), so a run resumes anywhere, with any
// number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ocellus/core/tensor.hpp>
#include <ocellus/data/dataset.hpp>
#include <ocellus/vision/augment.hpp>
#include <ocellus/vision/detection_augment.hpp>
#include <ocellus/vision/preprocess.hpp>

namespace ocellus {

struct LoaderOptions {
  Index batch = 8;
  bool shuffle = true;
  bool drop_last = true;  // leave out a last batch that would be smaller
  std::uint64_t seed = 0;
  std::vector<Augmentation> augmentations = {};  // of picture and mask, before the preprocessing
  std::optional<DetectionAugmentation> detection = {};  // of picture and boxes, in the place of the other
  Preprocess preprocess = {.resize = ResizePolicy::none};
  Index channels = 3;  // of the tensor: 3 or 1
  int workers = 1;     // threads; 0, or a library without threads: next() makes the batch itself
  Index prefetch = 3;  // batches made ahead
};

struct Batch {
  Tensor images;                              // (N, H, W, C)
  BasicTensor<std::int64_t> labels;           // (N, h, w) from masks, (N) from classes
  std::vector<std::vector<ObjectBox>> boxes;  // of each picture, pixels of `images`; crowds and difficult ones left out
  std::vector<Index> samples;                 // which ones
  Index epoch = 0;
  Index number = 0;  // within the epoch
};

class Loader {
 public:
  // Throws UsageError for options that leave no batch.
  Loader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  Index batches_per_epoch() const;
  // The samples in the order of an epoch.
  std::vector<Index> order(Index epoch) const;
  // One batch; for any caller, from any thread. Throws what the data set throws, UsageError for samples that differ in
  // size and for boxes where the options vary pictures without them.
  Batch make(Index epoch, Index number) const;

  // Batches one after the other, across the ends of epochs. Forwards what a thread threw.
  Batch next();
  // Makes next() return batch `number` of `epoch`; number may run over the end of the epoch.
  void seek(Index epoch, Index number = 0);

 private:
  class Workers;

  BoxedImage make_boxed(Index epoch, Index sample, RandomStream& random) const;
  Batch make_at(Index position) const { return make(position / batches_per_epoch(), position % batches_per_epoch()); }

  std::shared_ptr<const Dataset> dataset_;
  LoaderOptions options_;
  Index wanted_ = 0;  // what next() returns next: epoch * batches_per_epoch + number
  std::unique_ptr<Workers> workers_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#if !defined(OCELLUS_SINGLE_THREAD)
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#endif

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace data_detail {

// Sets the loader's random numbers apart from those of training, which start from the same seed.
inline constexpr std::uint64_t shuffle_stream = 0x73687566666c6521;
inline constexpr std::uint64_t augment_stream = 0x6175676d656e7421;

}  // namespace data_detail

#if defined(OCELLUS_SINGLE_THREAD)
class Loader::Workers {};
#else
// Threads that make batches ahead. Position p waits in place p modulo `prefetch` until next() takes it.
class Loader::Workers {
 public:
  explicit Workers(const Loader& loader)
      : loader_(loader), places_(static_cast<std::size_t>(loader.options_.prefetch)), wanted_(loader.wanted_), begun_(loader.wanted_) {
    for (int i = 0; i < loader.options_.workers; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  Batch next() {
    std::unique_lock lock(mutex_);
    Made& place = at(wanted_);
    changed_.wait(lock, [&] { return place.done; });
    const Made made = std::exchange(place, Made{});
    ++wanted_;
    lock.unlock();
    changed_.notify_all();
    if (made.error) std::rethrow_exception(made.error);
    return made.batch;
  }

 private:
  struct Made {
    Batch batch;
    std::exception_ptr error;
    bool done = false;
  };

  Made& at(Index position) { return places_[static_cast<std::size_t>(position) % places_.size()]; }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || begun_ < wanted_ + loader_.options_.prefetch; });
      if (stopping_) return;
      const Index position = begun_++;
      lock.unlock();
      Made made;
      try {
        made.batch = loader_.make_at(position);
      } catch (...) {
        made.error = std::current_exception();
      }
      made.done = true;
      lock.lock();
      at(position) = std::move(made);
      changed_.notify_all();
    }
  }

  const Loader& loader_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Made> places_;
  Index wanted_;  // what next() returns next
  Index begun_;   // what a thread takes up next
  bool stopping_ = false;
};
#endif

OCELLUS_FN Loader::Loader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options)
    : dataset_(std::move(dataset)), options_(options) {
  if (options.batch < 1 || options.workers < 0 || options.prefetch < 1) {
    throw UsageError("Loader: batch and prefetch must be at least 1, workers at least 0");
  }
  if (batches_per_epoch() == 0) {
    throw UsageError("Loader: " + std::to_string(dataset_->size()) + " samples make no batch of " +
                     std::to_string(options.batch) +
                     (options.drop_last ? "; reduce it or keep the last, smaller batch (drop_last = false)" : ""));
  }
}

OCELLUS_FN Loader::~Loader() = default;

OCELLUS_FN Index Loader::batches_per_epoch() const {
  return (dataset_->size() + (options_.drop_last ? 0 : options_.batch - 1)) / options_.batch;
}

OCELLUS_FN std::vector<Index> Loader::order(Index epoch) const {
  std::vector<Index> samples(static_cast<std::size_t>(dataset_->size()));
  std::iota(samples.begin(), samples.end(), Index{0});
  if (options_.shuffle) {
    RandomStream random(options_.seed ^ data_detail::shuffle_stream, static_cast<std::uint32_t>(epoch));
    random.shuffle(samples.data(), dataset_->size());
  }
  return samples;
}

OCELLUS_FN BoxedImage Loader::make_boxed(Index epoch, Index sample, RandomStream& random) const {
  const DetectionAugmentation& options = *options_.detection;
  const bool composed = options.last_mosaic_epoch < 0 || epoch <= options.last_mosaic_epoch;
  const auto get = [&](Index i) {
    Sample s = dataset_->get(i);
    std::erase_if(s.boxes, [](const ObjectBox& o) { return o.crowd || o.difficult; });
    return BoxedImage{std::move(s.image), std::move(s.boxes)};
  };
  const auto mosaic = [&](Index first) {
    std::vector<BoxedImage> four;
    for (int i = 0; i < 4; ++i) four.push_back(get(i == 0 ? first : random.below(dataset_->size())));
    return place_pictures(four, options, random);
  };
  BoxedImage made;
  if (composed && random.bernoulli(options.mosaic)) {
    made = mosaic(sample);
    if (random.bernoulli(options.mixup)) {
      const BoxedImage other = mosaic(random.below(dataset_->size()));
      made = mix(made, other, random);
    }
  } else {
    const BoxedImage one = get(sample);
    made = place_pictures({&one, 1}, options, random);
  }
  return colour_and_flip(std::move(made), options, random);
}

OCELLUS_FN Batch Loader::make(Index epoch, Index number) const {
  if (epoch < 0 || number < 0 || number >= batches_per_epoch()) {
    throw UsageError("Loader: there is no batch " + std::to_string(number) + " of epoch " + std::to_string(epoch));
  }
  const std::vector<Index> all = order(epoch);
  const Index begin = number * options_.batch, end = std::min(begin + options_.batch, dataset_->size());
  Batch batch;
  batch.epoch = epoch;
  batch.number = number;
  batch.samples.assign(all.begin() + begin, all.begin() + end);
  std::vector<Image> images, masks;
  std::vector<std::int64_t> labels;
  for (const Index i : batch.samples) {
    RandomStream random(options_.seed ^ data_detail::augment_stream, static_cast<std::uint32_t>(epoch),
                        static_cast<std::uint32_t>(i));
    if (options_.detection) {
      BoxedImage made = make_boxed(epoch, i, random);
      images.push_back(std::move(made.image));
      batch.boxes.push_back(std::move(made.boxes));
      continue;
    }
    Sample sample = dataset_->get(i);
    if (!sample.boxes.empty()) {
      throw UsageError("Loader: " + dataset_->name(i) +
                       " has boxes; give LoaderOptions::detection, which moves them with their picture");
    }
    augment(options_.augmentations, sample.image, sample.mask.empty() ? nullptr : &sample.mask, random);
    images.push_back(std::move(sample.image));
    if (sample.mask.empty()) {
      labels.push_back(sample.label);
    } else {
      masks.push_back(sample.mask.packed());
    }
  }
  batch.images = to_tensor(images, options_.preprocess, options_.channels);
  const Index count = end - begin;
  if (options_.detection) return batch;
  if (masks.empty()) {
    batch.labels = BasicTensor<std::int64_t>({count});
    std::copy(labels.begin(), labels.end(), batch.labels.data());
    return batch;
  }
  const Size2 size = masks.front().size();
  batch.labels = BasicTensor<std::int64_t>({count, size.h, size.w});
  std::int64_t* to = batch.labels.data();
  for (const Image& mask : masks) {
    if (!(mask.size() == size)) {
      throw UsageError("Loader: the masks of a batch differ in size, " + size.str() + " and " + mask.size().str() +
                       "; crop them to one (RandomScaleCrop) or take batches of one");
    }
    to = std::copy_n(mask.data(), size.h * size.w, to);
  }
  return batch;
}

OCELLUS_FN Batch Loader::next() {
#if !defined(OCELLUS_SINGLE_THREAD)
  if (options_.workers > 0) {
    if (!workers_) workers_ = std::make_unique<Workers>(*this);
    ++wanted_;
    return workers_->next();
  }
#endif
  return make_at(wanted_++);
}

OCELLUS_FN void Loader::seek(Index epoch, Index number) {
  workers_.reset();
  wanted_ = epoch * batches_per_epoch() + number;
}

}  // namespace ocellus
#endif
