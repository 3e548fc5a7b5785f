// Pictures sorted into one folder per class: DIR/<split>/<class>/picture.jpg, or DIR/<class>/picture.jpg where there
// are no splits.
#pragma once

#include <string>
#include <vector>

#include <ocellus/data/dataset.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

class ClassFolder : public Dataset {
 public:
  // `root` holds the folders of the classes; ids follow `options.classes`, else the names in sorted order. Throws
  // FileError for a folder that is no class and where there are no pictures.
  explicit ClassFolder(const std::string& root, const DatasetOptions& options = {});
  // The folder of classes for a split, in `folder` or its only subfolder; empty if there is none. Data without splits
  // belongs to every split.
  static std::string find(const std::string& folder, const std::string& split);

  Index size() const override { return static_cast<Index>(pictures_.size()); }
  // Pictures as they are: grey or RGB, each of its own size.
  OCELLUS_FN Sample get(Index i) const override;
  std::string name(Index i) const override { return pictures_[static_cast<std::size_t>(i)].path; }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  struct Picture {
    std::string path;
    Index label;
  };

  std::vector<Picture> pictures_;
  std::vector<std::string> classes_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <algorithm>
#include <cctype>

#include <ocellus/core/error.hpp>
#include <ocellus/vision/image_file.hpp>

namespace ocellus {
namespace data_detail {

// A hint by name; what the file is, its content tells when it is read.
OCELLUS_FN bool looks_like_picture(const std::string& name) {
  std::string end = name.substr(std::min(name.size(), name.rfind('.')));
  for (char& c : end) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return end == ".jpg" || end == ".jpeg" || end == ".png" || end == ".bmp";
}

OCELLUS_FN bool has_pictures(const std::string& folder) {
  const std::vector<std::string> files = files_in(folder);
  return std::any_of(files.begin(), files.end(), looks_like_picture);
}

// DIR/train is never what was meant by the split "val".
OCELLUS_FN bool is_split(const std::string& folder) {
  return folder.ends_with("/train") || folder.ends_with("/val") || folder.ends_with("/test");
}

// Two or more subfolders, the first of which holds pictures.
OCELLUS_FN bool holds_classes(const std::string& folder) {
  if (!is_folder(folder)) return false;
  const std::vector<std::string> folders = folders_in(folder);
  return folders.size() > 1 && has_pictures(folder + "/" + folders[0]);
}

}  // namespace data_detail

OCELLUS_FN std::string ClassFolder::find(const std::string& folder, const std::string& split) {
  const std::vector<std::string> places = data_detail::places_in(folder);
  for (const std::string& place : places) {
    if (data_detail::holds_classes(place + "/" + split)) return place + "/" + split;
  }
  for (const std::string& place : places) {
    if (!data_detail::is_split(place) && data_detail::holds_classes(place)) return place;
  }
  return {};
}

OCELLUS_FN ClassFolder::ClassFolder(const std::string& root, const DatasetOptions& options)
    : classes_(options.classes) {
  const std::vector<std::string> folders = data_detail::folders_in(root);
  if (classes_.empty()) classes_ = folders;
  for (const std::string& folder : folders) {
    const auto place = std::find(classes_.begin(), classes_.end(), folder);
    if (place == classes_.end())
      throw FileError(root + "/" + folder, "is no class of the model; the folder's name must be one of its labels");
    for (const std::string& file : data_detail::files_in(root + "/" + folder)) {
      if (data_detail::looks_like_picture(file))
        pictures_.push_back({root + "/" + folder + "/" + file, place - classes_.begin()});
    }
  }
  if (pictures_.empty()) throw FileError(root, "there are no pictures (.jpg, .jpeg, .png, .bmp) in its folders");
}

OCELLUS_FN Sample ClassFolder::get(Index i) const {
  const Picture& picture = pictures_.at(static_cast<std::size_t>(i));
  return {read_image(picture.path), {}, picture.label};
}

}  // namespace ocellus
#endif
