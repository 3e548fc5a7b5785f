// Accuracy of a model on a split: one confusion matrix over all of it. Takes any callable from images to logits: a
// network, a plan.
#pragma once


#include <ocellus/core/function.hpp>
#include <ocellus/data/dataset.hpp>
#include <ocellus/metrics/confusion_matrix.hpp>
#include <ocellus/metrics/detection.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/preprocess.hpp>

namespace ocellus {

// (N, H, W, C) → logits: (N, h, w, K) or (N, K).
using Forward = Function<Tensor(const Tensor&)>;

struct EvaluateOptions {
  Preprocess preprocess = {};
  Index channels = 3;
  Index batch = 1;  // classification; pictures must come out of the preprocessing in one size
  Function<void(Index done, Index total)> progress = {};
};

// Logits are upsampled to each mask's own size and the largest counts there; the data set's ignored value is left out.
// Runs outside of training, without recording. `classes`: K.
ConfusionMatrix evaluate_segmenter(const Forward& forward, const Dataset& dataset, Index classes,
                                   const EvaluateOptions& options = {});

struct ClassificationScore {
  ConfusionMatrix matrix;
  double accuracy = 0;
  double top5 = 0;  // of at most K classes
};

ClassificationScore evaluate_classifier(const Forward& forward, const Dataset& dataset, Index classes,
                                        const EvaluateOptions& options = {});

struct DetectionEvaluateOptions {
  Preprocess preprocess = {.resize = ResizePolicy::letterbox, .size = 640, .do_normalize = false};
  Index channels = 3;
  // Everything that could count, as the reference validates.
  NmsOptions nms = {.confidence = 0.001f, .several_labels = true};
  Function<void(Index done, Index total)> progress = {};
};

// (1, H, W, C) → every box that the model considers, in pixels of its input. Pictures come one by one.
using DetectorForward = Function<BoxCandidates(const Tensor&)>;

// Boxes are judged in pixels of the data's pictures; crowds and difficult objects count as neither found nor missed.
// Candidates of which nothing lies in the picture are left out before suppression; the reference keeps them as boxes
// without area. Throws UsageError for samples with a mask or a label.
DetectionMetric evaluate_detector(const DetectorForward& forward, const Dataset& dataset, Index classes,
                                  const DetectionEvaluateOptions& options = {});

// What a guess without looking reaches: at each place of the picture the class that is most frequent there in `train`,
// on a grid of the size of its first mask, judged on `dataset`.
ConfusionMatrix evaluate_majority_prior(const Dataset& train, const Dataset& dataset, Index classes);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_TRAIN)
#include <algorithm>
#include <utility>
#include <vector>

#include <ocellus/autograd/context.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/metrics/classification.hpp>
#include <ocellus/pipeline/label_map.hpp>

