// The training loss of anchor-free detectors with distribution focal boxes, YOLOv8 and its successors: which places of
// the maps answer for which object (task-aligned assignment: Feng et al., TOOD, 2021), and what their boxes, edges and
// scores cost.
#pragma once

#include <type_traits>
#include <vector>

#include <ocellus/losses/reduction.hpp>
#include <ocellus/losses/terms.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/object_box.hpp>

namespace ocellus {

// The objects of one picture: edges in pixels of the network's input, and as many labels.
struct DetectionTarget {
  std::vector<Box> boxes;
  std::vector<Index> labels;
};

// Targets of a batch as one tensor (N, M, 5): label and edges, M the largest number of objects (or `at_least`), label
// −1 where a picture has fewer. Throws UsageError for lists that differ in length, boxes that are not finite or
// reversed, negative labels and those that a float does not hold exactly (above 2²⁴), naming picture and object.
Tensor detection_targets(const std::vector<DetectionTarget>& targets, Index at_least = 0);
// Of the objects of each picture, as a Batch holds them; of crowds and difficult ones there is nothing to be learned. A
// template, so that lists in braces are DetectionTargets.
template <class Object>
  requires std::is_same_v<Object, ObjectBox>
Tensor detection_targets(const std::vector<std::vector<Object>>& objects, Index at_least = 0) {
  std::vector<DetectionTarget> targets;
  for (const std::vector<ObjectBox>& of_picture : objects) {
    DetectionTarget& target = targets.emplace_back();
    for (const ObjectBox& o : of_picture) {
      if (o.crowd || o.difficult) continue;
      target.boxes.push_back(o.box);
      target.labels.push_back(o.label);
    }
  }
  return detection_targets(targets, at_least);
}

// Maps (N, H, W, C) of any number of strides → (N, Σ H W, C), in their order, rows of a map one after another.
template <class T>
BasicTensor<T> join_maps(const std::vector<BasicTensor<T>>& maps);

// Where the places of these maps are in the input: (Σ H W, 3), centre x and y and stride, in pixels.
Tensor map_places(const std::vector<Shape>& maps, const std::vector<Index>& strides);

struct AssignmentOptions {
  Index bins = 16;        // of the distribution of each edge
  Index candidates = 10;  // places that an object may claim
  double alpha = 0.5;     // exponent of the score,
  double beta = 6;        // and of the overlap, in how well a place fits an object
  // Pixels: narrower and lower objects claim places as if they had this size (0: none). Small objects may lie between
  // all centres otherwise.
  double least_side = 0;
};

// prediction (N, A, 4 bins + K) logits: the edges' distances from the place in strides (left, top, right, bottom), then
// the classes; places (A, 3) as map_places gives them; targets (N, M, 5) as detection_targets gives them.
// → (N, A, 2): the object that the place answers for, −1 for none, and the score it should give its class. An object
// claims the best `candidates` of the places inside it by score^alpha · ciou^beta; a place claimed by several goes to
// the one of all objects around it that its box overlaps most. The score is that product, scaled so that an object's
// best place gets its best overlap. Not differentiable. Throws ShapeError, also for labels of K and above.
template <class T>
BasicTensor<T> task_aligned_assignment(const BasicTensor<T>& prediction, const BasicTensor<T>& places,
                                       const BasicTensor<T>& targets, const AssignmentOptions& options = {});

struct DetectionLossOptions {
  double box = 7.5, classes = 0.5, distribution = 1.5;  // weights of the terms
  Overlap overlap = Overlap::ciou;
  double epsilon = 1e-7;  // of the overlap
  AssignmentOptions assignment = {};
};

// "box": Σ w (1 − overlap), "cls": Σ binary cross-entropy of all places and classes, "dfl": Σ w · mean over the edges
// of the distribution focal loss, each divided by Σ w or 1, whichever is more; w: the score of a place that answers for
// an object. Multiply the total by N for the reference's loss. maps (N, H, W, 4 bins + K), one per stride; targets as
// detection_targets gives them. Throws ShapeError.
template <class T>
std::vector<BasicTensor<T>> detection_terms(const BasicTensor<T>& prediction, const BasicTensor<T>& places,
                                            const BasicTensor<T>& targets, const BasicTensor<T>& assignment,
                                            const DetectionLossOptions& options = {});
LossTerms detection_loss(const std::vector<Tensor>& maps, const std::vector<Index>& strides, const Tensor& targets,
                         const DetectionLossOptions& options = {});

}  // namespace ocellus

