// PyTorch's files: what the reference wrote, and a manifest of bad ones with the text each must be refused with.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/io/torch_file.hpp>

#include "io_support.hpp"
#include "torch_support.hpp"
#include "zip_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

const std::string golden = OCELLUS_TEST_DIR "/golden/torch/";

std::string error_of(std::string_view file, const Limits& limits = {}) {
  return file_error_of([&] {
    for (const NamedTensor& t : read_torch_file(bytes_of(file), "w.pth", limits)) touch(t.tensor);
  });
}

NamedTensors read(const std::string& file) { return read_torch_file(bytes_of(file), "w.pth"); }

std::string text_of(const AnyTensor& tensor) { return {static_cast<const char*>(tensor.raw()), tensor.spec().bytes()}; }

const std::string four_floats = little(1.0f) + little(2.0f) + little(3.0f) + little(4.0f);

// A module whose children are given as opcodes.
std::string pickled_module(const std::string& name, const std::vector<std::pair<std::string, std::string>>& parameters,
                           const std::vector<std::pair<std::string, std::string>>& children,
                           const std::string& make = ")\x81") {
  return global("some.package", name) + make +
         pickled_dictionary({{"_parameters", pickled_dictionary(parameters)},
                             {"_buffers", "}"},
                             {"_modules", pickled_dictionary(children)}}) +
         "b";
}

struct BadFile {
  std::string what, file, expected;
};

// Opcodes in the place of a tensor of a state dict.
BadFile bad_value(const std::string& what, const std::string& value, const std::string& expected) {
  return {what, torch_archive(program(pickled_dictionary({{"w", value}})), {{"0", four_floats}}), expected};
}
BadFile bad_tensor(const std::string& what, const std::vector<std::int32_t>& sizes,
                   const std::vector<std::int32_t>& strides, std::int32_t offset, const std::string& expected) {
  return bad_value(what, pickled_tensor(pickled_storage("0", 4), offset, sizes, strides), expected);
}
BadFile bad_pickle(const std::string& what, const std::string& opcodes, const std::string& expected) {
  return {what, torch_archive(program(opcodes), {}), expected};
}

