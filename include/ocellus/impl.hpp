// The split library without CMake: include this in exactly one file and compile the whole program with -DOCELLUS_SPLIT.
// Its kernels use the instruction set of that one file's flags; the CMake target ocellus::split has them all and chooses at start-up.
#pragma once

#if !defined(OCELLUS_SPLIT)
#error "ocellus/impl.hpp: compile every file of the program with -DOCELLUS_SPLIT"
#endif

#define OCELLUS_IMPL_CORE
#define OCELLUS_IMPL_RUNTIME
#define OCELLUS_IMPL_IO
#define OCELLUS_IMPL_KERNELS
#define OCELLUS_IMPL_KERNEL_SET
#define OCELLUS_IMPL_AUTOGRAD
#define OCELLUS_IMPL_OPS
#define OCELLUS_IMPL_NN
#define OCELLUS_IMPL_VISION
#define OCELLUS_IMPL_LOSSES
#define OCELLUS_IMPL_OPTIM
#define OCELLUS_IMPL_METRICS
#define OCELLUS_IMPL_DATA
#define OCELLUS_IMPL_MODELS
#define OCELLUS_IMPL_GRAPH
#define OCELLUS_IMPL_PIPELINE
#define OCELLUS_IMPL_TRAIN
#define OCELLUS_IMPL_TESTING

#include <ocellus/ocellus.hpp>
#include <ocellus/testing.hpp>

