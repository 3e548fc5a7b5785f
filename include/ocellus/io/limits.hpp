// How much a file may ask for before a reader gives up with a FileError. Every reader takes a Limits; the defaults fit
// every published model and data set that the library knows.
#pragma once

#include <cstdint>

namespace ocellus {

struct Limits {
  std::uint64_t file_bytes = std::uint64_t{64} << 30;     // any file
  std::uint64_t header_bytes = std::uint64_t{16} << 20;   // safetensors and npy headers, pickles
  std::uint64_t tensors = 1'000'000;                      // tensors of one file, entries of one archive
  std::uint64_t name_bytes = 1024;                        // name of a tensor or an archive entry
  std::uint64_t inflated_bytes = std::uint64_t{1} << 30;  // one gzip file or archive entry, unpacked
  std::uint64_t json_bytes = std::uint64_t{512} << 20;    // JSON text; COCO's largest annotation file has 448 MB
  std::uint64_t json_values = std::uint64_t{64} << 20;    // values in one JSON text
  int json_depth = 64;                                    // nested arrays and objects
  std::uint64_t pickle_opcodes = 2'000'000;               // in one pickle; a tensor takes about 30
  int module_depth = 64;                                  // nested modules of a pickled model
  std::uint64_t xml_bytes = std::uint64_t{4} << 20;       // an annotation of Pascal VOC
  std::int64_t image_side = 16384;                        // pixels
  std::int64_t image_pixels = 100'000'000;
};

}  // namespace ocellus