#if defined(OCELLUS_OP_STRUCTS)
#include <cmath>
#include <limits>
#include <string>

#include <ocellus/losses/dual.hpp>
#include <ocellus/losses/focal.hpp>

namespace ocellus::op {

// A place of a map, and what a row of the prediction says there.
template <class T>
struct Place {
  T x, y, stride;

  explicit Place(const T* v) : x(v[0]), y(v[1]), stride(v[2]) {}

  // The mean of each edge's distribution, in strides.
  static void distances(const T* row, Index bins, T* mean, T* total) {
    for (int side = 0; side < 4; ++side, row += bins) {
      total[side] = DistributionFocalLoss::log_sum(row, bins);
      mean[side] = 0;
      for (Index i = 1; i < bins; ++i) mean[side] += static_cast<T>(i) * std::exp(row[i] - total[side]);
    }
  }

  // In strides; seen from the origin, not from the place, whose coordinates are numbers of the same unit.
  template <class S>
  BasicBox<S> box(const S* distance) const {
    const T cx = x / stride, cy = y / stride;
    return {S(cx) - distance[0], S(cy) - distance[1], S(cx) + distance[2], S(cy) + distance[3]};
  }
};

template <class T>
BasicBox<T> target_box(const T* target) {
  return {target[1], target[2], target[3], target[4]};
}

template <class T>
BasicBox<T> scaled(const BasicBox<T>& b, T factor) {
  return {b.x1 * factor, b.y1 * factor, b.x2 * factor, b.y2 * factor};
}

// Shapes and labels that both ops need.
inline void check_detection(const Run& r, Index bins) {
  const Shape &x = r.in[0].shape, &places = r.in[1].shape, &targets = r.in[2].shape;
  r.require(bins >= 2, "bins must be 2 or more");
  r.require(x.rank() == 3 && x[2] > 4 * bins, "prediction must be (N, A, 4 * bins + K) with a class or more");
  r.require(places == Shape{x[1], 3}, "places must be (A, 3)");
  r.require(targets.rank() == 3 && targets[0] == x[0] && targets[2] == 5, "targets must be (N, M, 5)");
}

template <class T>
void check_targets(const Run& r, Index classes) {
  const T* targets = r.in[2];
  const Index n = r.in[2].shape.rows();
  for (Index i = 0; i < n; ++i) {
    const T* t = targets + 5 * i;
    const bool absent = t[0] == T(-1);
    if (absent) continue;
    const bool is_class = t[0] >= 0 && t[0] < static_cast<T>(classes) && t[0] == std::floor(t[0]);
    if (is_class && in_order(target_box(t))) continue;
    r.fail("object " + std::to_string(i % r.in[2].shape[1]) + " of picture " + std::to_string(i / r.in[2].shape[1]) +
           (is_class ? " has a box that is not finite or reversed"
                     : " has label " + std::to_string(t[0]) + ", which is not a class of [0, " +
                           std::to_string(classes) + ")"));
  }
}

// Which object each place answers for, and how well: (index or −1, score).
struct TaskAlignedAssignment {
  OCELLUS_OP("task_aligned_assignment(prediction, places, targets)", bins, candidates, alpha, beta, least_side)
  Index bins = 16;
  Index candidates = 10;
  double alpha = 0.5;
  double beta = 6;
  double least_side = 0;
  static constexpr bool not_differentiable = true;

  Shape infer(const Run& r) const {
    check_detection(r, bins);
    return {r.in[0].shape[0], r.in[0].shape[1], 2};
  }

  template <class T>
  void forward(const Run& r) const {
    check_targets<T>(r, r.in[0].shape[2] - 4 * bins);
    parallel_for(r.in[0].shape[0], 1, [&](Index begin, Index end) {
      for (Index n = begin; n < end; ++n) assign<T>(r, n);
    });
  }

