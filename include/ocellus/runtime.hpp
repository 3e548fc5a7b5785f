// Threads, scratch memory, random numbers, clock.
#pragma once

#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/mutex.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/random.hpp>
#include <ocellus/runtime/scratch.hpp>
