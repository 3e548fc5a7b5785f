// Wall time.
#pragma once

#include <ctime>

namespace ocellus {

// Seconds on a clock that never jumps. Not <chrono>: it doubles what this header costs to include.
inline double seconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace ocellus