std::vector<BadFile> manifest() {
  const std::string tensor = pickled_tensor(pickled_storage("0", 4), 0, {2, 2}, {2, 1});
  const std::string good = program(pickled_dictionary({{"w", tensor}}));
  std::vector<BadFile> rows;

  // Calls.
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"posix", "system"},
                                                        {"builtins", "eval"},
                                                        {"__builtin__", "getattr"},
                                                        {"subprocess", "Popen"},
                                                        {"torch.hub", "load"},
                                                        {"torch.storage", "_load_from_bytes"},
                                                        {"some.package", "Model"}}) {
    const std::string expected = "calls \"" + module + "." + name + "\", which is refused";
    const std::string argument = pickled("echo");
    rows.push_back(bad_pickle("call of " + name, global(module, name) + argument + "\x85R", expected));
    rows.push_back(bad_pickle("call of " + name + " by STACK_GLOBAL",
                              pickled(module) + pickled(name) + "\x93" + argument + "\x85R", expected));
    rows.push_back(
        bad_value("call of " + name + " in a state dict", global(module, name) + argument + "\x85R", expected));
    rows.push_back(bad_value("call of " + name + " among a tensor's arguments",
                             global("torch._utils", "_rebuild_tensor_v2") + "(" + global(module, name) + ")RtR",
                             expected));
    rows.push_back(bad_value("call of " + name + " through a tensor with attributes",
                             global("torch._tensor", "_rebuild_from_type_v2") + "(" + global(module, name) +
                                 global("torch", "Tensor") + "(tNtR",
                             expected));
  }
  rows.push_back(bad_pickle("call of a text", pickled("os.system") + ")R", "calls the text \"os.system\""));
  rows.push_back(
      bad_pickle("call of a result", global("os", "system") + ")\x81)R", "calls an object of \"os.system\""));
  rows.push_back(bad_pickle("call without a tuple", global("collections", "OrderedDict") + "NR", "with None"));
  rows.push_back(bad_pickle("object of a text", pickled("x") + ")\x81", "makes an object of the text"));
  rows.push_back(bad_value("an object for a tensor", global("os", "system") + ")\x81",
                           "the entry \"w\" is an object of \"os.system\", no tensor"));
  rows.push_back(bad_pickle("wrong arguments", global("collections", "OrderedDict") + "K\x01\x85R", "does not take"));
  rows.push_back(bad_pickle("no pairs",
                            global("collections", "OrderedDict") + "]K\x01"
                                                                   "a\x85R",
                            "does not take"));
  rows.push_back(
      bad_pickle("a parameter of nothing", global("torch._utils", "_rebuild_parameter") + ")R", "does not take"));
  rows.push_back(bad_pickle("a size of a number", global("torch", "Size") + "K\x01\x85R", "does not take"));

  // The machine.
  for (const char* code : {"0", "a", "s", "b", "R", "Q", "\x85", "\x81", "q\x01", "2", "\x93", "\x94"}) {
    rows.push_back(bad_pickle("empty stack " + std::string(code), code, "empty stack"));
  }
  for (const char* code : {"t", "u", "e", "1", "\x90", "\x91"}) {
    rows.push_back(bad_pickle("no mark " + std::string(code), code, "no mark"));
  }
  for (const char* code : {"I1\n", "L1L\n", "F1\n", "S'x'\n", "Vx\n", "p0\n", "g0\n", "Px\n", "d", "l", "o",
                           "ios\nsystem\n", "\x82\x01", "\x83\x01\x02", "\x97", "\x98", "\xff", "\x07"}) {
    rows.push_back(bad_pickle("opcode " + std::string(code), code, "is none that protocols 2 to 5 write"));
  }
  rows.push_back(bad_pickle("protocol 6", "\x80\x06N", "protocol 6"));
  rows.push_back(bad_pickle("memo", "h\x05", "the memo has no number 5"));
  rows.push_back(bad_pickle("huge memo", "Nr\xff\xff\xff\xff", "is over Limits::pickle_opcodes"));
  rows.push_back(bad_pickle("memo behind a mark", "N(q\x01", "empty stack"));
  rows.push_back(bad_pickle("a key alone", "}(Nu", "a key without a value"));
  rows.push_back(bad_pickle("items of a number", "K\x01NNs", "sets items of the integer 1"));
  rows.push_back(bad_pickle("append to a number", "K\x01Na", "appends to the integer 1"));
  rows.push_back(bad_pickle("attributes of a number", "K\x01}b", "sets attributes of the integer 1"));
  rows.push_back(bad_pickle("a global of numbers", "NN\x93", "a global whose name is no text"));
  rows.push_back(bad_pickle("no persistent id", "NQ", "a persistent id that is neither"));
  rows.push_back(bad_pickle("another persistent id", pickled("file") + pickled("/etc/passwd") + "\x86Q",
                            "a persistent id that is neither"));
  rows.push_back(bad_pickle("a long name", "c" + std::string(5000, 'a') + "\nb\n", "a name of more than 1024 bytes"));
  for (const char* code :
       {"X\xff\xff\xff\xff", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "B\xff\xff\xff\x7f", "\x8a\xff",
        "\x8b\xff\xff\xff\xff", "\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "\x8c\x09", "J\x01", "G\x01"}) {
    rows.push_back(bad_pickle("a text without end", code, "the file ends inside of"));
  }
  rows.push_back({"no STOP", torch_archive("\x80\x02}", {}), "the file ends inside of a pickle"});

  // Storages and tensors.
  rows.push_back(bad_tensor("too long", {5}, {1}, 0, "leaves its storage of 4 elements"));
  rows.push_back(bad_tensor("offset", {4}, {1}, 1, "leaves its storage of 4 elements"));
  rows.push_back(bad_tensor("offset at the end", {1}, {1}, 4, "leaves its storage"));
  rows.push_back(bad_tensor("scalar behind the end", {}, {}, 4, "leaves its storage"));
  rows.push_back(bad_tensor("negative offset", {1}, {1}, -1, "leaves its storage"));
  rows.push_back(bad_tensor("stride", {2, 2}, {3, 1}, 0, "leaves its storage"));
  rows.push_back(bad_tensor("huge stride", {2, 2}, {INT32_MAX, 1}, 0, "leaves its storage"));
  rows.push_back(bad_tensor("negative size", {-1}, {1}, 0, "a size of a tensor is the integer -1"));
  rows.push_back(bad_tensor("negative stride", {2}, {-1}, 1, "a size of a tensor is the integer -1"));
  rows.push_back(bad_tensor("ranks differ", {2, 2}, {1}, 0, "sizes (2, 2) and strides (1)"));
  rows.push_back(
      bad_tensor("nine axes", std::vector<std::int32_t>(9, 1), std::vector<std::int32_t>(9, 1), 0, "more than 8 axes"));
  rows.push_back(bad_tensor("size bomb", {INT32_MAX, INT32_MAX, 4}, {0, 0, 1}, 0, "overflow"));
  rows.push_back(
      bad_tensor("size bomb with a zero", {INT32_MAX, INT32_MAX, INT32_MAX, 0}, {0, 0, 0, 1}, 0, "overflow"));
  rows.push_back(bad_tensor("expansion bomb", {1 << 15, 1 << 15}, {0, 0}, 0, "times as large as the file"));
  const auto with = [&](const std::string& storage) { return pickled_tensor(storage, 0, {2}, {1}); };
  rows.push_back(bad_value("lying storage", with(pickled_storage("0", 5)), "has 16 bytes, its 5 elements need 20"));
  rows.push_back(
      bad_value("lying storage, smaller", with(pickled_storage("0", 3)), "has 16 bytes, its 3 elements need 12"));
  rows.push_back(bad_value("negative storage", with(pickled_storage("0", -4)), "does not fit into the file"));
  rows.push_back(bad_value("huge storage", with(pickled_storage("0", INT32_MAX)), "does not fit into the file"));
  rows.push_back(bad_value("no such storage", with(pickled_storage("7", 4)), "has no data of the storage \"7\""));
  for (const char* key : {"../data.pkl", "/etc/passwd", ".."}) {
    rows.push_back(
        bad_value("storage " + std::string(key), with(pickled_storage(key, 4)), "has no data of the storage"));
  }
  rows.push_back(bad_value("a type of storage", with(pickled_storage("0", 2, "ComplexDoubleStorage")),
                           "elements of \"torch.ComplexDoubleStorage\" are not supported"));
  rows.push_back(bad_value(
      "a function for a type",
      with("(" + pickled("storage") + global("os", "system") + pickled("0") + pickled("cpu") + pickled(4) + "tQ"),
      "elements of \"os.system\" are not supported"));
  rows.push_back(
      bad_value("a short storage", with("(" + pickled("storage") + pickled("0") + "tQ"), "a storage must be"));
  rows.push_back({"two descriptions",
                  torch_archive(program(pickled_dictionary({{"a", with(pickled_storage("0", 4))},
                                                            {"b", with(pickled_storage("0", 4, "IntStorage"))}})),
                                {{"0", four_floats}}),
                  "described in two ways"});
  rows.push_back(bad_value("a conjugate view",
                           global("torch._utils", "_rebuild_tensor_v2") + "(" + pickled_storage("0", 4) + pickled(0) +
                               pickled_sizes({2}) + pickled_sizes({1}) + "\x89}" +
                               pickled_dictionary({{"neg", "\x88"}}) + "tR",
                           "a negated or conjugate view"));

  // State dicts.
  rows.push_back(bad_value("a number", "K\x03", "the entry \"w\" is the integer 3, no tensor"));
  rows.push_back(bad_pickle("a list", "]", "expected a state dict (name to tensor) or a model, got a list"));
  rows.push_back(bad_pickle("None", "N", "got None"));
  rows.push_back(bad_pickle("nothing", "}", "holds no tensors"));
  rows.push_back(bad_pickle("a number for a name", "}K\x01Ns", "a key of the state dict is the integer 1"));
  for (const std::string& name : {std::string(), std::string("a\0b", 3), std::string(1025, 'n')}) {
    rows.push_back({"name", torch_archive(program(pickled_dictionary({{name, tensor}})), {{"0", four_floats}}),
                    "name is empty, contains NUL or is longer"});
  }
  rows.push_back({"no UTF-8", torch_archive(program(pickled_dictionary({{"a\xff", tensor}})), {{"0", four_floats}}),
                  "is no UTF-8"});
  rows.push_back({"twice",
                  torch_archive(program(pickled_dictionary({{"w", tensor}, {"w", tensor}})), {{"0", four_floats}}),
                  "two tensors are called \"w\""});
  rows.push_back(bad_pickle("a dictionary in itself", "}q\x01" + pickled("model") + "h\x01s", "nested too deep"));

  // Modules.
  rows.push_back(bad_pickle("no module", global("os", "system") + ")\x81}b",
                            "the module, an object of \"os.system\", has no dictionary _parameters"));
  rows.push_back(bad_pickle("no state", global("os", "system") + ")\x81", "has no dictionary _parameters"));
  rows.push_back(bad_pickle("a child that is none", pickled_module("A", {}, {{"x", "K\x01"}}),
                            "has the child \"x\", which is the integer 1"));
  rows.push_back(bad_pickle("a parameter that is none", pickled_module("A", {{"x", "K\x01"}}, {}),
                            "an object of \"some.package.A\", has the child \"x\", which is the integer 1"));
  rows.push_back(
      bad_pickle("a module in itself", pickled_module("A", {}, {{"x", "h\x01"}}, ")\x81q\x01"), "or in itself"));
  std::string doubled = pickled_module("A", {}, {}) +
                        "q\x01"
                        "0";
  for (int level = 0; level < 60; ++level) {
    doubled += pickled_module("A", {}, {{"x", "h\x01"}, {"y", "h\x01"}}) +
               "q\x01"
               "0";
  }
  rows.push_back(bad_pickle("2^60 modules", doubled + "h\x01", "too often"));

  // Archives.
  rows.push_back({"no data.pkl", zip({stored("archive/data.bin", good)}), "without <name>/data.pkl"});
  rows.push_back({"data.pkl too deep", zip({stored("a/b/data.pkl", good)}), "without <name>/data.pkl"});
  rows.push_back(
      {"two", zip({stored("a/data.pkl", good), stored("b/data.pkl", good)}), "two entries are called data.pkl"});
  for (const char* name : {"../data.pkl", "archive/../../x", "/etc/passwd", ".."}) {
    rows.push_back({name, zip({stored("archive/data.pkl", good), stored(name, "x")}), "leaves the archive"});
  }
  rows.push_back(
      {"a program", zip({stored("a/data.pkl", good), stored("a/constants.pkl", good)}), "is a TorchScript program"});
  rows.push_back({"big-endian", zip({stored("a/data.pkl", good), stored("a/byteorder", "big")}), "big-endian"});
  ZipParts lying = stored("archive/data/0", four_floats);
  lying.size = 8;
  rows.push_back({"stored size", zip({stored("archive/data.pkl", good), lying}), "its two sizes differ"});
  lying = stored("archive/data/0", four_floats);
  lying.crc ^= 1;
  rows.push_back({"checksum", zip({stored("archive/data.pkl", good), lying}), "does not match its CRC-32"});
  lying = deflated("archive/data/0", four_floats);
  lying.size = 12;
  rows.push_back(
      {"deflated size", zip({stored("archive/data.pkl", good), lying}), "has 12 bytes, its 4 elements need 16"});

  // Legacy files.
  const std::string stream = torch_stream(good, {{"0", four_floats}});
  rows.push_back({"empty", "", "is no PyTorch file"});
  rows.push_back({"text", "hello", "is no PyTorch file"});
  rows.push_back({"another pickle", good, "is a pickle, but none that torch.save wrote"});
  rows.push_back(
      {"a pickle that calls", program(global("os", "system") + pickled("ls") + "\x85R"), "calls \"os.system\""});
  rows.push_back({"bytes behind", stream + "x", "1 bytes after the last storage"});
  rows.push_back({"a lying size", torch_stream(good, {{"0", four_floats + little(1.0f)}}),
                  "has 5 elements, its tensors expect 4"});
  rows.push_back({"a key twice", torch_stream(good, {{"0", four_floats}, {"0", four_floats}}), "stands there twice"});
  rows.push_back(
      {"an unknown key", torch_stream(good, {{"1", four_floats}}), "no tensor uses the storage of the text \"1\""});
  rows.push_back({"no key", torch_stream(good, {}), "has no data of the storage \"0\""});
  rows.push_back({"a storage of gigabytes",
                  torch_stream(program(pickled_dictionary({{"w", with(pickled_storage("0", 1 << 30))}})), {}),
                  "does not fit into the file"});
  std::string edited = stream;
  edited[edited.find("\x88")] = '\x89';
  rows.push_back({"big-endian", edited, "big-endian"});
  edited = stream;
  edited[edited.find("M\xe9\x03") + 1] = '\0';
  rows.push_back({"another protocol", edited, "expected 1001, got the integer 768"});
  return rows;
}

}  // namespace

