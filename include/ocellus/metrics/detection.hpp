// How good detections are: average precision and recall as COCO's evaluation defines them (Lin et al.: Microsoft COCO,
// 2014; the numbers of pycocotools) and as Pascal VOC does (Everingham et al., 2010), and what the errors are (Bolya et
// al.: TIDE, 2020). Fractions from 0 to 1; NaN where nothing can be measured.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <ocellus/core/shape.hpp>
#include <ocellus/vision/boxes.hpp>

namespace ocellus {

// Upper left corner and size in pixels, as COCO writes boxes.
struct MeasuredBox {
  double x = 0, y = 0, width = 0, height = 0;

  MeasuredBox() = default;
  MeasuredBox(double left, double top, double w, double h) : x(left), y(top), width(w), height(h) {}
  MeasuredBox(const Box& b)  // NOLINT: the same box
      : x(static_cast<double>(b.x1)),
        y(static_cast<double>(b.y1)),
        width(static_cast<double>(b.x2) - x),
        height(static_cast<double>(b.y2) - y) {}
  double area() const { return width * height; }
  BasicBox<double> edges() const { return {x, y, x + width, y + height}; }
};

struct TrueObject {
  MeasuredBox box;
  Index label = 0;
  double area = -1;     // pixels that decide whether it is small, medium or large; negative: those of the box
  bool crowd = false;   // a group too dense to tell apart: neither found nor missed, and takes any number of detections
  bool ignore = false;  // neither found nor missed (VOC: difficult)
};

struct FoundObject {
  MeasuredBox box;
  Index label = 0;
  double score = 0;
};

enum class ObjectSize : std::uint8_t { all, small, medium, large };  // areas up to 32², from there to 96², from there

// COCO's twelve numbers; means over the classes that have an object of that size.
struct CocoSummary {
  double ap, ap50, ap75;  // IoU 0.5, 0.55, … 0.95; 0.5; 0.75
  double ap_small, ap_medium, ap_large;
  double ar1, ar10, ar100;  // recall with at most so many detections per picture and class
  double ar_small, ar_medium, ar_large;

  std::array<double, 12> values() const {
    return {ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large};
  }
};

// Precision over recall of one class, from the highest score on.
struct PrecisionRecall {
  std::vector<double> recall, precision, score;  // after each detection that counts
  Index objects = 0;                             // that could be found
};

enum class VocRule : std::uint8_t {
  eleven_points,  // until 2009: the mean of the best precisions at recall 0, 0.1, … 1 and beyond
  all_points,     // since 2010: the area below them
};

// What stands between the detections and a perfect answer at IoU 0.5, counted by TIDE's rules: a detection that finds
// no object of its class is the first of these that it fits, or none if the object of its class that it overlaps most,
// at IoU 0.5 or more, is ignored.
struct DetectionErrors {
  Index localisation = 0;    // right class, IoU from 0.1 to 0.5
  Index classification = 0;  // wrong class, IoU 0.5 or more
  Index duplicate = 0;       // right class, IoU 0.5 or more, of an object that a better detection found
  Index background = 0;      // IoU below 0.1 with everything
  Index both = 0;            // wrong class, IoU from 0.1 to 0.5
  Index missed = 0;          // objects that neither a detection nor one of the errors above but `background` covers
  Index found = 0;           // detections that are right
};

// Collects pictures, then answers. Of equal scores the picture that was added first comes first; pycocotools takes
// pictures in the order of their ids. Not for concurrent use while pictures are added.
class DetectionMetric {
 public:
  static constexpr int thresholds = 10, recalls = 101, sizes = 4;
  static constexpr Index most_detections = 100;  // per picture and class; the best ones count

  // Throws UsageError unless classes is at least 1.
  explicit DetectionMetric(Index classes);

  // One picture; both lists may be empty. Throws UsageError, and adds nothing, for labels outside of [0, classes), for
  // scores that are NaN and boxes that are not finite or have a negative size, naming the place in the list.
  void add(const std::vector<TrueObject>& truth, const std::vector<FoundObject>& found);

