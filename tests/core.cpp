// Shapes, element types, memory, callables, tensors, random numbers, threads, scratch memory.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <ocellus/core.hpp>
#include <ocellus/runtime.hpp>

using namespace ocellus;

TEST_CASE("Shape") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s[-1] == 4);
  CHECK(s.numel() == 24);
  CHECK(s.rows() == 6);
  CHECK(s.str() == "(2, 3, 4)");
  CHECK(Shape{}.numel() == 1);
  CHECK(s == Shape{2, 3, 4});
  CHECK_FALSE(s == Shape{2, 3});
  CHECK_THROWS_WITH_AS((void)s[3], "Shape: axis 3 of (2, 3, 4) does not exist", ShapeError);
  CHECK_THROWS_WITH_AS((void)s[-4], "Shape: axis -4 of (2, 3, 4) does not exist", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), "Shape: more than 8 axes", ShapeError);
}

TEST_CASE("half precisions round to nearest even and survive a round trip") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    float16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    bfloat16 b;
    b.bits = static_cast<std::uint16_t>(bits);
    const float fh = static_cast<float>(h), fb = static_cast<float>(b);
    if (std::isnan(fh)) {
      CHECK(std::isnan(static_cast<float>(float16(fh))));
    } else if (float16(fh).bits != bits) {
      FAIL("float16 " << bits);
    }
    if (std::isnan(fb)) {
      CHECK(std::isnan(static_cast<float>(bfloat16(fb))));
    } else if (bfloat16(fb).bits != bits) {
      FAIL("bfloat16 " << bits);
    }
  }
  CHECK(float16(1.0f + 0x1p-11f).bits == float16(1.0f).bits);               // a tie goes to the even neighbour
  CHECK(float16(1.0f + 0x1.8p-10f).bits == float16(1.0f + 0x1p-9f).bits);
  CHECK(static_cast<float>(float16(65519.0f)) == 65504.0f);
  CHECK(std::isinf(static_cast<float>(float16(65520.0f))));
  CHECK(static_cast<float>(float16(0x1p-25f)) == 0.0f);                      // half of the smallest subnormal: to even
  CHECK(static_cast<float>(float16(0x1.8p-25f)) == 0x1p-24f);
  CHECK(bfloat16(1.0f + 0x1p-8f).bits == bfloat16(1.0f).bits);
}

TEST_CASE("tensors share storage, reshape is a view, copies are deep") {
  const Tensor x({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor view = reshape(x, {3, -1});
  CHECK(view.shape() == Shape{3, 2});
  CHECK(view.data() == x.data());
  const Tensor copy = x.clone();
  copy[0] = 7;
  CHECK(x[0] == 1);
  CHECK(Tensor::scalar(3).item() == 3);
  CHECK_THROWS_WITH_AS(reshape(x, {4, 2}), "reshape: (2, 3) has 6 elements and does not fit (4, 2)", ShapeError);
  CHECK_THROWS_WITH_AS(reshape(x, {-1, -1}), "reshape: only one size may be -1; got (-1, -1)", ShapeError);
  CHECK_THROWS_WITH_AS(x.item(), "BasicTensor: 1 values for shape (2, 3)", ShapeError);
  CHECK_THROWS_AS(BasicTensor<double>(AnyTensor(x)), ShapeError);
  CHECK_THROWS_AS(Tensor(AnyTensor::symbolic_of({{2}, DType::f32})).data(), UsageError);
}

TEST_CASE("storage is aligned whatever its size, and released") {
  constexpr std::size_t large_page = std::size_t{1} << 21;
  for (const Storage::Kind kind : {Storage::Kind::allocated, Storage::Kind::large_pages}) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, large_page - 1, large_page, 3 * large_page + 5}) {
      CAPTURE(bytes);
      const Storage storage(bytes, kind);
      CHECK(storage.bytes() == bytes);
      CHECK_FALSE(storage.symbolic());
      REQUIRE(storage.data() != nullptr);
      const std::size_t alignment = kind == Storage::Kind::large_pages && bytes >= large_page ? large_page : 64;
      CHECK(reinterpret_cast<std::uintptr_t>(storage.data()) % alignment == 0);
      std::memset(storage.data(), 7, bytes);
      if (bytes > 0) CHECK(static_cast<const char*>(storage.data())[bytes - 1] == 7);
    }
  }
  const Storage nothing(large_page, Storage::Kind::symbolic);
  CHECK(nothing.symbolic());
  CHECK(nothing.data() == nullptr);

  const auto owner = std::make_shared<int>(3);
  {
    const Storage borrowed(owner.get(), sizeof(int), owner);
    CHECK(borrowed.data() == owner.get());
    CHECK(owner.use_count() == 2);
  }
  CHECK(owner.use_count() == 1);

#if defined(__linux__)
  const auto pages = [] {  // of address space
    long count = 0;
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    REQUIRE(file != nullptr);
    CHECK(std::fscanf(file, "%ld", &count) == 1);
    std::fclose(file);
    return count;
  };
  const long before = pages();
  for (int i = 0; i < 64; ++i) Storage(std::size_t{64} << 20, Storage::Kind::large_pages);
  CHECK(pages() - before < 1000000 / 4);  // 64 times 64 MiB are a million
#endif
}

