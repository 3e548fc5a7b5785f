// A model with its preprocessing and postprocessing as one object.
#pragma once

#include <ocellus/pipeline/label_map.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>
#include <ocellus/pipeline/runner.hpp>
