// Pictures: files, resizing, preprocessing, augmentation, boxes and their suppression, masks, drawing, charts.
#pragma once

#include <ocellus/vision/augment.hpp>
#include <ocellus/vision/box.hpp>
#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/chart.hpp>
#include <ocellus/vision/colour.hpp>
#include <ocellus/vision/detection_augment.hpp>
#include <ocellus/vision/draw.hpp>
#include <ocellus/vision/exif.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/image_file.hpp>
#include <ocellus/vision/masks.hpp>
#include <ocellus/vision/nms.hpp>
#include <ocellus/vision/object_box.hpp>
#include <ocellus/vision/preprocess.hpp>
#include <ocellus/vision/resize.hpp>
