// The op door, records and backward, guards, the visitor of modules, the tracer and its graph.
#pragma once

#include <ocellus/autograd/backward.hpp>
#include <ocellus/autograd/broadcast.hpp>
#include <ocellus/autograd/call.hpp>
#include <ocellus/autograd/context.hpp>
#include <ocellus/autograd/graph.hpp>
#include <ocellus/autograd/op.hpp>
#include <ocellus/autograd/visitor.hpp>
