// A plan's profile as a table and as JSON, and the machine's limit to compare with.
#pragma once

#include <vector>

#include <ocellus/graph/plan.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus::cli {

// Each node's time, multiply-adds, bytes, what limits it at best, and how near to that limit it comes. `runs`: how many runs the times
// add up. Measures the limits first.
void print_profile(const std::vector<NodeProfile>& profile, int runs);
// Adds the member "profile" to the open object.
void write_profile(JsonWriter& json, const std::vector<NodeProfile>& profile, int runs);

// GFLOP/s of fused multiply-adds on registers alone, with all threads of the pool.
double peak_gflops();

}  // namespace ocellus::cli
