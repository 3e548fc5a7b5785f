// The typed JSON reader and the writer.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <ocellus/io/json.hpp>

#include "io_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

Json parse(std::string_view text, const Limits& limits = {}) { return Json::parse(text, "config.json", limits); }

std::string nested(std::size_t levels, const std::string& open, const std::string& close) {
  std::string text;
  for (std::size_t i = 0; i < levels; ++i) text += open;
  text += "1";
  for (std::size_t i = 0; i < levels; ++i) text += close;
  return text;
}

}  // namespace

TEST_CASE("values come back with their types") {
  const Json json = parse(R"({"b": true, "i": -7, "big": 9223372036854775807, "d": 0.25, "e": 1e3, "s": "a\"\u00e9\n",
                              "n": null, "sizes": [32, 64], "eps": [1, 2.5], "names": ["x", "y"],
                              "nested": {"deep": [[1], [2, 3]]}})");
  CHECK(json.get<bool>("b"));
  CHECK(json.get<int>("i") == -7);
  CHECK(json.get<Index>("big") == INT64_MAX);
  CHECK(json.get<std::uint64_t>("big") == static_cast<std::uint64_t>(INT64_MAX));
  CHECK(json.get<double>("d") == 0.25);
  CHECK(json.get<float>("e") == 1000.0f);
  CHECK(json.get<double>("i") == -7.0);
  CHECK(json.get<std::string>("s") == "a\"\xc3\xa9\n");
  CHECK(json.get<std::vector<Index>>("sizes") == std::vector<Index>{32, 64});
  CHECK(json.get<std::vector<double>>("eps") == std::vector<double>{1, 2.5});
  CHECK(json.get<std::vector<std::string>>("names") == std::vector<std::string>{"x", "y"});
  CHECK(json.at("nested").get<std::vector<std::vector<int>>>("deep") == std::vector<std::vector<int>>{{1}, {2, 3}});
  CHECK(json.at("n").is_null());
  CHECK(json.has("n"));
  CHECK(!json.has("m"));
  CHECK(json.get("m", 5) == 5);
  CHECK(json.get("n", 5) == 5);
  CHECK(json.get("i", 5) == -7);
  CHECK(json.get("m", std::string("default")) == "default");
  CHECK(json.at("i").is_integer());
  CHECK(json.at("i").is_number());
  CHECK(!json.at("e").is_integer());
  CHECK(json.size() == 11);
  CHECK(json.at(Index{2}).key() == "big");
  CHECK(json.keys()[3] == "d");
  CHECK(json.keys_other_than({"b", "i", "big", "d", "e", "s", "n", "sizes"}) ==
        std::vector<std::string>{"eps", "names", "nested"});
  CHECK(json.at("nested").at("deep").at(1).at(0).path() == "nested.deep[1][0]");
}