 private:
  template <class T>
  struct Claim {
    Index place, object;
    T fit, overlap;
  };
  // Of one place: whose it is, and which object its box overlaps most.
  template <class T>
  struct Owner {
    int claims = 0;
    Claim<T> mine{};
    Claim<T> closest{-1, -1, T(0), T(-1)};
  };

  template <class T>
  void assign(const Run& r, Index n) const {
    const Index count = r.in[0].shape[1], width = r.in[0].shape[2], objects = r.in[2].shape[1];
    const T *x = r.in[0], *places = r.in[1], *targets = r.in[2];
    x += n * count * width;
    targets += n * objects * 5;
    T* y = r.out[0];
    y += n * count * 2;

    std::vector<Owner<T>> owners(static_cast<std::size_t>(count));
    std::vector<BasicBox<T>> boxes(static_cast<std::size_t>(count));  // in pixels; decoded where an object needs them
    std::vector<char> decoded(static_cast<std::size_t>(count));
    std::vector<Claim<T>> claims;
    for (Index m = 0; m < objects; ++m) {
      const T* target = targets + 5 * m;
      if (target[0] < 0) continue;
      claims.clear();
      const BasicBox<T> object = target_box(target), reach = enlarged(object);
      const Index label = static_cast<Index>(target[0]);
      for (Index a = 0; a < count; ++a) {
        const Place<T> place(places + 3 * a);
        const T nearest = std::min(std::min(place.x - reach.x1, place.y - reach.y1),
                                   std::min(reach.x2 - place.x, reach.y2 - place.y));
        if (!(nearest > T(1e-9))) continue;
        const auto at = static_cast<std::size_t>(a);
        const T* row = x + a * width;
        if (!decoded[at]) {
          T distance[4], total[4];
          Place<T>::distances(row, bins, distance, total);
          boxes[at] = scaled(place.box(distance), place.stride);
          decoded[at] = 1;
        }
        const T shared = std::max(T(0), overlap(Overlap::ciou, object, boxes[at], T(1e-7)));
        const T score = 1 / (1 + std::exp(-row[4 * bins + label]));
        const T fit = std::pow(score, static_cast<T>(alpha)) * std::pow(shared, static_cast<T>(beta));
        const Claim<T> claim{a, m, fit, shared};
        if (shared > owners[at].closest.overlap) owners[at].closest = claim;
        if (fit > 0) claims.push_back(claim);
      }
      const auto better = [](const Claim<T>& a, const Claim<T>& b) {
        return a.fit > b.fit || (a.fit == b.fit && a.place < b.place);
      };
      const std::size_t most = std::min(claims.size(), static_cast<std::size_t>(std::max<Index>(candidates, 0)));
      std::partial_sort(claims.begin(), claims.begin() + static_cast<std::ptrdiff_t>(most), claims.end(), better);
      for (std::size_t i = 0; i < most; ++i) {
        Owner<T>& owner = owners[static_cast<std::size_t>(claims[i].place)];
        ++owner.claims;
        owner.mine = claims[i];
      }
    }

    // The best fit and the best overlap among the places of each object.
    std::vector<T> best_fit(static_cast<std::size_t>(objects)), best_overlap(static_cast<std::size_t>(objects));
    for (Owner<T>& owner : owners) {
      if (owner.claims > 1) owner.mine = owner.closest;
      if (owner.claims == 0) continue;
      const auto m = static_cast<std::size_t>(owner.mine.object);
      best_fit[m] = std::max(best_fit[m], owner.mine.fit);
      best_overlap[m] = std::max(best_overlap[m], owner.mine.overlap);
    }
    for (Index a = 0; a < count; ++a, y += 2) {
      const Owner<T>& owner = owners[static_cast<std::size_t>(a)];
      y[0] = -1;
      y[1] = 0;
      if (owner.claims == 0) continue;
      const auto m = static_cast<std::size_t>(owner.mine.object);
      y[0] = static_cast<T>(owner.mine.object);
      y[1] = owner.mine.fit * best_overlap[m] / (best_fit[m] + T(1e-9));
    }
  }

