// Any bytes read as JSON are refused with a FileError or give a document that can be walked, written and read again.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ocellus/io/json.hpp>

#include "tensor_fuzzer.hpp"

namespace {

using ocellus::Json;

// Asks every element for everything: the wrong types must throw, and only FileError.
void walk(const Json& json) {
  ocellus_fuzz::refuse_or([&] { json.get<bool>(); });
  ocellus_fuzz::refuse_or([&] { json.get<int>(); });
  ocellus_fuzz::refuse_or([&] { json.get<std::uint64_t>(); });
  ocellus_fuzz::refuse_or([&] { json.get<float>(); });
  ocellus_fuzz::refuse_or([&] { json.get<std::string>(); });
  ocellus_fuzz::refuse_or([&] { json.get<std::vector<double>>(); });
  json.path();
  if (json.is_object()) {
    for (const std::string& key : json.keys()) ocellus_fuzz::require(json.at(key).key() == key);
  }
  if (!json.is_object() && !json.is_array()) return;
  for (ocellus::Index i = 0; i < json.size(); ++i) walk(json.at(i));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ocellus_fuzz::refuse_or([&] {
    const Json json = Json::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
    walk(json);
    const std::string written = ocellus::JsonWriter().value(json).str();
    const Json again = Json::parse(written, "written");
    ocellus_fuzz::require(ocellus::JsonWriter().value(again).str() == written);
  });
  return 0;
}
