// The library's side of comparisons that weights_tools makes with the references of detection.
//   bench_peers_detection coco FILE                evaluates; prints seconds, threads and COCO's twelve numbers as JSON
//   bench_peers_detection letterbox FILE OUT H W   every image.<i> of the file, letterboxed, as boxed.<i>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

#include <ocellus/io/safetensors.hpp>
#include <ocellus/metrics/detection.hpp>
#include <ocellus/runtime.hpp>
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

int make_letterboxes(const std::string& path, const std::string& out, Size2 target) {
  const NamedTensors file = read_safetensors(path);
  NamedTensors result;
  for (const auto& [name, pixels] : file) {
    const BasicTensor<std::uint8_t> image(pixels);
    const Image boxed = letterbox(
        Image::view(image.data(), image.dim(1), image.dim(0), image.dim(1) * 3, PixelOrder::rgb), target.h, target.w);
    BasicTensor<std::uint8_t> copy({target.h, target.w, 3});
    std::memcpy(copy.data(), boxed.data(), static_cast<std::size_t>(copy.numel()));
    result.add("boxed" + name.substr(name.find('.')), copy);
  }
  write_safetensors(out, result);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string command = count > 1 ? arguments[1] : "";
  try {
    if (command == "coco" && count == 3) return evaluate(arguments[2]);
    if (command == "letterbox" && count == 6)
      return make_letterboxes(arguments[2], arguments[3], {std::stoll(arguments[4]), std::stoll(arguments[5])});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  std::fprintf(stderr, "usage: bench_peers_detection coco FILE | letterbox FILE OUT H W\n");
  return 2;
}