TEST_CASE("files of the reference: every type, layout and format, state dicts and whole models") {
  const NamedTensors expected = read_safetensors(golden + "expected.safetensors");
  std::size_t compared = 0;
  for (const char* name : {"types.pth", "types_legacy.pth", "wrapped_protocol4.pth", "wrapped_protocol5.bin",
                           "parallel_legacy.pth", "model.pt", "model_with_average.pt", "model_legacy.pt"}) {
    const NamedTensors tensors = read_torch_file(golden + name);
    for (const NamedTensor& t : tensors) {
      CAPTURE(name);
      CAPTURE(t.name);
      const AnyTensor* reference = expected.find(std::string(name) + "/" + t.name);
      REQUIRE(reference);
      CHECK(same(t.tensor, *reference));
      ++compared;
    }
  }
  CHECK(compared == expected.size());
}

TEST_CASE("a file truncated at any byte is refused") {
  for (const char* name : {"wrapped_protocol4.pth", "parallel_legacy.pth", "model_legacy.pt"}) {
    const std::string file = content_of(golden + name);
    REQUIRE(error_of(file) == "");
    std::size_t refused = 0;
    for (std::size_t n = 0; n < file.size(); ++n) refused += error_of(file.substr(0, n)).empty() ? 0u : 1u;
    CHECK(refused == file.size());
  }
}

