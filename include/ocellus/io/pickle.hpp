// Python's pickles (PEP 307, 3154 and 574; the opcodes are listed in Python's pickletools) as plain data: numbers,
// texts, tuples, lists, dictionaries, and objects that are no more than the name of their class and their state.
// Nothing is executed. A pickle is a program whose REDUCE calls a function: the few calls that only build a container
// or a tensor are understood, every other one is a FileError with the function's name. Read are the opcodes that
// protocols 2 to 5 write.
//
// Values lie in one table and name each other by number, so neither depth nor cycles cost anything, and the number of
// opcodes (Limits::pickle_opcodes) bounds the memory.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

class Pickle {
 public:
  using Id = std::uint32_t;

  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    wide_integer,  // of more than 64 bits
    real,
    text,
    bytes,
    tuple,
    list,        // a set, too
    dictionary,  // an OrderedDict, too
    global,      // a name in a module: a class or a function, never looked up
    storage,     // what a persistent id "storage" names
    tensor,      // what torch._utils._rebuild_tensor… would make
    object,      // of some class, with its state
    inert,       // the result of a harmless call that nothing here needs
  };

  // Reads one pickle from where the reader stands to behind its STOP. Throws FileError. The bytes must outlive it.
  Pickle(ByteReader& reader, const Limits& limits);

  Id root() const { return root_; }
  Kind kind(Id id) const { return values_[id].kind; }
  bool is(Id id, Kind kind) const { return values_[id].kind == kind; }
  // What a value is, for errors: "a list", "an object of torch.nn.modules.linear.Linear".
  std::string describe(Id id) const;

  bool boolean(Id id) const { return values_[id].number != 0; }
  std::int64_t integer(Id id) const { return values_[id].number; }
  // The characters of a text, the bytes of bytes or of a wide integer.
  std::string_view text(Id id) const;
  // module.name of a global, of an object its class.
  std::string name(Id id) const;

  // The elements of a tuple or a list, keys and values of a dictionary in turn. At most `most` of them.
  std::vector<Id> elements(Id id, std::size_t most = SIZE_MAX) const;
  // The value under a text, the last one if there are several; 0, which is None, if there is none.
  Id find(Id dictionary, std::string_view key) const;
  // The dictionary of an object's attributes; 0 if its state is something else.
  Id state(Id object) const;
  // The tuple that a storage or a tensor was made of.
  Id arguments(Id id) const { return values_[id].span.first; }
  // Where a storage, a tensor or an object was made, in the reader's bytes.
  std::uint64_t place(Id id) const {
    return begin_ + (is(id, Kind::object) ? values_[id].span.last : values_[id].extra);
  }
  // All storages, in the order of the pickle.
  const std::vector<Id>& storages() const { return storages_; }

 private:
  struct Span {
    std::uint32_t first, last;
  };
  struct Value {
    Kind kind = Kind::none;
    std::uint32_t extra = 0;  // object: the class; storage, tensor: the place; global: 1 if its name is in two texts
    union {
      std::int64_t number = 0;
      double real;
      Span span;  // text: begin and length; global: the same or module and name; containers: cells; object: state and
    };            // place; storage, tensor: arguments
  };
  // One element of a container.
  struct Cell {
    Id value;
    std::uint32_t next;
  };
  static constexpr std::uint32_t no_cell = UINT32_MAX;

  void run();
  void step(unsigned opcode);
  [[noreturn]] void fail(const std::string& what) const;

  Id add(Kind kind);
  void push(Id id);
  void push_integer(std::int64_t value);
  void push_text(Kind kind, std::uint64_t length, const char* what);
  void push_container(Kind kind);
  Id pop();
  Id top() const;
  // Everything above the innermost mark, which goes, too.
  std::vector<Id> pop_to_mark();
  void append(Id container, Id element);
  void add_elements(Id container, const std::vector<Id>& elements);
  void push_tuple(const std::vector<Id>& elements);
  std::vector<Id> pop_some(std::size_t count);
  void put(std::uint64_t index);
  void get(std::uint64_t index);
  void set_items(const std::vector<Id>& pairs);
  void append_items(const std::vector<Id>& items);
  void global();
  void persistent();
  void reduce();
  void call(const std::string& function, Id arguments);
  void new_object(Id type);
  void build();

  ByteReader& reader_;
  const Limits& limits_;
  std::uint64_t begin_;
  std::uint64_t at_ = 0;  // the opcode
  std::string_view bytes_;
  std::deque<Value> values_;
  std::vector<Cell> cells_;
  std::vector<Id> stack_, memo_, storages_;
  std::vector<std::size_t> marks_;
  Id root_ = 0;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <bit>

