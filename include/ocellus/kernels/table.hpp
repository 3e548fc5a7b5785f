// The kernels as the rest of the library sees them: what they take (arguments.hpp) and kernels::table<T>(), which header-only users get
// defined with it.
#pragma once

#include <ocellus/kernels/arguments.hpp>

#if !defined(OCELLUS_SPLIT)
#include <ocellus/kernels/dispatch.hpp>
#endif
