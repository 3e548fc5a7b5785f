// Wall time.
#pragma once

#include <chrono>

namespace ocellus {

// Seconds on a clock that never jumps.
inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace ocellus
