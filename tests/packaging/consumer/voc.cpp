// Reads XML through the optional target, beside the split library.
#include <cstdio>
#include <string_view>

#include <ocellus/data/voc.hpp>
#include <ocellus/version.hpp>

int main() {
  const std::string_view xml = "<annotation><size><width>4</width><height>3</height></size></annotation>";
  const ocellus::Bytes bytes(ocellus::as_bytes(xml), nullptr);
  std::printf("ocellus %s\n", OCELLUS_VERSION);
  return ocellus::data_detail::parse_voc(bytes, "memory").size == ocellus::Size2(3, 4) ? 0 : 1;
}