TEST_CASE("every bad file is refused with the reason, the file and mostly the place") {
  for (const BadFile& row : manifest()) {
    CAPTURE(row.what);
    const std::string error = error_of(row.file);
    CHECK(contains(error, row.expected));
    CHECK(error.starts_with("w.pth"));
    CHECK(error.size() < 600);
  }
  const std::string place = error_of(torch_archive(program(global("os", "system") + ")R"), {}));
  CHECK(place.starts_with("w.pth: \"archive/data.pkl\" (byte 14): pickle: calls \"os.system\""));
}

TEST_CASE("tensors share the storage where they can") {
  const std::string storage = pickled_storage("0", 4) + "q\x01";
  const std::string file =
      torch_archive(program(pickled_dictionary({{"a", pickled_tensor(storage, 0, {4}, {1})},
                                                {"b", pickled_tensor("h\x01", 2, {2}, {1})},
                                                {"t", pickled_tensor("h\x01", 0, {2, 2}, {1, 2})},
                                                {"wide", pickled_tensor("h\x01", 1, {3, 2}, {0, 1})}})),
                    {{"0", four_floats}});
  const NamedTensors tensors = read(file);
  CHECK(static_cast<const char*>(tensors.at("b").raw()) == static_cast<const char*>(tensors.at("a").raw()) + 8);
  CHECK(text_of(tensors.at("t")) == little(1.0f) + little(3.0f) + little(2.0f) + little(4.0f));
  const std::string row = little(2.0f) + little(3.0f);
  CHECK(text_of(tensors.at("wide")) == row + row + row);
}

