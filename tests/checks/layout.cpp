// The layers hold: reads every header and reports each include, file head or umbrella that breaks a rule.
//   check_layout <include/ocellus> <folder>...      folders from the lowest layer to the highest
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct Header {
  std::string folder;                 // empty for include/ocellus/*.hpp
  std::vector<std::string> includes;  // what stands between < and >, or the whole line for a quoted include
  bool opens_with_comment = false;
  bool guarded = false;
  std::string text;
};

int problems = 0;

void report(const std::string& file, const std::string& what) {
  std::printf("%s: %s\n", file.c_str(), what.c_str());
  ++problems;
}

Header read(const fs::path& path) {
  Header header;
  std::ifstream in(path);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    header.text += line + "\n";
    if (number == 1) header.opens_with_comment = line.starts_with("//");
    if (line == "#pragma once") header.guarded = true;
    if (!line.starts_with("#include ")) continue;
    const auto open = line.find('<'), close = line.find('>');
    const bool angled = open != std::string::npos && close != std::string::npos;
    header.includes.push_back(angled ? line.substr(open + 1, close - open - 1) : line);
  }
  return header;
}

// Headers that a third-party include may stand in.
struct Rule {
  const char* prefix;
  std::set<std::string> allowed;
};

const std::vector<Rule> third_party = {
    {"xsimd/", {"kernels/simd.hpp"}},
    {"nlohmann/", {"io/json.hpp"}},
    {"Eigen/", {"core/eigen.hpp"}},
    {"pugixml", {"data/voc.hpp"}},
    {"stb/", {"io/stb_zlib.hpp", "vision/stb.hpp"}},
    {"stb_", {"io/stb_zlib.hpp", "vision/stb.hpp"}},
    {"doctest/", {}},
    {"CLI/", {}},
    {"benchmark/", {}},
};

// Costly standard headers, kept out of the folders that every user includes.
const std::set<std::string> costly = {"iostream", "istream", "ostream",    "fstream", "sstream",
                                      "iomanip",  "regex",   "filesystem", "ranges",  "functional"};
const std::set<std::string> light_folders = {"core", "ops", "nn"};

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::puts("usage: check_layout <include/ocellus> <folder>...");
    return 2;
  }
  const fs::path root = arguments[1];
  const std::vector<std::string> folders(arguments + 2, arguments + count);
  const auto layer = [&](const std::string& folder) {
    return std::find(folders.begin(), folders.end(), folder) - folders.begin();
  };
  const auto unknown = static_cast<std::ptrdiff_t>(folders.size());

  std::map<std::string, Header> headers;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), root).generic_string();
    if (!name.ends_with(".hpp")) {
      report(name, "only .hpp files belong here");
      continue;
    }
    Header header = read(entry.path());
    const auto slash = name.find('/');
    if (slash != std::string::npos) header.folder = name.substr(0, slash);
    if (header.folder.size() && layer(header.folder) == unknown) report(name, "folder is not one of the layers");
    headers[name] = std::move(header);
  }

  for (const auto& [name, header] : headers) {
    if (!header.opens_with_comment) report(name, "the first line must say what is in the file");
    if (!header.guarded) report(name, "#pragma once is missing");
    for (const std::string& include : header.includes) {
      if (include.starts_with("#include")) {
        report(name, "quoted include; write <ocellus/...>: " + include);
        continue;
      }
      for (const Rule& rule : third_party) {
        if (include.starts_with(rule.prefix) && !rule.allowed.contains(name))
          report(name, "must not include <" + include + ">");
      }
      if (light_folders.contains(header.folder) && costly.contains(include)) {
        report(name, "<" + include + "> is too costly for " + header.folder);
      }
      if (!include.starts_with("ocellus/")) continue;
      const std::string target = include.substr(8);
      if (!headers.contains(target)) {
        report(name, "includes <" + include + ">, which does not exist");
        continue;
      }
      if (header.folder.empty()) continue;
      const auto slash = target.find('/');
      const std::string used = target.substr(0, slash == std::string::npos ? target.find('.') : slash);
      if (used == "version" || used == "fwd") continue;
      if (layer(used) > layer(header.folder))
        report(name, "layer " + header.folder + " must not include <" + include + ">");
    }
  }

  // An umbrella reaches every header of its folder, and ocellus.hpp every umbrella except testing's, which is for
  // tests.
  std::set<std::string> used_folders;
  for (const auto& [name, header] : headers) {
    if (header.folder.size()) used_folders.insert(header.folder);
  }
  for (const std::string& folder : used_folders) {
    const std::string umbrella = folder + ".hpp";
    if (!headers.contains(umbrella)) {
      report(umbrella, "is missing");
      continue;
    }
    std::set<std::string> reached;
    std::vector<std::string> open = {umbrella};
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      for (const std::string& include : headers[name].includes) {
        const std::string target = include.starts_with("ocellus/") ? include.substr(8) : "";
        if (headers.contains(target) && headers[target].folder == folder && reached.insert(target).second)
          open.push_back(target);
      }
    }
    for (const auto& [name, header] : headers) {
      const bool optional = name == "core/eigen.hpp" || name == "data/voc.hpp";
      if (header.folder == folder && !optional && !reached.contains(name)) report(umbrella, "does not include " + name);
    }
    const auto lists = [&](const char* file) {
      const auto& includes = headers[file].includes;
      return std::find(includes.begin(), includes.end(), "ocellus/" + umbrella) != includes.end();
    };
    if (!lists("ocellus.hpp") && folder != "testing")
      report("ocellus.hpp", "does not include <ocellus/" + umbrella + ">");
    std::string macro = "#define OCELLUS_IMPL_" + folder + "\n";
    std::transform(macro.begin() + 8, macro.end(), macro.begin() + 8,
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    if (headers["impl.hpp"].text.find(macro) == std::string::npos)
      report("impl.hpp", "lacks " + macro.substr(0, macro.size() - 1));
  }

  std::printf("%zu headers in %zu folders, %d problems\n", headers.size(), used_folders.size(), problems);
  return problems == 0 ? 0 : 1;
}