  template <class T>
  BasicBox<T> enlarged(const BasicBox<T>& b) const {
    const T least = static_cast<T>(least_side);
    const T w = std::max(b.width(), least) / 2, h = std::max(b.height(), least) / 2;
    if (b.width() >= least && b.height() >= least) return b;
    const T x = (b.x1 + b.x2) / 2, y = (b.y1 + b.y2) / 2;
    return {x - w, y - h, x + w, y + h};
  }
};

// With w the score of a place, W = max(1, Σ w), t its target score (w at its object's label, else 0):
// box = Σ w (1 − overlap) / W, cls = Σ (softplus(x) − t x) / W, dfl = Σ w · mean of the four edges' losses / W
// dx: of the box through the mean of each distribution, p (i − mean); σ(x) − t; and that of the distribution focal loss
struct DetectionTerms {
  OCELLUS_OP("detection_terms(prediction, places, targets, assignment)", bins, kind, epsilon)
  Index bins = 16;
  Overlap kind = Overlap::ciou;
  double epsilon = 1e-7;
  static constexpr unsigned keeps = input(0) | input(1) | input(2) | input(3);

  std::vector<Shape> infer(const Run& r) const {
    check_detection(r, bins);
    const Shape& x = r.in[0].shape;
    r.require(r.in[3].shape == Shape{x[0], x[1], 2}, "assignment must be (N, A, 2)");
    return {{}, {}, {}};
  }

  std::vector<Spec> aux(const Run&) const { return {{{}, DType::f64}}; }  // W

  template <class T>
  void forward(const Run& r) const {
    const Rows<T> rows(r, bins);
    check_targets<T>(r, rows.classes);
    for (Index i = 0; i < rows.count; ++i) {
      const Index object = rows.object(i);
      if (object == -1 || (object >= 0 && object < rows.objects && rows.target(i)[0] >= 0)) continue;
      r.fail("place " + std::to_string(i % rows.places) + " of picture " + std::to_string(i / rows.places) +
             " is assigned to object " + std::to_string(object) + ", which is not there");
    }
    double sums[4];  // of box, cls, dfl and w
    sum_blocks(rows.count, 256, 4, sums, [&](Index begin, Index end, double* partial) {
      for (Index i = begin; i < end; ++i) {
        const T* x = rows.x(i) + 4 * bins;
        const Index object = rows.object(i);
        const T w = rows.score(i);
        const Index label = object < 0 ? -1 : static_cast<Index>(rows.target(i)[0]);
        for (Index c = 0; c < rows.classes; ++c)
          partial[1] += static_cast<double>(softplus(x[c]) - (c == label ? w * x[c] : T(0)));
        if (object < 0) continue;
        T distance[4], total[4], edge[4];
        const Place<T> place = rows.place(i);
        Place<T>::distances(rows.x(i), bins, distance, total);
        const BasicBox<T> target = scaled(target_box(rows.target(i)), 1 / place.stride);
        partial[0] +=
            static_cast<double>(w * (1 - overlap(kind, place.box(distance), target, static_cast<T>(epsilon))));
        edges(place, target, edge);
        T loss = 0;
        for (Index side = 0; side < 4; ++side)
          loss += DistributionFocalLoss::value(rows.x(i) + side * bins, bins, edge[side]);
        partial[2] += static_cast<double>(w * loss / 4);
        partial[3] += static_cast<double>(w);
      }
    });
    const double divisor = std::max(1.0, sums[3]);
    if (double* kept = r.aux[0]) *kept = divisor;
    for (std::size_t k = 0; k < 3; ++k) {
      T* y = r.out[k];
      *y = static_cast<T>(sums[k] / divisor);
    }
  }

