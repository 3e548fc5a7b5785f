// Folders: what lies in one, making them, where a path leads. By system calls: <filesystem> costs every including file
// a sixth of a second of compile time.
#pragma once

#include <string>
#include <vector>

#include <ocellus/core/config.hpp>

namespace ocellus {

// Regular files and folders, also through links.
bool is_file(const std::string& path);
bool is_folder(const std::string& path);
// The names in a folder, sorted, hidden ones left out. Throws FileError if it cannot be read.
std::vector<std::string> names_in(const std::string& folder);
// Makes a folder and those above it. Throws FileError.
void make_folders(const std::string& path);
// The absolute path without links, "." and ".."; empty if nothing is there.
std::string resolved_path(const std::string& path);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <dirent.h>
#include <sys/stat.h>

#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>

namespace ocellus {

OCELLUS_FN bool is_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

OCELLUS_FN bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

OCELLUS_FN std::vector<std::string> names_in(const std::string& folder) {
  DIR* open = ::opendir(folder.c_str());
  if (!open) io_detail::fail_with_errno(folder, "cannot read the folder");
  std::vector<std::string> names;
  int code = 0;
  for (;;) {
    errno = 0;  // readdir's end and its error differ by nothing else
    const dirent* entry = ::readdir(open);
    if (!entry) {
      code = errno;
      break;
    }
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  ::closedir(open);
  if (code != 0) throw FileError(folder, "cannot read the folder: " + io_detail::system_message(code));
  std::sort(names.begin(), names.end());
  return names;
}

OCELLUS_FN void make_folders(const std::string& path) {
  io_detail::check_path(path);
  for (std::size_t end = 0; end < path.size();) {
    end = std::min(path.find('/', end + 1), path.size());
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0777) == 0) continue;
    const int code = errno;
    if (is_folder(part)) continue;
    throw FileError(path, "cannot make the folder: " + io_detail::system_message(code == EEXIST ? ENOTDIR : code));
  }
}

OCELLUS_FN std::string resolved_path(const std::string& path) {
  char* found = ::realpath(path.c_str(), nullptr);
  const std::string result = found ? found : "";
  std::free(found);
  return result;
}

}  // namespace ocellus
#endif
