// Tensor → tensor: every differentiable operation, forward and backward side by side, one file per family.
#pragma once

#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/attention.hpp>
#include <ocellus/ops/conv.hpp>
#include <ocellus/ops/dropout.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/index.hpp>
#include <ocellus/ops/layout.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/ops/norm.hpp>
#include <ocellus/ops/pool.hpp>
#include <ocellus/ops/reduce.hpp>
#include <ocellus/ops/resize.hpp>
#include <ocellus/ops/softmax.hpp>
