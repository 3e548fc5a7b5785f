// Every example checks its own figures: expect() prints one line, and a figure out of its tolerance makes the program fail.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

// Prints "  ok  what = value (expected target ± tolerance)"; ends the program with 1 if it is off.
inline void expect(const char* what, double value, double target, double tolerance) {
  const bool ok = std::abs(value - target) <= tolerance;
  std::printf("  %s  %s = %.6g (expected %.6g ± %.2g)\n", ok ? "ok " : "OFF", what, value, target, tolerance);
  if (!ok) std::exit(1);
}

inline void expect_at_least(const char* what, double value, double bound) {
  const bool ok = value >= bound;
  std::printf("  %s  %s = %.6g (expected at least %.6g)\n", ok ? "ok " : "OFF", what, value, bound);
  if (!ok) std::exit(1);
}
