// The library's side of comparisons that weights_tools makes with the references of detection.
//   bench_peers_detection coco FILE                evaluates; prints seconds, threads and COCO's twelve numbers as JSON
//   bench_peers_detection letterbox FILE OUT H W   images and boxes
//   bench_peers_detection nms FILE OUT             suppression
//   bench_peers_detection decode FILE OUT          a network's raw maps, decoded, then suppression
//   bench_peers_detection loss FILE OUT            terms and gradients of the training loss
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ocellus/autograd.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses/detection.hpp>
#include <ocellus/metrics/detection.hpp>
#include <ocellus/models/yolo.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/runtime.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/preprocess.hpp>

namespace {

using namespace ocellus;

// truth (n, 8): picture, label, x, y, width, height, area, crowd; found (n, 7): the same up to the height, then score.
int evaluate(const std::string& path) {
  const NamedTensors file = read_safetensors(path);
  const BasicTensor<double> truth(file.at("truth")), found(file.at("found"));
  const auto pictures = static_cast<std::size_t>(std::stoll(file.metadata.at("pictures")));
  std::vector<std::vector<TrueObject>> objects(pictures);
  std::vector<std::vector<FoundObject>> detections(pictures);
  for (const double* v = truth.begin(); v != truth.end(); v += 8) {
    objects.at(static_cast<std::size_t>(v[0]))
        .push_back({{v[2], v[3], v[4], v[5]}, static_cast<Index>(v[1]), v[6], v[7] != 0});
  }
  for (const double* v = found.begin(); v != found.end(); v += 7) {
    detections.at(static_cast<std::size_t>(v[0])).push_back({{v[2], v[3], v[4], v[5]}, static_cast<Index>(v[1]), v[6]});
  }
  double best = std::numeric_limits<double>::infinity();
  CocoSummary summary{};
  for (int turn = 0; turn < 5; ++turn) {
    const double start = seconds();
    DetectionMetric metric(std::stoll(file.metadata.at("classes")));
    for (std::size_t p = 0; p < pictures; ++p) metric.add(objects[p], detections[p]);
    summary = metric.coco();
    best = std::min(best, seconds() - start);
  }
  std::printf("{\"seconds\": %.6f, \"threads\": %d, \"values\": [", best, num_threads());
  const char* comma = "";
  for (const double value : summary.values()) {
    std::printf("%s%.17g", comma, std::isnan(value) ? -1 : value);
    comma = ", ";
  }
  std::printf("]}\n");
  return 0;
}

std::string number_of(const std::string& name) { return name.substr(name.find('.')); }

// image.<i> (H, W, 3) → boxed.<i>; boxes.<i> (M, 4) in the letterbox of that image → original.<i>
int make_letterboxes(const NamedTensors& file, NamedTensors& result, Size2 target) {
  for (const auto& [name, tensor] : file) {
    const std::string number = number_of(name);
    const BasicTensor<std::uint8_t> image(file.at("image" + number));
    if (name.starts_with("image")) {
      const Image boxed = letterbox(
          Image::view(image.data(), image.dim(1), image.dim(0), image.dim(1) * 3, PixelOrder::rgb), target.h, target.w);
      BasicTensor<std::uint8_t> copy({target.h, target.w, 3});
      std::memcpy(copy.data(), boxed.data(), static_cast<std::size_t>(copy.numel()));
      result.add("boxed" + number, copy);
      continue;
    }
    const Letterbox place = letterbox_of({image.dim(0), image.dim(1)}, target);
    const Tensor boxes(tensor.copy());
    for (float* b = boxes.begin(); b != boxes.end(); b += 4) {
      const auto back = from_box(BoxFormat::xyxy, place.to_original({b[0], b[1], b[2], b[3]}));
      std::copy(back.begin(), back.end(), b);
    }
    result.add("original" + number, boxes);
  }
  return 0;
}

NmsOptions options_of(const Json& row) {
  return {.confidence = row.get<float>("conf_thres"),
          .iou = row.get<float>("iou_thres"),
          .class_agnostic = row.get<bool>("agnostic"),
          .several_labels = row.get<bool>("multi_label"),
          .max_detections = row.get<Index>("max_det")};
}

// (n, 7): edges, score, label, row
Tensor table(const std::vector<Detection>& kept) {
  const Tensor list({static_cast<Index>(kept.size()), 7});
  float* to = list.data();
  for (const Detection& d : kept) {
    for (const float edge : from_box(BoxFormat::xyxy, d.box)) *to++ = edge;
    *to++ = d.score;
    *to++ = static_cast<float>(d.label);
    *to++ = static_cast<float>(d.row);
  }
  return list;
}

// prediction.<i> (rows, 4 + classes): centre, size, scores → found.<i>, a table
int suppress(const NamedTensors& file, NamedTensors& result) {
  const Json cases = Json::parse(file.metadata.at("cases"), "cases");
  for (Index i = 0; i < cases.size(); ++i) {
    const NmsOptions options = options_of(cases.at(i));
    const Tensor prediction(file.at("prediction." + std::to_string(i)));
    const Index width = prediction.dim(1);
    const Tensor boxes = convert_boxes(slice(prediction, 1, 0, 4), BoxFormat::cxcywh, BoxFormat::xyxy);
    const Detections found =
        std::move(find_detections(stack(std::vector<Tensor>{boxes}),
                                  stack(std::vector<Tensor>{slice(prediction, 1, 4, width)}), options)
                      .front());
    result.add("found." + std::to_string(i), table(found.kept));
  }
  return 0;
}

// map.<i>.<stride> (1, H, W, 4 · bins + classes) → found.<i>, a table whose rows are those of all places, and likely.<i>, the same of
// only those places that the confidence leaves
int decode(const NamedTensors& file, NamedTensors& result) {
  const Json cases = Json::parse(file.metadata.at("cases"), "cases");
  const NoGrad no_grad;
  for (Index i = 0; i < cases.size(); ++i) {
    const NmsOptions options = options_of(cases.at(i));
    std::vector<Tensor> maps;
    for (const Index stride : Features::strides) {
      maps.emplace_back(file.at("map." + std::to_string(i) + "." + std::to_string(stride)));
    }
    const Index bins = cases.at(i).get<Index>("bins");
    const yolo::Head head(64, 128, 256, maps[0].dim(3) - 4 * bins, bins, false);
    const BoxCandidates all = head.decode(maps), likely = head.decode(maps, options.confidence);
    const std::vector<Detections> found = find_detections(all.boxes, all.scores, options),
                                  again = find_detections(likely.boxes, likely.scores, options);
    result.add("found." + std::to_string(i), table(found[0].kept));
    result.add("likely." + std::to_string(i), table(again[0].kept));
  }
  return 0;
}

// map.<i>.<stride> (N, H, W, C), targets.<i> (n, 6): picture, label, edges → terms.<i> (3), weighted, and the gradient
// of their sum times N, dmap.<i>.<stride>
int lose(const NamedTensors& file, NamedTensors& result) {
  const std::vector<Index> strides = {8, 16, 32};
  const Json cases = Json::parse(file.metadata.at("cases"), "cases");
  for (Index i = 0; i < cases.size(); ++i) {
    const std::string number = "." + std::to_string(i);
    const Index pictures = cases.at(i).get<Index>("pictures");
    std::vector<DetectionTarget> targets(static_cast<std::size_t>(pictures));
    const Tensor rows(file.at("targets" + number));
    for (const float* v = rows.begin(); v != rows.end(); v += 6) {
      DetectionTarget& t = targets.at(static_cast<std::size_t>(v[0]));
      t.labels.push_back(static_cast<Index>(v[1]));
      t.boxes.push_back({v[2], v[3], v[4], v[5]});
    }
    std::vector<Tensor> maps;
    for (const Index stride : strides) {
      maps.emplace_back(file.at("map" + number + "." + std::to_string(stride)).copy());
      maps.back().requires_grad();
    }
    DetectionLossOptions options;
    options.assignment.least_side = cases.at(i).get<double>("least_side");
    const LossTerms loss = detection_loss(maps, strides, detection_targets(targets), options);
    backward(loss.total() * static_cast<float>(pictures));
    Tensor terms({3});
    for (std::size_t k = 0; k < 3; ++k)
      terms[static_cast<Index>(k)] = static_cast<float>(loss.terms()[k].weight * loss.terms()[k].item());
    result.add("terms" + number, terms);
    for (std::size_t k = 0; k < 3; ++k) result.add("dmap" + number + "." + std::to_string(strides[k]), maps[k].grad());
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "";
  try {
    if (command == "coco" && count == 3) return evaluate(arguments[2]);
    if (count >= 4) {
      const NamedTensors file = read_safetensors(arguments[2]);
      NamedTensors result;
      int status = 2;
      if (command == "letterbox" && count == 6)
        status = make_letterboxes(file, result, {std::stoll(arguments[4]), std::stoll(arguments[5])});
      if (command == "nms") status = suppress(file, result);
      if (command == "decode") status = decode(file, result);
      if (command == "loss") status = lose(file, result);
      if (status == 0) {
        write_safetensors(arguments[3], result);
        return 0;
      }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  std::fprintf(stderr,
               "usage: bench_peers_detection coco FILE | letterbox FILE OUT H W | nms FILE OUT | decode FILE OUT | loss FILE OUT\n");
  return 2;
}
