// Opens a data folder whose layout is recognised by its content.
#pragma once

#include <memory>
#include <string>

#include <ocellus/data/dataset.hpp>
#include <ocellus/data/detection_set.hpp>
#include <ocellus/data/folder.hpp>

namespace ocellus {

// Pictures with masks: `<split>.txt` with lines "image label". Throws FileError naming the layouts if `folder` has
// none of them.
std::shared_ptr<Dataset> open_segmentation(const std::string& folder, const std::string& split,
                                           const DatasetOptions& options = {});

// Pictures with classes: IDX files or one folder per class, with a warning where those are not of this split. Throws
// FileError likewise.
std::shared_ptr<Dataset> open_classification(const std::string& folder, const std::string& split,
                                             const DatasetOptions& options = {});

// Pictures with boxes: Pascal VOC (`options.voc` reads it), COCO's JSON or YOLO's text labels. Throws FileError
// likewise.
std::shared_ptr<DetectionSet> open_detection(const std::string& folder, const std::string& split,
                                             const DatasetOptions& options = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_DATA)
#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/data/class_folder.hpp>
#include <ocellus/data/coco.hpp>
#include <ocellus/data/idx_folder.hpp>
#include <ocellus/data/segmentation_folder.hpp>
#include <ocellus/data/yolo_folder.hpp>
#include <ocellus/io/folder.hpp>

namespace ocellus {

OCELLUS_FN std::shared_ptr<Dataset> open_segmentation(const std::string& folder, const std::string& split,
                                                      const DatasetOptions& options) {
  const std::string root = SegmentationFolder::find(folder, split);
  if (root.empty()) {
    throw FileError(folder, "no data for segmentation; expected " + split +
                                ".txt with lines \"image label\" here or in the only subfolder");
  }
  return std::make_shared<SegmentationFolder>(root, split, options);
}

OCELLUS_FN std::shared_ptr<Dataset> open_classification(const std::string& folder, const std::string& split,
                                                        const DatasetOptions& options) {
  if (const std::string root = IdxFolder::find(folder); !root.empty())
    return std::make_shared<IdxFolder>(root, split, options);
  if (const std::string root = ClassFolder::find(folder, split); !root.empty()) {
    const auto dataset = std::make_shared<ClassFolder>(root, options);
    if (!root.ends_with("/" + split)) {
      log(LogLevel::warning, root + ": there is no folder \"" + split + "\"; all pictures are taken as this split");
    }
    return dataset;
  }
  throw FileError(
      folder,
      "no data for classification; expected IDX files (train-images-idx3-ubyte, …) or one folder per class, in " +
          split + " or here");
}

OCELLUS_FN std::shared_ptr<DetectionSet> open_detection(const std::string& folder, const std::string& split,
                                                        const DatasetOptions& options) {
  for (const std::string& place : data_detail::places_in(folder)) {
    if (!is_folder(place + "/Annotations") || !is_file(place + "/ImageSets/Main/" + split + ".txt")) continue;
    if (!options.voc) {
      throw FileError(
          place,
          "is Pascal VOC, whose XML is read by ocellus::read_voc of <ocellus/data/voc.hpp>: link ocellus::voc "
          "and pass {.voc = ocellus::read_voc}");
    }
    return std::make_shared<DetectionSet>(options.voc(place, split, options));
  }
  if (const auto place = data_detail::find_coco(folder, split); !place.annotations.empty()) {
    return std::make_shared<DetectionSet>(read_coco(place.annotations, place.pictures, options));
  }
  if (const auto place = data_detail::find_yolo_folder(folder, split); !place.images.empty()) {
    return std::make_shared<DetectionSet>(read_yolo_folder(place.root, place.images, place.labels, options));
  }
  throw FileError(
      folder,
      "no data for detection; expected, here or in the only subfolder, Pascal VOC (Annotations, ImageSets/Main/" +
          split + ".txt, JPEGImages), COCO (annotations/instances_" + split + ".json or " + split +
          ".json) or YOLO's text labels (images/" + split + " and labels/" + split + ")");
}

}  // namespace ocellus
#endif
