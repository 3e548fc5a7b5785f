// JSON in and out (RFC 8259). Json reads with types: an element that is missing or is something else is a FileError
// that names it, as in `config.json: hidden_sizes[2]: expected an integer, got "x"`. Duplicate keys are refused,
// integers are never rounded, wrapped or made from 3.0. JsonWriter writes members in the order given and numbers in the
// shortest form that reads back the same.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/core/shape.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

namespace io_detail {
struct JsonDocument;
// A text from a file as errors show it: in quotes, on one line, escaped, what is no UTF-8 replaced, shortened to
// `longest` bytes.
std::string shown(std::string_view text, std::size_t longest = 60);
}  // namespace io_detail

// One element of a document and a share in the document. Copies are cheap; reading is safe from several threads.
class Json {
 public:
  enum class Kind : std::uint8_t { null, boolean, integer, number, string, array, object };

  // `source` names the text in errors; `offset` is where the text begins in it. Throws FileError.
  static Json parse(std::string_view text, const std::string& source, const Limits& limits = {},
                    std::int64_t offset = 0);
  static Json read(const std::string& path, const Limits& limits = {});

  Kind kind() const;
  bool is_null() const { return kind() == Kind::null; }
  bool is_boolean() const { return kind() == Kind::boolean; }
  // Written without fraction and exponent, in the range of std::int64_t.
  bool is_integer() const { return kind() == Kind::integer; }
  bool is_number() const { return kind() == Kind::integer || kind() == Kind::number; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_array() const { return kind() == Kind::array; }
  bool is_object() const { return kind() == Kind::object; }

  // Elements of an array, members of an object.
  Index size() const;
  // An element, or a member in the order of the file.
  Json at(Index i) const;
  // A member by name. Throws when it is missing.
  Json at(std::string_view key) const;
  bool has(std::string_view key) const;
  // The name of this member; empty for the root and for elements of arrays.
  std::string key() const;
  // Names in the order of the file.
  std::vector<std::string> keys() const;
  // Names that the caller does not know; a reader decides whether to refuse or to report them.
  std::vector<std::string> keys_other_than(std::initializer_list<std::string_view> known) const;

  // The value as bool, an integer type, float, double, std::string or a std::vector of these. Integers convert to float
  // and double; nothing else converts, and what does not fit T is refused.
  template <class T>
  T get() const;
  template <class T>
  T get(std::string_view key) const {
    return at(key).template get<T>();
  }
  // `fallback` where the member is missing or null.
  template <class T>
  T get(std::string_view key, T fallback) const {
    const Json member = find(key);
    return member.node_ == 0 || member.is_null() ? fallback : member.template get<T>();
  }

  // Where this element is: "text_config.layers[3]", "" for the root.
  std::string path() const;
  // Throws a FileError that names the source, this element and the rule.
  [[noreturn]] void fail(const std::string& rule) const;

 private:
  Json(std::shared_ptr<const io_detail::JsonDocument> document, std::uint32_t node);

  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  double number(double largest) const;
  std::string string() const;
  Json find(std::string_view key) const;  // the root where there is no such member
  [[noreturn]] void expected(const std::string& what) const;

  std::shared_ptr<const io_detail::JsonDocument> document_;
  std::uint32_t node_ = 0;
};

namespace io_detail {
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
}  // namespace io_detail

template <class T>
T Json::get() const {
  if constexpr (std::is_same_v<T, bool>) {
    return boolean();
  } else if constexpr (std::is_integral_v<T>) {
    constexpr bool wider = sizeof(T) == 8 && std::is_unsigned_v<T>;
    constexpr std::int64_t low = std::is_unsigned_v<T> ? 0 : static_cast<std::int64_t>(std::numeric_limits<T>::min());
    constexpr std::int64_t high = wider ? INT64_MAX : static_cast<std::int64_t>(std::numeric_limits<T>::max());
    return static_cast<T>(integer(low, high));
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(number(static_cast<double>(std::numeric_limits<T>::max())));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return string();
  } else {
    static_assert(io_detail::is_vector<T>,
                  "Json::get: bool, integers, float, double, std::string or a std::vector of these");
    if (!is_array()) expected("an array");
    T values;
    const Index n = size();
    values.reserve(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) values.push_back(at(i).template get<typename T::value_type>());
    return values;
  }
}

// Builds one JSON text. Not-a-number and infinities become null, bytes that are no UTF-8 become U+FFFD. Throws
// UsageError when the calls do not nest.
class JsonWriter {
 public:
  // indent 0: one line; otherwise every member of an object stands on its own line.
  explicit JsonWriter(int indent = 0) : indent_(indent) {}

