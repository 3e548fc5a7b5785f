// The library's definitions, for a program built without CMake.
#include <ocellus/impl.hpp>
