// Memory that a kernel needs for one call and forgets: a stack per thread that grows to the largest need and is then reused, so a
// warmed-up computation allocates nothing.
#pragma once

#include <cstddef>

#include <ocellus/core/shape.hpp>

namespace ocellus {

// A frame of the calling thread's stack; what was taken is given back when the frame ends. Frames nest.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised, 64-byte aligned, followed by at least 64 readable bytes (vector loads may run over the end).
  template <class T>
  T* take(Index n) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(n) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);

  std::size_t block_;
  std::size_t used_;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_RUNTIME)
#include <algorithm>
#include <new>
#include <vector>

namespace ocellus {
namespace runtime_detail {

struct ScratchStack {
  struct Block {
    char* data;
    std::size_t size;
  };
  std::vector<Block> blocks;
  std::size_t block = 0;  // the one in use
  std::size_t used = 0;   // bytes of it

  ~ScratchStack() {
    for (const Block& b : blocks) ::operator delete(b.data, std::align_val_t{64});
  }
};

OCELLUS_FN ScratchStack& scratch_stack() {
  thread_local ScratchStack stack;
  return stack;
}

}  // namespace runtime_detail

OCELLUS_FN Scratch::Scratch() : block_(runtime_detail::scratch_stack().block), used_(runtime_detail::scratch_stack().used) {}

OCELLUS_FN Scratch::~Scratch() {
  runtime_detail::ScratchStack& stack = runtime_detail::scratch_stack();
  stack.block = block_;
  stack.used = used_;
}

OCELLUS_FN void* Scratch::take_bytes(std::size_t bytes) {
  runtime_detail::ScratchStack& stack = runtime_detail::scratch_stack();
  const std::size_t need = (bytes + 64 + 63) / 64 * 64;
  while (stack.block < stack.blocks.size() && stack.used + need > stack.blocks[stack.block].size) {
    ++stack.block;
    stack.used = 0;
  }
  if (stack.block == stack.blocks.size()) {
    const std::size_t size = std::max(need, std::size_t{1} << 20);
    stack.blocks.push_back({static_cast<char*>(::operator new(size, std::align_val_t{64})), size});
  }
  void* p = stack.blocks[stack.block].data + stack.used;
  stack.used += need;
  return p;
}

}  // namespace ocellus
#endif
