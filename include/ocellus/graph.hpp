// Passes over a traced graph: optimisation, plan, summary.
#pragma once

#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/graph/strips.hpp>
#include <ocellus/graph/summary.hpp>