  Index classes() const { return classes_; }
  Index pictures() const { return pictures_; }
  Index objects(Index label) const;  // that count: no crowds, nothing ignored
  Index detections(Index label) const;

  CocoSummary coco() const;
  // Of one class: the mean over thresholds, or at one of them (0: IoU 0.5, … 9: 0.95).
  double ap(Index label, ObjectSize size = ObjectSize::all) const;
  double ap_at(Index label, int threshold, ObjectSize size = ObjectSize::all) const;
  double ar(Index label, ObjectSize size = ObjectSize::all) const;

  // At any IoU above 0, by the rules of Pascal VOC: a detection belongs to the object that it overlaps most, and is
  // wrong if a better one found that already; all detections of a picture count. Throws UsageError for an IoU outside
  // of (0, 1].
  PrecisionRecall curve(Index label, double iou = 0.5) const;
  double voc_ap(Index label, VocRule rule = VocRule::all_points, double iou = 0.5) const;
  double voc_mean_ap(VocRule rule = VocRule::all_points, double iou = 0.5) const;

  DetectionErrors errors() const;

  // A line per class: objects, detections, AP, AP50, AP75, AR; the means last.
  std::string table(const std::vector<std::string>& names) const;
  // Precision over recall at this IoU as SVG text: the classes by name with their AP, and their mean.
  std::string chart(const std::vector<std::string>& names, double iou = 0.5) const;

 private:
  struct Truth {
    BasicBox<double> box;
    double box_area, area;
    Index picture, label;
    bool crowd, ignored;
  };
  struct Found {
    BasicBox<double> box;
    double box_area, score;
    Index picture, label;
  };
  // Of one class, size and threshold.
  struct Result {
    double precision = std::numeric_limits<double>::quiet_NaN();  // mean over the recalls
    double recall[3] = {precision, precision, precision};         // with 1, 10 and 100 detections
  };
  struct ClassResults {
    Result at[sizes][thresholds];
  };

  ClassResults evaluate(Index label) const;
  const std::vector<ClassResults>& results() const;
  void check_label(const char* where, Index label) const;
  void check_names(const char* where, const std::vector<std::string>& names) const;
  template <class F>
  double mean(F value) const;