#include <ocellus/io/json.hpp>

namespace ocellus {
namespace io_detail {

// Calls that build a container: its elements are the only argument, or there are none.
inline constexpr std::string_view pickle_lists[] = {"builtins.set", "builtins.frozenset", "__builtin__.set",
                                                    "__builtin__.frozenset"};
// Calls that give a tensor.
inline constexpr std::string_view pickle_tensors[] = {"torch._utils._rebuild_tensor",
                                                      "torch._utils._rebuild_tensor_v2"};
// Calls whose first argument is the tensor that they give.
inline constexpr std::string_view pickle_parameters[] = {"torch._utils._rebuild_parameter",
                                                         "torch._utils._rebuild_parameter_with_state"};
// Values that stand beside weights in checkpoints and mean nothing here.
inline constexpr std::string_view pickle_inert[] = {
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.slice",
    "collections.Counter",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "functools.partial",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "torch.device",
    "torch.serialization._get_layout",
};

template <std::size_t n>
bool is_one_of(std::string_view name, const std::string_view (&names)[n]) {
  return std::find(names, names + n, name) != names + n;
}

}  // namespace io_detail

OCELLUS_FN Pickle::Pickle(ByteReader& reader, const Limits& limits)
    : reader_(reader), limits_(limits), begin_(reader.offset()) {
  // Positions have 32 bits; what follows the pickle may be as long as it likes.
  const std::uint64_t most = std::min<std::uint64_t>({reader.left(), limits.header_bytes, UINT32_MAX});
  bytes_ = reader.text(most, "a pickle");
  reader.seek(begin_);
  values_.emplace_back();  // None
  run();
}

OCELLUS_COLD OCELLUS_FN void Pickle::fail(const std::string& what) const { reader_.fail_at(at_, "pickle: " + what); }

OCELLUS_FN void Pickle::run() {
  for (std::uint64_t opcodes = 0;; ++opcodes) {
    at_ = reader_.offset();
    if (at_ - begin_ > limits_.header_bytes) {
      fail("longer than " + std::to_string(limits_.header_bytes) + " bytes (Limits::header_bytes)");
    }
    if (opcodes >= limits_.pickle_opcodes) {
      fail("more than " + std::to_string(limits_.pickle_opcodes) + " opcodes (Limits::pickle_opcodes)");
    }
    const auto opcode = reader_.little_endian<std::uint8_t>("a pickle");
    if (opcode == '.') break;
    step(opcode);
  }
  root_ = pop();
}

OCELLUS_FN Pickle::Id Pickle::add(Kind kind) {
  values_.emplace_back().kind = kind;
  return static_cast<Id>(values_.size() - 1);
}
OCELLUS_FN void Pickle::push(Id id) { stack_.push_back(id); }
OCELLUS_FN void Pickle::push_integer(std::int64_t value) {
  const Id id = add(Kind::integer);
  values_[id].number = value;
  push(id);
}

OCELLUS_FN void Pickle::push_text(Kind kind, std::uint64_t length, const char* what) {
  const std::uint64_t first = reader_.offset() - begin_;
  reader_.take(length, what);
  if (first + length > bytes_.size()) fail("longer than Limits::header_bytes");
  const Id id = add(kind);
  values_[id].span.first = static_cast<std::uint32_t>(first);
  values_[id].span.last = static_cast<std::uint32_t>(length);
  push(id);
}

OCELLUS_FN void Pickle::push_container(Kind kind) {
  const Id id = add(kind);
  values_[id].span.first = values_[id].span.last = no_cell;
  push(id);
}

OCELLUS_FN Pickle::Id Pickle::pop() {
  const Id id = top();
  stack_.pop_back();
  return id;
}
OCELLUS_FN Pickle::Id Pickle::top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("takes a value from an empty stack");
  return stack_.back();
}

OCELLUS_FN std::vector<Pickle::Id> Pickle::pop_to_mark() {
  if (marks_.empty()) fail("there is no mark on the stack");
  const std::size_t count = stack_.size() - marks_.back();
  marks_.pop_back();
  return pop_some(count);
}

OCELLUS_FN std::vector<Pickle::Id> Pickle::pop_some(std::size_t count) {
  if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) fail("takes a value from an empty stack");
  const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
  std::vector<Id> taken(first, stack_.end());
  stack_.erase(first, stack_.end());
  return taken;
}

