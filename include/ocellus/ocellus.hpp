// The whole library, except testing.hpp (for tests of one's own ops) and core/eigen.hpp (needs Eigen).
#pragma once

#include <ocellus/core.hpp>
#include <ocellus/runtime.hpp>
#include <ocellus/io.hpp>
#include <ocellus/kernels.hpp>
#include <ocellus/autograd.hpp>
#include <ocellus/ops.hpp>
#include <ocellus/nn.hpp>
#include <ocellus/vision.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/metrics.hpp>
#include <ocellus/data.hpp>
#include <ocellus/models.hpp>
#include <ocellus/graph.hpp>
#include <ocellus/pipeline.hpp>
#include <ocellus/train.hpp>
#include <ocellus/version.hpp>
