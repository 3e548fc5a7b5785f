// Names only, for headers that mention the library's types by reference or pointer.
#pragma once

#include <cstdint>

namespace ocellus {

using Index = std::int64_t;

enum class DType : std::uint8_t;
struct bfloat16;
struct float16;

class Shape;
class Storage;
class AnyTensor;
template <class T>
class BasicTensor;
using Tensor = BasicTensor<float>;

struct Error;
struct ShapeError;
struct ConfigError;
struct UsageError;
struct FileError;

class Image;

}  // namespace ocellus