TEST_CASE("strides that are never taken may be anything; storages of a GPU are storages") {
  const std::string storage = "(" + pickled("storage") + global("torch.cuda", "FloatStorage") + pickled("0") +
                              pickled("cuda:0") + pickled(4) + "tQ";
  const std::string tensor = global("torch._utils", "_rebuild_tensor") + "(" + storage + pickled(0) +
                             pickled_sizes({2, 1}) + "(" + pickled(2) + "\x8a\x08" + little(INT64_MAX) + "ttR";
  const NamedTensors tensors = read(torch_archive(program(pickled_dictionary({{"w", tensor}})), {{"0", four_floats}}));
  CHECK(text_of(tensors.at("w")) == little(1.0f) + little(3.0f));
}

TEST_CASE("objects are labels: how a class was reached makes no difference, and nothing runs") {
  const std::string tensor = pickled_tensor(pickled_storage("0", 4), 0, {4}, {1});
  for (const std::string& make :
       {std::string(")\x81"), std::string(")}\x92"), std::string("N\x85\x81"),
        "0" + global("copyreg", "_reconstructor") + global("os", "system") + global("builtins", "object") + "N\x87R"}) {
    const std::string opcodes = pickled_module(
        "Outer", {}, {{"inner", pickled_module("Inner", {{"weight", tensor}, {"bias", "N"}}, {})}, {"none", "N"}},
        make);
    const NamedTensors tensors = read(torch_archive(program(opcodes), {{"0", four_floats}}));
    CHECK(tensors.size() == 1);
    CHECK(text_of(tensors.at("inner.weight")) == four_floats);
  }
  // Beside the weights: a set, a frozen set, a named tuple of slots, bytes, numpy's numbers, paths.
  const std::string beside =
      pickled_dictionary({{"a", global("builtins", "set") + "]K\x01"
                                                            "a\x85R"},
                          {"b", "(K\x01\x91"},
                          {"c", "\x8f(K\x01\x90"},
                          {"d", global("some", "Slots") + ")\x81N}\x86"
                                                          "b"},
                          {"e", global("_codecs", "encode") + pickled("x") + pickled("latin1") + "\x86R"},
                          {"f", global("numpy.core.multiarray", "scalar") + global("numpy", "dtype") + pickled("f8") +
                                    "\x85RN"
                                    "bC\x01x\x86R"},
                          {"g", global("pathlib", "PosixPath") + pickled("/tmp") + "\x85R"},
                          {"p", global("functools", "partial") + global("some", "function") + "\x85R(Ntb"},
                          {"h", global("collections", "defaultdict") + global("builtins", "list") + "\x85R"},
                          {"i", global("some", "DictOfItsOwn") + ")\x81K\x01K\x02s(K\x03K\x04u"},
                          {"j", global("collections", "OrderedDict") + "]]K\x01"
                                                                       "aK\x02"
                                                                       "aa\x85R"},
                          {"model_state_dict", pickled_dictionary({{"w", tensor}})}});
  CHECK(read(torch_archive(program(beside), {{"0", four_floats}})).size() == 1);
}

