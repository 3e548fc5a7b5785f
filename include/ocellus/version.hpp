// The single source of the library's version: CMake, the package files and the program read it from here.
#pragma once

#define OCELLUS_VERSION_MAJOR 0
#define OCELLUS_VERSION_MINOR 1
#define OCELLUS_VERSION_PATCH 0
#define OCELLUS_VERSION "0.1.0"
