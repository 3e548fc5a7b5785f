// COCO's object annotations (cocodataset.org, "Data format"): one JSON file with `images`, `categories` and
// `annotations`. Classes are the categories in the order of their ids. Boxes and areas are read, masks (`segmentation`)
// are not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <ocellus/data/detection_set.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

// `pictures` is the folder that the file names are relative to. Pictures without annotations stay. If
// `options.classes` names the classes, every category must be one of them. Throws FileError: what is no such file, an
// id that is missing, stands there twice or names nothing, a file name that leaves the folder, a box that is no box.
DetectionData read_coco(const std::string& path, const std::string& pictures, const DatasetOptions& options = {});
// The same from text; `check_files` false leaves the pictures' files unexamined.
DetectionData parse_coco(std::string_view text, const std::string& source, const std::string& pictures,
                         const DatasetOptions& options = {}, bool check_files = true);

namespace data_detail {

struct CocoPlace {
  std::string annotations, pictures;  // a file and a folder; empty if there are none
};
// In `folder` or its only subfolder: <split>.json, instances_<split>….json or <split>/_annotations.coco.json, also in
// annotations/; pictures in a folder named like the split or the file, images/, or beside the file.
CocoPlace find_coco(const std::string& folder, const std::string& split);

}  // namespace data_detail
}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus {
namespace data_detail {

// By `id`, which no two elements may share.
using CocoIds = std::unordered_map<std::int64_t, std::size_t>;

OCELLUS_FN std::int64_t new_coco_id(const Json& element, CocoIds& ids) {
  const auto id = element.get<std::int64_t>("id");
  if (!ids.emplace(id, ids.size()).second)
    element.at("id").fail("the id " + std::to_string(id) + " stands there twice");
  return id;
}

OCELLUS_FN std::size_t coco_reference(const Json& annotation, const char* key, const CocoIds& ids, const char* what) {
  const auto id = annotation.get<std::int64_t>(key);
  const auto place = ids.find(id);
  if (place == ids.end())
    annotation.at(key).fail(std::string("there is no ") + what + " with the id " + std::to_string(id));
  return place->second;
}

OCELLUS_FN DetectionData coco_data(const Json& file, const std::string& source, const std::string& pictures,
                                   const DatasetOptions& options, bool check_files) {
  const Limits limits;
  DetectionData data;
  const Json categories = file.at("categories"), images = file.at("images"), annotations = file.at("annotations");
  std::vector<std::pair<std::int64_t, std::string>> named;
  CocoIds seen;
  for (Index i = 0; i < categories.size(); ++i) {
    const Json category = categories.at(i);
    named.emplace_back(new_coco_id(category, seen), category.get<std::string>("name"));
  }
  if (named.empty()) categories.fail("there are no categories");
  std::sort(named.begin(), named.end());
  data.classes = options.classes;
  if (data.classes.empty()) {
    for (const auto& [id, name] : named) data.classes.push_back(name);
  }
  data.category_ids.assign(data.classes.size(), -1);
  std::unordered_map<std::string, std::size_t> classes;
  for (std::size_t i = 0; i < data.classes.size(); ++i) classes.emplace(data.classes[i], i);
  CocoIds class_ids;                                  // to the class
  std::vector<bool> met(data.classes.size(), false);  // classes
  for (const auto& [id, name] : named) {
    const auto place = classes.find(name);
    if (place == classes.end()) categories.fail("the category " + io_detail::shown(name) + " is no class of the model");
    if (met[place->second]) categories.fail("two categories are called " + io_detail::shown(name));
    met[place->second] = true;
    data.category_ids[place->second] = id;
    class_ids.emplace(id, place->second);
  }

  CocoIds image_ids;
  for (Index i = 0; i < images.size(); ++i) {
    const Json image = images.at(i);
    AnnotatedPicture& picture = data.pictures.emplace_back();
    picture.id = new_coco_id(image, image_ids);
    const auto side = [&](const char* key) {
      const auto pixels = image.get<std::int64_t>(key);
      if (pixels < 1 || pixels > limits.image_side)
        image.at(key).fail("must be from 1 to " + std::to_string(limits.image_side) + " pixels");
      return pixels;
    };
    picture.size = {side("height"), side("width")};
    const auto name = image.get<std::string>("file_name");
    picture.path =
        check_files ? path_inside(pictures, name, source, image.at("file_name").path()) : pictures + "/" + name;
  }

  CocoIds annotation_ids;
  std::vector<std::vector<std::pair<ObjectBox, Index>>> objects(data.pictures.size());
  for (Index i = 0; i < annotations.size(); ++i) {
    const Json annotation = annotations.at(i);
    new_coco_id(annotation, annotation_ids);
    ObjectBox object;
    const std::size_t picture = coco_reference(annotation, "image_id", image_ids, "image");
    object.label = static_cast<Index>(coco_reference(annotation, "category_id", class_ids, "category"));
    if (annotation.has("iscrowd")) {
      const Json crowd = annotation.at("iscrowd");
      object.crowd = crowd.is_boolean() ? crowd.get<bool>() : crowd.get<int>() != 0;
    }
    object.area = -1;  // unknown
    if (annotation.has("area")) {
      const auto area = annotation.get<double>("area");
      if (!(area >= 0 && area <= 1e12)) annotation.at("area").fail("is no number of pixels");
      object.area = static_cast<float>(area);
    }
    objects[picture].emplace_back(object, i);
  }
  // In the order of the pictures, so that what is left out is reported in it, too.
  std::vector<AnnotatedPicture> all = std::exchange(data.pictures, {});
  for (std::size_t p = 0; p < all.size(); ++p) {
    data.pictures.push_back(std::move(all[p]));
    for (const auto& [object, i] : objects[p]) {
      const Json box = annotations.at(i).at("bbox");
      const auto given = box.get<std::vector<double>>();
      if (given.size() != 4) box.fail("must be [x, y, width, height]");
      if (given[2] < 0 || given[3] < 0) box.fail("has a negative width or height");
      const double edges[4] = {given[0], given[1], given[0] + given[2], given[1] + given[3]};
      add_object(data, object, edges, source, box.path(), object.area);
    }
  }
  if (data.pictures.empty()) images.fail("there are no images");
  return data;
}

OCELLUS_FN CocoPlace find_coco(const std::string& folder, const std::string& split) {
  for (const std::string& place : places_in(folder)) {
    std::vector<std::string> folders = {place};
    for (const std::string& name : {std::string("annotations"), split}) {
      if (is_folder(place + "/" + name)) folders.push_back(place + "/" + name);
    }
    for (const std::string& at : folders) {
      for (const std::string& name : files_in(at)) {
        const bool own = at == place + "/" + split && name == "_annotations.coco.json";
        if (!own && name != split + ".json" && !(name.starts_with("instances_" + split) && name.ends_with(".json")))
          continue;
        CocoPlace found{at + "/" + name, at};
        std::string stem = name.substr(0, name.size() - 5);
        if (stem.starts_with("instances_")) stem.erase(0, 10);
        for (const std::string& pictures : {place + "/" + stem, place + "/images/" + stem, place + "/" + split,
                                            place + "/images/" + split, place + "/images"}) {
          if (!own && is_folder(pictures)) return {found.annotations, pictures};
        }
        return found;
      }
    }
  }
  return {};
}

}  // namespace data_detail

OCELLUS_FN DetectionData parse_coco(std::string_view text, const std::string& source, const std::string& pictures,
                                    const DatasetOptions& options, bool check_files) {
  return data_detail::coco_data(Json::parse(text, source), source, pictures, options, check_files);
}

OCELLUS_FN DetectionData read_coco(const std::string& path, const std::string& pictures,
                                   const DatasetOptions& options) {
  return data_detail::coco_data(Json::read(path), path, pictures, options, true);
}

}  // namespace ocellus
#endif
