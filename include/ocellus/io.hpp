// Files: bytes, JSON, safetensors, PyTorch's files, npy and npz, IDX. Bytes to named tensors; nothing here knows a
// module.
#pragma once

#include <ocellus/io/byte_reader.hpp>
#include <ocellus/io/checked.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/file.hpp>
#include <ocellus/io/folder.hpp>
#include <ocellus/io/idx.hpp>
#include <ocellus/io/inflate.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/io/named_tensors.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/io/torch_file.hpp>
#include <ocellus/io/zip.hpp>