TEST_CASE("what of a checkpoint is read") {
  const auto checkpoint = [](const std::vector<std::pair<std::string, std::string>>& items) {
    return torch_archive(program(pickled_dictionary(items)), {{"0", four_floats}});
  };
  const auto first = [](const NamedTensors& tensors) { return tensors.begin()->name; };
  const auto dictionary = [](const std::string& name) {
    return pickled_dictionary({{name, pickled_tensor(pickled_storage("0", 4), 0, {4}, {1})}});
  };
  const auto module = [](const std::string& name) {
    return pickled_module("M", {{name, pickled_tensor(pickled_storage("0", 4), 0, {4}, {1})}}, {});
  };
  CHECK(first(read(checkpoint({{"model", dictionary("m")}, {"state_dict", dictionary("s")}}))) == "s");
  CHECK(first(read(checkpoint({{"model", module("m")}, {"ema", module("e")}}))) == "e");
  CHECK(first(read(checkpoint({{"model", module("m")}, {"ema", "N"}}))) == "m");
  CHECK(first(read(checkpoint({{"model", dictionary("m")}, {"ema", pickled_dictionary({{"decay", "K\x01"}})}}))) ==
        "m");
  CHECK(first(read(checkpoint({{"state_dict", pickled_dictionary({{"model", dictionary("inner")}})}}))) == "inner");
  CHECK(first(read(checkpoint({{"model", module("module.x")}}))) == "x");
}

