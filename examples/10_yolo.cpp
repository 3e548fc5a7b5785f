// 10 · A small YOLO, written out
//
// At every place of two maps, one for 8 × 8 pixels and one for 16 × 16, the network says how far the four edges of a box are and how
// likely each class is. A distance is a distribution over 0 … 7 steps of its map and means its average; so the fine map finds small
// things, the coarse one large ones. Which places answer for which cell the loss decides (task-aligned assignment): those inside it that
// do so best already. In the end several places name the same cell, and suppression keeps the surest.
//
// Run:      OCELLUS_DATA=… ./10_yolo [overlay.png]      (without BCCD: drawn cells)
// Expected: AP50 ≥ 0.84 on BCCD's 87 val pictures after 25 epochs (drawn cells: ≥ 0.9 after 10); writes 10_cells.png.
#include <cstdio>
#include <vector>

#include <ocellus/ocellus.hpp>

#include "cells.hpp"
#include "expect.hpp"

using namespace ocellus;

constexpr Index bins = 8, classes = 3;
const std::vector<Index> strides = {8, 16};
const Preprocess preprocess = {.resize = ResizePolicy::letterbox, .size = {192, 256}, .do_normalize = false};

struct Conv : nn::ConvNormAct {
  Conv(Index in, Index out, Index kernel, Index stride = 1) : ConvNormAct(in, out, kernel, {.stride = stride, .act = Act::silu}) {}
};

// (N, h, w, in) → (N, h, w, 4 · bins + classes): boxes and classes look for different things, so each has a convolution of its own.
struct Head : Module<Head> {
  Conv box, cls;
  nn::Conv2d distances, scores;
  explicit Head(Index in) : box(in, in, 3), cls(in, in, 3), distances(in, 4 * bins, 1), scores(in, classes, 1) {
    init::constant(scores.bias, -4.6f);  // most places show nothing: start at a probability of 0.01,
    for (Index i = 0; i < 4 * bins; ++i) distances.bias[i] = -static_cast<float>(i % bins);  // and with boxes of about one place
  }
  Tensor forward(const Tensor& x) const { return concat(std::vector<Tensor>{distances(box(x)), scores(cls(x))}); }
  OCELLUS_MODULE(Head, box, cls, distances, scores)
};

struct SmallYolo : Module<SmallYolo> {
  Conv to2{3, 12, 3, 2}, to4{12, 24, 3, 2}, at4{24, 24, 3}, to8{24, 48, 3, 2}, at8{48, 48, 3}, to16{48, 96, 3, 2}, at16{96, 96, 3};
  Conv top{96, 48, 1}, neck{96, 48, 3};
  Head fine{48}, coarse{48};

  // (N, H, W, 3) → the maps of both strides. The fine one sees what the coarse one knows of the surroundings.
  std::vector<Tensor> forward(const Tensor& image) const {
    const Tensor x8 = at8(to8(at4(to4(to2(image))))), x16 = top(at16(to16(x8)));
    const Tensor enlarged = resize(x16, {x8.dim(1), x8.dim(2)}, {.mode = ResizeMode::nearest});
    return {fine(neck(concat(std::vector<Tensor>{enlarged, x8}))), coarse(x16)};
  }
  OCELLUS_MODULE(SmallYolo, to2, to4, at4, to8, at8, to16, at16, top, neck, fine, coarse)
};

// Maps → boxes in pixels of the input and probabilities: centre of the place ∓ average distance · stride.
BoxCandidates decode(const std::vector<Tensor>& maps) {
  const Tensor all = join_maps(maps), places = map_places({maps[0].shape(), maps[1].shape()}, strides);  // (N, A, C), (A, 3)
  const std::vector<Tensor> parts = split(all, {4 * bins, classes}), place = split(places, {2, 1});  // x and y, stride
  const Tensor steps({bins, 1}, {0, 1, 2, 3, 4, 5, 6, 7});
  const Tensor shares = softmax(reshape(parts[0], {all.dim(0), all.dim(1), 4, bins}));
  const Tensor distances = reshape(matmul(shares, steps), {all.dim(0), all.dim(1), 4}) * place[1];
  const std::vector<Tensor> side = split(distances, {2, 2});  // left and top, right and bottom
  return {concat(std::vector<Tensor>{place[0] - side[0], place[0] + side[1]}), sigmoid(parts[1])};
}

