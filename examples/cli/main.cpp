// ocellus: the library as a program. Exit code 0 on success, 2 on bad usage, 1 on any other failure; one line says what
// is wrong.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/version.hpp>

#include "command.hpp"

namespace ocellus::cli {

void add_common(CLI::App& command, Common& common, const std::vector<std::string>& precisions) {
  command.add_option("--threads", common.threads, "CPU threads (default: OCELLUS_NUM_THREADS, else all)")->check(CLI::Range(1, 1024));
  const auto precision = [&common](const std::string& name) { common.precision = precision_named(name); };
  command.add_option_function<std::string>("--precision", precision, "of matrix products and convolutions")->check(CLI::IsMember(precisions));
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

Size2 size_for(const Network& network, const std::string& text) {
  const Size2 size = parse_size(text);
  const std::string fault = network.size_fault(size);
  if (!fault.empty()) throw UsageError("--size: " + fault);
  return size;
}

CLI::Validator is_size() {
  const auto check = [](const std::string& text) {
    try {
      parse_size(text);
    } catch (const UsageError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  return CLI::Validator(check, "HEIGHTxWIDTH");
}

CLI::Validator is_path() {
  const auto check = [](const std::string& text) {
    return text.empty() ? std::string("a path was expected; got ''") : std::string();
  };
  return CLI::Validator(check, "PATH");
}

namespace {

// `last`: the limit above belongs to the range.
CLI::Validator number_between(double low, double high, bool last) {
  char range[64];
  std::snprintf(range, sizeof range, "from %g to %s%g", low, last ? "" : "below ", high);
  const auto check = [low, high, last, rule = std::string(range)](const std::string& text) {
    char* end = nullptr;
    const double x = std::strtod(text.c_str(), &end);
    const bool ok = end != text.c_str() && *end == '\0' && x >= low && (x < high || (last && x == high));
    return ok ? std::string() : "a number " + rule + " was expected; got '" + text + "'";
  };
  return CLI::Validator(check, range);
}

}  // namespace

CLI::Validator number_from(double low, double below) { return number_between(low, below, false); }
CLI::Validator is_share() { return number_between(0, 1, true); }

void TaskOptions::check(const std::string& task) const {
  for (const Row& r : rows_) {
    if (r.option->count() == 0 || std::find(r.tasks.begin(), r.tasks.end(), task) != r.tasks.end()) continue;
    std::string list;
    for (const std::string& t : r.tasks) list += (list.empty() ? "" : " or ") + t;
    throw UsageError(r.option->get_name() + " is for --task " + list + "; it does nothing for --task " + task);
  }
}

std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

std::vector<std::string> printable(std::vector<std::string> names) {
  for (std::string& name : names) name = printable(std::move(name));
  return names;
}

void make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw FileError(path, "the directory cannot be made: " + error.message());
}

void need_task(const Network& network, Task task, const std::string& name) {
  if (network.task() == task) return;
  throw ConfigError(name + " is a " + network.model_type() + " model for the task '" + name_of(network.task()) +
                    "'; '" + name_of(task) + "' was asked for");
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

namespace {

// Reports of several lines and names with control characters in one line: a deeper line is one more item of a list, a
// shallow one begins a new part.
std::string one_line(const std::string& text) {
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      std::size_t indent = 0;
      while (i + 1 < text.size() && text[i + 1] == ' ') ++i, ++indent;
      line += line.ends_with(':') ? " " : indent > 2 ? ", " : "; ";
    } else {
      line += printable(text.substr(i, 1));
    }
  }
  return line;
}

void complain(const std::string& text) { std::fprintf(stderr, "ocellus: %s\n", one_line(text).c_str()); }

// What the command line lacks or has too much of, and where the help is.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<const CLI::App*> commands = app.get_subcommands({});
  const CLI::App* chosen = nullptr;
  for (const CLI::App* c : commands) chosen = c->parsed() ? c : chosen;
  const std::vector<std::string> unknown = app.remaining();
  std::string message = error.what();
  if (!chosen && !unknown.empty()) {
    message =
        "there is no " + std::string(unknown[0].starts_with('-') ? "option" : "command") + " '" + unknown[0] + "'";
  }
  return message + "; see ocellus " + (chosen ? chosen->get_name() + " " : "") + "--help";
}

}  // namespace
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
  cli::add_detect(app);
  cli::add_train(app);
  cli::add_eval(app);
  cli::add_bench(app);
  cli::add_quantize(app);
  cli::add_convert(app);
  ocellus::set_log_sink([](ocellus::LogLevel level, const std::string& message) {
    if (level == ocellus::LogLevel::warning) cli::complain("warning: " + message);
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help and --version
    app.exit(e);
  } catch (const CLI::ParseError& e) {
    cli::complain(cli::usage_message(app, e));
    return 2;
  } catch (const ocellus::UsageError& e) {
    cli::complain(e.what());
    return 2;
  } catch (const std::bad_alloc&) {
    cli::complain("there is not enough memory for this");
    return 1;
  } catch (const std::exception& e) {
    cli::complain(e.what());
    return 1;
  }
  // A full disk or a closed pipe must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    cli::complain("the output could not be written");
    return 1;
  }
  return 0;
}