OCELLUS_FN void Pickle::append(Id container, Id element) {
  // Every opcode adds one element or moves those that earlier ones pushed; only a list copied by a call adds more.
  if (cells_.size() >= 2 * limits_.pickle_opcodes) fail("its containers hold more than Limits::pickle_opcodes allows");
  const auto cell = static_cast<std::uint32_t>(cells_.size());
  cells_.push_back({element, no_cell});
  Value& value = values_[container];
  (value.span.first == no_cell ? value.span.first : cells_[value.span.last].next) = cell;
  value.span.last = cell;
}

OCELLUS_FN void Pickle::add_elements(Id container, const std::vector<Id>& elements) {
  for (const Id element : elements) append(container, element);
}

OCELLUS_FN void Pickle::push_tuple(const std::vector<Id>& elements) {
  push_container(Kind::tuple);
  add_elements(stack_.back(), elements);
}

OCELLUS_FN void Pickle::put(std::uint64_t index) {
  if (index >= limits_.pickle_opcodes) fail("memo number " + std::to_string(index) + " is over Limits::pickle_opcodes");
  const Id id = top();
  if (index >= memo_.size()) memo_.resize(index + 1, no_cell);
  memo_[index] = id;
}
OCELLUS_FN void Pickle::get(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == no_cell) fail("the memo has no number " + std::to_string(index));
  push(memo_[index]);
}

OCELLUS_FN void Pickle::set_items(const std::vector<Id>& pairs) {
  if (pairs.size() % 2 != 0) fail("a key without a value");
  const Id target = top();
  if (is(target, Kind::dictionary)) {
    add_elements(target, pairs);
  } else if (!is(target, Kind::object) && !is(target, Kind::inert)) {
    fail("sets items of " + describe(target));
  }
}
OCELLUS_FN void Pickle::append_items(const std::vector<Id>& items) {
  const Id target = top();
  if (is(target, Kind::list)) {
    add_elements(target, items);
  } else if (!is(target, Kind::object) && !is(target, Kind::inert)) {
    fail("appends to " + describe(target));
  }
}

// "module\nname\n"
OCELLUS_FN void Pickle::global() {
  const std::uint64_t first = reader_.offset() - begin_;
  const std::size_t middle = std::min(bytes_.find('\n', first), bytes_.size());
  const std::size_t end = std::min(bytes_.find('\n', std::min(middle + 1, bytes_.size())), bytes_.size());
  if (end - first > limits_.name_bytes) fail("a name of more than " + std::to_string(limits_.name_bytes) + " bytes");
  push_text(Kind::global, end - first, "a name");
  reader_.take(1, "a name");
}

// ("storage", type, key, location, elements[, None]), and in old files ("module", class, its source).
OCELLUS_FN void Pickle::persistent() {
  const Id tuple = pop();
  const std::vector<Id> parts = is(tuple, Kind::tuple) ? elements(tuple, 2) : std::vector<Id>{};
  const std::string_view what = parts.size() == 2 && is(parts[0], Kind::text) ? text(parts[0]) : "";
  if (what == "module" && is(parts[1], Kind::global)) return push(parts[1]);
  if (what != "storage") fail("a persistent id that is neither a storage nor a module");
  const Id id = add(Kind::storage);
  values_[id].span.first = tuple;
  values_[id].extra = static_cast<std::uint32_t>(at_ - begin_);
  storages_.push_back(id);
  push(id);
}

OCELLUS_FN void Pickle::new_object(Id type) {
  if (!is(type, Kind::global)) fail("makes an object of " + describe(type));
  const Id id = add(Kind::object);
  values_[id].span = {0, static_cast<std::uint32_t>(at_ - begin_)};
  values_[id].extra = type;
  push(id);
}

OCELLUS_FN void Pickle::reduce() {
  const Id arguments = pop(), function = pop();
  if (!is(function, Kind::global)) fail("calls " + describe(function));
  if (!is(arguments, Kind::tuple)) fail("calls " + name(function) + " with " + describe(arguments));
  call(name(function), arguments);
}

