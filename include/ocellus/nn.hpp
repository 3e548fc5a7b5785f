// Modules, their visitors, initialisation, checkpoints' names and layouts, and the layers.
#pragma once

#include <ocellus/nn/activation.hpp>
#include <ocellus/nn/any_module.hpp>
#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/conv_norm_act.hpp>
#include <ocellus/nn/dropout.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/nn/linear.hpp>
#include <ocellus/nn/module.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/nn/pool.hpp>
#include <ocellus/nn/sequential.hpp>
#include <ocellus/nn/state.hpp>