  JsonWriter& begin_object() { return begin('{'); }
  JsonWriter& end_object() { return end('{', '}'); }
  JsonWriter& begin_array() { return begin('['); }
  JsonWriter& end_array() { return end('[', ']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(float number);
  JsonWriter& value(std::nullptr_t) { return literal("null"); }
  // An element of a document that was read, with everything in it.
  JsonWriter& value(const Json& element);
  template <std::integral T>
  JsonWriter& value(T number) {
    if constexpr (std::is_same_v<T, bool>) return literal(number ? "true" : "false");
    return literal(std::to_string(number));
  }
  template <class T>
  JsonWriter& value(const std::vector<T>& values) {
    begin_array();
    for (const auto& v : values) value(static_cast<const T&>(v));
    return end_array();
  }

  // A member of the open object.
  template <class T>
  JsonWriter& field(std::string_view name, const T& v) {
    return key(name).value(v);
  }

  // The text, once everything that was begun is ended.
  std::string str() const;

 private:
  struct Level {
    char bracket;
    bool empty;
  };

  JsonWriter& begin(char bracket);
  JsonWriter& end(char bracket, char closing);
  JsonWriter& literal(std::string_view text);
  void start_value();
  void start_line();
  void quote(std::string_view text);

  int indent_;
  bool after_key_ = false;
  std::vector<Level> open_;
  std::string text_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <exception>
#include <utility>

// The lexer alone: with its tree, the library triples what every including file pays for JSON.
#if __has_include(<nlohmann/detail/input/lexer.hpp>)
#include <nlohmann/detail/input/lexer.hpp>
#else
#include <nlohmann/json.hpp>
#endif

#include <ocellus/core/error.hpp>
#include <ocellus/io/file.hpp>

namespace ocellus {
namespace io_detail {

struct JsonSpan {
  std::uint32_t first;
  std::uint32_t count;
};

OCELLUS_COLD OCELLUS_FN std::string shown(std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return JsonWriter().value(text).str();
  // Not inside of a character, which has four bytes at most.
  for (int i = 0; i < 3 && (static_cast<unsigned char>(text[longest]) & 0xc0) == 0x80; ++i) --longest;
  return JsonWriter().value(text.substr(0, longest)).str() + "...";
}

// Sixteen bytes: a text of zeros and commas holds a value every two bytes.
struct JsonNode {
  union {
    bool boolean;
    std::int64_t integer;
    double number;
    JsonSpan span;  // string: characters of `text`; array, object: entries of `children`
  };
  std::uint32_t key;          // where in `text` its length and characters stand
  std::uint32_t parent : 29;  // node 0, the root, is its own
  Json::Kind kind : 3;
};

// A flat tree. The children of an array stand in `children` in order; those of an object twice, in order and sorted by
// key.
struct JsonDocument {
  std::string source;
  std::string text = std::string(sizeof(std::uint32_t), '\0');  // begins with the key of what has none
  std::deque<JsonNode> nodes;                                   // never moved: growth costs nothing twice
  std::vector<std::uint32_t> children;

  std::string_view characters(JsonSpan span) const { return std::string_view(text).substr(span.first, span.count); }
  std::string_view key_of(std::uint32_t node) const {
    const std::uint32_t at = nodes[node].key;
    JsonSpan key{at + static_cast<std::uint32_t>(sizeof(std::uint32_t)), 0};
    std::memcpy(&key.count, text.data() + at, sizeof key.count);
    return characters(key);
  }
  std::uint32_t child(const JsonNode& node, std::uint32_t i) const { return children[node.span.first + i]; }

  // Where `node` is, built from its parents: they are few, and only errors ask.
  std::string path_of(std::uint32_t node) const {
    std::vector<std::string> steps;
    for (; node != 0; node = nodes[node].parent) steps.push_back(step_to(node));
    std::string path;
    for (std::size_t i = steps.size(); i-- > 0;) path += steps[i];
    return !path.empty() && path[0] == '.' ? path.substr(1) : path;
  }

  [[noreturn]] OCELLUS_COLD void fail(std::uint32_t node, const std::string& rule, std::int64_t offset = -1) const {
    const std::string path = path_of(node);
    throw FileError(source, path.empty() ? rule : path + ": " + rule, offset);
  }

 private:
  // ".name", "[3]", or ["odd name"] where a plain name could be misread as a path.
  std::string step_to(std::uint32_t node) const {
    const JsonNode& parent = nodes[nodes[node].parent];
    if (parent.kind == Json::Kind::array) {
      const std::uint32_t* first = children.data() + parent.span.first;
      const auto place = std::lower_bound(first, first + parent.span.count, node) - first;  // nodes are made in order
      return "[" + std::to_string(place) + "]";
    }
    const std::string_view key = key_of(node);
    const bool plain = !key.empty() && key.size() <= 60 && std::all_of(key.begin(), key.end(), [](char c) {
      return c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    });
    return plain ? "." + std::string(key) : "[" + shown(key) + "]";
  }
};

// Fills a document. nlohmann's lexer supplies the tokens, the escapes and the check for UTF-8.
class JsonBuilder {
  struct Types {  // what the lexer asks of a tree
    using number_integer_t = std::int64_t;
    using number_unsigned_t = std::uint64_t;
    using number_float_t = double;
    using string_t = std::string;
  };
  using Characters = decltype(nlohmann::detail::input_adapter(std::declval<const char*>(), std::declval<const char*>()));
  using Lexer = nlohmann::detail::lexer<Types, Characters>;
  using Token = Lexer::token_type;

 public:
  JsonBuilder(JsonDocument& document, std::string_view text, const Limits& limits, std::int64_t offset)
      : document_(document),
        limits_(limits),
        offset_(offset),
        lexer_(nlohmann::detail::input_adapter(text.data(), text.data() + text.size())) {}

  // One value and nothing behind it; iterative, so that depth costs no stack.
  void read() {
    Token token = lexer_.scan();
    do {
      token = read_value(token);
      while (!open_.empty() && token == closing()) {
        close();
        token = lexer_.scan();
      }
      if (!open_.empty()) {
        if (token != Token::value_separator) unexpected(token, closing() == Token::end_object ? "',' or '}'" : "',' or ']'");
        token = lexer_.scan();
        if (closing() == Token::end_object) token = read_key(token);
      }
    } while (!open_.empty());
    if (token != Token::end_of_input) unexpected(token, "the end");
  }

 private:
  static constexpr std::uint32_t max_nodes = (1u << 29) - 1;

  struct Open {
    std::uint32_t node;
    std::size_t first_pending;
  };

  [[noreturn]] void fail(std::uint32_t node, const std::string& rule) {
    while (!open_.empty()) end();  // paths are read from closed arrays
    document_.fail(node, rule, offset_ ? offset_ : -1);
  }

  [[noreturn]] OCELLUS_COLD void invalid(const std::string& rule) const {
    const std::size_t read = lexer_.get_position().chars_read_total;
    throw FileError(document_.source, "not valid JSON: " + rule, offset_ + static_cast<std::int64_t>(read ? read - 1 : 0));
  }
  [[noreturn]] OCELLUS_COLD void unexpected(Token token, const char* wanted) const {
    const std::string rule = token == Token::parse_error
                                 ? lexer_.get_error_message()
                                 : std::string("unexpected ") + Lexer::token_type_name(token) + ", expected " + wanted;
    invalid(rule + ", in line " + std::to_string(lexer_.get_position().lines_read + 1) + "; last read: " +
            shown(lexer_.get_token_string()));
  }

  // Reads the value that begins with `token`, of an array or object that is not empty only its beginning, and returns
  // what follows.
  Token read_value(Token token) {
    for (;;) {
      switch (token) {
        case Token::begin_object:
          begin(Json::Kind::object);
          token = lexer_.scan();
          if (token == Token::end_object) return token;
          token = read_key(token);
          continue;
        case Token::begin_array:
          begin(Json::Kind::array);
          token = lexer_.scan();
          if (token == Token::end_array) return token;
          continue;
        case Token::value_string: {
          const std::string& value = lexer_.get_string();
          const JsonSpan span = {static_cast<std::uint32_t>(document_.text.size()),
                                 static_cast<std::uint32_t>(value.size())};
          document_.text += value;
          add(Json::Kind::string).span = span;
          break;
        }
        case Token::value_integer:
          if (lexer_.get_number_integer() == 0) {
            add(Json::Kind::number).number = -0.0;  // "-0" is a number, no size
          } else {
            add(Json::Kind::integer).integer = lexer_.get_number_integer();
          }
          break;
        case Token::value_unsigned: {
          const std::uint64_t value = lexer_.get_number_unsigned();
          if (value > static_cast<std::uint64_t>(INT64_MAX)) {
            add(Json::Kind::number).number = static_cast<double>(value);
          } else {
            add(Json::Kind::integer).integer = static_cast<std::int64_t>(value);
          }
          break;
        }
        case Token::value_float:
          if (!std::isfinite(lexer_.get_number_float())) invalid("number overflow: " + shown(lexer_.get_token_string()));
          add(Json::Kind::number).number = lexer_.get_number_float();
          break;
        case Token::literal_true:
        case Token::literal_false: add(Json::Kind::boolean).boolean = token == Token::literal_true; break;
        case Token::literal_null: add(Json::Kind::null); break;
        default: unexpected(token, "a value");
      }
      return lexer_.scan();
    }
  }

  // Reads a member's name and colon and returns what follows.
  Token read_key(Token token) {
    if (token != Token::value_string) unexpected(token, "a name in quotes");
    const std::string& name = lexer_.get_string();
    const auto length = static_cast<std::uint32_t>(name.size());
    key_ = static_cast<std::uint32_t>(document_.text.size());
    document_.text.append(reinterpret_cast<const char*>(&length), sizeof length).append(name);
    token = lexer_.scan();
    if (token != Token::name_separator) unexpected(token, "':'");
    return lexer_.scan();
  }

  // The token that ends the innermost open array or object.
  Token closing() const {
    return document_.nodes[open_.back().node].kind == Json::Kind::object ? Token::end_object : Token::end_array;
  }

  JsonNode& add(Json::Kind kind) {
    const std::uint32_t parent = open_.empty() ? 0 : open_.back().node;
    const std::uint64_t most = std::min<std::uint64_t>(limits_.json_values, max_nodes);
    if (document_.nodes.size() >= most) {
      fail(parent, "more than " + std::to_string(most) + " values in one JSON text");
    }
    if (!open_.empty()) pending_.push_back(static_cast<std::uint32_t>(document_.nodes.size()));
    JsonNode& node = document_.nodes.emplace_back();
    node.integer = 0;
    node.key = std::exchange(key_, 0u);
    node.parent = parent & max_nodes;
    node.kind = kind;
    return node;
  }
  void begin(Json::Kind kind) {
    if (open_.size() >= static_cast<std::size_t>(limits_.json_depth)) {
      fail(open_.back().node, "nested deeper than " + std::to_string(limits_.json_depth) + " levels");
    }
    const auto node = static_cast<std::uint32_t>(document_.nodes.size());
    add(kind);
    open_.push_back({node, pending_.size()});
  }
  // The names of an object stand twice among the children: in order, and sorted.
  void close() {
    const std::uint32_t node = open_.back().node;
    const JsonSpan span = end();
    if (document_.nodes[node].kind != Json::Kind::object) return;
    std::vector<std::uint32_t>& children = document_.children;
    children.resize(children.size() + span.count);
    const auto members = children.begin() + span.first;
    const auto sorted = std::copy(members, members + span.count, members + span.count) - span.count;
    std::sort(sorted, children.end(),
              [&](std::uint32_t a, std::uint32_t b) { return document_.key_of(a) < document_.key_of(b); });
    const auto twice = std::adjacent_find(sorted, children.end(), [&](std::uint32_t a, std::uint32_t b) {
      return document_.key_of(a) == document_.key_of(b);
    });
    if (twice != children.end()) {
      fail(node, "the key " + shown(document_.key_of(*twice)) + " stands there twice");
    }
  }
  JsonSpan end() {
    const Open top = open_.back();
    open_.pop_back();
    const JsonSpan span{static_cast<std::uint32_t>(document_.children.size()),
                        static_cast<std::uint32_t>(pending_.size() - top.first_pending)};
    document_.children.insert(document_.children.end(), pending_.end() - span.count, pending_.end());
    pending_.resize(top.first_pending);
    document_.nodes[top.node].span = span;
    return span;
  }

  JsonDocument& document_;
  const Limits& limits_;
  std::int64_t offset_;
  Lexer lexer_;
  std::uint32_t key_ = 0;
  std::vector<Open> open_;
  std::vector<std::uint32_t> pending_;  // children of the open arrays and objects
};

template <class Number>
std::string shortest_text(Number number) {
  if (!std::isfinite(number)) return "null";
  char buffer[32];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof buffer, number);
  return {buffer, end.ptr};
}

// Length of the UTF-8 character at the start of `text`, 0 if there is none (RFC 3629: no overlong form, surrogate or
// value past U+10FFFF).
OCELLUS_FN std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  unsigned low = 0x80;
  unsigned high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return length;
}

}  // namespace io_detail

OCELLUS_FN Json::Json(std::shared_ptr<const io_detail::JsonDocument> document, std::uint32_t node)
    : document_(std::move(document)), node_(node) {}

OCELLUS_FN Json Json::parse(std::string_view text, const std::string& source, const Limits& limits,
                            std::int64_t offset) {
  // Positions in the kept text, which with the lengths of its keys is less than twice as long, have 32 bits.
  const std::uint64_t most = std::min<std::uint64_t>(limits.json_bytes, INT32_MAX);
  if (text.size() > most) {
    throw FileError(source, "JSON text of " + std::to_string(text.size()) + " bytes, the limit is " +
                                std::to_string(most) + " (Limits::json_bytes)");
  }
  // nlohmann takes NUL for the end of the text and would not look at what follows.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw FileError(source, "not valid JSON: a NUL character", offset + static_cast<std::int64_t>(nul));
  }
  const auto document = std::make_shared<io_detail::JsonDocument>();
  document->source = source;
  io_detail::JsonBuilder(*document, text, limits, offset).read();
  return Json(document, 0);
}

OCELLUS_FN Json Json::read(const std::string& path, const Limits& limits) {
  return parse(read_file(path, limits).text(), path, limits);
}

OCELLUS_FN Json::Kind Json::kind() const { return document_->nodes[node_].kind; }

OCELLUS_FN Index Json::size() const {
  if (!is_array() && !is_object()) expected("an array or an object");
  return document_->nodes[node_].span.count;
}

OCELLUS_FN Json Json::at(Index i) const {
  const Index n = size();
  if (i < 0 || i >= n) fail("has " + std::to_string(n) + " elements, number " + std::to_string(i) + " was asked for");
  return Json(document_, document_->child(document_->nodes[node_], static_cast<std::uint32_t>(i)));
}

OCELLUS_FN Json Json::at(std::string_view key) const {
  const Json member = find(key);
  if (member.node_ == 0) fail("the key " + io_detail::shown(key) + " is missing");
  return member;
}

OCELLUS_FN bool Json::has(std::string_view key) const { return find(key).node_ != 0; }

OCELLUS_FN Json Json::find(std::string_view key) const {
  if (!is_object()) expected("an object");
  const io_detail::JsonNode& node = document_->nodes[node_];
  const std::uint32_t* sorted = document_->children.data() + node.span.first + node.span.count;
  const std::uint32_t* end = sorted + node.span.count;
  const std::uint32_t* found = std::lower_bound(sorted, end, key, [&](std::uint32_t member, std::string_view wanted) {
    return document_->key_of(member) < wanted;
  });
  return Json(document_, found != end && document_->key_of(*found) == key ? *found : 0);
}

OCELLUS_FN std::string Json::key() const { return std::string(document_->key_of(node_)); }

OCELLUS_FN std::vector<std::string> Json::keys() const { return keys_other_than({}); }

OCELLUS_FN std::vector<std::string> Json::keys_other_than(std::initializer_list<std::string_view> known) const {
  if (!is_object()) expected("an object");
  const io_detail::JsonNode& node = document_->nodes[node_];
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < node.span.count; ++i) {
    const std::string_view name = document_->key_of(document_->child(node, i));
    if (std::find(known.begin(), known.end(), name) == known.end()) names.emplace_back(name);
  }
  return names;
}

OCELLUS_FN std::string Json::path() const { return document_->path_of(node_); }

OCELLUS_FN void Json::fail(const std::string& rule) const { document_->fail(node_, rule); }

OCELLUS_COLD OCELLUS_FN void Json::expected(const std::string& what) const {
  std::string given = is_array() ? "an array" : "an object";
  if (is_string()) {
    given = io_detail::shown(document_->characters(document_->nodes[node_].span));
  } else if (!is_array() && !is_object()) {
    given = JsonWriter().value(*this).str();
    // What makes 60.0 none; an integer that is too large, and -0, are numbers, too, but were written without it.
    const bool whole = kind() == Kind::number && given.find_first_of(".e-") == std::string::npos;
    if (whole && document_->nodes[node_].number < 0x1p53) given += ".0";
  }
  fail("expected " + what + ", got " + given);
}

OCELLUS_FN bool Json::boolean() const {
  if (!is_boolean()) expected("true or false");
  return document_->nodes[node_].boolean;
}

OCELLUS_FN std::int64_t Json::integer(std::int64_t low, std::int64_t high) const {
  if (!is_integer()) expected("an integer");
  const std::int64_t value = document_->nodes[node_].integer;
  if (value < low || value > high) expected("an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return value;
}

OCELLUS_FN double Json::number(double largest) const {
  if (!is_number()) expected("a number");
  const io_detail::JsonNode& node = document_->nodes[node_];
  const double value = node.kind == Kind::integer ? static_cast<double>(node.integer) : node.number;
  if (std::abs(value) > largest) expected("a number of at most " + io_detail::shortest_text(largest));
  return value;
}

OCELLUS_FN std::string Json::string() const {
  if (!is_string()) expected("a string");
  return std::string(document_->characters(document_->nodes[node_].span));
}

OCELLUS_FN JsonWriter& JsonWriter::begin(char bracket) {
  start_value();
  text_ += bracket;
  open_.push_back({bracket, true});
  return *this;
}

OCELLUS_FN JsonWriter& JsonWriter::end(char bracket, char closing) {
  if (open_.empty() || open_.back().bracket != bracket || after_key_) {
    throw UsageError(std::string("JsonWriter: nothing to close with ") + closing + " here");
  }
  const bool empty = open_.back().empty;
  open_.pop_back();
  if (bracket == '{' && !empty) start_line();
  text_ += closing;
  return *this;
}

OCELLUS_FN JsonWriter& JsonWriter::key(std::string_view name) {
  if (open_.empty() || open_.back().bracket != '{' || after_key_) {
    throw UsageError("JsonWriter: the key \"" + std::string(name) + "\" stands outside of an object or follows a key");
  }
  if (!open_.back().empty) text_ += ',';
  open_.back().empty = false;
  start_line();
  quote(name);
  text_ += indent_ > 0 ? ": " : ":";
  after_key_ = true;
  return *this;
}

OCELLUS_FN JsonWriter& JsonWriter::value(std::string_view text) {
  start_value();
  quote(text);
  return *this;
}

OCELLUS_FN JsonWriter& JsonWriter::value(double number) { return literal(io_detail::shortest_text(number)); }
OCELLUS_FN JsonWriter& JsonWriter::value(float number) { return literal(io_detail::shortest_text(number)); }

OCELLUS_FN JsonWriter& JsonWriter::value(const Json& element) {
  switch (element.kind()) {
    case Json::Kind::null: return value(nullptr);
    case Json::Kind::boolean: return value(element.get<bool>());
    case Json::Kind::integer: return value(element.get<std::int64_t>());
    case Json::Kind::number: return value(element.get<double>());
    case Json::Kind::string: return value(element.get<std::string>());
    case Json::Kind::array: begin_array(); break;
    case Json::Kind::object: begin_object(); break;
  }
  const Index n = element.size();  // the reader's limit on depth bounds this recursion
  for (Index i = 0; i < n; ++i) {
    const Json child = element.at(i);
    if (element.is_object()) key(child.key());
    value(child);
  }
  return element.is_object() ? end_object() : end_array();
}

OCELLUS_FN JsonWriter& JsonWriter::literal(std::string_view text) {
  start_value();
  text_ += text;
  return *this;
}

OCELLUS_FN std::string JsonWriter::str() const {
  if (!open_.empty() || text_.empty()) throw UsageError("JsonWriter: the text is not complete");
  return text_;
}

OCELLUS_FN void JsonWriter::start_value() {
  if (std::exchange(after_key_, false)) return;
  if (open_.empty() ? !text_.empty() : open_.back().bracket == '{') {
    throw UsageError("JsonWriter: a value stands where a key or the end was expected");
  }
  if (open_.empty()) return;
  if (!open_.back().empty) text_ += indent_ > 0 ? ", " : ",";
  open_.back().empty = false;
}

OCELLUS_FN void JsonWriter::start_line() {
  if (indent_ <= 0) return;
  text_ += '\n';
  text_.append(open_.size() * static_cast<std::size_t>(indent_), ' ');
}

OCELLUS_FN void JsonWriter::quote(std::string_view text) {
  text_ += '"';
  while (!text.empty()) {
    const std::size_t length = io_detail::utf8_length(text);
    const char c = text[0];
    constexpr std::string_view special = "\"\\\b\f\n\r\t";
    constexpr std::string_view letters = "\"\\bfnrt";
    if (const std::size_t i = special.find(c); i != std::string_view::npos) {
      text_ += '\\';
      text_ += letters[i];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view digits = "0123456789abcdef";
      text_ += "\\u00";
      text_ += digits[static_cast<std::size_t>(c) >> 4];
      text_ += digits[static_cast<std::size_t>(c) & 15];
    } else if (length == 0) {
      text_ += "\xef\xbf\xbd";
    } else {
      text_ += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  text_ += '"';
}

}  // namespace ocellus
#endif
