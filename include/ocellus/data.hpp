// Data sets and the loader that makes batches of them. data/voc.hpp, which needs pugixml, is included by itself.
#pragma once

#include <ocellus/data/class_folder.hpp>
#include <ocellus/data/coco.hpp>
#include <ocellus/data/dataset.hpp>
#include <ocellus/data/detection_set.hpp>
#include <ocellus/data/folder.hpp>
#include <ocellus/data/idx_folder.hpp>
#include <ocellus/data/loader.hpp>
#include <ocellus/data/open_dataset.hpp>
#include <ocellus/data/segmentation_folder.hpp>
#include <ocellus/data/yolo_folder.hpp>
