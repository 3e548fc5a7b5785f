// No op and no layer without its row in the tests.
//   check_completeness <include/ocellus> <tests>
// An op (OCELLUS_OP("name(…)" in any header) needs gradcheck("name…" in a test, unless it says not_differentiable; then
// its name has to stand in the tests as a call. A layer (OCELLUS_MODULE(Name in nn/) needs layer("Name" or
// TEST_CASE("Name….
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::vector<fs::path> files(const fs::path& folder, const char* extension) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == extension) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Positions of `mark` in code, not in comments or macro definitions.
std::vector<std::size_t> occurrences(const std::string& text, const std::string& mark) {
  std::vector<std::size_t> found;
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
    const std::size_t line = text.rfind('\n', at) + 1;
    const std::string before = text.substr(line, at - line);
    if (before.find_first_not_of(' ') == std::string::npos) found.push_back(at);
  }
  return found;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::puts("usage: check_completeness <include/ocellus> <tests>");
    return 2;
  }
  const fs::path headers = arguments[1];
  std::string tests;
  for (const fs::path& path : files(arguments[2], ".cpp")) tests += read(path);
  // A row may continue on the next line: drop the space behind an opening parenthesis.
  std::string rows;
  for (const char c : tests) {
    const bool space = c == ' ' || c == '\n';
    if (!space || rows.empty() || rows.back() != '(') rows += c;
  }

  const auto has = [](const std::string& text, const std::string& what) {
    return text.find(what) != std::string::npos;
  };
  int ops = 0, layers = 0, missing = 0;
  for (const fs::path& path : files(headers, ".hpp")) {
    const std::string text = read(path);
    const std::string file = fs::relative(path, headers).generic_string();

    const std::string op_mark = "OCELLUS_OP(\"";
    for (const std::size_t at : occurrences(text, op_mark)) {
      const std::size_t start = at + op_mark.size();
      const std::string name = text.substr(start, text.find('(', start) - start);
      const std::string body = text.substr(at, text.find("\n};", at) - at);
      const bool differentiable = !has(body, "not_differentiable = true");
      const auto row = [&](const std::string& call) {
        return has(rows, call + name + "\"") || has(rows, call + name + " ");
      };
      const bool tested = row("gradcheck(\"") || row("gradcheck(std::string(\"");
      const bool called = has(rows, name + "(") || has(rows, name + "<");
      ++ops;
      if (differentiable ? tested : called || tested) continue;
      std::printf("%s: op %s has no %s in the tests\n", file.c_str(), name.c_str(),
                  differentiable ? "gradcheck row" : "call");
      ++missing;
    }

    if (!file.starts_with("nn/")) continue;
    const std::string module_mark = "OCELLUS_MODULE(";
    for (const std::size_t at : occurrences(text, module_mark)) {
      const std::size_t start = at + module_mark.size();
      const std::string name = text.substr(start, text.find_first_of(",)", start) - start);
      ++layers;
      if (has(rows, "layer(\"" + name + "\"") || has(tests, "TEST_CASE(\"" + name)) continue;
      std::printf("%s: layer %s has no row in the tests\n", file.c_str(), name.c_str());
      ++missing;
    }
  }
  std::printf("%d ops, %d layers, %d without a row\n", ops, layers, missing);
  return missing == 0 && ops > 0 ? 0 : 1;
}
