// Losses: classes, masks, numbers, overlap, boxes and detection, assignments, and their weighted sum.
#pragma once

#include <ocellus/losses/binary_cross_entropy.hpp>
#include <ocellus/losses/boxes.hpp>
#include <ocellus/losses/cross_entropy.hpp>
#include <ocellus/losses/detection.hpp>
#include <ocellus/losses/dice.hpp>
#include <ocellus/losses/dual.hpp>
#include <ocellus/losses/focal.hpp>
#include <ocellus/losses/hungarian.hpp>
#include <ocellus/losses/reduction.hpp>
#include <ocellus/losses/regression.hpp>
#include <ocellus/losses/terms.hpp>
