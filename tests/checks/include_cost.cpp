// What an include costs: user CPU seconds of the compiler on a file that only includes the header (best of 5), as a
// multiple of the same for <string> <vector> <memory> <span>, all measured in this run. Fails above 1.15 times a
// budget.
//   check_include_cost <compiler> <file with include directories> <folder of the programs> <folder for scratch files>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

constexpr double tolerance = 1.15;
constexpr int repeats = 5;
constexpr int most_turns = 5;
// The limits of whole programs are seconds of a machine that compiles the reference in this time; elsewhere, or under
// another load, they are scaled by what the reference takes beside them.
constexpr double reference_seconds = 0.284;

struct Cost {
  double seconds = 1e9;
  double megabytes = 0;
  bool compiled = false;
};

// Runs the compiler once; its messages go to `log`.
Cost compile(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file >= 0) dup2(file, STDERR_FILENO);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 1;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  Cost cost;
  cost.compiled = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  cost.seconds = static_cast<double>(usage.ru_utime.tv_sec) + 1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
#if defined(__APPLE__)
  constexpr double unit = 1.0 / (1024 * 1024);
#else
  constexpr double unit = 1.0 / 1024;
#endif
  cost.megabytes = static_cast<double>(usage.ru_maxrss) * unit;
  return cost;
}

struct Row {
  const char* name;
  bool split;
  std::vector<std::string> headers;
  double budget;  // multiples of the reference
  bool known = false;  // over its budget so far: told, but only a row that need not be known any more fails
};

const std::vector<Row> rows = {
    {"fwd, split", true, {"ocellus/fwd.hpp"}, 0.2},
    {"core, split", true, {"ocellus/core.hpp"}, 1.3},
    {"ops, split", true, {"ocellus/ops.hpp"}, 1.7},
    {"nn, split", true, {"ocellus/nn.hpp"}, 2},
    {"SegFormer, split", true, {"ocellus/models/segformer.hpp"}, 2.5},
    {"YOLO, split", true, {"ocellus/models/yolo.hpp"}, 2.5},
    {"umbrella, split", true, {"ocellus/ocellus.hpp"}, 3},
    {"umbrella without io and vision",
     false,
     {"ocellus/core.hpp", "ocellus/runtime.hpp", "ocellus/kernels.hpp", "ocellus/autograd.hpp", "ocellus/ops.hpp",
      "ocellus/losses.hpp", "ocellus/optim.hpp", "ocellus/metrics.hpp"},
     8},
    {"umbrella", false, {"ocellus/ocellus.hpp"}, 12, true},
};

struct ProgramRow {
  const char* name;
  const char* file;
  bool split;
  double seconds;
  double megabytes;
  bool known = false;  // as in Row
};

const std::vector<ProgramRow> programs = {
    {"SegFormer program, split", "segformer_program.cpp", true, 4, 1024},
    {"SegFormer program, header-only", "segformer_program.cpp", false, 25, 1024},
    {"any model, split", "any_model_program.cpp", true, 4, 1024},
    {"any model, header-only", "any_model_program.cpp", false, 25, 1024, true},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::puts("usage: check_include_cost <compiler> <include directories> <folder of the programs> <scratch folder>");
    return 2;
  }
  std::vector<std::string> directories;
  std::ifstream list(arguments[2]);
  for (std::string line; std::getline(list, line);) {
    if (!line.empty()) directories.push_back(line);
  }
  const std::string programs_folder = arguments[3];
  const std::string scratch = std::string(arguments[4]) + "/include_cost";
  const std::string source = scratch + ".cpp", log = scratch + ".log";

  const auto exists = [&](const std::string& header) {
    return std::any_of(directories.begin(), directories.end(),
                       [&](const std::string& d) { return fs::exists(d + "/" + header); });
  };
  const auto command = [&](const std::string& file, bool split) {
    std::vector<std::string> words = {arguments[1], "-std=c++20", "-O2", "-c", file, "-o", scratch + ".o"};
    words.push_back(split ? "-DOCELLUS_SPLIT" : "-march=native");
    for (const std::string& directory : directories) words.push_back("-I" + directory);
    return words;
  };
  const auto measure = [&](const std::vector<std::string>& headers, bool split) {
    std::ofstream(source) << [&] {
      std::string text;
      for (const std::string& header : headers) text += "#include <" + header + ">\n";
      return text;
    }();
    Cost best;
    for (int i = 0; i < repeats; ++i) {
      const Cost cost = compile(command(source, split), log);
      if (!cost.compiled) return cost;
      if (cost.seconds < best.seconds) best = cost;
    }
    return best;
  };

  int over = 0;
  const auto judge = [&](const char* name, const Cost& cost, double used, double budget, const char* unit, bool known) {
    const bool fits = cost.compiled && used <= tolerance * budget;
    if (fits == known) ++over;
    std::printf("%-32s %7.2f s %6.0f MB   %6.2f of %5.1f %-5s %s\n", name, cost.seconds, cost.megabytes, used, budget,
                unit,
                !cost.compiled ? "DOES NOT COMPILE"
                : fits         ? (known ? "FITS NOW: no longer a known excess" : "")
                               : (known ? "OVER BUDGET (known)" : "OVER BUDGET"));
    if (!cost.compiled) std::fputs(("  see " + log + "\n").c_str(), stdout);
    std::fflush(stdout);
  };

  const std::vector<std::string> reference_headers = {"string", "vector", "memory", "span"};
  const Cost reference = measure(reference_headers, true);
  if (!reference.compiled) {
    std::printf("the compiler %s does not compile the reference file\n", arguments[1]);
    return 1;
  }
  std::printf("%-32s %7.2f s %6.0f MB\n", "reference", reference.seconds, reference.megabytes);
  // What a row uses, by the reference beside it. Other work on the machine only ever adds: what is over its limit is
  // measured again.
  const auto least = [&](double limit, bool known, const auto& use) {
    double used = use(measure(reference_headers, true).seconds);
    for (int turn = 1; turn < most_turns && used > limit && !known; ++turn)
      used = std::min(used, use(measure(reference_headers, true).seconds));
    return used;
  };
  for (const Row& row : rows) {
    if (!std::all_of(row.headers.begin(), row.headers.end(), exists)) continue;
    Cost cost;
    const double used = least(tolerance * row.budget, row.known, [&](double beside) {
      cost = measure(row.headers, row.split);
      return cost.compiled ? cost.seconds / beside : 0;
    });
    judge(row.name, cost, used, row.budget, "x ref", row.known);
  }
  for (const ProgramRow& row : programs) {
    if (!exists("ocellus/pipeline.hpp")) continue;
    Cost cost;
    const double used = least(tolerance, row.known, [&](double beside) {
      cost = compile(command(programs_folder + "/" + row.file, row.split), log);
      const double seconds = cost.seconds * reference_seconds / beside;
      return cost.compiled ? std::max(seconds / row.seconds, cost.megabytes / row.megabytes) : 0;
    });
    judge(row.name, cost, used, 1, "limit", row.known);
  }
  std::printf("%d rows not as expected (tolerance %.2f)\n", over, tolerance);
  return over == 0 ? 0 : 1;
}
