// Crash-safe checkpoints of a training run: one safetensors file with every tensor of the run, and a JSON text about
// the rest. Its metadata carries a CRC-32C of everything; files are written atomically, the last ones are kept, and a
// damaged one falls back to the one before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/core/shape.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus {

//   Checkpoint c;
//   c.add("model", state_of(model));
//   c.add("optimizer", optimizer.state());
//   c.state = R"({"step": 300})";
struct Checkpoint {
  NamedTensors tensors;
  std::string state;  // JSON: step, seed, … whatever is no tensor

  // The tensors of a part, as "part.name".
  void add(const std::string& part, const NamedTensors& from);
  // Those tensors under their own names.
  NamedTensors part(const std::string& name) const;
};

// Atomic: a crash or a full disk leaves the old file. Throws FileError.
void write_checkpoint(const std::string& path, const Checkpoint& checkpoint);
// Throws FileError for a file that is no checkpoint or whose checksum is wrong.
Checkpoint read_checkpoint(const std::string& path);
Checkpoint read_checkpoint(const Bytes& bytes, const std::string& source);

// The checkpoints of one run: FOLDER/checkpoint-<step>.safetensors.
class CheckpointFolder {
 public:
  // Keeps the newest `keep` files. The folder is made when the first one is written.
  explicit CheckpointFolder(std::string folder, int keep = 2) : folder_(std::move(folder)), keep_(keep) {}

  void write(Index step, const Checkpoint& checkpoint) const;
  // The newest one that is whole, with a warning for each that is not; empty if there are none. Throws FileError, that
  // of the newest, if all are damaged.
  std::optional<Checkpoint> latest() const;
  // The steps of the files that are there, ascending.
  std::vector<Index> steps() const;
  std::string path_of(Index step) const;

 private:
  std::string folder_;
  int keep_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_TRAIN)
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <span>

#include <ocellus/core/error.hpp>
#include <ocellus/core/log.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/safetensors.hpp>

namespace ocellus {
namespace train_detail {

inline constexpr const char* state_key = "ocellus.state";
inline constexpr const char* checksum_key = "ocellus.crc32c";
inline constexpr const char* file_prefix = "checkpoint-";
inline constexpr const char* file_suffix = ".safetensors";

// Of the state and of names, types, shapes and data in the order of the names, which the order in the file does not
// change.
OCELLUS_FN std::string checksum(const Checkpoint& checkpoint) {
  std::vector<const NamedTensor*> sorted;
  for (const NamedTensor& t : checkpoint.tensors) sorted.push_back(&t);
  std::sort(sorted.begin(), sorted.end(), [](const NamedTensor* a, const NamedTensor* b) { return a->name < b->name; });
  std::uint32_t crc = crc32c(as_bytes(checkpoint.state));
  for (const NamedTensor* t : sorted) {
    crc = crc32c(as_bytes(t->name + " " + name_of(t->tensor.dtype()) + " " + t->tensor.shape().str()), crc);
    crc = crc32c({static_cast<const std::byte*>(t->tensor.raw()), t->tensor.spec().bytes()}, crc);
  }
  char text[16];
  std::snprintf(text, sizeof text, "%08x", crc);
  return text;
}

}  // namespace train_detail

OCELLUS_FN void Checkpoint::add(const std::string& part, const NamedTensors& from) {
  for (const NamedTensor& t : from) tensors.add(part + "." + t.name, t.tensor);
}

OCELLUS_FN NamedTensors Checkpoint::part(const std::string& name) const {
  NamedTensors result;
  const std::string prefix = name + ".";
  for (const NamedTensor& t : tensors) {
    if (t.name.compare(0, prefix.size(), prefix) == 0) result.add(t.name.substr(prefix.size()), t.tensor);
  }
  return result;
}

OCELLUS_FN void write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  NamedTensors file = checkpoint.tensors;
  file.metadata[train_detail::state_key] = checkpoint.state;
  file.metadata[train_detail::checksum_key] = train_detail::checksum(checkpoint);
  write_safetensors(path, file);
}

OCELLUS_FN Checkpoint read_checkpoint(const std::string& path) {
  // Read, not mapped: the file may be removed while the run goes on.
  return read_checkpoint(read_file(path), path);
}

OCELLUS_FN Checkpoint read_checkpoint(const Bytes& bytes, const std::string& source) {
  Checkpoint checkpoint;
  checkpoint.tensors = read_safetensors(bytes, source);
  std::map<std::string, std::string>& metadata = checkpoint.tensors.metadata;
  if (!metadata.count(train_detail::state_key) || !metadata.count(train_detail::checksum_key)) {
    throw FileError(source, "is no checkpoint of a training run: its metadata lacks " +
                                std::string(train_detail::state_key) + " or " + train_detail::checksum_key);
  }
  checkpoint.state = metadata[train_detail::state_key];
  const std::string stored = metadata[train_detail::checksum_key], computed = train_detail::checksum(checkpoint);
  if (stored != computed) {
    throw FileError(source, "is damaged: its checksum is " + computed + ", " + stored + " was stored");
  }
  metadata.clear();
  return checkpoint;
}

OCELLUS_FN std::string CheckpointFolder::path_of(Index step) const {
  char number[32];
  std::snprintf(number, sizeof number, "%08lld", static_cast<long long>(step));
  return folder_ + "/" + train_detail::file_prefix + number + train_detail::file_suffix;
}

OCELLUS_FN std::vector<Index> CheckpointFolder::steps() const {
  const std::string prefix = train_detail::file_prefix, suffix = train_detail::file_suffix;
  std::vector<Index> steps;
  if (!is_folder(folder_)) return steps;
  for (const std::string& name : names_in(folder_)) {
    if (name.size() <= prefix.size() + suffix.size() || name.compare(0, prefix.size(), prefix) != 0) continue;
    Index step = 0;
    const char* last = name.data() + name.size() - suffix.size();
    const auto [end, failed] = std::from_chars(name.data() + prefix.size(), last, step);
    if (failed == std::errc() && end == last && suffix == last) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

OCELLUS_FN void CheckpointFolder::write(Index step, const Checkpoint& checkpoint) const {
  make_folders(folder_);
  write_checkpoint(path_of(step), checkpoint);
  const std::vector<Index> all = steps();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < all.size(); ++i) {
    std::remove(path_of(all[i]).c_str());  // a file that stays costs space, nothing else
  }
}

OCELLUS_FN std::optional<Checkpoint> CheckpointFolder::latest() const {
  const std::vector<Index> all = steps();
  std::vector<FileError> damaged;
  for (std::size_t i = all.size(); i-- > 0;) {
    try {
      Checkpoint checkpoint = read_checkpoint(path_of(all[i]));
      for (const FileError& e : damaged) {
        log(LogLevel::warning, std::string(e.what()) + "; falling back to the checkpoint before");
      }
      return checkpoint;
    } catch (const FileError& e) {
      damaged.push_back(e);
    }
  }
  if (!damaged.empty()) throw damaged.front();
  return std::nullopt;
}

}  // namespace ocellus
#endif
