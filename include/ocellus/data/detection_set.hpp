// Pictures with boxes around their objects, whichever format they came in. coco.hpp, yolo_folder.hpp and voc.hpp read
// them by the same rules: a box that is no number, or whose edges are reversed, is an error; one that hangs over the
// picture is cut off at its edge; one without area, or outside of the picture, is left out and reported.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/data/dataset.hpp>
#include <ocellus/vision/object_box.hpp>

namespace ocellus {

struct AnnotatedPicture {
  std::string path = {};
  Size2 size = {};  // pixels
  std::vector<ObjectBox> boxes = {};
  std::int64_t id = -1;  // COCO: the number by which results name it
};

struct DetectionData {
  std::vector<AnnotatedPicture> pictures = {};
  std::vector<std::string> classes = {};
  std::vector<std::int64_t> category_ids = {};  // COCO: by class, the number by which results name it
  std::vector<std::string> left_out = {};       // boxes that were, a line each: file, object and reason
};

class DetectionSet : public Dataset {
 public:
  // Logs a warning that counts the boxes left out.
  explicit DetectionSet(DetectionData data);

  const DetectionData& data() const { return data_; }
  // Everything known about picture i but its pixels.
  const AnnotatedPicture& picture(Index i) const { return data_.pictures.at(static_cast<std::size_t>(i)); }

  Index size() const override { return static_cast<Index>(data_.pictures.size()); }
  // RGB pixels and boxes. Throws FileError if the picture has another size than its annotation says.
  OCELLUS_FN Sample get(Index i) const override;
  std::string name(Index i) const override { return picture(i).path; }
  const std::vector<std::string>& classes() const override { return data_.classes; }

 private:
  DetectionData data_;
};

namespace data_detail {

// Adds an object to the last picture by the rules above; its box and its area are not looked at. `where` names the
// object in `file`; `area` is that of its mask in pixels, and the box's is taken where it is below 0.
void add_object(DetectionData& data, ObjectBox object, const double (&edges)[4], const std::string& file,
                const std::string& where, float area = -1);
// The class of this name; -1 if there is none.
Index class_of(const DetectionData& data, const std::string& name);
// A number as errors show it: at most seven digits, which is what a box keeps.
std::string shown_number(double number);
// A decimal number that fills the text. Throws FileError at `where` of `file`.
double number_of(const std::string& text, const std::string& file, const std::string& where);

}  // namespace data_detail
}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/vision/image_file.hpp>

namespace ocellus {
namespace data_detail {

OCELLUS_FN void add_object(DetectionData& data, ObjectBox object, const double (&edges)[4], const std::string& file,
                           const std::string& where, float area) {
  constexpr double largest = 1e7;  // far beyond any picture, and exact in single precision to within a pixel
  AnnotatedPicture& picture = data.pictures.back();
  const auto text = [&] {
    std::string all = "(";
    for (const double edge : edges) all += (all.size() > 1 ? ", " : "") + shown_number(edge);
    return all + ")";
  };
  for (const double edge : edges) {
    if (!(std::abs(edge) <= largest))
      throw FileError(file, where + ": the box " + text() + " has an edge that is no number of pixels");
  }
  if (edges[2] < edges[0] || edges[3] < edges[1]) {
    throw FileError(file, where + ": the box " + text() +
                              " is reversed; the left edge comes before the right, the upper before the lower");
  }
  const auto width = static_cast<double>(picture.size.w), height = static_cast<double>(picture.size.h);
  const auto inside = [](double edge, double side) { return static_cast<float>(std::clamp(edge, 0.0, side)); };
  object.box = {inside(edges[0], width), inside(edges[1], height), inside(edges[2], width), inside(edges[3], height)};
  const float box_area = (object.box.x2 - object.box.x1) * (object.box.y2 - object.box.y1);
  if (!(box_area > 0)) {
    const bool empty = edges[2] == edges[0] || edges[3] == edges[1];
    data.left_out.push_back(file + ": " + where + ": the box " + text() +
                            (empty ? " has no area" : " lies outside of the picture of " + picture.size.str()));
    return;
  }
  object.area = area < 0 ? box_area : area;
  picture.boxes.push_back(object);
}

OCELLUS_FN Index class_of(const DetectionData& data, const std::string& name) {
  const auto found = std::find(data.classes.begin(), data.classes.end(), name);
  return found == data.classes.end() ? -1 : found - data.classes.begin();
}

OCELLUS_COLD OCELLUS_FN std::string shown_number(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.7g", number);
  return text;
}

OCELLUS_FN double number_of(const std::string& text, const std::string& file, const std::string& where) {
  const bool plain =
      !text.empty() && text.size() < 64 && text.find_first_not_of("0123456789+-.eE") == std::string::npos;
  char* end = nullptr;
  const double value = plain ? std::strtod(text.c_str(), &end) : 0.0;
  if (!plain || *end != '\0' || !std::isfinite(value)) {
    throw FileError(file, where + ": expected a number, got " + io_detail::shown(text));
  }
  return value;
}

}  // namespace data_detail

OCELLUS_FN DetectionSet::DetectionSet(DetectionData data) : data_(std::move(data)) {
  if (data_.left_out.empty()) return;
  log(LogLevel::warning,
      "boxes without area or outside of their pictures were left out: " + std::to_string(data_.left_out.size()) +
          ", the first: " + data_.left_out.front());
}

OCELLUS_FN Sample DetectionSet::get(Index i) const {
  const AnnotatedPicture& p = picture(i);
  Sample sample{read_image(p.path).to_rgb()};
  sample.boxes = p.boxes;
  if (const Size2 size = sample.image.size(); !(size == p.size)) {
    const bool turned = size == Size2(p.size.w, p.size.h);
    throw FileError(p.path, "has (height, width) " + size.str() + ", its annotation says " + p.size.str() +
                                (turned ? ": width and height of the annotation are swapped, or it was made before the "
                                          "picture was turned upright by its EXIF orientation; correct either"
                                        : "; give the picture that was annotated, boxes are in its pixels"));
  }
  return sample;
}

}  // namespace ocellus
#endif