int main(int argc, char** argv) {
  // By hand: a place is (column + 1/2, row + 1/2) · stride; here row 2 and column 3 of the fine map say 1, 2, 3 and 4 steps.
  const std::vector<Tensor> maps = {Tensor::full({1, 24, 32, 4 * bins + classes}, 0), Tensor::full({1, 12, 16, 4 * bins + classes}, 0)};
  const Index row = 2 * 32 + 3;
  for (Index side = 0; side < 4; ++side) maps[0].data()[row * (4 * bins + classes) + side * bins + side + 1] = 99;
  const Tensor boxes = decode(maps).boxes;
  expect("places of both maps", static_cast<double>(boxes.dim(1)), 24 * 32 + 12 * 16, 0);
  expect("left edge, 3.5 · 8 − 1 · 8", static_cast<double>(boxes[4 * row]), 20, 1e-4);
  expect("lower edge, 2.5 · 8 + 4 · 8", static_cast<double>(boxes[4 * row + 3]), 52, 1e-4);

  const Cells cells = open_cells();
  DetectionAugmentation vary = DetectionAugmentation::none(preprocess.size);
  vary.scale = 0.2f, vary.translate = 0.1f, vary.horizontal_flip = vary.vertical_flip = 0.5f, vary.saturation = 0.3f, vary.value = 0.2f;
  Loader loader(cells.train, {.batch = 4, .seed = 1, .detection = vary, .preprocess = {.resize = ResizePolicy::none, .do_normalize = false}});
  const Index epochs = cells.real ? 25 : 10, per_epoch = loader.batches_per_epoch();
  manual_seed(1);
  SmallYolo model;
  std::printf("%lld parameters\n", static_cast<long long>(parameter_count(model)));
  AdamW optimizer(decay_groups(named_parameters(model)), {.weight_decay = 0.05});
  Ema average(named_parameters(model), {.decay = 0.99});
  const Schedule rate{.kind = ScheduleKind::cosine, .learning_rate = 3e-3, .total_steps = epochs * per_epoch, .warmup_steps = 20};
  double loss_sum = 0, start = seconds();
  for (Index step = 0; step < epochs * per_epoch; ++step) {
    const Batch b = loader.next();
    const Training training(1, static_cast<std::uint32_t>(step));
    optimizer.set_learning_rate(rate.at(step));
    optimizer.zero_grad();
    const Tensor loss = detection_loss(model(b.images), strides, detection_targets(b.boxes), {.assignment = {.bins = bins}}).total();
    backward(loss);
    optimizer.step();
    average.update();
    loss_sum += static_cast<double>(loss.item()) / static_cast<double>(per_epoch);
    if ((step + 1) % (5 * per_epoch) > 0) continue;
    std::printf("epoch %2lld  loss %.3f  %.1f s\n", static_cast<long long>((step + 1) / per_epoch), loss_sum / 5, seconds() - start);
    loss_sum = 0;
  }
  average.swap();  // the average of the weights over the last steps is the better model

  const auto network = [&](const Tensor& x) { return decode(model(x)); };
  const DetectionMetric metric = evaluate_detector(network, *cells.val, classes, {.preprocess = preprocess});
  std::printf("%s", metric.table(cells.val->classes()).c_str());
  expect_at_least("AP50, the mean of the classes", metric.coco().ap50, cells.real ? 0.84 : 0.9);

  DetectResult result;
  result.picture = cells.val->get(9).image;
  result.class_count = classes;
  const BoxCandidates all = network(to_tensor(result.picture, preprocess));
  const Letterbox placement = placement_of(preprocess, result.picture.size());
  const std::vector<Detections> found = find_detections(all.boxes, all.scores);
  for (const Detection& d : found[0].kept) {
    result.objects.push_back({d.label, cells.val->classes()[static_cast<std::size_t>(d.label)], d.score, placement.to_original(d.box)});
  }
  result.save_overlay(argc > 1 ? argv[1] : "10_cells.png");
  std::printf("%zu cells: %s\n", result.objects.size(), argc > 1 ? argv[1] : "10_cells.png");
  return 0;
}