  template <class T>
  void backward(const Run& r) const {
    using Number = Dual<T, 4>;
    const Rows<T> rows(r, bins);
    const double* divisor = r.aux[0];
    T g[3];
    for (std::size_t k = 0; k < 3; ++k) {
      const T* dy = r.dout[k];
      g[k] = static_cast<T>(static_cast<double>(*dy) / *divisor);
    }
    T* dx = r.din[0];
    r.require(!r.wants(1) && !r.wants(2) && !r.wants(3), "only prediction has a gradient");
    parallel_for(rows.count, 256, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const T* x = rows.x(i);
        T* d = dx + i * rows.width;
        std::fill_n(d, 4 * bins, T(0));
        const Index object = rows.object(i);
        const T w = rows.score(i);
        for (Index c = 0; c < rows.classes; ++c) d[4 * bins + c] = g[1] / (1 + std::exp(-x[4 * bins + c]));
        if (object < 0) continue;
        d[4 * bins + static_cast<Index>(rows.target(i)[0])] -= g[1] * w;
        T distance[4], total[4], edge[4];
        const Place<T> place = rows.place(i);
        Place<T>::distances(x, bins, distance, total);
        const BasicBox<T> target = scaled(target_box(rows.target(i)), 1 / place.stride);
        const Number variable[4] = {{distance[0], 0}, {distance[1], 1}, {distance[2], 2}, {distance[3], 3}};
        const BasicBox<Number> fixed{target.x1, target.y1, target.x2, target.y2};
        const Number shared = overlap(kind, place.box(variable), fixed, static_cast<T>(epsilon));
        edges(place, target, edge);
        for (Index side = 0; side < 4; ++side) {
          const T slope = -g[0] * w * shared.slope[side];
          const T* from = x + side * bins;
          T* to = d + side * bins;
          for (Index k = 0; k < bins; ++k)
            to[k] = slope * std::exp(from[k] - total[side]) * (static_cast<T>(k) - distance[side]);
          DistributionFocalLoss::add_gradient(from, bins, edge[side], g[2] * w / 4, to);
        }
      }
    });
  }

 private:
  // All places of all pictures, one after another.
  template <class T>
  struct Rows {
    Index places, objects, width, count, classes;
    const T *prediction, *anchors, *targets, *assignment;

    Rows(const Run& r, Index bins)
        : places(r.in[0].shape[1]),
          objects(r.in[2].shape[1]),
          width(r.in[0].shape[2]),
          count(r.in[0].shape[0] * places),
          classes(width - 4 * bins),
          prediction(r.in[0]),
          anchors(r.in[1]),
          targets(r.in[2]),
          assignment(r.in[3]) {}
    const T* x(Index i) const { return prediction + i * width; }
    Place<T> place(Index i) const { return Place<T>(anchors + 3 * (i % places)); }
    Index object(Index i) const { return static_cast<Index>(assignment[2 * i]); }
    T score(Index i) const { return assignment[2 * i + 1]; }
    const T* target(Index i) const { return targets + 5 * (i / places * objects + object(i)); }
  };

  // How far the target's edges are from the place, in strides, as far as the distributions reach. At their last bin one
  // of two neighbours would get no share, so they end a little before it.
  template <class T>
  void edges(const Place<T>& place, const BasicBox<T>& target, T* edge) const {
    const T cx = place.x / place.stride, cy = place.y / place.stride;
    const T far = static_cast<T>(static_cast<double>(bins) - 1 - 0.01);
    const T distance[4] = {cx - target.x1, cy - target.y1, target.x2 - cx, target.y2 - cy};
    for (int side = 0; side < 4; ++side) edge[side] = std::clamp(distance[side], T(0), far);
  }
};

}  // namespace ocellus::op
#endif

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
#include <string>

#include <ocellus/core/error.hpp>
#include <ocellus/ops/layout.hpp>

