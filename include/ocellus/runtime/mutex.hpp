// A mutex and its guard. With OCELLUS_SINGLE_THREAD, for programs that use the library from one thread only, they do nothing and the
// library needs no thread support.
#pragma once

#if defined(OCELLUS_SINGLE_THREAD)
namespace ocellus {

struct Mutex {};
struct Lock {
  explicit Lock(Mutex&) {}
};

}  // namespace ocellus
#else
#include <mutex>

namespace ocellus {

using Mutex = std::mutex;
using Lock = std::lock_guard<std::mutex>;

}  // namespace ocellus
#endif
