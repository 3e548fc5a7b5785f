// What the commands of the program share: the options that every command takes, and how results leave it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ocellus/core/shape.hpp>
#include <ocellus/data/folder.hpp>
#include <ocellus/graph/precision.hpp>
#include <ocellus/models/network.hpp>

namespace CLI {
class App;
class Option;
class Validator;
}  // namespace CLI

namespace ocellus::cli {

struct Common {
  int threads = 0;  // 0: the default
  std::optional<Precision> precision = {};  // not given: what the model's file says, else f32
  bool json = false;
};

// Adds --threads, --precision and --json to a command.
// `precisions`: those that the command honours.
void add_common(CLI::App& command, Common& common, const std::vector<std::string>& precisions = {"f32", "bf16", "int8"});
// Applies them; called before the command's work.
void apply(const Common& common);

// "512x512" or "512" → height and width. Throws UsageError.
Size2 parse_size(const std::string& text);
// Checks of options, so that bad usage is found before any work: a size, a path that is not empty, and a number in
// [low, below), which NaN never is.
CLI::Validator is_size();
CLI::Validator is_path();
CLI::Validator number_from(double low, double below);
// A number in [0, 1].
CLI::Validator is_share();

// The size that --size gives. Throws UsageError for one that the network does not take.
Size2 size_for(const Network& network, const std::string& text);

// Options that only some tasks know.
class TaskOptions {
 public:
  void add(CLI::Option* option, std::vector<std::string> tasks) { rows_.push_back({option, std::move(tasks)}); }
  // Throws UsageError if one was given with another task.
  void check(const std::string& task) const;

 private:
  struct Row {
    CLI::Option* option;
    std::vector<std::string> tasks;
  };
  std::vector<Row> rows_;
};

// Text of a file on its way to a terminal: '?' in the place of control characters, which a terminal would obey.
std::string printable(std::string text);
std::vector<std::string> printable(std::vector<std::string> names);

// A directory for results, with the ones above it. Throws FileError.
void make_directory(const std::string& path);

// Progress on stderr, one line that renews itself; silent unless stderr is a terminal.
class Progress {
 public:
  Progress();
  ~Progress();
  void show(const std::string& line);

 private:
  bool terminal_;
  std::size_t width_ = 0;
};

// Reads Pascal VOC where the program was built with it.
VocReader voc_reader();

// Throws ConfigError unless the model that `name` names does this.
void need_task(const Network& network, Task task, const std::string& name);

// Each adds one command to the program; its callback does the work.
void add_info(CLI::App& app);
void add_run(CLI::App& app);
void add_classify(CLI::App& app);
void add_segment(CLI::App& app);
void add_detect(CLI::App& app);
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_bench(CLI::App& app);
void add_quantize(CLI::App& app);
void add_convert(CLI::App& app);

}  // namespace ocellus::cli
