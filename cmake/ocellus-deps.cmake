# Where dependencies come from; read by the build and by the installed package.
# Each one is the parent project's target if there is one, else the system's headers, else a release pinned by its commit.
# Only header directories are taken: Debian 12's xsimd target names a library that does not exist, and no version range works
# across the package files that xsimd and Eigen have shipped.

# ocellus_dependency(<name> HEADER <file> [SUFFIX <dir>] [VERSION <minimum> VERSION_HEADER <file> VERSION_MACRO <prefix>]
#                    [TARGETS <target>...] REPOSITORY <url> COMMIT <hash> [INCLUDE <dir in the repository>] PACKAGES <text>)
# defines the target ocellus::<name> that carries the include directory.
function(ocellus_dependency name)
  if(TARGET ocellus::${name})
    return()
  endif()
  set(values HEADER SUFFIX VERSION VERSION_HEADER VERSION_MACRO REPOSITORY COMMIT INCLUDE PACKAGES)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "${values}" "TARGETS")
  string(TOUPPER ${name} upper)
  set(directory "")

  foreach(target IN LISTS arg_TARGETS)
    if(NOT directory AND TARGET ${target})
      set(directory $<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>)
    endif()
  endforeach()

  if(NOT directory AND NOT OCELLUS_FETCH_DEPS)
    find_path(OCELLUS_${upper}_INCLUDE_DIR ${arg_HEADER} PATH_SUFFIXES ${arg_SUFFIX})
    mark_as_advanced(OCELLUS_${upper}_INCLUDE_DIR)
    set(directory ${OCELLUS_${upper}_INCLUDE_DIR})
    if(NOT directory)
      set(directory "")
      set(reason "not found on this system")
    elseif(arg_VERSION)
      file(STRINGS ${directory}/${arg_VERSION_HEADER} lines REGEX "define +${arg_VERSION_MACRO}_(MAJOR|MINOR|PATCH) ")
      string(REGEX MATCHALL "[0-9]+" numbers "${lines}")
      list(JOIN numbers "." version)
      if(version VERSION_LESS arg_VERSION)
        set(reason "found ${version} in ${directory}, but ${arg_VERSION} is needed")
        set(directory "")
      endif()
    endif()
  endif()

  if(NOT directory)
    include(FetchContent)
    if(OCELLUS_FETCH_DEPS)
      set(reason "OCELLUS_FETCH_DEPS is on")
    endif()
    set(advice "Install it (${arg_PACKAGES}), or set FETCHCONTENT_SOURCE_DIR_${upper} to a copy of ${arg_REPOSITORY}.")
    if(NOT FETCHCONTENT_SOURCE_DIR_${upper})
      find_package(Git QUIET)
      if(NOT GIT_FOUND)
        message(FATAL_ERROR "${name}: ${reason}, and there is no git to fetch it.\n${advice}")
      elseif(FETCHCONTENT_FULLY_DISCONNECTED AND NOT EXISTS ${FETCHCONTENT_BASE_DIR}/${name}-src)
        message(FATAL_ERROR "${name}: ${reason}, and FETCHCONTENT_FULLY_DISCONNECTED is on.\n${advice}")
      endif()
    endif()
    message(STATUS "${name}: ${reason}; fetching the pinned release. ${advice}")
    # The subdirectory does not exist on purpose: the sources are only unpacked, their own build is not run.
    FetchContent_Declare(${name} GIT_REPOSITORY ${arg_REPOSITORY} GIT_TAG ${arg_COMMIT} GIT_SUBMODULES ""
                         SOURCE_SUBDIR headers-only)
    FetchContent_MakeAvailable(${name})
    set(directory ${${name}_SOURCE_DIR}/${arg_INCLUDE})
  endif()

  add_library(ocellus::${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(ocellus::${name} SYSTEM INTERFACE ${directory})
endfunction()

# What the header-only target needs, and the sources of the split library.
macro(ocellus_library_dependencies)
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
  ocellus_dependency(xsimd
    TARGETS xsimd xsimd::xsimd HEADER xsimd/xsimd.hpp
    VERSION 8.1.0 VERSION_HEADER xsimd/config/xsimd_config.hpp VERSION_MACRO XSIMD_VERSION
    REPOSITORY https://github.com/xtensor-stack/xsimd.git
    COMMIT e88a72831858123924f7118f345dfe5d70d95991 INCLUDE include # 14.3.0
    PACKAGES "apt: libxsimd-dev, dnf: xsimd-devel, pacman: xsimd, brew: xsimd")
  ocellus_dependency(json
    TARGETS nlohmann_json::nlohmann_json nlohmann_json HEADER nlohmann/json.hpp
    REPOSITORY https://github.com/nlohmann/json.git
    COMMIT 9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03 INCLUDE include # 3.11.3
    PACKAGES "apt: nlohmann-json3-dev, dnf: json-devel, pacman: nlohmann-json, brew: nlohmann-json")
  ocellus_dependency(stb
    HEADER stb_image.h SUFFIX stb
    REPOSITORY https://github.com/nothings/stb.git
    COMMIT 013ac3beddff3dbffafd5177e7972067cd2b5083 # stb_image 2.30
    PACKAGES "apt: libstb-dev, dnf: stb-devel, pacman: stb")
endmacro()

# What core/eigen.hpp and the tests' oracle need.
macro(ocellus_eigen_dependency)
  ocellus_dependency(eigen
    TARGETS Eigen3::Eigen HEADER Eigen/Core SUFFIX eigen3
    REPOSITORY https://gitlab.com/libeigen/eigen.git
    COMMIT 3147391d946bb4b6c68edd901f2add6ac1f31f8c # 3.4.0
    PACKAGES "apt: libeigen3-dev, dnf: eigen3-devel, pacman: eigen, brew: eigen")
endmacro()

# What data/voc.hpp needs. Distributions compile it; the fetched release is compiled where it is included.
macro(ocellus_voc_dependency)
  if(NOT TARGET ocellus::pugixml)
    if(NOT TARGET pugixml::pugixml AND NOT OCELLUS_FETCH_DEPS)
      find_package(pugixml QUIET)
    endif()
    if(TARGET pugixml::pugixml)
      add_library(ocellus::pugixml INTERFACE IMPORTED GLOBAL)
      target_link_libraries(ocellus::pugixml INTERFACE pugixml::pugixml)
    else()
      ocellus_dependency(pugixml
        HEADER pugixml.cpp
        REPOSITORY https://github.com/zeux/pugixml.git
        COMMIT ee86beb30e4973f5feffe3ce63bfa4fbadf72f38 INCLUDE src # 1.15
        PACKAGES "apt: libpugixml-dev, dnf: pugixml-devel, pacman: pugixml, brew: pugixml")
      target_compile_definitions(ocellus::pugixml INTERFACE PUGIXML_HEADER_ONLY)
    endif()
  endif()
endmacro()

# What only the tests, the program and the benchmarks need.
macro(ocellus_doctest_dependency)
  ocellus_dependency(doctest
    HEADER doctest/doctest.h
    REPOSITORY https://github.com/doctest/doctest.git
    COMMIT 1da23a3e8119ec5cce4f9388e91b065e20bf06f5 # 2.4.12
    PACKAGES "apt: doctest-dev, dnf: doctest-devel, pacman: doctest, brew: doctest")
endmacro()

macro(ocellus_cli11_dependency)
  ocellus_dependency(cli11
    HEADER CLI/CLI.hpp
    REPOSITORY https://github.com/CLIUtils/CLI11.git
    COMMIT 37bb6edc5317e99af72ef48405e65d9ca5218861 INCLUDE include # 2.6.2
    PACKAGES "apt: libcli11-dev, dnf: cli11-devel, pacman: cli11, brew: cli11")
endmacro()

macro(ocellus_benchmark_dependency)
  if(NOT OCELLUS_FETCH_DEPS)
    find_package(benchmark QUIET)
  endif()
  if(NOT TARGET benchmark::benchmark)
    include(FetchContent)
    message(STATUS "benchmark: fetching the pinned release "
                   "(or install apt: libbenchmark-dev, dnf: google-benchmark-devel, pacman: benchmark, brew: google-benchmark)")
    set(BENCHMARK_ENABLE_TESTING OFF CACHE INTERNAL "")
    set(BENCHMARK_ENABLE_INSTALL OFF CACHE INTERNAL "")
    FetchContent_Declare(benchmark GIT_REPOSITORY https://github.com/google/benchmark.git
                         GIT_TAG 192ef10025eb2c4cdd392bc502f0c852196baa48) # 1.9.5
    FetchContent_MakeAvailable(benchmark)
  endif()
endmacro()
