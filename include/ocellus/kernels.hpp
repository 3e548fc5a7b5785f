// The kernels' table: raw loops on pointers, chosen by instruction set.
#pragma once

#include <ocellus/kernels/activation.hpp>
#include <ocellus/kernels/dispatch.hpp>
#include <ocellus/kernels/table.hpp>
