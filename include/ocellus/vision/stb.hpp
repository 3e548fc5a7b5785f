// stb_image and stb_image_write (public domain, https://github.com/nothings/stb): decoders of PNG and JPEG, encoder of
// PNG, compiled static into this translation unit. Private: vision/image_file.hpp includes it in its definitions half,
// nobody else does. It lies in a namespace of its own and behind saved macros, so that it meets no other copy of stb.
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
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <utility>

namespace ocellus::vision_detail::stb {

// The library's ops of these names must not hide C's.
using ::abs;
using ::pow;

// The largest single block that stb may ask for on this thread. Its inflate doubles its output for as long as the data
// asks for more; the size of the picture is known beforehand, so a decompression bomb ends here.
inline size_t& allocation_limit() {
  thread_local size_t limit = SIZE_MAX;
  return limit;
}

class AllocationLimit {
 public:
  explicit AllocationLimit(size_t bytes) : outer_(std::exchange(allocation_limit(), bytes)) {}
  ~AllocationLimit() { allocation_limit() = outer_; }
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;

 private:
  size_t outer_;
};

// Cleared: what a damaged file leaves undefined (planes without a scan, tables never sent) is then zero on every run.
inline void* allocate(size_t bytes) { return bytes > allocation_limit() ? nullptr : ::calloc(1, bytes); }
inline void* reallocate(void* block, size_t bytes) {
  return bytes > allocation_limit() ? nullptr : ::realloc(block, bytes);
}

// stb declares its functions extern "C"; in the object file a namespace does not tell them from those of another copy.
#define stbi_convert_iphone_png_to_rgb ocellus_stbi_convert_iphone_png_to_rgb
#define stbi_convert_iphone_png_to_rgb_thread ocellus_stbi_convert_iphone_png_to_rgb_thread
#define stbi_failure_reason ocellus_stbi_failure_reason
#define stbi_flip_vertically_on_write ocellus_stbi_flip_vertically_on_write
#define stbi_hdr_to_ldr_gamma ocellus_stbi_hdr_to_ldr_gamma
#define stbi_hdr_to_ldr_scale ocellus_stbi_hdr_to_ldr_scale
#define stbi_image_free ocellus_stbi_image_free
#define stbi_info_from_callbacks ocellus_stbi_info_from_callbacks
#define stbi_info_from_memory ocellus_stbi_info_from_memory
#define stbi_is_16_bit_from_callbacks ocellus_stbi_is_16_bit_from_callbacks
#define stbi_is_16_bit_from_memory ocellus_stbi_is_16_bit_from_memory
#define stbi_is_hdr_from_callbacks ocellus_stbi_is_hdr_from_callbacks
#define stbi_is_hdr_from_memory ocellus_stbi_is_hdr_from_memory
#define stbi_load_16_from_callbacks ocellus_stbi_load_16_from_callbacks
#define stbi_load_16_from_memory ocellus_stbi_load_16_from_memory
#define stbi_load_from_callbacks ocellus_stbi_load_from_callbacks
#define stbi_load_from_memory ocellus_stbi_load_from_memory
#define stbi_load_gif_from_memory ocellus_stbi_load_gif_from_memory
#define stbi_set_flip_vertically_on_load ocellus_stbi_set_flip_vertically_on_load
#define stbi_set_flip_vertically_on_load_thread ocellus_stbi_set_flip_vertically_on_load_thread
#define stbi_set_unpremultiply_on_load ocellus_stbi_set_unpremultiply_on_load
#define stbi_set_unpremultiply_on_load_thread ocellus_stbi_set_unpremultiply_on_load_thread
#define stbi_write_bmp_core ocellus_stbi_write_bmp_core
#define stbi_write_bmp_to_func ocellus_stbi_write_bmp_to_func
#define stbi_write_func ocellus_stbi_write_func
#define stbi_write_hdr_to_func ocellus_stbi_write_hdr_to_func
#define stbi_write_jpg_core ocellus_stbi_write_jpg_core
#define stbi_write_jpg_to_func ocellus_stbi_write_jpg_to_func
#define stbi_write_png_to_func ocellus_stbi_write_png_to_func
#define stbi_write_png_to_mem ocellus_stbi_write_png_to_mem
#define stbi_write_tga_core ocellus_stbi_write_tga_core
#define stbi_write_tga_to_func ocellus_stbi_write_tga_to_func
#define stbi_zlib_compress ocellus_stbi_zlib_compress
#define stbi_zlib_decode_buffer ocellus_stbi_zlib_decode_buffer
#define stbi_zlib_decode_malloc ocellus_stbi_zlib_decode_malloc
#define stbi_zlib_decode_malloc_guesssize ocellus_stbi_zlib_decode_malloc_guesssize
#define stbi_zlib_decode_malloc_guesssize_headerflag ocellus_stbi_zlib_decode_malloc_guesssize_headerflag
#define stbi_zlib_decode_noheader_buffer ocellus_stbi_zlib_decode_noheader_buffer
#define stbi_zlib_decode_noheader_malloc ocellus_stbi_zlib_decode_noheader_malloc
#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STBIDEF")
#pragma push_macro("STBI_ONLY_JPEG")
#pragma push_macro("STBI_ONLY_PNG")
#pragma push_macro("STBI_NO_JPEG")
#pragma push_macro("STBI_NO_PNG")
#pragma push_macro("STBI_NO_BMP")
#pragma push_macro("STBI_NO_PSD")
#pragma push_macro("STBI_NO_TGA")
#pragma push_macro("STBI_NO_GIF")
#pragma push_macro("STBI_NO_HDR")
#pragma push_macro("STBI_NO_PIC")
#pragma push_macro("STBI_NO_PNM")
#pragma push_macro("STBI_NO_ZLIB")
#pragma push_macro("STBI_NO_STDIO")
#pragma push_macro("STBI_NO_LINEAR")
#pragma push_macro("STBI_NO_SIMD")
#pragma push_macro("STBI_SSE2")
#pragma push_macro("STBI_SIMD_ALIGN")
#pragma push_macro("stbi__err")
#pragma push_macro("stbi__errpf")
#pragma push_macro("stbi__errpuc")
#pragma push_macro("stbi__vertically_flip_on_load")
#pragma push_macro("stbi__unpremultiply_on_load")
#pragma push_macro("stbi__de_iphone_flag")
#pragma push_macro("STBI_ASSERT")
#pragma push_macro("STBI_MALLOC")
#pragma push_macro("STBI_REALLOC")
#pragma push_macro("STBI_REALLOC_SIZED")
#pragma push_macro("STBI_FREE")
#undef STBI_INCLUDE_STB_IMAGE_H
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBIDEF
#undef STBI_ONLY_JPEG
#undef STBI_ONLY_PNG
#undef STBI_NO_JPEG
#undef STBI_NO_PNG
#undef STBI_NO_BMP
#undef STBI_NO_PSD
#undef STBI_NO_TGA
#undef STBI_NO_GIF
#undef STBI_NO_HDR
#undef STBI_NO_PIC
#undef STBI_NO_PNM
#undef STBI_NO_ZLIB
#undef STBI_NO_STDIO
#undef STBI_NO_LINEAR
#undef STBI_NO_SIMD
#undef STBI_SSE2
#undef STBI_SIMD_ALIGN
#undef stbi__err
#undef stbi__errpf
#undef stbi__errpuc
#undef stbi__vertically_flip_on_load
#undef stbi__unpremultiply_on_load
#undef stbi__de_iphone_flag
#undef STBI_ASSERT
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_REALLOC_SIZED
#undef STBI_FREE
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_LINEAR
#define STBI_NO_STDIO
#define STBI_ASSERT(condition) static_cast<void>(0)  // one of them can be reached by a hostile Huffman table
#define STBI_MALLOC(bytes) ::ocellus::vision_detail::stb::allocate(bytes)
#define STBI_REALLOC(block, bytes) ::ocellus::vision_detail::stb::reallocate(block, bytes)
#define STBI_FREE(block) ::free(block)
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#else
#include <stb_image.h>
#endif
#pragma pop_macro("STBI_FREE")
#pragma pop_macro("STBI_REALLOC_SIZED")
#pragma pop_macro("STBI_REALLOC")
#pragma pop_macro("STBI_MALLOC")
#pragma pop_macro("STBI_ASSERT")
#pragma pop_macro("stbi__de_iphone_flag")
#pragma pop_macro("stbi__unpremultiply_on_load")
#pragma pop_macro("stbi__vertically_flip_on_load")
#pragma pop_macro("stbi__errpuc")
#pragma pop_macro("stbi__errpf")
#pragma pop_macro("stbi__err")
#pragma pop_macro("STBI_SIMD_ALIGN")
#pragma pop_macro("STBI_SSE2")
#pragma pop_macro("STBI_NO_SIMD")
#pragma pop_macro("STBI_NO_LINEAR")
#pragma pop_macro("STBI_NO_STDIO")
#pragma pop_macro("STBI_NO_ZLIB")
#pragma pop_macro("STBI_NO_PNM")
#pragma pop_macro("STBI_NO_PIC")
#pragma pop_macro("STBI_NO_HDR")
#pragma pop_macro("STBI_NO_GIF")
#pragma pop_macro("STBI_NO_TGA")
#pragma pop_macro("STBI_NO_PSD")
#pragma pop_macro("STBI_NO_BMP")
#pragma pop_macro("STBI_NO_PNG")
#pragma pop_macro("STBI_NO_JPEG")
#pragma pop_macro("STBI_ONLY_PNG")
#pragma pop_macro("STBI_ONLY_JPEG")
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")

#pragma push_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma push_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_WRITE_STATIC")
#pragma push_macro("STBIWDEF")
#pragma push_macro("STBI_WRITE_NO_STDIO")
#undef INCLUDE_STB_IMAGE_WRITE_H
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_STATIC
#undef STBIWDEF
#undef STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#if __has_include(<stb/stb_image_write.h>)
#include <stb/stb_image_write.h>
#else
#include <stb_image_write.h>
#endif
#pragma pop_macro("STBI_WRITE_NO_STDIO")
#pragma pop_macro("STBIWDEF")
#pragma pop_macro("STB_IMAGE_WRITE_STATIC")
#pragma pop_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma pop_macro("INCLUDE_STB_IMAGE_WRITE_H")

inline unsigned char* decode(const unsigned char* bytes, int size, int* width, int* height, int* stored, int channels) {
  return stbi_load_from_memory(bytes, size, width, height, stored, channels);
}
inline void release(void* pixels) { stbi_image_free(pixels); }
inline const char* failure() { return stbi_failure_reason(); }
// PNG; release with free().
inline unsigned char* encode(const unsigned char* pixels, int stride, int width, int height, int channels, int* bytes) {
  return stbi_write_png_to_mem(pixels, stride, width, height, channels, bytes);
}

#undef stbi_convert_iphone_png_to_rgb
#undef stbi_convert_iphone_png_to_rgb_thread
#undef stbi_failure_reason
#undef stbi_flip_vertically_on_write
#undef stbi_hdr_to_ldr_gamma
#undef stbi_hdr_to_ldr_scale
#undef stbi_image_free
#undef stbi_info_from_callbacks
#undef stbi_info_from_memory
#undef stbi_is_16_bit_from_callbacks
#undef stbi_is_16_bit_from_memory
#undef stbi_is_hdr_from_callbacks
#undef stbi_is_hdr_from_memory
#undef stbi_load_16_from_callbacks
#undef stbi_load_16_from_memory
#undef stbi_load_from_callbacks
#undef stbi_load_from_memory
#undef stbi_load_gif_from_memory
#undef stbi_set_flip_vertically_on_load
#undef stbi_set_flip_vertically_on_load_thread
#undef stbi_set_unpremultiply_on_load
#undef stbi_set_unpremultiply_on_load_thread
#undef stbi_write_bmp_core
#undef stbi_write_bmp_to_func
#undef stbi_write_func
#undef stbi_write_hdr_to_func
#undef stbi_write_jpg_core
#undef stbi_write_jpg_to_func
#undef stbi_write_png_to_func
#undef stbi_write_png_to_mem
#undef stbi_write_tga_core
#undef stbi_write_tga_to_func
#undef stbi_zlib_compress
#undef stbi_zlib_decode_buffer
#undef stbi_zlib_decode_malloc
#undef stbi_zlib_decode_malloc_guesssize
#undef stbi_zlib_decode_malloc_guesssize_headerflag
#undef stbi_zlib_decode_noheader_buffer
#undef stbi_zlib_decode_noheader_malloc

}  // namespace ocellus::vision_detail::stb
