// ocellus: the library as a program. Exit code 0 on success, 2 on bad usage, 1 with one line on any other failure.
#include <charconv>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/version.hpp>

#include "command.hpp"

namespace ocellus::cli {

void add_common(CLI::App& command, Common& common) {
  command.add_option("--threads", common.threads, "CPU threads (default: OCELLUS_NUM_THREADS, else all)")->check(CLI::Range(1, 1024));
  command.add_option("--precision", common.precision, "of matrix products and convolutions")->check(CLI::IsMember({"f32"}));
  command.add_flag("--json", common.json, "one JSON object per line on stdout, nothing else");
  command.set_version_flag("--version", OCELLUS_VERSION);
}

void apply(const Common& common) {
  if (common.threads > 0) set_num_threads(common.threads);
}

Size2 parse_size(const std::string& text) {
  const char *at = text.data(), *end = text.data() + text.size();
  Index h = 0, w = 0;
  const auto first = std::from_chars(at, end, h);
  bool ok = first.ec == std::errc();
  w = h;
  if (ok && first.ptr != end) {
    ok = *first.ptr == 'x';
    const auto second = std::from_chars(first.ptr + 1, end, w);
    ok = ok && second.ec == std::errc() && second.ptr == end;
  }
  if (!ok || h < 1 || w < 1 || h > 16384 || w > 16384) throw UsageError("a size is HEIGHTxWIDTH in pixels, as 512x512; got '" + text + "'");
  return {h, w};
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (width_) std::fputc('\n', stderr);
}

void Progress::show(const std::string& line) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r%-*s", static_cast<int>(width_), line.c_str());
  std::fflush(stderr);
  width_ = line.size();
}

}  // namespace ocellus::cli

int main(int argc, char** argv) {
  CLI::App app("Computer vision on the CPU: train, evaluate and run models. Every command has --help.", "ocellus");
  app.set_version_flag("--version", OCELLUS_VERSION);
  app.require_subcommand(1);
  namespace cli = ocellus::cli;
  cli::add_info(app);
  cli::add_run(app);
  cli::add_classify(app);
  cli::add_segment(app);
  cli::add_train(app);
  cli::add_eval(app);
  cli::add_bench(app);
  cli::add_convert(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const ocellus::UsageError& e) {
    std::fprintf(stderr, "ocellus: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ocellus: %s\n", e.what());
    return 1;
  }
  // A full disk or a closed pipe must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    std::fprintf(stderr, "ocellus: the output could not be written\n");
    return 1;
  }
  return 0;
}
