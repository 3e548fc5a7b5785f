// Pickles and PyTorch files put together by hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ocellus/io/named_tensors.hpp>

#include "zip_support.hpp"

namespace io_test {

inline std::string pickled(std::int32_t value) { return "J" + little(value); }
inline std::string pickled(const std::string& text) {
  return "X" + little(static_cast<std::uint32_t>(text.size())) + text;
}
inline std::string pickled_sizes(const std::vector<std::int32_t>& sizes) {
  std::string tuple = "(";
  for (const std::int32_t size : sizes) tuple += pickled(size);
  return tuple + "t";
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string pickled_storage(const std::string& key, std::int32_t count,
                                   const std::string& type = "FloatStorage") {
  return "(" + pickled("storage") + global("torch", type) + pickled(key) + pickled("cpu") + pickled(count) + "tQ";
}
inline std::string pickled_tensor(const std::string& storage, std::int32_t offset,
                                  const std::vector<std::int32_t>& sizes, const std::vector<std::int32_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + pickled(offset) + pickled_sizes(sizes) +
         pickled_sizes(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
inline std::string program(const std::string& opcodes) { return "\x80\x02" + opcodes + "."; }
// A dictionary of these keys and values, both as opcodes.
inline std::string pickled_dictionary(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string text = "}(";
  for (const auto& [key, value] : items) text += pickled(key) + value;
  return text + "u";
}

struct TorchStorageData {
  std::string key, data;
};

// What torch.save writes: <name>/data.pkl, <name>/data/<key>.
inline std::string torch_archive(const std::string& pickle, const std::vector<TorchStorageData>& storages) {
  std::vector<ZipParts> parts = {stored("archive/data.pkl", pickle), stored("archive/byteorder", "little")};
  for (const TorchStorageData& s : storages) parts.push_back(stored("archive/data/" + s.key, s.data));
  return zip(parts);
}

// What it wrote before version 1.6.
inline std::string torch_stream(const std::string& pickle, const std::vector<TorchStorageData>& storages,
                                std::uint64_t element = 4) {
  std::string file = program(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12)) +
                     program("M" + little(std::uint16_t{1001})) +
                     program(pickled_dictionary({{"little_endian", "\x88"}})) + pickle;
  std::string keys = "](", data;
  for (const TorchStorageData& s : storages) {
    keys += pickled(s.key);
    data += little(static_cast<std::uint64_t>(s.data.size() / element)) + s.data;
  }
  return file + program(keys + "e") + data;
}

// A file with these float tensors.
inline std::string torch_archive(const ocellus::NamedTensors& tensors) {
  std::vector<std::pair<std::string, std::string>> items;
  std::vector<TorchStorageData> storages;
  for (const ocellus::NamedTensor& t : tensors) {
    const std::string key = std::to_string(storages.size());
    std::vector<std::int32_t> sizes, strides;
    for (const ocellus::Index size : t.tensor.shape()) sizes.push_back(static_cast<std::int32_t>(size));
    strides.resize(sizes.size());
    std::int32_t stride = 1;
    for (std::size_t axis = sizes.size(); axis-- > 0; stride *= sizes[axis]) strides[axis] = stride;
    items.emplace_back(t.name, pickled_tensor(pickled_storage(key, stride), 0, sizes, strides));
    storages.push_back({key, {static_cast<const char*>(t.tensor.raw()), t.tensor.spec().bytes()}});
  }
  return torch_archive(program(pickled_dictionary(items)), storages);
}

}  // namespace io_test
