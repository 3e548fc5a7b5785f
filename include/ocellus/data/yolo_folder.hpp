// YOLO's text labels: beside every picture images/…/name.jpg a file labels/…/name.txt with one object a line, "class
// x y width height", the centre and the sides as shares of the picture; or "class x1 y1 x2 y2 x3 y3 …", a polygon, of
// which the box is taken. A picture without such a file has no objects; a file without its picture is reported.
#pragma once

#include <string>

#include <ocellus/data/detection_set.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

// Reads the header of every picture for its size. Subfolders are not read. classes.txt in `root` is matched by name
// with `options.classes`. Throws FileError for a line that is none of the two, a class that does not exist, shares that
// are no shares, and names that do not match; UsageError if nobody names the classes.
DetectionData read_yolo_folder(const std::string& root, const std::string& images, const std::string& labels,
                               const DatasetOptions& options = {});

namespace data_detail {

struct YoloPlace {
  std::string root, images, labels;  // folders; empty if there are none
};
// In `folder` or its only subfolder: images/<split> and labels/<split>, or <split>/images and <split>/labels.
YoloPlace find_yolo_folder(const std::string& folder, const std::string& split);

}  // namespace data_detail
}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <utility>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/data/class_folder.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/vision/image_file.hpp>

namespace ocellus {
namespace data_detail {

OCELLUS_FN YoloPlace find_yolo_folder(const std::string& folder, const std::string& split) {
  for (const std::string& place : places_in(folder)) {
    for (const auto& [images, labels] : {std::pair{"/images/" + split, "/labels/" + split},
                                         std::pair{"/" + split + "/images", "/" + split + "/labels"}}) {
      if (is_folder(place + images) && is_folder(place + labels)) return {place, place + images, place + labels};
    }
  }
  return {};
}

OCELLUS_FN void add_yolo_object(DetectionData& data, const ClassNumbers& numbers, const std::string& line,
                                const std::string& file, std::size_t number) {
  const std::string where = "line " + std::to_string(number);
  std::vector<double> values;
  for (std::size_t at = line.find_first_not_of(" \t"); at != std::string::npos;) {
    const std::size_t end = std::min(line.find_first_of(" \t", at), line.size());
    values.push_back(number_of(line.substr(at, end - at), file, where));
    at = line.find_first_not_of(" \t", end);
  }
  const bool polygon = values.size() >= 7 && values.size() % 2 == 1;
  if (values.size() != 5 && !polygon) {
    throw FileError(file, where + ": expected \"class x y width height\" or the corners of a polygon, got " +
                              std::to_string(values.size()) + " numbers");
  }
  const auto classes = static_cast<double>(numbers.class_of.size());
  if (!(values[0] >= 0 && values[0] < classes) || values[0] != static_cast<double>(static_cast<Index>(values[0]))) {
    throw FileError(file, where + ": the class is " + line.substr(0, line.find_first_of(" \t")) + "; there are " +
                              std::to_string(numbers.class_of.size()) + " classes, from 0 on");
  }
  for (std::size_t i = 1; i < values.size(); ++i) {
    constexpr double slack = 0.01;  // of tools that round to a pixel
    if (!(values[i] >= -slack && values[i] <= 1 + slack)) {
      throw FileError(file, where + ": " + shown_number(values[i]) +
                                " is no share of the picture, from 0 to 1; were these pixels?");
    }
  }
  ObjectBox object;
  object.label = numbers.class_of[static_cast<std::size_t>(values[0])];
  double edges[4] = {values[1] - values[3] / 2, values[2] - values[4] / 2, values[1] + values[3] / 2,
                     values[2] + values[4] / 2};
  if (polygon) {
    edges[0] = edges[2] = values[1];
    edges[1] = edges[3] = values[2];
    for (std::size_t i = 3; i < values.size(); i += 2) {
      edges[0] = std::min(edges[0], values[i]);
      edges[1] = std::min(edges[1], values[i + 1]);
      edges[2] = std::max(edges[2], values[i]);
      edges[3] = std::max(edges[3], values[i + 1]);
    }
  }
  const Size2 size = data.pictures.back().size;
  for (std::size_t i = 0; i < 4; ++i) edges[i] *= static_cast<double>(i % 2 == 0 ? size.w : size.h);
  add_object(data, object, edges, file, where);
}

}  // namespace data_detail

OCELLUS_FN DetectionData read_yolo_folder(const std::string& root, const std::string& images, const std::string& labels,
                                          const DatasetOptions& options) {
  DetectionData data;
  const data_detail::ClassNumbers numbers = data_detail::class_numbers(root, {.classes = options.classes});
  data.classes = numbers.names;
  if (data.classes.empty()) {
    throw UsageError(
        root +
        ": the names of the classes are not known; give them (--classes a,b,c) or write them to classes.txt, one per line");
  }
  const std::vector<std::string> label_files = data_detail::files_in(labels);
  std::vector<bool> claimed(label_files.size(), false);
  for (const std::string& name : data_detail::files_in(images)) {
    if (!data_detail::looks_like_picture(name)) continue;
    AnnotatedPicture& picture = data.pictures.emplace_back();
    picture.path = images + "/" + name;
    picture.size = read_image_size(picture.path);
    // By name and not by asking for the file, which some file systems would find in other case.
    const std::string label_name = name.substr(0, name.rfind('.')) + ".txt", file = labels + "/" + label_name;
    const auto place = std::lower_bound(label_files.begin(), label_files.end(), label_name);
    if (place == label_files.end() || *place != label_name) continue;
    claimed[static_cast<std::size_t>(place - label_files.begin())] = true;
    const std::vector<std::string> lines = data_detail::lines_of(file);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (!lines[i].empty()) data_detail::add_yolo_object(data, numbers, lines[i], file, i + 1);
    }
  }
  if (data.pictures.empty()) {
    throw FileError(images, std::string("there are no pictures (.jpg, .jpeg, .png, .bmp)") +
                                (data_detail::folders_in(images).empty() ? "" : "; subfolders are not read"));
  }
  std::vector<std::string> orphans;
  for (std::size_t i = 0; i < label_files.size(); ++i) {
    // Tools for labelling write the names of the classes here.
    if (!claimed[i] && label_files[i].ends_with(".txt") && label_files[i] != "classes.txt") {
      orphans.push_back(label_files[i]);
    }
  }
  if (!orphans.empty()) {
    log(LogLevel::warning, labels + ": label files without a picture of the same name, also in case, are ignored: " +
                               std::to_string(orphans.size()) + ", the first: " + orphans[0]);
  }
  return data;
}

}  // namespace ocellus
#endif