  Index classes_;
  Index pictures_ = 0;
  std::vector<std::vector<Truth>> truth_;      // by class, in the order of pictures
  std::vector<std::vector<Found>> found_;      // by class, in the order of pictures, best first within one
  mutable std::vector<ClassResults> results_;  // empty until somebody asks
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_METRICS)
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/vision/chart.hpp>

namespace ocellus {
namespace metrics_detail {

inline constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

// Evenly spaced numbers computed as numpy's linspace does, whose roundings decide at which recall a step counts.
inline double spaced(double first, double last, int count, int i) {
  return i + 1 == count ? last : static_cast<double>(i) * ((last - first) / (count - 1)) + first;
}

// The least and largest area of each ObjectSize, both included.
inline constexpr double area_range[4][2] = {{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}};

// A crowd is overlapped by the share of the detection that it covers.
inline double overlap_with(const BasicBox<double>& found, double found_area, const BasicBox<double>& truth,
                           double truth_area, bool crowd) {
  const double shared = intersection(found, truth);
  return crowd ? share_of(shared, found_area) : iou_of(shared, found_area, truth_area);
}

}  // namespace metrics_detail

OCELLUS_FN DetectionMetric::DetectionMetric(Index classes) : classes_(classes) {
  if (classes < 1) throw UsageError("DetectionMetric: at least one class is needed; got " + std::to_string(classes));
  truth_.resize(static_cast<std::size_t>(classes));
  found_.resize(static_cast<std::size_t>(classes));
}

OCELLUS_FN void DetectionMetric::check_label(const char* where, Index label) const {
  if (label < 0 || label >= classes_) {
    throw UsageError(std::string("DetectionMetric: ") + where + " has label " + std::to_string(label) +
                     ", which lies outside of [0, " + std::to_string(classes_) + ")");
  }
}

OCELLUS_FN void DetectionMetric::add(const std::vector<TrueObject>& truth, const std::vector<FoundObject>& found) {
  const auto check = [&](const std::string& where, const MeasuredBox& b, Index label) {
    check_label(where.c_str(), label);
    const bool finite = std::isfinite(b.x) && std::isfinite(b.y) && std::isfinite(b.width) && std::isfinite(b.height);
    if (!finite || b.width < 0 || b.height < 0)
      throw UsageError("DetectionMetric: " + where + " has a box that is not finite or has a negative size");
  };
  for (std::size_t i = 0; i < truth.size(); ++i) check("object " + std::to_string(i), truth[i].box, truth[i].label);
  for (std::size_t i = 0; i < found.size(); ++i) {
    check("detection " + std::to_string(i), found[i].box, found[i].label);
    if (std::isnan(found[i].score))
      throw UsageError("DetectionMetric: detection " + std::to_string(i) + " has a score that is NaN");
  }
  results_.clear();
  const Index picture = pictures_++;
  for (const TrueObject& t : truth) {
    truth_[static_cast<std::size_t>(t.label)].push_back({t.box.edges(), t.box.area(),
                                                         t.area < 0 ? t.box.area() : t.area, picture, t.label, t.crowd,
                                                         t.crowd || t.ignore});
  }
  std::vector<std::size_t> order(found.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return found[a].score > found[b].score; });
  for (const std::size_t i : order) {
    const FoundObject& f = found[i];
    found_[static_cast<std::size_t>(f.label)].push_back({f.box.edges(), f.box.area(), f.score, picture, f.label});
  }
}

OCELLUS_FN Index DetectionMetric::objects(Index label) const {
  check_label("objects", label);
  Index count = 0;
  for (const Truth& t : truth_[static_cast<std::size_t>(label)]) count += !t.ignored;
  return count;
}

OCELLUS_FN Index DetectionMetric::detections(Index label) const {
  check_label("detections", label);
  return static_cast<Index>(found_[static_cast<std::size_t>(label)].size());
}

OCELLUS_FN DetectionMetric::ClassResults DetectionMetric::evaluate(Index label) const {
  const auto& truth = truth_[static_cast<std::size_t>(label)];
  const auto& found = found_[static_cast<std::size_t>(label)];

  // What every detection is at each size: bit t of `right` or `ignored` for threshold t.
  struct Outcome {
    double score;
    Index rank;  // within its picture
    std::uint16_t right[sizes], ignored[sizes];
  };
  std::vector<Outcome> outcomes;
  outcomes.reserve(found.size());
  Index countable[sizes] = {};
  double threshold[thresholds];
  for (int t = 0; t < thresholds; ++t)
    threshold[t] = std::min(metrics_detail::spaced(0.5, 0.95, thresholds, t), 1 - 1e-10);

  std::vector<double> overlaps;
  std::vector<std::size_t> order;  // of a picture's objects: those that count first
  std::vector<char> ignored, taken;
  for (std::size_t f = 0, g = 0; f < found.size() || g < truth.size();) {
    // The next picture that has anything of this class.
    const Index picture =
        std::min(f < found.size() ? found[f].picture : pictures_, g < truth.size() ? truth[g].picture : pictures_);
    std::size_t f_end = f, g_end = g;
    while (f_end < found.size() && found[f_end].picture == picture) ++f_end;
    while (g_end < truth.size() && truth[g_end].picture == picture) ++g_end;
    const std::size_t count = std::min(f_end - f, static_cast<std::size_t>(most_detections)), objects = g_end - g;
    overlaps.resize(count * objects);
    for (std::size_t d = 0; d < count; ++d) {
      for (std::size_t o = 0; o < objects; ++o) {
        const Truth& t = truth[g + o];
        overlaps[d * objects + o] =
            metrics_detail::overlap_with(found[f + d].box, found[f + d].box_area, t.box, t.box_area, t.crowd);
      }
    }
    const std::size_t first = outcomes.size();
    for (std::size_t d = 0; d < count; ++d) outcomes.push_back({found[f + d].score, static_cast<Index>(d), {}, {}});
    for (int size = 0; size < sizes; ++size) {
      const auto outside = [&](double area) {
        return area < metrics_detail::area_range[size][0] || area > metrics_detail::area_range[size][1];
      };
      order.clear();
      ignored.clear();
      for (std::size_t o = 0; o < objects; ++o) ignored.push_back(truth[g + o].ignored || outside(truth[g + o].area));
      for (const bool last : {false, true}) {
        for (std::size_t o = 0; o < objects; ++o) {
          if ((ignored[o] != 0) == last) order.push_back(o);
        }
        if (!last) countable[size] += static_cast<Index>(order.size());
      }
      for (int t = 0; t < thresholds; ++t) {
        taken.assign(objects, 0);
        const std::uint16_t bit = static_cast<std::uint16_t>(1u << t);
        for (std::size_t d = 0; d < count; ++d) {
          double best = threshold[t];
          std::ptrdiff_t match = -1;
          for (const std::size_t o : order) {
            if (taken[o] && !truth[g + o].crowd) continue;
            if (match >= 0 && !ignored[static_cast<std::size_t>(match)] && ignored[o]) break;
            const double overlap = overlaps[d * objects + o];
            if (overlap < best) continue;
            best = overlap;
            match = static_cast<std::ptrdiff_t>(o);
          }
          Outcome& outcome = outcomes[first + d];
          if (match < 0) {
            if (outside(found[f + d].box_area)) outcome.ignored[size] |= bit;
            continue;
          }
          taken[static_cast<std::size_t>(match)] = 1;
          (ignored[static_cast<std::size_t>(match)] ? outcome.ignored : outcome.right)[size] |= bit;
        }
      }
    }
    f = f_end;
    g = g_end;
  }

  std::stable_sort(outcomes.begin(), outcomes.end(),
                   [](const Outcome& a, const Outcome& b) { return a.score > b.score; });
  ClassResults results;
  std::vector<double> recall, precision;
  for (int size = 0; size < sizes; ++size) {
    if (countable[size] == 0) continue;
    const double all = static_cast<double>(countable[size]);
    for (int t = 0; t < thresholds; ++t) {
      Index right = 0, wrong = 0, right_of[3] = {};
      recall.clear();
      precision.clear();
      for (const Outcome& o : outcomes) {
        if (o.right[size] >> t & 1) {
          ++right;
          right_of[0] += o.rank < 1;
          right_of[1] += o.rank < 10;
        } else if (!(o.ignored[size] >> t & 1)) {
          ++wrong;
        }
        recall.push_back(static_cast<double>(right) / all);
        // The divisor is never 0, and a perfect precision is a rounding below 1, as in the reference.
        precision.push_back(static_cast<double>(right) /
                            (static_cast<double>(wrong + right) + std::numeric_limits<double>::epsilon()));
      }
      right_of[2] = right;
      Result& result = results.at[size][t];
      for (int k = 0; k < 3; ++k) result.recall[k] = static_cast<double>(right_of[k]) / all;
      for (std::size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
      double sum = 0;
      std::size_t at = 0;
      for (int r = 0; r < recalls; ++r) {
        while (at < recall.size() && recall[at] < metrics_detail::spaced(0, 1, recalls, r)) ++at;
        if (at == recall.size()) break;
        sum += precision[at];
      }
      result.precision = sum / recalls;
    }
  }
  return results;
}

OCELLUS_FN const std::vector<DetectionMetric::ClassResults>& DetectionMetric::results() const {
  if (!results_.empty()) return results_;
  results_.resize(static_cast<std::size_t>(classes_));
  parallel_for(classes_, 1, [&](Index begin, Index end) {
    for (Index c = begin; c < end; ++c) results_[static_cast<std::size_t>(c)] = evaluate(c);
  });
  return results_;
}

// Over the classes for which the value is a number.
template <class F>
double DetectionMetric::mean(F value) const {
  double sum = 0;
  Index count = 0;
  for (Index c = 0; c < classes_; ++c) {
    const double v = value(c);
    if (std::isnan(v)) continue;
    sum += v;
    ++count;
  }
  return count ? sum / static_cast<double>(count) : metrics_detail::nothing;
}

OCELLUS_FN double DetectionMetric::ap_at(Index label, int threshold, ObjectSize size) const {
  check_label("ap", label);
  if (threshold < 0 || threshold >= thresholds)
    throw UsageError("DetectionMetric: threshold " + std::to_string(threshold) + " lies outside of [0, 10)");
  return results()[static_cast<std::size_t>(label)].at[static_cast<int>(size)][threshold].precision;
}

OCELLUS_FN double DetectionMetric::ap(Index label, ObjectSize size) const {
  double sum = 0;
  for (int t = 0; t < thresholds; ++t) sum += ap_at(label, t, size);
  return sum / thresholds;
}

OCELLUS_FN double DetectionMetric::ar(Index label, ObjectSize size) const {
  check_label("ar", label);
  double sum = 0;
  for (const Result& r : results()[static_cast<std::size_t>(label)].at[static_cast<int>(size)]) sum += r.recall[2];
  return sum / thresholds;
}

OCELLUS_FN CocoSummary DetectionMetric::coco() const {
  const auto ap_of = [&](ObjectSize size) { return mean([&](Index c) { return ap(c, size); }); };
  const auto ar_of = [&](ObjectSize size) { return mean([&](Index c) { return ar(c, size); }); };
  const auto at = [&](int threshold) { return mean([&](Index c) { return ap_at(c, threshold); }); };
  const auto recall = [&](int k) {
    return mean([&](Index c) {
      double sum = 0;
      for (const Result& r : results()[static_cast<std::size_t>(c)].at[0]) sum += r.recall[k];
      return sum / thresholds;
    });
  };
  return {ap_of(ObjectSize::all),
          at(0),
          at(5),
          ap_of(ObjectSize::small),
          ap_of(ObjectSize::medium),
          ap_of(ObjectSize::large),
          recall(0),
          recall(1),
          recall(2),
          ar_of(ObjectSize::small),
          ar_of(ObjectSize::medium),
          ar_of(ObjectSize::large)};
}

OCELLUS_FN PrecisionRecall DetectionMetric::curve(Index label, double iou) const {
  check_label("curve", label);
  if (!(iou > 0 && iou <= 1))
    throw UsageError("DetectionMetric: an IoU must lie in (0, 1]; got " + std::to_string(iou));
  const auto& truth = truth_[static_cast<std::size_t>(label)];
  const auto& found = found_[static_cast<std::size_t>(label)];
  std::vector<std::size_t> first(static_cast<std::size_t>(pictures_) + 1);  // of each picture's objects
  for (const Truth& t : truth) ++first[static_cast<std::size_t>(t.picture) + 1];
  for (std::size_t p = 0; p + 1 < first.size(); ++p) first[p + 1] += first[p];
  std::vector<std::size_t> order(found.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return found[a].score > found[b].score; });

  PrecisionRecall curve;
  curve.objects = objects(label);
  std::vector<char> taken(truth.size());
  Index right = 0, wrong = 0;
  for (const std::size_t i : order) {
    const Found& f = found[i];
    const auto p = static_cast<std::size_t>(f.picture);
    double best = -1;
    std::size_t nearest = truth.size();
    for (std::size_t o = first[p]; o < first[p + 1]; ++o) {
      const double overlap =
          metrics_detail::overlap_with(f.box, f.box_area, truth[o].box, truth[o].box_area, truth[o].crowd);
      if (overlap <= best) continue;
      best = overlap;
      nearest = o;
    }
    if (nearest < truth.size() && best >= iou) {
      if (truth[nearest].ignored) continue;
      ++(taken[nearest] ? wrong : right);
      taken[nearest] = 1;
    } else {
      ++wrong;
    }
    curve.score.push_back(f.score);
    curve.recall.push_back(curve.objects ? static_cast<double>(right) / static_cast<double>(curve.objects)
                                         : metrics_detail::nothing);
    curve.precision.push_back(static_cast<double>(right) / static_cast<double>(right + wrong));
  }
  return curve;
}

OCELLUS_FN double DetectionMetric::voc_ap(Index label, VocRule rule, double iou) const {
  const PrecisionRecall c = curve(label, iou);
  if (c.objects == 0) return metrics_detail::nothing;
  std::vector<double> best = c.precision;  // at this recall and beyond
  for (std::size_t i = best.size(); i-- > 1;) best[i - 1] = std::max(best[i - 1], best[i]);
  double sum = 0;
  if (rule == VocRule::all_points) {
    double reached = 0;
    for (std::size_t i = 0; i < best.size(); ++i) {
      sum += (c.recall[i] - reached) * best[i];
      reached = c.recall[i];
    }
    return sum;
  }
  std::size_t at = 0;
  for (int point = 0; point <= 10; ++point) {
    while (at < best.size() && c.recall[at] < static_cast<double>(point) / 10) ++at;
    if (at < best.size()) sum += best[at];
  }
  return sum / 11;
}

OCELLUS_FN double DetectionMetric::voc_mean_ap(VocRule rule, double iou) const {
  return mean([&](Index c) { return voc_ap(c, rule, iou); });
}

OCELLUS_FN DetectionErrors DetectionMetric::errors() const {
  constexpr double hit = 0.5, near = 0.1;
  // Everything of a picture together: wrong classes are only seen across classes.
  std::vector<std::vector<const Truth*>> truth(static_cast<std::size_t>(pictures_));
  std::vector<std::vector<const Found*>> found(static_cast<std::size_t>(pictures_));
  for (const auto& list : truth_) {
    for (const Truth& t : list) truth[static_cast<std::size_t>(t.picture)].push_back(&t);
  }
  for (const auto& list : found_) {
    for (const Found& f : list) found[static_cast<std::size_t>(f.picture)].push_back(&f);
  }
  DetectionErrors errors;
  for (std::size_t p = 0; p < truth.size(); ++p) {
    const auto& objects = truth[p];
    std::stable_sort(found[p].begin(), found[p].end(),
                     [](const Found* a, const Found* b) { return a->score > b->score; });
    std::vector<char> is_found(objects.size()), is_covered(objects.size());
    std::vector<const Found*> wrong;
    const auto overlap = [&](const Found& f, std::size_t o) {
      const Truth& t = *objects[o];
      return metrics_detail::overlap_with(f.box, f.box_area, t.box, t.box_area, t.crowd);
    };
    for (const Found* f : found[p]) {
      // As COCO matches: the object of its class, still free, that it overlaps most; ignored ones only if there is
      // none.
      double best = hit;
      std::ptrdiff_t match = -1;
      for (const bool ignored : {false, true}) {
        if (match >= 0) break;
        for (std::size_t o = 0; o < objects.size(); ++o) {
          const Truth& t = *objects[o];
          if (t.label != f->label || t.ignored != ignored || (is_found[o] && !t.crowd) || overlap(*f, o) < best)
            continue;
          best = overlap(*f, o);
          match = static_cast<std::ptrdiff_t>(o);
        }
      }
      if (match < 0) {
        wrong.push_back(f);
        continue;
      }
      is_found[static_cast<std::size_t>(match)] = 1;
      errors.found += !objects[static_cast<std::size_t>(match)]->ignored;
    }
    for (const Found* f : wrong) {
      // The object that it overlaps most, of its own class and of any other.
      double own = 0, other = 0, ignored = 0;
      std::size_t own_at = objects.size(), other_at = objects.size();
      for (std::size_t o = 0; o < objects.size(); ++o) {
        const bool same = objects[o]->label == f->label;
        if (objects[o]->ignored) {
          if (same) ignored = std::max(ignored, overlap(*f, o));
          continue;
        }
        double& best = same ? own : other;
        if (overlap(*f, o) <= best) continue;
        best = overlap(*f, o);
        (same ? own_at : other_at) = o;
      }
      if (ignored >= hit && ignored >= own) continue;
      if (own >= near && own < hit) {
        ++errors.localisation;
        is_covered[own_at] = 1;
      } else if (other >= hit) {
        ++errors.classification;
        is_covered[other_at] = 1;
      } else if (own >= hit) {
        ++errors.duplicate;
      } else if (other < near) {
        ++errors.background;
      } else {
        ++errors.both;
      }
    }
    for (std::size_t o = 0; o < objects.size(); ++o)
      errors.missed += !objects[o]->ignored && !is_found[o] && !is_covered[o];
  }
  return errors;
}

OCELLUS_FN void DetectionMetric::check_names(const char* where, const std::vector<std::string>& names) const {
  if (static_cast<Index>(names.size()) == classes_) return;
  throw UsageError(std::string("DetectionMetric: ") + where + " needs " + std::to_string(classes_) + " names; got " +
                   std::to_string(names.size()));
}

OCELLUS_FN std::string DetectionMetric::table(const std::vector<std::string>& names) const {
  check_names("table", names);
  std::size_t width = 5;
  for (const std::string& name : names) width = std::max(width, name.size());
  const auto number = [](double value) {
    char text[16];
    std::snprintf(text, sizeof text, "%8.4f", value);
    return std::isnan(value) ? std::string("       -") : std::string(text);
  };
  const auto count = [](Index value) {
    const std::string digits = std::to_string(value);
    return std::string(11 - std::min<std::size_t>(10, digits.size()), ' ') + digits;
  };
  std::string text = "class" + std::string(width - 5, ' ') + "    objects detections      AP    AP50    AP75      AR\n";
  Index all_objects = 0, all_detections = 0;
  for (Index c = 0; c < classes_; ++c) {
    const std::string& name = names[static_cast<std::size_t>(c)];
    all_objects += objects(c);
    all_detections += detections(c);
    text += name + std::string(width - name.size(), ' ') + count(objects(c)) + count(detections(c)) + number(ap(c)) +
            number(ap_at(c, 0)) + number(ap_at(c, 5)) + number(ar(c)) + "\n";
  }
  const CocoSummary s = coco();
  return text + "all" + std::string(width - 3, ' ') + count(all_objects) + count(all_detections) + number(s.ap) +
         number(s.ap50) + number(s.ap75) + number(s.ar100) + "\n";
}

OCELLUS_FN std::string DetectionMetric::chart(const std::vector<std::string>& names, double iou) const {
  check_names("chart", names);
  char text[96];
  std::snprintf(text, sizeof text, "Precision over recall at IoU %.2f", iou);
  Chart chart{.title = text, .x_label = "recall", .y_label = "precision"};
  std::vector<double> points, average(recalls);
  for (int r = 0; r < recalls; ++r) points.push_back(metrics_detail::spaced(0, 1, recalls, r));
  Index present = 0;
  for (Index c = 0; c < classes_; ++c) {
    const PrecisionRecall curve = this->curve(c, iou);
    if (curve.objects == 0) continue;
    ++present;
    std::vector<double> best = curve.precision, y(recalls);
    for (std::size_t i = best.size(); i-- > 1;) best[i - 1] = std::max(best[i - 1], best[i]);
    std::size_t at = 0;
    for (std::size_t r = 0; r < y.size(); ++r) {
      while (at < best.size() && curve.recall[at] < points[r]) ++at;
      y[r] = at < best.size() ? best[at] : 0;
      average[r] += y[r];
    }
    std::snprintf(text, sizeof text, " %.3f", voc_ap(c, VocRule::all_points, iou));
    chart.series(names[static_cast<std::size_t>(c)] + text, points, y);
  }
  if (present > 1) {
    for (double& y : average) y /= static_cast<double>(present);
    std::snprintf(text, sizeof text, "all classes %.3f", voc_mean_ap(VocRule::all_points, iou));
    chart.series(text, points, average);
  }
  return chart.svg();
}

}  // namespace ocellus
#endif
