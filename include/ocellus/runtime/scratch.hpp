// Memory that a kernel needs for one call and forgets: a stack per thread that grows to the largest need and is then reused, so a
// warmed-up computation allocates nothing. The threads of the pool learn of each other's need, as chance decides who computes what.
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

// Makes room on the calling thread's stack for all that any thread has needed so far.
void level_scratch();

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_RUNTIME)
#include <algorithm>
#include <atomic>
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

  void grow(std::size_t size) { blocks.push_back({static_cast<char*>(::operator new(size, std::align_val_t{64})), size}); }

  ~ScratchStack() {
    for (const Block& b : blocks) ::operator delete(b.data, std::align_val_t{64});
  }
};

OCELLUS_FN ScratchStack& scratch_stack() {
  thread_local ScratchStack stack;
  return stack;
}

// The size of the largest stack that grew by itself.
OCELLUS_FN std::atomic<std::size_t>& scratch_need() {
  static std::atomic<std::size_t> bytes{0};
  return bytes;
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
    stack.grow(std::max(need, std::size_t{1} << 20));
    std::size_t all = 0;
    for (const auto& block : stack.blocks) all += block.size;
    std::atomic<std::size_t>& most = runtime_detail::scratch_need();
    for (std::size_t known = most.load(); known < all && !most.compare_exchange_weak(known, all);) {
    }
  }
  void* p = stack.blocks[stack.block].data + stack.used;
  stack.used += need;
  return p;
}

OCELLUS_FN void level_scratch() {
  // Twice: the thread that calls the pool holds what all share on top of what each needs for its pieces.
  const std::size_t size = 2 * runtime_detail::scratch_need().load(std::memory_order_relaxed);
  runtime_detail::ScratchStack& stack = runtime_detail::scratch_stack();
  if (size > 0 && (stack.blocks.empty() || stack.blocks.back().size < size)) stack.grow(size);
}

}  // namespace ocellus
#endif
