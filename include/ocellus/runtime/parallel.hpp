// The thread pool. Workers spin briefly for the next job and then park; the caller works too. Nested calls and calls from a second
// thread while the pool is busy run serially, so nothing oversubscribes and nothing deadlocks.
// Which thread computes which piece is left to chance, so pieces must write disjoint outputs; a reduction is cut by its size alone
// and its partial results are added in a fixed order by the caller (same bits for any number of threads).
// OCELLUS_SINGLE_THREAD compiles the library without any of this: the caller computes every piece, and nothing needs thread support.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <ocellus/core/shape.hpp>

namespace ocellus {

// Threads that share one call's work, the caller included. Default: OCELLUS_NUM_THREADS, else the CPUs this process may use.
int num_threads();
// Takes effect for the next call; not while another thread computes. 1: nothing is ever started. Throws UsageError for less than 1,
// and with OCELLUS_SINGLE_THREAD for more.
void set_num_threads(int threads);

// Calls body(context, piece) for every piece in [0, pieces); an exception in a piece reaches the caller after all have ended.
void run_pieces(Index pieces, void (*body)(void* context, Index piece), void* context);

// Calls f(begin, end) on disjoint ranges that cover [0, n), each at least `grain` long (the last one excepted).
template <class F>
void parallel_for(Index n, Index grain, F&& f) {
  if (n <= 0) return;
  const Index most = std::max<Index>(1, n / std::max<Index>(grain, 1));
  const Index pieces = std::min<Index>(most, num_threads() > 1 ? Index{4} * num_threads() : 1);
  if (pieces == 1) {
    f(Index{0}, n);
    return;
  }
  struct Job {
    std::remove_reference_t<F>* f;
    Index n, pieces;
  } job{&f, n, pieces};
  run_pieces(
      pieces,
      [](void* context, Index piece) {
        const Job& x = *static_cast<Job*>(context);
        (*x.f)(x.n * piece / x.pieces, x.n * (piece + 1) / x.pieces);
      },
      &job);
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_RUNTIME)
#if defined(OCELLUS_SINGLE_THREAD)
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus {

OCELLUS_FN int num_threads() { return 1; }
OCELLUS_FN void set_num_threads(int threads) {
  if (threads == 1) return;
  throw UsageError("set_num_threads: the library is compiled with OCELLUS_SINGLE_THREAD; got " + std::to_string(threads));
}
OCELLUS_FN void run_pieces(Index pieces, void (*body)(void*, Index), void* context) {
  for (Index i = 0; i < pieces; ++i) body(context, i);
}

}  // namespace ocellus
#else
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/scratch.hpp>

namespace ocellus {
namespace runtime_detail {

OCELLUS_FN void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

OCELLUS_FN int default_threads() {
  if (const char* text = std::getenv("OCELLUS_NUM_THREADS")) {
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    if (end == text || *end || n < 1 || n > 1024) {
      throw UsageError("OCELLUS_NUM_THREADS must be a number from 1 to 1024; got '" + std::string(text) + "'");
    }
    return static_cast<int>(n);
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// One job at a time. A thread owns a piece when it counts a positive `left_` down; the job's other members are read by owners only, and
// stay as they are until every piece has ended. So a worker that the system does not run holds up nothing but the piece it owns.
class Pool {
 public:
  static Pool& instance() {
    static Pool pool;
    return pool;
  }

  int size() const { return size_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    if (threads < 1) throw UsageError("set_num_threads: at least one thread is needed; got " + std::to_string(threads));
    std::lock_guard lock(busy_);
    stop();
    size_ = threads;
  }

  void run(Index pieces, void (*body)(void*, Index), void* context) {
    if (pieces <= 0) return;
    if (pieces == 1 || size() == 1 || inside() || !busy_.try_lock()) {
      for (Index i = 0; i < pieces; ++i) body(context, i);
      return;
    }
    std::lock_guard lock(busy_, std::adopt_lock);
    if (workers_.empty()) start();
    body_ = body;
    context_ = context;
    pieces_ = pieces;
    unfinished_.store(pieces, std::memory_order_relaxed);
    left_.store(pieces, std::memory_order_seq_cst);
    if (parked_.load(std::memory_order_seq_cst)) {
      std::lock_guard wake_lock(mutex_);
      bar_own_cpu();
      wake_.notify_all();
    }
    inside() = true;
    work();
    inside() = false;
    const auto done = [this] { return unfinished_.load(std::memory_order_seq_cst) == 0; };
    if (!spin_until(done)) {
      std::unique_lock wait_lock(mutex_);
      caller_waits_.store(true, std::memory_order_seq_cst);
      ended_.wait(wait_lock, done);
      caller_waits_.store(false, std::memory_order_relaxed);
    }
    if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
  }

 private:
  // Longer than the gap between two ops of a model and than most waits for an op's last piece. Who waits longer sleeps: a thread that
  // spins uses up the time that the system grants it, and is not run when the others could go on.
  static constexpr double spin_seconds = 200e-6;

  Pool() : size_(default_threads()) {}
  ~Pool() { stop(); }

  static bool& inside() {
    thread_local bool flag = false;
    return flag;
  }

  template <class Condition>
  static bool spin_until(const Condition& condition) {
    if (condition()) return true;
    const double end = seconds() + spin_seconds;
    do {
      for (int i = 0; i < 16; ++i) {
        relax();
        if (condition()) return true;
      }
    } while (seconds() < end);
    return false;
  }

  struct Worker {
    std::thread thread;
    bool asleep = false;  // guarded by mutex_, as what follows
#if defined(__linux__)
    cpu_set_t allowed;  // what it had when it fell asleep
#endif
  };

  void start() {
    for (int i = 1; i < size(); ++i) {
      Worker& worker = *workers_.emplace_back(std::make_unique<Worker>());
      worker.thread = std::thread([this, &worker] { serve(worker); });
    }
  }

  // A thread that is woken may be queued behind the one that wakes it, which goes on computing, and stay there for many milliseconds
  // although another CPU is idle. So whoever wakes the workers bars them from its CPU; they lift that when they run.
  void bar_own_cpu() {
#if defined(__linux__)
    const int own = sched_getcpu();
    for (const auto& worker : workers_) {
      cpu_set_t others = worker->allowed;
      if (!worker->asleep || own < 0 || own >= CPU_SETSIZE) continue;
      CPU_CLR(static_cast<std::size_t>(own), &others);
      if (CPU_COUNT(&others) > 0) pthread_setaffinity_np(worker->thread.native_handle(), sizeof others, &others);
    }
#endif
  }

  void sleep_until_called(Worker& worker) {
    const auto called = [this] { return is_called(); };
    std::unique_lock lock(mutex_);
#if defined(__linux__)
    worker.asleep = sched_getaffinity(0, sizeof worker.allowed, &worker.allowed) == 0;
#endif
    parked_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, called);
    parked_.fetch_sub(1, std::memory_order_relaxed);
#if defined(__linux__)
    if (std::exchange(worker.asleep, false)) sched_setaffinity(0, sizeof worker.allowed, &worker.allowed);
#endif
  }

  bool is_called() const { return left_.load(std::memory_order_seq_cst) > 0 || stopping_.load(std::memory_order_relaxed); }

  void stop() {
    if (workers_.empty()) return;
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (const auto& worker : workers_) worker->thread.join();
    workers_.clear();
    stopping_ = false;
  }

  void serve(Worker& worker) {
    inside() = true;
    for (;;) {
      if (!spin_until([this] { return is_called(); })) sleep_until_called(worker);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (work() && unfinished_.load(std::memory_order_seq_cst) == 0 && caller_waits_.load(std::memory_order_seq_cst)) {
        std::lock_guard lock(mutex_);
        ended_.notify_one();
      }
    }
  }

  // Computes pieces until none is left to take; whether it found any.
  bool work() {
    level_scratch();
    Index finished = 0;
    for (Index left; (left = left_.fetch_sub(1, std::memory_order_acq_rel)) > 0; ++finished) {
      try {
        body_(context_, pieces_ - left);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!failed_) failed_ = std::current_exception();
      }
    }
    unfinished_.fetch_sub(finished, std::memory_order_seq_cst);
    return finished > 0;
  }

  std::mutex busy_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<int> size_;

  void (*body_)(void*, Index) = nullptr;
  void* context_ = nullptr;
  Index pieces_ = 0;
  alignas(64) std::atomic<Index> left_{0};        // pieces that nobody has taken, if positive
  alignas(64) std::atomic<Index> unfinished_{0};  // pieces that have not ended
  alignas(64) std::atomic<int> parked_{0};        // workers asleep
  std::atomic<bool> caller_waits_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable ended_;
  std::exception_ptr failed_;
};

}  // namespace runtime_detail

OCELLUS_FN int num_threads() { return runtime_detail::Pool::instance().size(); }
OCELLUS_FN void set_num_threads(int threads) { runtime_detail::Pool::instance().resize(threads); }
OCELLUS_FN void run_pieces(Index pieces, void (*body)(void*, Index), void* context) {
  runtime_detail::Pool::instance().run(pieces, body, context);
}

}  // namespace ocellus
#endif
#endif