TEST_CASE("bombs cost what the limits say") {
  const std::string tensor = pickled_tensor(pickled_storage("0", 4), 0, {4}, {1});
  Limits limits;
  limits.pickle_opcodes = 1000;
  CHECK(
      contains(error_of(torch_archive(program("]" + std::string(2000, '2')), {}), limits), "(Limits::pickle_opcodes)"));
  std::string copies = "](" + std::string(600, 'N') +
                       "e\x85q\x01"
                       "0";
  for (int i = 0; i < 100; ++i)
    copies += global("builtins", "set") +
              "h\x01R"
              "0";
  CHECK(contains(error_of(torch_archive(program(copies), {}), limits), "more than Limits::pickle_opcodes allows"));
  limits = {};
  limits.header_bytes = 1000;
  CHECK(
      contains(error_of(torch_archive(program(pickled(std::string(2000, 'x'))), {}), limits), "Limits::header_bytes"));
  CHECK(contains(error_of(torch_archive(program("}" + std::string(2000, '2')), {}), limits), "Limits::header_bytes"));
  limits = {};
  limits.module_depth = 2;
  const std::string nested =
      pickled_module("A", {}, {{"x", pickled_module("A", {}, {{"y", pickled_module("A", {{"w", tensor}}, {})}})}});
  CHECK(contains(error_of(torch_archive(program(nested), {{"0", four_floats}}), limits), "\"x.y\""));
  CHECK(error_of(torch_archive(program(nested), {{"0", four_floats}})) == "");
  limits = {};
  limits.tensors = 2;  // of archive entries, too
  CHECK(contains(error_of(torch_stream(program(pickled_dictionary({{"a", tensor}, {"b", tensor}, {"c", tensor}})),
                                       {{"0", four_floats}}),
                          limits),
                 "more than 2 tensors"));
  limits = {};
  limits.inflated_bytes = 100;
  const std::string good = program(pickled_dictionary({{"w", tensor}}));
  CHECK(contains(error_of(zip({deflated("a/data.pkl", good), deflated("a/data/0", four_floats)}), limits),
                 "Limits::inflated_bytes"));
  CHECK(error_of(zip({deflated("a/data.pkl", good), deflated("a/data/0", four_floats)})) == "");
}

TEST_CASE("a trained network of the legacy format") {
  const char* data = std::getenv("OCELLUS_DATA");
  if (!data) {
    MESSAGE("SKIPPED: OCELLUS_DATA is not set");
    return;
  }
  // As torch.load gives them: CRC-32 of every "name shape" line, without "module.", and of all values.
  std::string lines, values;
  for (const NamedTensor& t : read_torch_file(std::string(data) + "/weights/resnet20_cifar10.th")) {
    lines += t.name + " " + t.tensor.shape().str() + "\n";
    values += text_of(t.tensor);
  }
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 97);
  CHECK(contains(lines, "layer3.2.bn2.running_var (64)\nlinear.weight (10, 64)\nlinear.bias (10)\n"));
  CHECK(crc32(as_bytes(lines)) == 0x98bae061);
  CHECK(crc32(as_bytes(values)) == 0x1d128e52);
}
