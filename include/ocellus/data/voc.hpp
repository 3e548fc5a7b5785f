// Pascal VOC's annotations (Everingham et al., "The Pascal Visual Object Classes Challenge", development kit, section
// 3): Annotations/name.xml, ImageSets/Main/<split>.txt with the names, JPEGImages/name.jpg.
//
// This header reads XML by pugixml, includes it and is included by no other: link the CMake target ocellus::voc beside
// ocellus::ocellus or ocellus::split, include this file and hand read_voc to open_detection:
//   auto data = ocellus::open_detection(folder, "train", {.voc = ocellus::read_voc});
// Its functions are inline in both modes of the library.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pugixml.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/data/class_folder.hpp>
#include <ocellus/data/detection_set.hpp>
#include <ocellus/data/folder.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {
namespace data_detail {

// An object of an annotation, its class still a name.
struct VocObject {
  std::string name;
  bool difficult = false;
  double edges[4] = {};
};
struct VocAnnotation {
  Size2 size;
  std::vector<VocObject> objects;
};

inline VocAnnotation parse_voc(const Bytes& text, const std::string& file, const Limits& limits = {}) {
  if (text.size() > limits.xml_bytes) {
    throw FileError(file, "XML of " + std::to_string(text.size()) + " bytes, the limit is " +
                              std::to_string(limits.xml_bytes) + " (Limits::xml_bytes)");
  }
  pugi::xml_document document;
  const pugi::xml_parse_result parsed =
      document.load_buffer(text.data(), text.size(), pugi::parse_minimal | pugi::parse_escapes | pugi::parse_cdata);
  if (!parsed) throw FileError(file, std::string("not valid XML: ") + parsed.description(), parsed.offset);
  const pugi::xml_node root = document.child("annotation");
  if (!root) throw FileError(file, "is no annotation of Pascal VOC: there is no <annotation>");

  const auto fail = [&](const pugi::xml_node& at, const std::string& what) {
    throw FileError(file, what, at.offset_debug());
  };
  const auto text_of = [&](const pugi::xml_node& parent, const char* name) {
    const pugi::xml_node node = parent.child(name);
    if (!node) fail(parent, std::string("<") + parent.name() + "> has no <" + name + ">");
    std::string value;  // in pieces, where there is CDATA or a comment
    for (const pugi::xml_node& piece : node.children()) value += piece.value();
    const std::size_t begin = value.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos) return std::string();
    return value.substr(begin, value.find_last_not_of(" \t\r\n") + 1 - begin);
  };
  const auto number = [&](const pugi::xml_node& parent, const char* name) {
    return number_of(text_of(parent, name), file, std::string("<") + name + ">");
  };
  const auto side = [&](const pugi::xml_node& parent, const char* name) {
    const double pixels = number(parent, name);
    if (!(pixels >= 1 && pixels <= static_cast<double>(limits.image_side)) ||
        pixels != static_cast<double>(static_cast<Index>(pixels))) {
      fail(parent, std::string("the ") + name + " must be from 1 to " + std::to_string(limits.image_side) + " pixels");
    }
    return static_cast<Index>(pixels);
  };
  VocAnnotation annotation;
  const pugi::xml_node size = root.child("size");
  if (!size) fail(root, "<annotation> has no <size>");
  annotation.size = {side(size, "height"), side(size, "width")};
  for (const pugi::xml_node& object : root.children("object")) {
    VocObject& made = annotation.objects.emplace_back();
    made.name = text_of(object, "name");
    if (object.child("difficult")) {
      const std::string difficult = text_of(object, "difficult");
      made.difficult = difficult == "1";
      if (!made.difficult && difficult != "0")
        fail(object, "<difficult>: expected 0 or 1, got " + io_detail::shown(difficult));
    }
    if (made.name.empty()) fail(object, "an object has no name");
    const pugi::xml_node box = object.child("bndbox");
    if (!box) fail(object, "<object> has no <bndbox>");
    const char* const names[4] = {"xmin", "ymin", "xmax", "ymax"};
    for (std::size_t i = 0; i < 4; ++i) made.edges[i] = number(box, names[i]);
  }
  return annotation;
}

}  // namespace data_detail

// `root` holds the three folders. The edges of a box are taken as they stand, in pixels (counted from 1 in VOC itself
// and from 0 by most tools that write the format). Class names come from `options`, classes.txt or all annotations in
// sorted order. Throws FileError.
inline DetectionData read_voc(const std::string& root, const std::string& split, const DatasetOptions& options) {
  const std::string list = root + "/ImageSets/Main/" + split + ".txt", folder = root + "/Annotations",
                    pictures = root + "/JPEGImages";
  const auto read = [](const std::string& file) { return data_detail::parse_voc(read_file(file), file); };
  DetectionData data;
  data.classes = options.classes.empty() ? data_detail::class_file(root) : options.classes;
  if (data.classes.empty()) {
    std::set<std::string> names;
    for (const std::string& name : data_detail::files_in(folder)) {
      if (!name.ends_with(".xml")) continue;
      for (data_detail::VocObject& object : read(folder + "/" + name).objects) names.insert(std::move(object.name));
    }
    data.classes.assign(names.begin(), names.end());
  }
  const std::vector<std::string> lines = data_detail::lines_of(list);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string name = lines[i].substr(0, lines[i].find_first_of(" \t"));  // lists of one class add 1, 0 or -1
    if (name.empty()) continue;
    const std::string file = data_detail::path_inside(folder, name + ".xml", list, i + 1);
    const data_detail::VocAnnotation annotation = read(file);
    AnnotatedPicture& picture = data.pictures.emplace_back();
    picture.size = annotation.size;
    std::string picture_name;
    for (const char* suffix : {".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP"}) {
      if (picture_name.empty() && is_file(pictures + "/" + name + suffix)) picture_name = name + suffix;
    }
    if (picture_name.empty()) {
      throw FileError(list, "line " + std::to_string(i + 1) + ": there is no picture " + io_detail::shown(name, 400) +
                                " in " + pictures + " (.jpg, .jpeg, .png, .bmp, or these in capitals)");
    }
    picture.path = data_detail::path_inside(pictures, picture_name, list, i + 1);
    for (std::size_t o = 0; o < annotation.objects.size(); ++o) {
      const data_detail::VocObject& given = annotation.objects[o];
      ObjectBox object;
      object.label = data_detail::class_of(data, given.name);
      object.difficult = given.difficult;
      const std::string where = "object " + std::to_string(o + 1) + " (" + io_detail::shown(given.name) + ")";
      if (object.label < 0) throw FileError(file, where + " is no class of the model");
      data_detail::add_object(data, object, given.edges, file, where);
    }
  }
  if (data.pictures.empty()) throw FileError(list, "names no pictures");
  return data;
}

}  // namespace ocellus
