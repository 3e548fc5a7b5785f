// What the readers of data folders share: where the data is, what lies in a folder, lists of lines, paths that must
// stay inside.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/core/config.hpp>

namespace ocellus {

struct DatasetOptions;
struct DetectionData;
// Reads a split of Pascal VOC.
using VocReader = DetectionData (*)(const std::string& root, const std::string& split, const DatasetOptions& options);

// What the caller knows about a data folder.
struct DatasetOptions {
  std::vector<std::string> classes = {};  // names by id; empty: classes.txt or what the layout itself tells. Where the
                                          // data names its classes, too, they are matched by name
  std::int64_t ignore_index = -1;         // a mask value that belongs to no class, -1: none
  VocReader voc = nullptr;                // read_voc of data/voc.hpp where XML is to be read
};

namespace data_detail {

// Names of the files or of the folders in a folder, sorted, hidden ones left out. Throws FileError if it cannot be
// read.
std::vector<std::string> files_in(const std::string& folder);
std::vector<std::string> folders_in(const std::string& folder);
// `folder` and, where it has exactly one, its only subfolder.
std::vector<std::string> places_in(const std::string& folder);
// Lines without line ends; empty ones stay, so that numbers are those of an editor.
std::vector<std::string> lines_of(const std::string& path);
// The names in `root`/classes.txt, one per line; empty where there is no such file.
std::vector<std::string> class_file(const std::string& root);

// What the numbers mean that a data folder has in the place of names.
struct ClassNumbers {
  std::vector<std::string> names;      // of the classes; empty if nobody names them
  std::vector<std::int64_t> class_of;  // by the data's number; -1: the ignored one, which the classes lack
};
// `options.classes` or classes.txt in `root` names the classes. Where both do, the file says what the data's numbers
// mean, and they become those of the classes of the same names. Throws FileError if a name of the file is not exactly
// one of the classes, but for that of `options.ignore_index`.
ClassNumbers class_numbers(const std::string& root, const DatasetOptions& options);

// root/relative. Throws FileError at `where` of `list` for a path that is absolute, leaves the root (also by a link) or
// names no regular file.
std::string path_inside(const std::string& root, const std::string& relative, const std::string& list,
                        const std::string& where);
inline std::string path_inside(const std::string& root, const std::string& relative, const std::string& list,
                               std::size_t line) {
  return path_inside(root, relative, list, "line " + std::to_string(line));
}

}  // namespace data_detail
}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <string_view>

#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus::data_detail {

OCELLUS_FN std::vector<std::string> names_in(const std::string& folder, bool (*wanted)(const std::string&)) {
  std::vector<std::string> names;
  for (std::string& name : ocellus::names_in(folder)) {
    if (wanted(folder + "/" + name)) names.push_back(std::move(name));
  }
  return names;
}

OCELLUS_FN std::vector<std::string> files_in(const std::string& folder) { return names_in(folder, is_file); }
OCELLUS_FN std::vector<std::string> folders_in(const std::string& folder) { return names_in(folder, is_folder); }

OCELLUS_FN std::vector<std::string> places_in(const std::string& folder) {
  if (!is_folder(folder)) throw FileError(folder, "is no folder; --data and open_… take the folder of a data set");
  std::vector<std::string> places = {folder};
  const std::vector<std::string> folders = folders_in(folder);
  if (folders.size() == 1) places.push_back(folder + "/" + folders[0]);
  return places;
}

OCELLUS_FN std::vector<std::string> lines_of(const std::string& path) {
  const Bytes bytes = read_file(path);
  std::vector<std::string> lines;
  std::string_view rest = bytes.text();
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

OCELLUS_FN std::vector<std::string> class_file(const std::string& root) {
  std::vector<std::string> names;
  if (!is_file(root + "/classes.txt")) return names;
  for (std::string& line : lines_of(root + "/classes.txt")) {
    if (!line.empty()) names.push_back(std::move(line));
  }
  return names;
}

// The first of them, for an error.
OCELLUS_COLD OCELLUS_FN std::string shown_names(const std::vector<std::string>& names) {
  constexpr std::size_t most = 12;
  std::string all;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) {
    all += (i > 0 ? ", " : "") + io_detail::shown(names[i]);
  }
  return names.size() <= most ? all : all + ", … (" + std::to_string(names.size()) + ")";
}

OCELLUS_FN ClassNumbers class_numbers(const std::string& root, const DatasetOptions& options) {
  const std::vector<std::string> file = class_file(root), &given = options.classes;
  ClassNumbers all{given.empty() ? file : given, {}};
  const bool same = file.size() <= all.names.size() && std::equal(file.begin(), file.end(), all.names.begin());
  const std::size_t count = file.empty() ? given.size() : file.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = static_cast<std::int64_t>(i);
    if (file.empty() || same) {
      all.class_of.push_back(number);
      continue;
    }
    const auto in_given = std::count(given.begin(), given.end(), file[i]);
    if (in_given == 0 && number == options.ignore_index) {
      all.class_of.push_back(-1);
      continue;
    }
    if (in_given != 1 || std::count(file.begin(), file.end(), file[i]) != 1) {
      throw FileError(root + "/classes.txt",
                      "its names " + shown_names(file) + " say what the numbers of the data mean, the classes are " +
                          shown_names(given) + " (a model's labels or --classes): " + io_detail::shown(file[i]) +
                          (in_given == 0 ? " is none of them" : " stands in one of the lists twice"));
    }
    all.class_of.push_back(std::find(given.begin(), given.end(), file[i]) - given.begin());
  }
  return all;
}

OCELLUS_FN std::string path_inside(const std::string& root, const std::string& relative, const std::string& list,
                                   const std::string& where) {
  const auto refuse = [&](const std::string& why) {
    throw FileError(list, where + ": " + io_detail::shown(relative, 400) + " " + why);
  };
  if (relative.find('\0') != std::string::npos) refuse("contains a NUL character");
  if (relative.starts_with('/')) refuse("is an absolute path; paths are relative to the folder of the list");
  const std::string base = resolved_path(root), path = root + "/" + relative;
  const std::string folder = resolved_path(path.substr(0, path.rfind('/'))), full = resolved_path(path);
  for (const std::string& place : {folder, full}) {
    if (!place.empty() && place != base && !place.starts_with(base == "/" ? base : base + "/")) {
      refuse("leaves the folder of the data set");
    }
  }
  if (!is_file(full)) refuse("is no file");
  return full;
}

}  // namespace ocellus::data_detail
#endif