OCELLUS_FN void Pickle::call(const std::string& function, Id arguments) {
  using namespace io_detail;
  const std::vector<Id> given = elements(arguments, 8);
  const auto no_such = [&] { fail(io_detail::shown(function) + " is called with arguments that it does not take"); };
  const bool dictionary = function == "collections.OrderedDict";
  if (dictionary || is_one_of(function, pickle_lists)) {
    if (given.size() > 1 || (given.size() == 1 && !is(given[0], Kind::list))) no_such();
    push_container(dictionary ? Kind::dictionary : Kind::list);
    const Id made = top();
    if (given.empty()) return;
    for (std::uint32_t cell = values_[given[0]].span.first; cell != no_cell; cell = cells_[cell].next) {
      const Id element = cells_[cell].value;
      if (!dictionary) {
        append(made, element);
        continue;
      }
      const bool pair = is(element, Kind::list) || is(element, Kind::tuple);
      const std::vector<Id> parts = pair ? elements(element, 3) : std::vector<Id>{};
      if (parts.size() != 2) no_such();
      add_elements(made, parts);
    }
  } else if (function == "collections.defaultdict") {
    push_container(Kind::dictionary);
  } else if (function == "torch.Size") {
    if (given.size() != 1 || (!is(given[0], Kind::tuple) && !is(given[0], Kind::list))) no_such();
    push(given[0]);
  } else if (is_one_of(function, pickle_tensors)) {
    const Id id = add(Kind::tensor);
    values_[id].span.first = arguments;
    values_[id].extra = static_cast<std::uint32_t>(at_ - begin_);
    push(id);
  } else if (is_one_of(function, pickle_parameters)) {
    if (given.empty() || !is(given[0], Kind::tensor)) no_such();
    push(given[0]);
  } else if (function == "torch._tensor._rebuild_from_type_v2") {
    // (function, type, its arguments, state): a tensor with attributes.
    if (given.size() != 4 || !is(given[0], Kind::global) || !is(given[2], Kind::tuple)) no_such();
    const std::string inner = name(given[0]);
    if (!is_one_of(inner, pickle_tensors) && !is_one_of(inner, pickle_parameters)) {
      fail("calls " + io_detail::shown(inner) +
           ", which is refused: only calls that build tensors and plain containers are read");
    }
    call(inner, given[2]);
  } else if (function == "copyreg._reconstructor" || function == "copy_reg._reconstructor") {
    if (given.size() != 3 || !is(given[0], Kind::global)) no_such();
    new_object(given[0]);
  } else if (is_one_of(function, pickle_inert)) {
    push(add(Kind::inert));
  } else {
    fail("calls " + io_detail::shown(function) +
         ", which is refused: only calls that build tensors and plain containers are read. Save the model's "
         "state_dict() instead");
  }
}

OCELLUS_FN void Pickle::build() {
  Id given = pop();
  const Id target = top();
  if (is(target, Kind::dictionary) || is(target, Kind::inert) || is(target, Kind::tensor)) return;  // attributes of it
  if (!is(target, Kind::object)) fail("sets attributes of " + describe(target));
  if (is(given, Kind::tuple)) {  // (attributes, slots)
    const std::vector<Id> parts = elements(given, 3);
    if (parts.size() == 2) given = parts[0];
  }
  values_[target].span.first = given;
}

