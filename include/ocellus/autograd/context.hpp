// What belongs to the calling thread: is anything recorded, is this training, where in the model are we, does a tracer listen.
#pragma once

#include <cstdint>
#include <string>
#include <limits>
#include <utility>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/runtime/random.hpp>

namespace ocellus {

class AnyTensor;
class Tracer;
class Visitor;

// A module whose forward is running. A struct and its first member share an address, so the type belongs to the identity.
struct ModuleFrame {
  const void* module;
  const char* type;
  void (*visit)(void* module, Visitor&);

  friend bool operator==(const ModuleFrame& a, const ModuleFrame& b) { return a.module == b.module && a.type == b.type; }
};

// Sees what every module returns, by checkpoint path: for dumps, feature extraction and the comparison with a reference.
class ModuleObserver {
 public:
  ModuleObserver();
  OCELLUS_FN virtual ~ModuleObserver();
  ModuleObserver(const ModuleObserver&) = delete;
  ModuleObserver& operator=(const ModuleObserver&) = delete;

  virtual void output(const std::string& path, const AnyTensor& y) = 0;

 private:
  ModuleObserver* before_;
};

struct Context {
  Tracer* tracer = nullptr;
  ModuleObserver* observer = nullptr;
  bool recording = true;
  bool training = false;
  RandomKey random;  // seed and step of training; stream: the next random op's number
  std::vector<ModuleFrame> modules;
  Index parameter_room = std::numeric_limits<Index>::max();  // what ParameterLimit leaves
};

Context& context();

// The checkpoint path of the innermost running module, looked up from the outermost; empty outside of modules. For errors and traces.
std::string module_path();

// While it lives this thread's constructors make parameters of at most so many elements, else they throw ConfigError: a hostile
// configuration costs an exception, not the memory.
class ParameterLimit {
 public:
  explicit ParameterLimit(Index elements) : before_(std::exchange(context().parameter_room, elements)) {}
  ~ParameterLimit() { context().parameter_room = before_; }
  ParameterLimit(const ParameterLimit&) = delete;
  ParameterLimit& operator=(const ParameterLimit&) = delete;

 private:
  Index before_;
};

// Nothing is recorded while it lives.
class NoGrad {
 public:
  NoGrad() : before_(std::exchange(context().recording, false)) {}
  ~NoGrad() { context().recording = before_; }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// Training behaviour (dropout, batch statistics) while it lives; random ops draw from (seed, step). One guard per step.
class Training {
 public:
  explicit Training(std::uint64_t seed = 0, std::uint32_t step = 0);
  ~Training();
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

 private:
  bool training_;
  RandomKey random_;
};

// Turns training behaviour off inside a Training guard.
class Evaluation {
 public:
  Evaluation() : before_(std::exchange(context().training, false)) {}
  ~Evaluation() { context().training = before_; }
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

 private:
  bool before_;
};

// The running forward of a module: what errors, traces and profiles name. Opened by Module::operator().
class ModuleScope {
 public:
  explicit ModuleScope(const ModuleFrame& frame) { context().modules.push_back(frame); }
  ~ModuleScope() { context().modules.pop_back(); }
  ModuleScope(const ModuleScope&) = delete;
  ModuleScope& operator=(const ModuleScope&) = delete;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD)
namespace ocellus {

OCELLUS_FN Context& context() {
  thread_local Context c;
  return c;
}

OCELLUS_FN ModuleObserver::ModuleObserver() : before_(std::exchange(context().observer, this)) {}
OCELLUS_FN ModuleObserver::~ModuleObserver() { context().observer = before_; }

OCELLUS_FN Training::Training(std::uint64_t seed, std::uint32_t step)
    : training_(std::exchange(context().training, true)), random_(std::exchange(context().random, RandomKey{seed, step, 0})) {}

OCELLUS_FN Training::~Training() {
  context().training = training_;
  context().random = random_;
}

}  // namespace ocellus
#endif
