// Losses: classes, masks, numbers, overlap, and their weighted sum.
#pragma once

#include <ocellus/losses/binary_cross_entropy.hpp>
#include <ocellus/losses/cross_entropy.hpp>
#include <ocellus/losses/dice.hpp>
#include <ocellus/losses/reduction.hpp>
#include <ocellus/losses/regression.hpp>
#include <ocellus/losses/terms.hpp>
