# What only our own build has: a default build type, a compiler check, warnings as errors, ccache.
get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
if(NOT multi_config AND NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug, RelWithDebInfo or MinSizeRel" FORCE)
endif()

if((CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
   OR (CMAKE_CXX_COMPILER_ID STREQUAL Clang AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 16))
  message(WARNING "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} is older than g++ 12 or clang 16; it may not compile.")
endif()

find_program(OCELLUS_CCACHE ccache)
mark_as_advanced(OCELLUS_CCACHE)
if(OCELLUS_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${OCELLUS_CCACHE})
endif()

# ocellus_own(<target>): our rules for our code.
function(ocellus_own target)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Werror
                         # g++ 12 and 13 warn about their own std::string (GCC bug 105651).
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
endfunction()
