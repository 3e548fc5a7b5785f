// Pictures: files, resizing, preprocessing, augmentation, drawing, charts.
#pragma once

#include <ocellus/vision/augment.hpp>
#include <ocellus/vision/box.hpp>
#include <ocellus/vision/chart.hpp>
#include <ocellus/vision/colour.hpp>
#include <ocellus/vision/detection_augment.hpp>
#include <ocellus/vision/draw.hpp>
#include <ocellus/vision/exif.hpp>
#include <ocellus/vision/geometry.hpp>
#include <ocellus/vision/image.hpp>
#include <ocellus/vision/image_file.hpp>
#include <ocellus/vision/object_box.hpp>
#include <ocellus/vision/preprocess.hpp>
#include <ocellus/vision/resize.hpp>
