// The cheapest one-to-one assignment, exact: shortest augmenting paths (Jonker and Volgenant, 1987; rectangular as in
// Crouse: On implementing 2D rectangular assignment algorithms, 2016).
#pragma once

#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/core/shape.hpp>

namespace ocellus {

// costs (rows, columns), row by row → for each row its column, −1 where there are more rows than columns and others
// take them all. min(rows, columns) pairs are made; O(min² max) time. Throws UsageError for costs that are not finite
// or not rows · columns many.
std::vector<Index> hungarian(const std::vector<double>& costs, Index rows, Index columns);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_LOSSES)
#include <cmath>
#include <limits>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace losses_detail {

// rows ≤ columns; cost(i, j) is given by strides.
OCELLUS_FN std::vector<Index> assign_rows(const double* costs, Index rows, Index columns, Index row_stride,
                                          Index column_stride) {
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  std::vector<double> row_price(at(rows)), column_price(at(columns)), distance(at(columns));
  std::vector<Index> row_of(at(columns), -1), column_of(at(rows), -1), before(at(columns)), open(at(columns));
  std::vector<Index> done;
  for (Index start = 0; start < rows; ++start) {
    // Dijkstra from this row to the nearest column that is free, over costs reduced by the prices.
    std::fill(distance.begin(), distance.end(), std::numeric_limits<double>::infinity());
    for (Index j = 0; j < columns; ++j) open[at(j)] = j;
    done.clear();
    Index row = start, last = -1, count = columns;
    double nearest = 0;
    while (last < 0) {
      Index best = 0;
      for (Index k = 0; k < count; ++k) {
        const Index j = open[at(k)];
        const double d =
            nearest + costs[row * row_stride + j * column_stride] - row_price[at(row)] - column_price[at(j)];
        if (d < distance[at(j)]) {
          distance[at(j)] = d;
          before[at(j)] = row;
        }
        // Of equally near columns a free one ends the search.
        const double difference = distance[at(j)] - distance[at(open[at(best)])];
        if (difference < 0 || (difference == 0 && row_of[at(j)] < 0 && row_of[at(open[at(best)])] >= 0)) best = k;
      }
      const Index j = open[at(best)];
      nearest = distance[at(j)];
      open[at(best)] = open[at(--count)];
      done.push_back(j);
      if (row_of[at(j)] < 0) {
        last = j;
      } else {
        row = row_of[at(j)];
      }
    }
    row_price[at(start)] += nearest;
    for (const Index j : done) {
      if (j == last) continue;
      row_price[at(row_of[at(j)])] += nearest - distance[at(j)];
      column_price[at(j)] -= nearest - distance[at(j)];
    }
    for (Index j = last;;) {
      const Index i = before[at(j)];
      row_of[at(j)] = i;
      std::swap(j, column_of[at(i)]);
      if (i == start) break;
    }
  }
  return column_of;
}

}  // namespace losses_detail

OCELLUS_FN std::vector<Index> hungarian(const std::vector<double>& costs, Index rows, Index columns) {
  if (rows < 0 || columns < 0 || static_cast<Index>(costs.size()) != rows * columns) {
    throw UsageError("hungarian: a table of " + std::to_string(rows) + " x " + std::to_string(columns) +
                     " costs is needed; got " + std::to_string(costs.size()));
  }
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (!std::isfinite(costs[i])) {
      throw UsageError("hungarian: cost " + std::to_string(i) + " is not finite; forbid a pair with a large one");
    }
  }
  if (rows <= columns) return losses_detail::assign_rows(costs.data(), rows, columns, columns, 1);
  const std::vector<Index> row_of = losses_detail::assign_rows(costs.data(), columns, rows, 1, columns);
  std::vector<Index> column_of(static_cast<std::size_t>(rows), -1);
  for (std::size_t j = 0; j < row_of.size(); ++j)
    column_of[static_cast<std::size_t>(row_of[j])] = static_cast<Index>(j);
  return column_of;
}

}  // namespace ocellus
#endif
