// Gradient checks and random tensors, for the library's tests and for users' own ops.
#pragma once

#include <ocellus/testing/gradcheck.hpp>
