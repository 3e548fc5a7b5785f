// Pictures with label masks, as CamVid is distributed: `<split>.txt` with lines "image label", paths relative to the
// list's folder. A mask is an 8-bit PNG whose value is the class id.
#pragma once

#include <string>
#include <vector>

#include <ocellus/data/dataset.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

class SegmentationFolder : public Dataset {
 public:
  // `root` holds `<split>.txt`, and maybe classes.txt, which is matched by name with `options.classes`. Throws
  // FileError for a malformed list and for names that do not match, UsageError if nobody names the classes.
  SegmentationFolder(const std::string& root, const std::string& split, const DatasetOptions& options = {});
  // The folder among `folder` and its only subfolder that holds the list; empty if neither does.
  static std::string find(const std::string& folder, const std::string& split);

  Index size() const override { return static_cast<Index>(pairs_.size()); }
  // Throws FileError for a picture and mask of different sizes and for a mask value that is neither a class nor the
  // ignored one, naming its pixel.
  OCELLUS_FN Sample get(Index i) const override;
  std::string name(Index i) const override { return pairs_[static_cast<std::size_t>(i)].image; }
  const std::vector<std::string>& classes() const override { return classes_; }
  Index ignore_index() const override { return ignore_index_; }

 private:
  struct Pair {
    std::string image, mask;
  };

  std::vector<Pair> pairs_;
  std::vector<std::string> classes_;
  std::vector<Index> class_of_;  // by the mask's value
  Index ignore_index_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <utility>

#include <ocellus/core/error.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/vision/image_file.hpp>

namespace ocellus {

OCELLUS_FN std::string SegmentationFolder::find(const std::string& folder, const std::string& split) {
  for (const std::string& place : data_detail::places_in(folder)) {
    if (is_file(place + "/" + split + ".txt")) return place;
  }
  return {};
}

OCELLUS_FN SegmentationFolder::SegmentationFolder(const std::string& root, const std::string& split,
                                                  const DatasetOptions& options)
    : ignore_index_(options.ignore_index) {
  data_detail::ClassNumbers numbers = data_detail::class_numbers(root, options);
  classes_ = std::move(numbers.names);
  class_of_ = std::move(numbers.class_of);
  if (classes_.empty()) {
    throw UsageError(
        root +
        ": the names of the classes are not known; give them (--classes a,b,c) or write them to classes.txt, one per line");
  }
  for (std::size_t value = 0; value < class_of_.size(); ++value) {
    if (class_of_[value] == static_cast<Index>(value)) continue;
    // A mask's values have eight bits, and one of them may be taken.
    if (class_of_[value] > 255 || class_of_[value] == ignore_index_) {
      throw FileError(root + "/classes.txt", io_detail::shown(classes_[static_cast<std::size_t>(class_of_[value])]) +
                                                 " would get the value " + std::to_string(class_of_[value]) +
                                                 " in the masks, which " +
                                                 (class_of_[value] > 255 ? "hold 8 bits" : "is the ignored one"));
    }
  }
  const std::string list = root + "/" + split + ".txt";
  const std::vector<std::string> lines = data_detail::lines_of(list);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string& line = lines[i];
    if (line.empty()) continue;
    const std::size_t end = line.find_first_of(" \t"), next = line.find_first_not_of(" \t", end);
    if (end == std::string::npos || end == 0 || line.find_first_of(" \t", next) != std::string::npos) {
      throw FileError(list, "line " + std::to_string(i + 1) + ": expected \"image label\", two paths; got " +
                                io_detail::shown(line, 400));
    }
    pairs_.push_back({data_detail::path_inside(root, line.substr(0, end), list, i + 1),
                      data_detail::path_inside(root, line.substr(next), list, i + 1)});
  }
  if (pairs_.empty()) throw FileError(list, "names no pictures");
}

OCELLUS_FN Sample SegmentationFolder::get(Index i) const {
  const Pair& pair = pairs_.at(static_cast<std::size_t>(i));
  Sample sample{read_image(pair.image).to_rgb(), read_mask(pair.mask).packed()};
  if (!(sample.image.size() == sample.mask.size())) {
    throw FileError(pair.mask, "the mask has (height, width) " + sample.mask.size().str() + ", its picture " +
                                   pair.image + " has " + sample.image.size().str());
  }
  const Index count = static_cast<Index>(class_of_.size());
  std::uint8_t* pixels = sample.mask.writable();
  for (Index y = 0; y < sample.mask.height(); ++y) {
    std::uint8_t* row = pixels + y * sample.mask.stride();
    for (Index x = 0; x < sample.mask.width(); ++x) {
      if (row[x] == ignore_index_) continue;
      if (row[x] < count) {
        row[x] = static_cast<std::uint8_t>(class_of_[row[x]]);
        continue;
      }
      throw FileError(
          pair.mask,
          "pixel (" + std::to_string(y) + ", " + std::to_string(x) + ") has the class id " + std::to_string(row[x]) +
              "; there are " + std::to_string(count) + " classes, and " +
              (ignore_index_ < 0 ? "no id is ignored (--ignore ID)" : std::to_string(ignore_index_) + " is ignored"));
    }
  }
  return sample;
}

}  // namespace ocellus
#endif