namespace ocellus {

OCELLUS_FN Tensor detection_targets(const std::vector<DetectionTarget>& targets, Index at_least) {
  Index most = at_least;
  for (const DetectionTarget& t : targets) most = std::max(most, static_cast<Index>(t.boxes.size()));
  const Tensor result = Tensor::full({static_cast<Index>(targets.size()), most, 5}, 0);
  float* to = result.data();
  for (std::size_t n = 0; n < targets.size(); ++n) {
    const DetectionTarget& t = targets[n];
    const auto refuse = [&](const std::string& what) {
      throw UsageError("detection_targets: picture " + std::to_string(n) + what);
    };
    if (t.labels.size() != t.boxes.size()) {
      refuse(" has " + std::to_string(t.boxes.size()) + " boxes and " + std::to_string(t.labels.size()) + " labels");
    }
    for (std::size_t m = 0; m < static_cast<std::size_t>(most); ++m, to += 5) {
      to[0] = -1;
      if (m >= t.boxes.size()) continue;
      const Box& b = t.boxes[m];
      if (!in_order(b)) refuse(", object " + std::to_string(m) + " has a box that is not finite or reversed");
      const bool exact = t.labels[m] >= 0 && t.labels[m] <= Index{1} << 24;
      if (!exact) refuse(", object " + std::to_string(m) + " has label " + std::to_string(t.labels[m]));
      to[0] = static_cast<float>(t.labels[m]);
      to[1] = b.x1, to[2] = b.y1, to[3] = b.x2, to[4] = b.y2;
    }
  }
  return result;
}

template <class T>
BasicTensor<T> join_maps(const std::vector<BasicTensor<T>>& maps) {
  if (maps.empty()) throw UsageError("join_maps: no maps");
  std::vector<BasicTensor<T>> lists;
  for (const BasicTensor<T>& map : maps) {
    if (map.rank() != 4) throw ShapeError("join_maps: maps must be (N, H, W, C); got " + map.shape().str());
    lists.push_back(reshape(map, {map.dim(0), map.dim(1) * map.dim(2), map.dim(3)}));
  }
  return lists.size() == 1 ? lists.front() : concat(lists, 1);
}
OCELLUS_FLOATS(join_maps)

OCELLUS_FN Tensor map_places(const std::vector<Shape>& maps, const std::vector<Index>& strides) {
  if (maps.size() != strides.size()) {
    throw UsageError("map_places: a stride for each map is needed; got " + std::to_string(maps.size()) + " maps, " +
                     std::to_string(strides.size()) + " strides");
  }
  Index count = 0;
  for (const Shape& s : maps) {
    if (s.rank() != 4) throw ShapeError("map_places: maps must be (N, H, W, C); got " + s.str());
    count += s[1] * s[2];
  }
  const Tensor places{AnyTensor(Spec{{count, 3}, DType::f32})};
  float* to = places.data();
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const float stride = static_cast<float>(strides[i]);
    for (Index y = 0; y < maps[i][1]; ++y) {
      for (Index x = 0; x < maps[i][2]; ++x, to += 3) {
        to[0] = (static_cast<float>(x) + 0.5f) * stride;
        to[1] = (static_cast<float>(y) + 0.5f) * stride;
        to[2] = stride;
      }
    }
  }
  return places;
}

template <class T>
BasicTensor<T> task_aligned_assignment(const BasicTensor<T>& prediction, const BasicTensor<T>& places,
                                       const BasicTensor<T>& targets, const AssignmentOptions& o) {
  // Constants to the gradient, as the answer is.
  return call(op::TaskAlignedAssignment{o.bins, o.candidates, o.alpha, o.beta, o.least_side}, prediction.detach(),
              places, targets);
}
OCELLUS_FLOATS(task_aligned_assignment)

template <class T>
std::vector<BasicTensor<T>> detection_terms(const BasicTensor<T>& prediction, const BasicTensor<T>& places,
                                            const BasicTensor<T>& targets, const BasicTensor<T>& assignment,
                                            const DetectionLossOptions& o) {
  return call(op::DetectionTerms{o.assignment.bins, o.overlap, o.epsilon}, prediction, places, targets, assignment);
}
OCELLUS_FLOATS(detection_terms)

OCELLUS_FN LossTerms detection_loss(const std::vector<Tensor>& maps, const std::vector<Index>& strides,
                                    const Tensor& targets, const DetectionLossOptions& options) {
  std::vector<Shape> shapes;
  for (const Tensor& map : maps) shapes.push_back(map.shape());
  const Tensor prediction = join_maps(maps), places = map_places(shapes, strides);
  const Tensor assignment = task_aligned_assignment(prediction, places, targets, options.assignment);
  const auto terms = detection_terms(prediction, places, targets, assignment, options);
  LossTerms loss;
  loss.add("box", terms[0], options.box);
  loss.add("cls", terms[1], options.classes);
  loss.add("dfl", terms[2], options.distribution);
  return loss;
}

}  // namespace ocellus
#endif