TEST_CASE("a Function holds any callable, copies share it, and what it calls is what was given") {
  using Count = Function<int()>;
  Count empty;
  CHECK_FALSE(empty);
  CHECK_FALSE(Count(static_cast<int (*)()>(nullptr)));
  CHECK_FALSE(Count(std::function<int()>()));
  CHECK_FALSE(Function<long()>(Count()));
  CHECK(Count(std::function<int()>([] { return 2; }))() == 2);
  CHECK(Count(+[] { return 3; })() == 3);
  CHECK(Function<long()>(Count([] { return 4; }))() == 4);

  Count counter = [n = 0]() mutable { return ++n; };
  const Count copy = counter;
  CHECK(counter() == 1);
  CHECK(copy() == 2);
  CHECK(counter() == 3);
  counter = {};
  CHECK_FALSE(counter);
  CHECK(copy() == 4);
  const auto alive = std::make_shared<int>(1);
  {
    const Function<void()> holder = [alive] {};
    const Function<void()> second = holder;
    CHECK(alive.use_count() == 2);
  }
  CHECK(alive.use_count() == 1);

  // References are the caller's, values that only move are moved, and results may be dropped.
  const Function<int&(int&, const int&)> larger = [](int& a, const int& b) -> int& { return a += b; };
  int a = 1;
  const int b = 2;
  CHECK(&larger(a, b) == &a);
  CHECK(a == 3);
  const Function<std::unique_ptr<int>(std::unique_ptr<int>)> pass = [](std::unique_ptr<int> p) { return p; };
  auto given = std::make_unique<int>(5);
  const int* const address = given.get();
  CHECK(pass(std::move(given)).get() == address);
  const Function<void(int)> dropped = [&](int x) { return a = x; };
  dropped(9);
  CHECK(a == 9);
  const Function<int()> moved_in = [p = std::make_unique<int>(6)] { return *p; };
  CHECK(moved_in() == 6);
  static_assert(!std::is_constructible_v<Function<int(int)>, int (*)(const char*)>);
}

TEST_CASE("convert") {
  const Tensor x({4}, {-1.5f, 0, 2.25f, 100});
  CHECK(convert<double>(x)[2] == 2.25);
  CHECK(convert<std::int64_t>(x)[0] == -1);
  CHECK(static_cast<float>(convert<bfloat16>(x)[3]) == 100);
  CHECK(convert<float>(convert(x, DType::f16))[0] == -1.5f);
}

TEST_CASE("Philox gives the published numbers") {
  // Known answers of Random123's kat_vectors for philox4x32, 10 rounds.
  const PhiloxBlock zero = philox(0, 0, 0);
  CHECK(zero.word[0] == 0x6627e8d5u);
  CHECK(zero.word[1] == 0xe169c58du);
  CHECK(zero.word[2] == 0xbc57ac4cu);
  CHECK(zero.word[3] == 0x9b00dbd8u);
  const PhiloxBlock ones = philox(~0ull, ~0ull, ~0ull);
  CHECK(ones.word[0] == 0x408f276du);
  CHECK(ones.word[1] == 0x41c83b0eu);
  CHECK(ones.word[2] == 0xa20bc7c6u);
  CHECK(ones.word[3] == 0x6d5451fdu);
}

TEST_CASE("random streams") {
  RandomStream r(7);
  double sum = 0, squares = 0;
  constexpr int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double x = static_cast<double>(r.normal());
    sum += x;
    squares += x * x;
  }
  CHECK(std::abs(sum / n) < 0.03);
  CHECK(std::abs(squares / n - 1) < 0.05);
  std::vector<int> order(50);
  for (int i = 0; i < 50; ++i) order[static_cast<std::size_t>(i)] = i;
  RandomStream a(3), b(3);
  std::vector<int> other = order;
  a.shuffle(order.data(), 50);
  b.shuffle(other.data(), 50);
  CHECK(order == other);
  int total = 0;
  for (int i : order) total += i;
  CHECK(total == 49 * 50 / 2);
  for (int i = 0; i < 1000; ++i) {
    if (r.below(7) >= 7) FAIL("below");
  }
}

TEST_CASE("the pool covers every piece once, nests serially and forwards exceptions") {
  const int before = num_threads();
  for (int threads : {1, 2, 3, 5}) {
    set_num_threads(threads);
    std::vector<std::atomic<int>> hits(1000);
    parallel_for(1000, 7, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
      parallel_for(3, 1, [&](Index, Index) {});
    });
    bool once = true;
    for (const auto& h : hits) once &= h == 1;
    CHECK(once);
    CHECK_THROWS_AS(parallel_for(100, 1, [](Index, Index end) {
                      if (end > 10) throw std::runtime_error("piece");
                    }),
                    std::runtime_error);
  }
  set_num_threads(2);
  std::atomic<Index> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) parallel_for(64, 1, [&](Index begin, Index end) { sum += end - begin; });
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK(sum == 4 * 200 * 64);
  CHECK_THROWS_AS(set_num_threads(0), UsageError);
  set_num_threads(before);
}

TEST_CASE("scratch frames nest, align and reuse") {
  float* first = nullptr;
  {
    Scratch frame;
    first = frame.take<float>(100);
    CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
    {
      Scratch inner;
      CHECK(inner.take<double>(1 << 20) != nullptr);
    }
    first[99] = 1;
  }
  Scratch again;
  CHECK(again.take<float>(100) == first);
}
