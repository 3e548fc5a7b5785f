// One hook for everything the library has to say outside of exceptions (converted weights, skipped pictures, fallbacks).
#pragma once

#include <string>

#include <ocellus/core/config.hpp>

namespace ocellus {

enum class LogLevel { info, warning };

using LogSink = void (*)(LogLevel, const std::string& message);

// Replaces the sink, returns the old one. Null: quiet. The default writes warnings to stderr and drops the rest.
// Set it before threads start; the sink itself must be safe to call from several.
LogSink set_log_sink(LogSink sink);
void log(LogLevel level, const std::string& message);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_CORE)
#include <cstdio>
#include <utility>

namespace ocellus {

namespace core_detail {
OCELLUS_FN void log_to_stderr(LogLevel level, const std::string& message) {
  if (level == LogLevel::warning) std::fprintf(stderr, "ocellus: %s\n", message.c_str());
}
OCELLUS_FN LogSink& log_sink() {
  static LogSink sink = log_to_stderr;
  return sink;
}
}  // namespace core_detail

OCELLUS_FN LogSink set_log_sink(LogSink sink) { return std::exchange(core_detail::log_sink(), sink); }

OCELLUS_FN void log(LogLevel level, const std::string& message) {
  if (LogSink sink = core_detail::log_sink()) sink(level, message);
}

}  // namespace ocellus
#endif
