// Tensors, shapes, element types, errors.
#pragma once

#include <ocellus/core/config.hpp>
#include <ocellus/core/dtype.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/core/function.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/core/shape.hpp>
#include <ocellus/core/tensor.hpp>