OCELLUS_FN void Pickle::step(unsigned opcode) {
  const auto byte = [&] { return reader_.little_endian<std::uint8_t>("a pickle"); };
  const auto four = [&] { return reader_.little_endian<std::uint32_t>("a pickle"); };
  const auto eight = [&] { return reader_.little_endian<std::uint64_t>("a pickle"); };
  const auto wide = [&](std::uint64_t length) {
    if (length > 8) return push_text(Kind::wide_integer, length, "an integer");
    const std::string_view digits = reader_.text(length, "an integer");
    std::uint64_t value = !digits.empty() && static_cast<signed char>(digits.back()) < 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(digits[i]);
    push_integer(static_cast<std::int64_t>(value));
  };
  switch (opcode) {
    case 0x80: {  // PROTO
      const unsigned protocol = byte();
      if (protocol > 5) fail("protocol " + std::to_string(protocol) + "; up to 5 are read");
      return;
    }
    case 0x95: eight(); return;  // FRAME: a hint for buffers
    case 'N': return push(0);
    case 0x88:
    case 0x89: {
      const Id id = add(Kind::boolean);
      values_[id].number = opcode == 0x88;
      return push(id);
    }
    case 'J': return push_integer(static_cast<std::int32_t>(four()));
    case 'K': return push_integer(byte());
    case 'M': return push_integer(reader_.little_endian<std::uint16_t>("a pickle"));
    case 0x8a: return wide(byte());
    case 0x8b: return wide(four());
    case 'G': {
      const Id id = add(Kind::real);
      values_[id].real = std::bit_cast<double>(reader_.big_endian<std::uint64_t>("a pickle"));
      return push(id);
    }
    case 'U':
    case 0x8c: return push_text(Kind::text, byte(), "a text");
    case 'T':
    case 'X': return push_text(Kind::text, four(), "a text");
    case 0x8d: return push_text(Kind::text, eight(), "a text");
    case 'C': return push_text(Kind::bytes, byte(), "bytes");
    case 'B': return push_text(Kind::bytes, four(), "bytes");
    case 0x8e:
    case 0x96: return push_text(Kind::bytes, eight(), "bytes");
    case ')': return push_tuple({});
    case 0x85: return push_tuple(pop_some(1));
    case 0x86: return push_tuple(pop_some(2));
    case 0x87: return push_tuple(pop_some(3));
    case 't': return push_tuple(pop_to_mark());
    case ']':
    case 0x8f: return push_container(Kind::list);  // EMPTY_SET
    case '}': return push_container(Kind::dictionary);
    case 'a': return append_items(pop_some(1));
    case 'e':
    case 0x90: return append_items(pop_to_mark());  // ADDITEMS
    case 0x91: {                                    // FROZENSET
      const std::vector<Id> elements = pop_to_mark();
      push_container(Kind::list);
      return add_elements(stack_.back(), elements);
    }
    case 's': return set_items(pop_some(2));
    case 'u': return set_items(pop_to_mark());
    case '(': return marks_.push_back(stack_.size());
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size()) return marks_.pop_back();
      pop();
      return;
    case '1': pop_to_mark(); return;
    case '2': return push(top());
    case 'h': return get(byte());
    case 'j': return get(four());
    case 'q': return put(byte());
    case 'r': return put(four());
    case 0x94: return put(memo_.size());
    case 'c': return global();
    case 0x93: {  // STACK_GLOBAL
      const Id last = pop(), first = pop();
      if (!is(first, Kind::text) || !is(last, Kind::text)) fail("a global whose name is no text");
      if (text(first).size() + text(last).size() > limits_.name_bytes) fail("a name that is too long");
      const Id id = add(Kind::global);
      values_[id].span = {first, last};
      values_[id].extra = 1;
      return push(id);
    }
    case 'Q': return persistent();
    case 'R': return reduce();
    case 0x81:  // NEWOBJ
      pop();
      return new_object(pop());
    case 0x92:  // NEWOBJ_EX
      pop();
      pop();
      return new_object(pop());
    case 'b': return build();
    default: {
      constexpr std::string_view digits = "0123456789abcdef";
      const std::string code = {digits[opcode >> 4], digits[opcode & 15]};
      fail("opcode 0x" + code + " is none that protocols 2 to 5 write for plain data; save with pickle_protocol=2");
    }
  }
}

OCELLUS_FN std::string_view Pickle::text(Id id) const {
  return bytes_.substr(values_[id].span.first, values_[id].span.last);
}

OCELLUS_FN std::string Pickle::name(Id id) const {
  const Id global = is(id, Kind::object) ? values_[id].extra : id;
  const Value& value = values_[global];
  if (value.extra == 1) return std::string(text(value.span.first)) + "." + std::string(text(value.span.last));
  std::string name(text(global));
  std::replace(name.begin(), name.end(), '\n', '.');
  return name;
}

OCELLUS_FN std::vector<Pickle::Id> Pickle::elements(Id id, std::size_t most) const {
  std::vector<Id> result;
  for (std::uint32_t cell = values_[id].span.first; cell != no_cell && result.size() < most; cell = cells_[cell].next) {
    result.push_back(cells_[cell].value);
  }
  return result;
}

OCELLUS_FN Pickle::Id Pickle::find(Id dictionary, std::string_view key) const {
  Id found = 0;
  for (std::uint32_t cell = values_[dictionary].span.first; cell != no_cell; cell = cells_[cells_[cell].next].next) {
    const Id name = cells_[cell].value;
    if (is(name, Kind::text) && text(name) == key) found = cells_[cells_[cell].next].value;
  }
  return found;
}

OCELLUS_FN Pickle::Id Pickle::state(Id object) const {
  const Id state = values_[object].span.first;
  return is(state, Kind::dictionary) ? state : 0;
}

OCELLUS_FN std::string Pickle::describe(Id id) const {
  switch (kind(id)) {
    case Kind::none: return "None";
    case Kind::boolean: return boolean(id) ? "True" : "False";
    case Kind::integer: return "the integer " + std::to_string(integer(id));
    case Kind::wide_integer: return "an integer";
    case Kind::real: return "a number";
    case Kind::text: return "the text " + io_detail::shown(text(id));
    case Kind::bytes: return "bytes";
    case Kind::tuple: return "a tuple";
    case Kind::list: return "a list";
    case Kind::dictionary: return "a dictionary";
    case Kind::global: return io_detail::shown(name(id));
    case Kind::storage: return "a storage";
    case Kind::tensor: return "a tensor";
    case Kind::object: return "an object of " + io_detail::shown(name(id));
    case Kind::inert: break;
  }
  return "a value of another kind";
}

}  // namespace ocellus
#endif
