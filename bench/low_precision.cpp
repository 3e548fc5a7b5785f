// Linear maps and convolutions in bf16 and int8 beside float: the same work in all three, interleaved, so that a change of
// the clock meets all. Rates are the best of the rounds in billions of operations a second (a multiply-add is two), ratios
// the medians of the rounds. Conversion of the activations is part of the work, packing of the weight is not.
// One thread: CPU time; more: wall time. OCELLUS_ISA chooses the instruction set.
// Usage: bench_low_precision [threads]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <new>
#include <vector>

#include <ocellus/kernels.hpp>
#include <ocellus/runtime.hpp>

namespace {

using ocellus::DType;
using ocellus::Index;
using ocellus::kernels::ConvShape;
using ocellus::kernels::low_precision_table;
using ocellus::kernels::table;

double now() {
  if (ocellus::num_threads() == 1) {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// As a tensor's memory: 64-byte aligned.
template <class T>
struct Aligned {
  using value_type = T;
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete (p, std::align_val_t{64}); }
  friend bool operator==(Aligned, Aligned) { return true; }
};
using Numbers = std::vector<float, Aligned<float>>;

Numbers numbers(Index n) {
  Numbers v(static_cast<std::size_t>(n));
  unsigned state = 1;
  for (float& x : v) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 8) * 0x1p-23f - 1;
  }
  return v;
}

// Stops the program where the results are too far from float's.
void check(const Numbers& got, const Numbers& want, double tolerance, const char* name) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double x = static_cast<double>(got[i]);
    const double y = static_cast<double>(want[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  if (std::sqrt(difference / norm) <= tolerance) return;
  std::printf("%s: wrong result: relative distance %g\n", name, std::sqrt(difference / norm));
  std::exit(1);
}

void measure(const char* name, const ConvShape& s) {
  const Index pixels = s.batch * s.out_height * s.out_width;
  const Index k = s.kernel.h * s.kernel.w * s.channels;
  const Numbers x = numbers(s.batch * s.height * s.width * s.channels);
  const Numbers weight = numbers(s.out_channels * k);
  const Numbers bias = numbers(s.out_channels);
  Numbers y[3];
  for (Numbers& result : y) result.resize(static_cast<std::size_t>(pixels * s.out_channels));

  Numbers packed(static_cast<std::size_t>(table<float>().conv_packed_size(s)));
  table<float>().conv_pack(s, weight.data(), packed.data());
  ocellus::kernels::Conv<float> c;
  c.shape = s;
  c.x = x.data();
  c.packed_weight = packed.data();
  c.y = y[0].data();
  c.epilogue.bias = bias.data();
  Numbers low_packed[2];
  ocellus::kernels::LowPrecisionConv low[2];
  for (int i = 0; i < 2; ++i) {
    const DType type = i == 0 ? DType::bf16 : DType::i8;
    low_packed[i].resize(static_cast<std::size_t>(low_precision_table().packed_bytes(type, s.out_channels, k) / 4 + 1));
    low_precision_table().pack(type, s.out_channels, k, weight.data(), low_packed[i].data());
    low[i].type = type;
    low[i].shape = s;
    low[i].x = x.data();
    low[i].packed_weight = low_packed[i].data();
    low[i].y = y[i + 1].data();
    low[i].epilogue.bias = bias.data();
  }
  const std::function<void()> work[] = {[&] { table<float>().conv(c); }, [&] { low_precision_table().conv(low[0]); },
                                        [&] { low_precision_table().conv(low[1]); }};
  for (const auto& f : work) f();
  check(y[1], y[0], 4e-3, name);
  check(y[2], y[0], 2e-2, name);

  const double operations = 2.0 * static_cast<double>(pixels) * static_cast<double>(s.out_channels * k);
  const long repeats = std::max(1L, static_cast<long>(2e7 / operations));
  double rate[3] = {};
  std::vector<double> ratio[3];
  for (int round = 0; round < 40; ++round) {
    double seconds[3];
    for (int i = 0; i < 3; ++i) {
      const double start = now();
      for (long n = 0; n < repeats; ++n) work[i]();
      seconds[i] = now() - start;
      rate[i] = std::max(rate[i], operations * static_cast<double>(repeats) / seconds[i] * 1e-9);
      ratio[i].push_back(seconds[0] / seconds[i]);
    }
  }
  std::printf("%-34s f32 %7.1f   bf16 %7.1f x%5.2f   int8 %7.1f x%5.2f\n", name, rate[0], rate[1], median(ratio[1]),
              rate[2], median(ratio[2]));
}

void linear(Index m, Index n, Index k) {
  ConvShape s;
  s.batch = s.height = s.out_height = 1;
  s.width = s.out_width = m;
  s.channels = k;
  s.out_channels = n;
  char name[64];
  std::snprintf(name, sizeof name, "%ldx%ldx%ld", static_cast<long>(m), static_cast<long>(n), static_cast<long>(k));
  measure(name, s);
}

void convolution(Index size, Index channels, Index out, Index kernel, Index stride) {
  ConvShape s;
  s.batch = 1;
  s.height = s.width = size;
  s.channels = channels;
  s.out_channels = out;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = kernel == stride ? 0 : kernel / 2;
  s.out_height = s.out_width = (size + 2 * s.padding.h - kernel) / stride + 1;
  char name[64];
  std::snprintf(name, sizeof name, "%ld² %ld>%ld k%ld s%ld", static_cast<long>(size), static_cast<long>(channels),
                static_cast<long>(out), static_cast<long>(kernel), static_cast<long>(stride));
  measure(name, s);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ocellus::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("%s, %d thread(s), GOP/s\n", low_precision_table().instruction_set, ocellus::num_threads());
  const Index shapes[][3] = {{197, 768, 768},  {197, 3072, 768}, {197, 768, 3072}, {197, 2304, 768},   {4, 1000, 768},
                             {1, 1000, 768},   {16384, 32, 32},  {16384, 128, 32}, {16384, 32, 128},   {4096, 256, 64},
                             {1024, 640, 160}, {256, 1024, 256}, {256, 256, 1024}, {16384, 256, 256}};
  for (const auto& s : shapes) linear(s[0], s[1], s[2]);
  convolution(224, 3, 768, 16, 16);
  convolution(512, 3, 32, 7, 4);
  convolution(128, 32, 64, 3, 2);
  convolution(64, 64, 64, 4, 4);
  convolution(56, 64, 64, 3, 1);
  convolution(14, 256, 256, 3, 1);
}
