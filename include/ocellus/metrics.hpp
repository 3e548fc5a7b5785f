// Metrics: how good a model is. Plain numbers without autograd.
#pragma once

#include <ocellus/metrics/classification.hpp>
#include <ocellus/metrics/confusion_matrix.hpp>
#include <ocellus/metrics/detection.hpp>
