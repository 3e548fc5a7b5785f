// Passes over a traced graph: optimisation, plan, precision, summary.
#pragma once

#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/graph/strips.hpp>
#include <ocellus/graph/precision.hpp>
#include <ocellus/graph/quantize.hpp>
#include <ocellus/graph/summary.hpp>
