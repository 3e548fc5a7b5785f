// The inflate of stb_image (public domain, https://github.com/nothings/stb) and nothing else of it, compiled static
// into this translation unit. Private: io/inflate.hpp includes it in its definitions half, nobody else does. It lies in
// a namespace of its own and behind saved macros, so that it meets no other copy of stb.
#pragma once
#pragma GCC system_header

// What stb includes must not end up in the namespace.
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STBIDEF")
#pragma push_macro("STBI_ONLY_PNM")
#pragma push_macro("STBI_SUPPORT_ZLIB")
#pragma push_macro("STBI_NO_STDIO")
#pragma push_macro("STBI_NO_SIMD")
#pragma push_macro("STBI_NO_ZLIB")
#pragma push_macro("STBI_NO_PNM")
#pragma push_macro("STBI_NO_JPEG")
#pragma push_macro("STBI_NO_PNG")
#pragma push_macro("STBI_NO_BMP")
#pragma push_macro("STBI_NO_PSD")
#pragma push_macro("STBI_NO_TGA")
#pragma push_macro("STBI_NO_GIF")
#pragma push_macro("STBI_NO_HDR")
#pragma push_macro("STBI_NO_PIC")
#pragma push_macro("STBI_NO_LINEAR")
#pragma push_macro("STBI_SIMD_ALIGN")
#pragma push_macro("STBI_ASSERT")
#pragma push_macro("STBI_MALLOC")
#pragma push_macro("STBI_REALLOC")
#pragma push_macro("STBI_REALLOC_SIZED")
#pragma push_macro("STBI_FREE")
#pragma push_macro("stbi__vertically_flip_on_load")
#pragma push_macro("stbi__errpuc")
#pragma push_macro("stbi__errpf")
#pragma push_macro("stbi__err")
#undef STBI_INCLUDE_STB_IMAGE_H
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBIDEF
#undef STBI_ONLY_PNM
#undef STBI_SUPPORT_ZLIB
#undef STBI_NO_STDIO
#undef STBI_NO_SIMD
#undef STBI_NO_ZLIB
#undef STBI_NO_PNM
#undef STBI_NO_JPEG
#undef STBI_NO_PNG
#undef STBI_NO_BMP
#undef STBI_NO_PSD
#undef STBI_NO_TGA
#undef STBI_NO_GIF
#undef STBI_NO_HDR
#undef STBI_NO_PIC
#undef STBI_NO_LINEAR
#undef STBI_SIMD_ALIGN
#undef STBI_ASSERT
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_REALLOC_SIZED
#undef STBI_FREE
#undef stbi__vertically_flip_on_load
#undef stbi__errpuc
#undef stbi__errpf
#undef stbi__err
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNM
#define STBI_SUPPORT_ZLIB
#define STBI_NO_STDIO
#define STBI_NO_SIMD

namespace ocellus::io_detail::stb {
using ::pow;  // the library's op of this name must not hide it
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#else
#include <stb_image.h>
#endif

struct Inflated {
  bool complete;       // the last block ended inside of the output
  const char* reason;  // if not
  int written;         // bytes
  int consumed;        // bytes of the input that belong to the stream
};

inline Inflated inflate(const void* input, int input_bytes, void* output, int output_bytes) {
  stbi__g_failure_reason = "unknown kind of block";  // stb's one failure without a reason
  stbi__zbuf state;
  stbi_uc* begin = static_cast<stbi_uc*>(const_cast<void*>(input));
  state.zbuffer = begin;
  state.zbuffer_end = begin + input_bytes;
  const bool complete = stbi__do_zlib(&state, static_cast<char*>(output), output_bytes, 0, 0) != 0;
  const int consumed = static_cast<int>(state.zbuffer - begin) - state.num_bits / 8;  // the rest was read ahead
  return {complete, stbi__g_failure_reason, static_cast<int>(state.zout - state.zout_start), consumed};
}
}  // namespace ocellus::io_detail::stb

#pragma pop_macro("stbi__err")
#pragma pop_macro("stbi__errpf")
#pragma pop_macro("stbi__errpuc")
#pragma pop_macro("stbi__vertically_flip_on_load")
#pragma pop_macro("STBI_FREE")
#pragma pop_macro("STBI_REALLOC_SIZED")
#pragma pop_macro("STBI_REALLOC")
#pragma pop_macro("STBI_MALLOC")
#pragma pop_macro("STBI_ASSERT")
#pragma pop_macro("STBI_SIMD_ALIGN")
#pragma pop_macro("STBI_NO_LINEAR")
#pragma pop_macro("STBI_NO_PIC")
#pragma pop_macro("STBI_NO_HDR")
#pragma pop_macro("STBI_NO_GIF")
#pragma pop_macro("STBI_NO_TGA")
#pragma pop_macro("STBI_NO_PSD")
#pragma pop_macro("STBI_NO_BMP")
#pragma pop_macro("STBI_NO_PNG")
#pragma pop_macro("STBI_NO_JPEG")
#pragma pop_macro("STBI_NO_PNM")
#pragma pop_macro("STBI_NO_ZLIB")
#pragma pop_macro("STBI_NO_SIMD")
#pragma pop_macro("STBI_NO_STDIO")
#pragma pop_macro("STBI_SUPPORT_ZLIB")
#pragma pop_macro("STBI_ONLY_PNM")
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")
