// Optimizers, schedules of the learning rate, clipping of gradients, averages of weights.
#pragma once

#include <ocellus/optim/ema.hpp>
#include <ocellus/optim/optimizer.hpp>
#include <ocellus/optim/schedule.hpp>
