// The models, one file each, and the interface that they share.
#pragma once

#include <ocellus/models/config.hpp>
#include <ocellus/models/detection.hpp>
#include <ocellus/models/lenet.hpp>
#include <ocellus/models/mlp.hpp>
#include <ocellus/models/mobilenet_v2.hpp>
#include <ocellus/models/network.hpp>
#include <ocellus/models/resnet.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/models/vgg.hpp>
#include <ocellus/models/vit.hpp>
#include <ocellus/models/yolo.hpp>
#include <ocellus/models/yolo_blocks.hpp>
