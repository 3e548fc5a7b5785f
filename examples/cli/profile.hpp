// A plan's profile as a table and as JSON.
#pragma once

#include <vector>

#include <ocellus/graph/plan.hpp>
#include <ocellus/io/json.hpp>

namespace ocellus::cli {

// `runs`: how many runs the times add up.
void print_profile(const std::vector<NodeProfile>& profile, int runs);
// Adds the member "profile" to the open object.
void write_profile(JsonWriter& json, const std::vector<NodeProfile>& profile, int runs);

}  // namespace ocellus::cli