TEST_CASE("a wrong element is named with its path") {
  struct Row {
    std::string text, expected;
    void (*read)(const Json&);
  };
  const Row rows[] = {
      {R"({"hidden_sizes": [32, 64, "x"]})", R"(config.json: hidden_sizes[2]: expected an integer, got "x")",
       [](const Json& j) { j.get<std::vector<Index>>("hidden_sizes"); }},
      {R"({"a": -1})", "a: expected an integer from 0 to 4294967295, got -1",
       [](const Json& j) { j.get<std::uint32_t>("a"); }},
      {R"({"a": -1})", "a: expected an integer from 0", [](const Json& j) { j.get<std::size_t>("a"); }},
      {R"({"a": 3.9})", "a: expected an integer, got 3.9", [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": 3.0})", "a: expected an integer, got 3.0", [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": 3.5, "b": 1e300})", "b: expected an integer, got 1e+300", [](const Json& j) { j.get<int>("b"); }},
      {R"({"a": 3e2})", "a: expected an integer", [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": -0})", "a: expected an integer, got -0", [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": 18446744073709551616})", "a: expected an integer, got 18446744073709551616",
       [](const Json& j) { j.get<std::uint64_t>("a"); }},
      {R"({"a": 9223372036854775808})", "a: expected an integer", [](const Json& j) { j.get<std::uint64_t>("a"); }},
      {R"({"a": 2147483648})", "a: expected an integer from -2147483648 to 2147483647",
       [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": true})", "a: expected an integer, got true", [](const Json& j) { j.get<int>("a"); }},
      {R"({"a": 1})", "a: expected true or false, got 1", [](const Json& j) { j.get<bool>("a"); }},
      {R"({"a": "1"})", "a: expected a number, got \"1\"", [](const Json& j) { j.get<double>("a"); }},
      {R"({"a": 1e300})", "a: expected a number of at most 3.4", [](const Json& j) { j.get<float>("a"); }},
      {R"({"a": null})", "a: expected a string, got null", [](const Json& j) { j.get<std::string>("a"); }},
      {R"({"a": [1]})", "a: expected a string, got an array", [](const Json& j) { j.get<std::string>("a"); }},
      {R"({"a": {}})", "a: expected an array, got an object", [](const Json& j) { j.get<std::vector<int>>("a"); }},
      {R"({"a": 1})", "the key \"b\" is missing", [](const Json& j) { j.at("b"); }},
      {R"({"a": {"b": 1}})", "a: the key \"c\" is missing", [](const Json& j) { j.at("a").at("c"); }},
      {R"({"a": 5})", "a: expected an object, got 5", [](const Json& j) { j.at("a").at("c"); }},
      {R"({"a": 5})", "a: expected an array or an object, got 5", [](const Json& j) { j.at("a").at(Index{0}); }},
      {R"({"a": [5]})", "a: has 1 elements, number 1 was asked for", [](const Json& j) { j.at("a").at(1); }},
      {R"([{"x y": [1]}])", "[0][\"x y\"][0]: expected a string",
       [](const Json& j) { j.at(0).at("x y").at(0).get<std::string>(); }},
      {R"({"a": 5})", "a: must divide the heads", [](const Json& j) { j.at("a").fail("must divide the heads"); }},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const std::string error = file_error_of([&] { row.read(parse(row.text)); });
    CAPTURE(error);
    CHECK((contains(error, row.expected) || contains(error, "got 1.8446744073709552e+19")));
  }
  CHECK(file_error_of([] { parse(R"({"a": -0})").get<int>("a"); }).ends_with("got -0"));
  const std::string error = file_error_of([] { parse("[\"" + std::string(10000, 'x') + "\"]").at(0).get<int>(); });
  CHECK(error.size() < 200);
}

TEST_CASE("what is not strict JSON is refused") {
  struct Row {
    std::string text, expected;
  };
  const Row rows[] = {
      {"", "not valid JSON"},
      {" ", "not valid JSON"},
      {"{", "not valid JSON"},
      {"[1,]", "not valid JSON"},
      {"{\"a\":1,}", "not valid JSON"},
      {"{a:1}", "not valid JSON"},
      {"{'a':1}", "not valid JSON"},
      {"[1] x", "not valid JSON"},
      {"[1]\n[2]", "not valid JSON"},
      {"// c\n1", "not valid JSON"},
      {"NaN", "not valid JSON"},
      {"Infinity", "not valid JSON"},
      {"01", "not valid JSON"},
      {"+1", "not valid JSON"},
      {".5", "not valid JSON"},
      {"5.", "not valid JSON"},
      {"0x10", "not valid JSON"},
      {"1e400", "not valid JSON: number overflow"},
      {"-1e400", "not valid JSON: number overflow"},
      {"tru", "not valid JSON"},
      {"True", "not valid JSON"},
      {"\"a", "not valid JSON"},
      {"\"\n\"", "not valid JSON"},
      {"\"\\x\"", "not valid JSON"},
      {"\"\\ud800\"", "not valid JSON"},
      {"\"\xff\"", "not valid JSON"},
      {"\"\xc0\xaf\"", "not valid JSON"},
      {"\"\xed\xa0\x80\"", "not valid JSON"},
      {std::string("\"a\0b\"", 5), "not valid JSON"},
      {std::string("1\0", 2), "not valid JSON"},
      {R"({"a": 1, "a": 1})", "the key \"a\" stands there twice"},
      {R"({"a": {"b": 1, "c": 2, "b": 3}})", "a: the key \"b\" stands there twice"},
      {R"([0, {"b": 1, "\u0062": 3}])", "[1]: the key \"b\" stands there twice"},
      {nested(65, "[", "]"), "nested deeper than 64 levels"},
      {nested(65, "{\"a\":", "}"), "nested deeper than 64 levels"},
      {nested(1'000'000, "[", "]"), "nested deeper than 64 levels"},
      {std::string(1'000'000, '['), "nested deeper than 64 levels"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text.substr(0, 40));
    const std::string error = file_error_of([&] { parse(row.text); });
    CAPTURE(error);
    CHECK(contains(error, row.expected));
    CHECK(contains(error, "config.json"));
  }
  CHECK(parse(nested(64, "[", "]")).is_array());
}

TEST_CASE("a syntax error carries its byte") {
  try {
    Json::parse("[1, x]", "f", {}, 100);
    FAIL("accepted");
  } catch (const FileError& error) {
    CHECK(error.path == "f");
    CHECK(error.offset == 104);
  }
}

TEST_CASE("the limits on size and number of values hold") {
  Limits limits;
  limits.json_values = 4;
  CHECK(parse("[1,2,3]", limits).size() == 3);
  CHECK(contains(file_error_of([&] { parse("[1,2,3,4]", limits); }), "more than 4 values"));
  limits.json_bytes = 6;
  CHECK(contains(file_error_of([&] { parse("[1,2,3]", limits); }), "JSON text of 7 bytes, the limit is 6"));
}

TEST_CASE("objects with many members are searched quickly") {
  JsonWriter writer;
  writer.begin_object();
  constexpr int n = 50'000;
  for (int i = 0; i < n; ++i) writer.field("key" + std::to_string(i * 7919 % n), i);
  const Json json = parse(writer.end_object().str());
  Index sum = 0;
  for (int i = 0; i < n; ++i) sum += json.get<Index>("key" + std::to_string(i));
  CHECK(sum == Index{n} * (n - 1) / 2);
}

TEST_CASE("a file is read by its path") {
  const TemporaryFolder folder;
  const std::string path = folder.write("config.json", "\xef\xbb\xbf{\"a\": 1}");
  CHECK(Json::read(path).get<int>("a") == 1);
  folder.write("config.json", "");
  CHECK(contains(file_error_of([&] { Json::read(path); }), path));
}

TEST_CASE("the writer is ordered, escaped and exact") {
  JsonWriter json;
  json.begin_object().field("z", 1).field("a", true).key("n").value(nullptr).field("t", "q\"\\\n\x01\x1f/\x7f");
  json.field("f", 0.1f)
      .field("d", 0.1)
      .field("nan", std::nan(""))
      .field("inf", -std::numeric_limits<float>::infinity());
  json.field("v", std::vector<Index>{1, 2}).key("o").begin_object().end_object().key("e").begin_array().end_array();
  json.field("u", UINT64_MAX).field("i", INT64_MIN).field("names", std::vector<std::string>{"x"});
  json.field("flags", std::vector<bool>{true, false})
      .field("bad", "a\xff\xc3(\xe2\x82")
      .field("utf8", "\xc3\xa9\xf0\x9f\x98\x80");
  json.end_object();
  CHECK(
      json.str() ==
      "{\"z\":1,\"a\":true,\"n\":null,\"t\":\"q\\\"\\\\\\n\\u0001\\u001f/\x7f\",\"f\":0.1,\"d\":0.1,"
      "\"nan\":null,\"inf\":null,"
      "\"v\":[1,2],\"o\":{},\"e\":[],\"u\":18446744073709551615,\"i\":-9223372036854775808,\"names\":[\"x\"],"
      "\"flags\":[true,false],\"bad\":\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\","
      "\"utf8\":\"\xc3\xa9\xf0\x9f\x98\x80\"}");
  CHECK(parse(json.str()).is_object());

  JsonWriter pretty(2);
  pretty.begin_object().field("size", std::vector<int>{1, 2}).key("classes").begin_array();
  pretty.begin_object().field("id", 3).end_object().end_array().key("none").begin_object().end_object().end_object();
  CHECK(pretty.str() == "{\n  \"size\": [1, 2],\n  \"classes\": [{\n      \"id\": 3\n    }],\n  \"none\": {}\n}");
}

TEST_CASE("what was read can be written unchanged") {
  const std::string text = R"({"b":[1,-2,0.1,1e+300,true,null,"x\u0001é"],"a":{"c":{},"d":[]}})";
  CHECK(JsonWriter().value(parse(text)).str() == text);
}

TEST_CASE("numbers survive the round trip bit for bit") {
  std::uint64_t state = 1;
  int wrong = 0;
  for (int i = 0; i < 20'000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double number = std::bit_cast<double>(state);
    if (!std::isfinite(number)) continue;
    const double back = parse(JsonWriter().begin_array().value(number).end_array().str()).at(0).get<double>();
    wrong += std::bit_cast<std::uint64_t>(back) != state;
  }
  CHECK(wrong == 0);
}

TEST_CASE("calls that do not nest are misuse") {
  CHECK_THROWS_AS(JsonWriter().str(), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_object().str(), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_object().value(1), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_array().key("a"), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_object().key("a").key("b"), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_object().key("a").end_object(), UsageError);
  CHECK_THROWS_AS(JsonWriter().begin_array().end_object(), UsageError);
  CHECK_THROWS_AS(JsonWriter().end_array(), UsageError);
  CHECK_THROWS_AS(JsonWriter().value(1).value(2), UsageError);
}
