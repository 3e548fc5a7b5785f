// Training, evaluation, checkpoints and their reports.
#pragma once

#include <ocellus/train/checkpoint.hpp>
#include <ocellus/train/evaluate.hpp>
#include <ocellus/train/fit.hpp>
#include <ocellus/train/train_log.hpp>
#include <ocellus/train/training_step.hpp>