namespace ocellus {
namespace train_detail {

// A mask as labels, with -1 for the ignored value.
OCELLUS_FN BasicTensor<std::int64_t> labels_of(const Image& mask, Index ignore_index) {
  BasicTensor<std::int64_t> labels({mask.height(), mask.width()});
  std::int64_t* to = labels.data();
  for (Index y = 0; y < mask.height(); ++y) {
    const std::uint8_t* row = mask.row(y);
    for (Index x = 0; x < mask.width(); ++x) *to++ = row[x] == ignore_index ? -1 : row[x];
  }
  return labels;
}

}  // namespace train_detail

OCELLUS_FN ConfusionMatrix evaluate_segmenter(const Forward& forward, const Dataset& dataset, Index classes,
                                              const EvaluateOptions& options) {
  const NoGrad no_grad;
  const Evaluation evaluation;
  ConfusionMatrix matrix(classes);
  for (Index i = 0; i < dataset.size(); ++i) {
    const Sample sample = dataset.get(i);
    const Tensor logits = forward(to_tensor(sample.image, options.preprocess, options.channels));
    if (logits.rank() != 4 || logits.dim(3) != classes) {
      throw ShapeError("evaluate_segmenter: the model must give (1, h, w, " + std::to_string(classes) + "); got " +
                       logits.shape().str());
    }
    matrix.add(label_map(logits, sample.mask.size()), train_detail::labels_of(sample.mask, dataset.ignore_index()), -1);
    if (options.progress) options.progress(i + 1, dataset.size());
  }
  return matrix;
}

OCELLUS_FN ClassificationScore evaluate_classifier(const Forward& forward, const Dataset& dataset, Index classes,
                                                   const EvaluateOptions& options) {
  const NoGrad no_grad;
  const Evaluation evaluation;
  ClassificationScore score{ConfusionMatrix(classes)};
  double top5 = 0;
  const Index n = dataset.size(), step = std::max<Index>(1, options.batch);
  for (Index begin = 0; begin < n; begin += step) {
    const Index end = std::min(n, begin + step);
    std::vector<Image> images;
    BasicTensor<std::int64_t> labels({end - begin}), predicted({end - begin});
    for (Index i = begin; i < end; ++i) {
      Sample sample = dataset.get(i);
      images.push_back(std::move(sample.image));
      labels[i - begin] = sample.label;
    }
    const Tensor logits = forward(to_tensor(images, options.preprocess, options.channels));
    if (logits.rank() != 2 || logits.dim(1) != classes) {
      throw ShapeError("evaluate_classifier: the model must give (N, " + std::to_string(classes) + "); got " +
                       logits.shape().str());
    }
    for (Index i = 0; i < end - begin; ++i) {
      const float* row = logits.data() + i * classes;
      predicted[i] = std::max_element(row, row + classes) - row;
    }
    score.matrix.add(predicted, labels);
    top5 += top_k_accuracy(logits, labels, std::min<Index>(5, classes)) * static_cast<double>(end - begin);
    if (options.progress) options.progress(end, n);
  }
  score.accuracy = score.matrix.pixel_accuracy();
  score.top5 = top5 / static_cast<double>(n);
  return score;
}

OCELLUS_FN DetectionMetric evaluate_detector(const DetectorForward& forward, const Dataset& dataset, Index classes,
                                             const DetectionEvaluateOptions& options) {
  const NoGrad no_grad;
  const Evaluation evaluation;
  DetectionMetric metric(classes);
  for (Index i = 0; i < dataset.size(); ++i) {
    const Sample sample = dataset.get(i);
    if (!sample.mask.empty() || sample.label >= 0)
      throw UsageError("evaluate_detector: " + dataset.name(i) + " has no boxes, but a mask or a label");
    const Letterbox placement = placement_of(options.preprocess, sample.image.size());
    const BoxCandidates candidates = forward(to_tensor(sample.image, options.preprocess, options.channels));
    std::vector<TrueObject> truth;
    std::vector<FoundObject> found;
    for (const ObjectBox& o : sample.boxes) {
      truth.push_back({.box = o.box, .label = o.label, .area = static_cast<double>(o.area), .crowd = o.crowd, .ignore = o.difficult});
    }
    const Tensor boxes = without_padding(candidates.boxes, placement);
    const std::vector<Detections> detections = find_detections(boxes, candidates.scores, options.nms);
    for (const Detection& d : detections[0].kept) {
      found.push_back({placement.to_original(d.box), d.label, static_cast<double>(d.score)});
    }
    metric.add(truth, found);
    if (options.progress) options.progress(i + 1, dataset.size());
  }
  return metric;
}

OCELLUS_FN ConfusionMatrix evaluate_majority_prior(const Dataset& train, const Dataset& dataset, Index classes) {
  const Size2 grid = train.get(0).mask.size();
  const auto place = [](Index i, Index from, Index to) {
    return (2 * i + 1) * to / (2 * from);
  };  // nearest, by pixel centres
  std::vector<std::uint32_t> counts(static_cast<std::size_t>(grid.h * grid.w * classes));
  for (Index i = 0; i < train.size(); ++i) {
    const Image mask = train.get(i).mask;
    for (Index y = 0; y < grid.h; ++y) {
      const std::uint8_t* row = mask.row(place(y, grid.h, mask.height()));
      for (Index x = 0; x < grid.w; ++x) {
        const Index id = row[place(x, grid.w, mask.width())];
        if (id != train.ignore_index() && id < classes)
          ++counts[static_cast<std::size_t>((y * grid.w + x) * classes + id)];
      }
    }
  }
  std::vector<std::int64_t> majority(static_cast<std::size_t>(grid.h * grid.w));
  for (std::size_t i = 0; i < majority.size(); ++i) {
    const auto first = counts.begin() + static_cast<std::ptrdiff_t>(i) * classes;
    majority[i] = std::max_element(first, first + classes) - first;
  }
  ConfusionMatrix matrix(classes);
  for (Index i = 0; i < dataset.size(); ++i) {
    const BasicTensor<std::int64_t> labels = train_detail::labels_of(dataset.get(i).mask, dataset.ignore_index());
    BasicTensor<std::int64_t> predicted(labels.shape());
    const Index h = labels.dim(0), w = labels.dim(1);
    for (Index y = 0; y < h; ++y) {
      const Index row = place(y, h, grid.h) * grid.w;
      for (Index x = 0; x < w; ++x)
        predicted[y * w + x] = majority[static_cast<std::size_t>(row + place(x, w, grid.w))];
    }
    matrix.add(predicted, labels, -1);
  }
  return matrix;
}

}  // namespace ocellus
#endif
