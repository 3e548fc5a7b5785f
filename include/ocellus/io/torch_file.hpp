// PyTorch's files (torch/serialization.py): the zip archive of torch.save since 1.6 and the legacy stream before it.
// Both hold a pickle that describes tensors and the bytes of their storages; io/pickle.hpp reads the one without
// running anything, this file the other.
//
// What is read: a state dict (name → tensor), bare or under "state_dict", "model_state_dict" or "model" of a
// dictionary; a whole pickled model, bare or in those places, whose parameters and persistent buffers get the names
// that its state_dict() would give them. A model under "ema" goes before all others: checkpoints of YOLO training keep
// the averaged weights there, and the reference takes them. The prefix "module." of DataParallel goes if every name has
// it.
//
// Elements: float, double, half, bfloat16, int64, int32, int8, uint8; bool comes as u8, int16 as i32. Strided,
// transposed and expanded tensors become dense. Tensors that share a storage share its memory.
#pragma once

#include <string>

#include <ocellus/core/config.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/io/named_tensors.hpp>

namespace ocellus {

// The tensors in the order of the file, in PyTorch's layouts. They share the memory of `bytes` where they are dense and
// aligned, and keep it alive. Throws FileError; `source` names the bytes in it.
NamedTensors read_torch_file(const Bytes& bytes, const std::string& source, const Limits& limits = {});
// Maps the file (see map_file for what that asks of those who replace it).
NamedTensors read_torch_file(const std::string& path, const Limits& limits = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ocellus/core/error.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/inflate.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/pickle.hpp>
#include <ocellus/io/zip.hpp>

namespace ocellus {
namespace io_detail {

struct TorchType {
  std::string_view storage;
  DType type;           // of the tensors that are made of it
  std::uint64_t bytes;  // of an element in the file
};
inline constexpr TorchType torch_types[] = {
    {"FloatStorage", DType::f32, 4},     {"DoubleStorage", DType::f64, 8}, {"HalfStorage", DType::f16, 2},
    {"BFloat16Storage", DType::bf16, 2}, {"LongStorage", DType::i64, 8},   {"IntStorage", DType::i32, 4},
    {"ShortStorage", DType::i32, 2},     {"CharStorage", DType::i8, 1},    {"ByteStorage", DType::u8, 1},
    {"BoolStorage", DType::u8, 1},
};

// "torch.FloatStorage", and "torch.cuda.FloatStorage" of old files.
OCELLUS_FN const TorchType* find_torch_type(std::string_view name) {
  for (const std::string_view module : {"torch.cuda.", "torch."}) {
    if (!name.starts_with(module)) continue;
    for (const TorchType& type : torch_types) {
      if (name.substr(module.size()) == type.storage) return &type;
    }
  }
  return nullptr;
}

// Elements of `Element` from anywhere in a storage, one after the other.
template <class Element>
void gather_elements(const std::byte* from, const Shape& sizes, const Shape& strides, std::byte* to) {
  const int rank = sizes.rank();
  Index at[Shape::max_rank] = {};
  Index offset = 0;
  for (Index left = sizes.numel(); left > 0; --left, to += sizeof(Element)) {
    std::memcpy(to, from + static_cast<std::size_t>(offset) * sizeof(Element), sizeof(Element));
    for (int axis = rank - 1; axis >= 0; --axis) {
      offset += strides[axis];
      if (++at[axis] < sizes[axis]) break;
      offset -= strides[axis] * sizes[axis];
      at[axis] = 0;
    }
  }
}

class TorchFile {
 public:
  TorchFile(const Bytes& file, const std::string& source, const Limits& limits)
      : file_(file), source_(source), limits_(limits) {}

  NamedTensors read() {
    if (file_.text().starts_with("PK\x03\x04")) {
      open_archive();
    } else {
      open_stream();
    }
    const Id chosen = choose(pickle_->root());
    if (pickle_->is(chosen, Kind::object)) {
      add_module(chosen, "", 0);
    } else {
      add_state_dict(chosen);
    }
    return result();
  }

 private:
  using Id = Pickle::Id;
  using Kind = Pickle::Kind;

  struct Storage {
    const TorchType* type = nullptr;
    std::uint64_t count = 0;  // elements
    bool loaded = false;
    Bytes bytes = {};
  };

  [[noreturn]] void fail(Id value, const std::string& what) const { reader_->fail_at(pickle_->place(value), what); }
  [[noreturn]] void fail(const std::string& what) const { throw FileError(source_, what); }

  // --- the two formats ---

  void open_archive() {
    archive_ = true;
    std::string found;
    for (ZipEntry& entry : read_zip_directory(file_, source_, limits_)) {
      const std::string& name = entry.name;
      if (name.starts_with('/') || ("/" + name + "/").find("/../") != std::string::npos) {
        fail("the entry " + shown(name) + " leaves the archive");
      }
      const std::size_t slash = name.find('/');
      if (slash != std::string::npos && name.substr(slash) == "/data.pkl") {
        if (!found.empty()) fail("two entries are called data.pkl");
        found = name;
      }
      std::string key = name;
      entries_.emplace(std::move(key), std::move(entry));
    }
    if (found.empty()) fail("is a zip archive without <name>/data.pkl, so torch.save did not write it");
    folder_ = found.substr(0, found.find('/') + 1);
    if (entries_.contains(folder_ + "constants.pkl")) {
      fail("is a TorchScript program; save the model's state_dict() with torch.save instead");
    }
    if (entries_.contains(folder_ + "byteorder") && entry(folder_ + "byteorder").text() != "little") {
      fail("was written on a big-endian machine, which is not read");
    }
    pickled_ = entry(found);
    reader_ = std::make_unique<ByteReader>(pickled_.span(), source_ + ": " + shown(found));
    pickle_ = std::make_unique<Pickle>(*reader_, limits_);
    list_storages();
  }

  // Unpacks an entry at most once per caller; what deflate makes of all of them together is bounded.
  Bytes entry(const std::string& name) {
    const ZipEntry& entry = entries_.at(name);
    if (entry.deflated) {
      unpacked_ += std::min(entry.size, limits_.inflated_bytes);
      if (unpacked_ > limits_.inflated_bytes) fail("its entries unpack to more than Limits::inflated_bytes");
    }
    return read_zip_entry(file_, entry, source_, limits_);
  }

  // Pickles of the magic number, the protocol, the machine, the object and the storages' keys, then their data.
  void open_stream() {
    if (file_.empty() || std::to_integer<unsigned>(file_.span()[0]) != 0x80) {
      fail("is no PyTorch file: it is neither a zip archive nor begins with a pickle");
    }
    reader_ = std::make_unique<ByteReader>(file_.span(), source_);
    constexpr std::string_view magic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    const Pickle number(*reader_, limits_);
    if (!number.is(number.root(), Kind::wide_integer) || number.text(number.root()) != magic) {
      fail("is a pickle, but none that torch.save wrote");
    }
    const Pickle protocol(*reader_, limits_);
    if (!protocol.is(protocol.root(), Kind::integer) || protocol.integer(protocol.root()) != 1001) {
      fail("legacy PyTorch protocol: expected 1001, got " + protocol.describe(protocol.root()));
    }
    const Pickle machine(*reader_, limits_);
    const Id order = machine.is(machine.root(), Kind::dictionary) ? machine.find(machine.root(), "little_endian") : 0;
    if (!machine.is(order, Kind::boolean) || !machine.boolean(order)) {
      fail("was written on a big-endian machine, which is not read");
    }
    pickle_ = std::make_unique<Pickle>(*reader_, limits_);
    list_storages();
    const std::uint64_t keys_begin = reader_->offset();
    const Pickle keys(*reader_, limits_);
    if (!keys.is(keys.root(), Kind::list)) reader_->fail_at(keys_begin, "expected the list of the storages' keys");
    for (const Id key : keys.elements(keys.root())) {
      const auto named = keys.is(key, Kind::text) ? storages_.find(std::string(keys.text(key))) : storages_.end();
      if (named == storages_.end()) {
        reader_->fail_at(keys_begin, "no tensor uses the storage of " + keys.describe(key));
      }
      Storage& storage = named->second;
      if (storage.loaded) reader_->fail_at(keys_begin, "the storage " + shown(named->first) + " stands there twice");
      const auto count = reader_->little_endian<std::uint64_t>("the size of a storage");
      if (count != storage.count) {
        reader_->fail("the storage " + shown(named->first) + " has " + std::to_string(count) +
                      " elements, its tensors expect " + std::to_string(storage.count));
      }
      const std::uint64_t begin = reader_->offset();
      const std::uint64_t bytes = count * storage.type->bytes;  // list_storages() has multiplied them
      reader_->take(bytes, "the data of a storage");
      set_data(storage, file_.part(begin, bytes));
    }
    if (reader_->left() > 0)
      reader_->fail(std::to_string(reader_->left()) + " bytes after the last storage belong to none");
  }

  // --- storages ---

  void list_storages() {
    for (const Id id : pickle_->storages()) {
      const std::vector<Id> parts = pickle_->elements(pickle_->arguments(id), 7);
      const bool complete = parts.size() >= 5 && parts.size() <= 6 && pickle_->is(parts[1], Kind::global) &&
                            pickle_->is(parts[2], Kind::text) && pickle_->is(parts[4], Kind::integer);
      if (!complete) fail(id, "a storage must be (\"storage\", type, key, location, number of elements)");
      if (parts.size() == 6 && !pickle_->is(parts[5], Kind::none)) {
        fail(id, "a view of a storage, as PyTorch before 0.4 wrote it; load and save it once with a newer one");
      }
      const TorchType* type = find_torch_type(pickle_->name(parts[1]));
      if (!type) fail(id, "elements of " + shown(pickle_->name(parts[1])) + " are not supported");
      const std::string_view key = pickle_->text(parts[2]);
      if (key.empty() || key.size() > limits_.name_bytes) fail(id, "the key of a storage is empty or too long");
      const std::int64_t count = pickle_->integer(parts[4]);
      const auto bytes = checked_multiply(static_cast<std::uint64_t>(count), type->bytes);
      if (count < 0 || !bytes || *bytes > file_limit()) {
        fail(id, "the storage " + shown(key) + " of " + std::to_string(count) + " elements does not fit into the file");
      }
      const auto [place, added] = storages_.try_emplace(std::string(key));
      Storage& storage = place->second;
      if (!added && (storage.type != type || storage.count != static_cast<std::uint64_t>(count))) {
        fail(id, "the storage " + shown(key) + " is described in two ways");
      }
      storage.type = type;
      storage.count = static_cast<std::uint64_t>(count);
    }
  }

  // A storage of a legacy file lies in it; one of an archive may be packed.
  std::uint64_t file_limit() const {
    return archive_ ? std::max<std::uint64_t>(file_.size(), limits_.inflated_bytes) : file_.size();
  }

  // Aligned to its elements, so that tensors can share it.
  static void set_data(Storage& storage, Bytes bytes) {
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % storage.type->bytes != 0) {
      const ByteSpan piece = bytes.span();
      bytes = join_bytes({&piece, 1});
    }
    storage.bytes = std::move(bytes);
    storage.loaded = true;
  }

  const Storage& storage_of(Id id) {
    const std::vector<Id> parts = pickle_->elements(pickle_->arguments(id), 3);
    const std::string key(pickle_->text(parts[2]));
    Storage& storage = storages_.at(key);
    if (storage.loaded) return storage;
    const std::string name = folder_ + "data/" + key;
    const auto place = archive_ ? entries_.find(name) : entries_.end();
    if (place == entries_.end()) fail(id, "the file has no data of the storage " + shown(key));
    const std::uint64_t bytes = storage.count * storage.type->bytes;
    if (place->second.size != bytes) {
      fail(id, "the storage " + shown(key) + " has " + std::to_string(place->second.size) + " bytes, its " +
                   std::to_string(storage.count) + " elements need " + std::to_string(bytes));
    }
    set_data(storage, entry(name));
    return storage;
  }

  // --- tensors ---

  // The sizes or strides of a tensor.
  Shape sizes_of(Id tensor, Id tuple) const {
    Shape sizes;
    const bool listed = pickle_->is(tuple, Kind::tuple) || pickle_->is(tuple, Kind::list);
    if (!listed) fail(tensor, "the sizes of a tensor are " + pickle_->describe(tuple));
    const std::vector<Id> elements = pickle_->elements(tuple, Shape::max_rank + 1);
    if (elements.size() > Shape::max_rank) {
      fail(tensor, "a tensor of more than " + std::to_string(Shape::max_rank) + " axes");
    }
    for (const Id element : elements) {
      if (!pickle_->is(element, Kind::integer) || pickle_->integer(element) < 0) {
        fail(tensor, "a size of a tensor is " + pickle_->describe(element));
      }
      sizes.push_back(pickle_->integer(element));
    }
    return sizes;
  }

  AnyTensor tensor(Id id) {
    const std::vector<Id> given = pickle_->elements(pickle_->arguments(id), 8);
    if (given.size() < 4 || !pickle_->is(given[0], Kind::storage) || !pickle_->is(given[1], Kind::integer)) {
      fail(id, "a tensor must be (storage, offset, sizes, strides, …)");
    }
    const bool lazy =
        given.size() > 6 && pickle_->is(given[6], Kind::dictionary) && !pickle_->elements(given[6], 1).empty();
    if (lazy) fail(id, "a negated or conjugate view of a tensor; save a clone of it");
    const Shape sizes = sizes_of(id, given[2]);
    Shape strides = sizes_of(id, given[3]);
    if (sizes.rank() != strides.rank()) fail(id, "a tensor has sizes " + sizes.str() + " and strides " + strides.str());
    const Storage& storage = storage_of(given[0]);
    const std::uint64_t element = storage.type->bytes;

    // What lies inside: the last element's place, and how much there will be of it all.
    const auto overflow = [&]() { fail(id, "sizes " + sizes.str() + " and strides " + strides.str() + " overflow"); };
    std::optional<std::uint64_t> count = 1, last = 0;
    bool dense = true;
    for (int axis = sizes.rank() - 1; axis >= 0; --axis) {
      const auto size = static_cast<std::uint64_t>(sizes[axis]), stride = static_cast<std::uint64_t>(strides[axis]);
      if (size > 1 && stride != *count) dense = false;
      if (size <= 1) strides[axis] = 0;  // it is never taken, and may be anything
      const auto reach = checked_multiply(size > 0 ? size - 1 : 0, stride);
      last = reach ? checked_add(*last, *reach) : std::nullopt;
      count = checked_multiply(*count, std::max<std::uint64_t>(size, 1));
      if (!last || !count || *count > INT64_MAX / 8) overflow();
    }
    const Spec spec{sizes, storage.type->type};
    if (spec.shape.numel() == 0) return AnyTensor(spec);
    const std::int64_t offset = pickle_->integer(given[1]);
    const auto end = checked_add(*last, static_cast<std::uint64_t>(offset));
    if (offset < 0 || !end || *end >= storage.count) {
      fail(id, "a tensor of sizes " + sizes.str() + ", strides " + strides.str() + " and offset " +
                   std::to_string(offset) + " leaves its storage of " + std::to_string(storage.count) + " elements");
    }
    given_ += spec.bytes();
    if (given_ > most_shared * file_.size() + unproven_bytes) {
      fail(id, "its tensors share so much that they would be " + std::to_string(most_shared) +
                   " times as large as the file");
    }
    const bool widened = element != size_of(spec.dtype);
    const auto begin = static_cast<std::size_t>(offset) * element;
    if (dense && !widened) return tensor_from(storage.bytes, begin, spec);

    copied_ += spec.bytes();
    if (copied_ > 2 * file_.size() + unproven_bytes) {
      fail(id, "its strided or expanded tensors unfold to more than twice the file; save contiguous() ones");
    }
    AnyTensor made(spec);
    auto* to = static_cast<std::byte*>(made.raw());
    const std::byte* from = storage.bytes.data() + begin;
    if (widened) {  // in the upper half of its place, then spread from the front
      std::byte* narrow = to + spec.bytes() / 2;
      gather_elements<std::int16_t>(from, sizes, strides, narrow);
      for (std::size_t i = 0; i < *count; ++i) {
        std::int16_t value;
        std::memcpy(&value, narrow + 2 * i, sizeof value);
        const std::int32_t wide = value;
        std::memcpy(to + 4 * i, &wide, sizeof wide);
      }
      return made;
    }
    switch (element) {
      case 1: gather_elements<std::uint8_t>(from, sizes, strides, to); break;
      case 2: gather_elements<std::uint16_t>(from, sizes, strides, to); break;
      case 4: gather_elements<std::uint32_t>(from, sizes, strides, to); break;
      default: gather_elements<std::uint64_t>(from, sizes, strides, to); break;
    }
    return made;
  }

  // --- what of the file is the model ---

  Id choose(Id id) const {
    for (int depth = 0; depth < 8; ++depth) {
      if (pickle_->is(id, Kind::object)) return id;
      if (!pickle_->is(id, Kind::dictionary)) {
        fail("expected a state dict (name to tensor) or a model, got " + pickle_->describe(id));
      }
      Id inner = pickle_->find(id, "ema");
      if (!pickle_->is(inner, Kind::object)) inner = 0;
      for (const char* key : {"state_dict", "model_state_dict", "model"}) {
        if (inner != 0) break;
        const Id value = pickle_->find(id, key);
        if (pickle_->is(value, Kind::dictionary) || pickle_->is(value, Kind::object)) inner = value;
      }
      if (inner == 0) return id;
      id = inner;
    }
    fail("its state dict is nested too deep");
  }

  void add(const std::string& name, Id id) {
    if (name.empty() || name.size() > limits_.name_bytes || name.find('\0') != std::string::npos) {
      fail(id, "a tensor's name is empty, contains NUL or is longer than Limits::name_bytes");
    }
    for (std::string_view rest = name; !rest.empty();) {
      const std::size_t length = utf8_length(rest);
      if (length == 0) fail(id, "the name of a tensor, " + shown(name) + ", is no UTF-8");
      rest.remove_prefix(length);
    }
    if (tensors_.size() >= limits_.tensors) {
      fail(id, "more than " + std::to_string(limits_.tensors) + " tensors (Limits::tensors)");
    }
    tensors_.push_back({name, tensor(id)});
  }

  void add_state_dict(Id dictionary) {
    const std::vector<Id> parts = pickle_->elements(dictionary);
    for (std::size_t i = 0; i < parts.size(); i += 2) {
      if (!pickle_->is(parts[i], Kind::text)) fail("a key of the state dict is " + pickle_->describe(parts[i]));
      const std::string name(pickle_->text(parts[i]));
      if (!pickle_->is(parts[i + 1], Kind::tensor)) {
        fail("the entry " + shown(name) + " is " + pickle_->describe(parts[i + 1]) +
             ", no tensor; expected a state dict or a model, bare or under \"state_dict\", \"model_state_dict\" or "
             "\"model\"");
      }
      add(name, parts[i + 1]);
    }
  }

  // The names that Module.state_dict() gives: own parameters, own buffers, children.
  void add_module(Id module, const std::string& prefix, int depth) {
    const auto refuse = [&](const std::string& why) {
      const std::string name = prefix.empty() ? "" : " " + shown(prefix.substr(0, prefix.size() - 1));
      fail(module, "the module" + name + ", " + pickle_->describe(module) + ", " + why);
    };
    if (depth >= limits_.module_depth) refuse("is nested deeper than Limits::module_depth, or in itself");
    const Id state = pickle_->state(module);
    const auto pairs = [&](const char* attribute) {
      const Id found = state == 0 ? 0 : pickle_->find(state, attribute);
      if (!pickle_->is(found, Kind::dictionary)) {
        refuse(std::string("has no dictionary ") + attribute + ", so it is no torch.nn.Module");
      }
      return pickle_->elements(found);
    };
    const std::vector<Id> parameters = pairs("_parameters"), buffers = pairs("_buffers"), children = pairs("_modules");
    const Id left_out = pickle_->find(state, "_non_persistent_buffers_set");
    const std::vector<Id> temporary =
        pickle_->is(left_out, Kind::list) ? pickle_->elements(left_out) : std::vector<Id>{};
    // A module may stand in many places, but not in so many that walking them takes for ever.
    walked_ += 16 + pickle_->elements(state).size() + parameters.size() + children.size() +
               buffers.size() * (1 + temporary.size());
    if (walked_ > 2 * limits_.pickle_opcodes) refuse("contains others, and they each other, too often");

    const auto each = [&](const std::vector<Id>& parts, Kind kind, auto&& take) {
      for (std::size_t i = 0; i < parts.size(); i += 2) {
        if (!pickle_->is(parts[i], Kind::text)) refuse("has a child named " + pickle_->describe(parts[i]));
        const std::string_view name = pickle_->text(parts[i]);
        if (name.size() + prefix.size() > limits_.name_bytes) refuse("has a child with too long a name");
        if (pickle_->is(parts[i + 1], Kind::none)) continue;
        if (!pickle_->is(parts[i + 1], kind)) {
          refuse("has the child " + shown(name) + ", which is " + pickle_->describe(parts[i + 1]));
        }
        take(name, parts[i + 1]);
      }
    };
    each(parameters, Kind::tensor, [&](std::string_view name, Id id) { add(prefix + std::string(name), id); });
    each(buffers, Kind::tensor, [&](std::string_view name, Id id) {
      const auto same = [&](Id t) { return pickle_->is(t, Kind::text) && pickle_->text(t) == name; };
      if (std::none_of(temporary.begin(), temporary.end(), same)) add(prefix + std::string(name), id);
    });
    each(children, Kind::object,
         [&](std::string_view name, Id id) { add_module(id, prefix + std::string(name) + ".", depth + 1); });
  }

  NamedTensors result() {
    constexpr std::string_view parallel = "module.";
    if (tensors_.empty()) fail("holds no tensors");
    const bool strip = std::all_of(tensors_.begin(), tensors_.end(), [&](const NamedTensor& t) {
      return t.name.size() > parallel.size() && t.name.starts_with(parallel);
    });
    NamedTensors all;
    for (NamedTensor& t : tensors_) {
      if (strip) t.name.erase(0, parallel.size());
      if (all.find(t.name)) fail("two tensors are called " + shown(t.name));
      all.add(std::move(t.name), std::move(t.tensor));
    }
    return all;
  }

  static constexpr std::uint64_t most_shared = 16;

  const Bytes& file_;
  const std::string& source_;
  const Limits& limits_;
  bool archive_ = false;
  std::unordered_map<std::string, ZipEntry> entries_;
  std::string folder_;
  Bytes pickled_;
  std::unique_ptr<ByteReader> reader_;
  std::unique_ptr<Pickle> pickle_;
  std::unordered_map<std::string, Storage> storages_;
  std::vector<NamedTensor> tensors_;
  std::uint64_t unpacked_ = 0, given_ = 0, copied_ = 0, walked_ = 0;
};

}  // namespace io_detail

OCELLUS_FN NamedTensors read_torch_file(const Bytes& bytes, const std::string& source, const Limits& limits) {
  return io_detail::TorchFile(bytes, source, limits).read();
}

OCELLUS_FN NamedTensors read_torch_file(const std::string& path, const Limits& limits) {
  return read_torch_file(map_file(path, limits), path, limits);
}

}  // namespace ocellus
#endif
