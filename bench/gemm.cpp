// Matrix products and convolutions in GFLOP/s, and as a share of what the cores can do at most: a loop of fused
// multiply-adds in registers, measured beside every figure with the same instruction set. One thread: CPU time; more:
// wall time. Best of repeated runs. Usage: bench_gemm [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <vector>

#include <ocellus/kernels.hpp>
#include <ocellus/runtime.hpp>

namespace {

using ocellus::Act;
using ocellus::Index;
using ocellus::kernels::table;

double now() {
  if (ocellus::num_threads() == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Twelve independent chains of multiply-adds on vectors of `Bytes`.
template <int Bytes>
struct Chains {
  typedef float vector __attribute__((vector_size(Bytes)));
  static constexpr int count = 12;
  static constexpr long steps = 20000;
  static constexpr double flops = 2.0 * count * steps * Bytes / sizeof(float);

  static inline __attribute__((always_inline)) void run(float* out) {
    vector x = {};
    vector y = {};
    x += *static_cast<volatile float*>(out);
    y += *static_cast<volatile float*>(out) * 1e-9f;
    vector a0 = x, a1 = x + 1, a2 = x + 2, a3 = x + 3, a4 = x + 4, a5 = x + 5;
    vector a6 = x + 6, a7 = x + 7, a8 = x + 8, a9 = x + 9, a10 = x + 10, a11 = x + 11;
    for (long i = 0; i < steps; ++i) {
      a0 = a0 * x + y;
      a1 = a1 * x + y;
      a2 = a2 * x + y;
      a3 = a3 * x + y;
      a4 = a4 * x + y;
      a5 = a5 * x + y;
      a6 = a6 * x + y;
      a7 = a7 * x + y;
      a8 = a8 * x + y;
      a9 = a9 * x + y;
      a10 = a10 * x + y;
      a11 = a11 * x + y;
    }
    const vector sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
    std::memcpy(out, &sum, sizeof sum);
  }
};

#if defined(__x86_64__)
__attribute__((target("avx512f,fma"))) void chains_512(float* out) { Chains<64>::run(out); }
__attribute__((target("avx2,fma"))) void chains_256(float* out) { Chains<32>::run(out); }
#endif
void chains_128(float* out) { Chains<16>::run(out); }

// GFLOP/s of all threads together, best of a few runs.
double peak() {
  void (*chains)(float*) = &chains_128;
  double flops = Chains<16>::flops;
#if defined(__x86_64__)
  if (std::strcmp(table<float>().instruction_set, "avx512") == 0) {
    chains = &chains_512;
    flops = Chains<64>::flops;
  } else if (std::strcmp(table<float>().instruction_set, "avx2") == 0) {
    chains = &chains_256;
    flops = Chains<32>::flops;
  }
#endif
  const int threads = ocellus::num_threads();
  double best = 0;
  for (int i = 0; i < 12; ++i) {
    const double start = now();
    ocellus::run_pieces(
        8 * threads,
        [](void* context, Index) {
          alignas(64) float out[16] = {1.0f};
          (*static_cast<void (**)(float*)>(context))(out);
        },
        &chains);
    best = std::max(best, 8 * threads * flops / (now() - start) * 1e-9);
  }
  return best;
}

template <class F>
void report(const char* name, double flops, F&& f) {
  f();
  const long repeats = std::max(1L, static_cast<long>(2e8 / flops));
  double seconds = 1e30;
  double limit = 0;
  for (int i = 0; i < 8; ++i) {
    limit = std::max(limit, peak());
    for (int j = 0; j < 4; ++j) {
      const double start = now();
      for (long k = 0; k < repeats; ++k) f();
      seconds = std::min(seconds, (now() - start) / static_cast<double>(repeats));
    }
  }
  const double rate = flops / seconds * 1e-9;
  std::printf("%-34s %8.1f GFLOP/s  %3.0f %% of %.0f\n", name, rate, 100 * rate / limit, limit);
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
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 17) * 0.125f - 1;
  return v;
}

// mode: 'p' packed B with bias and ReLU, 'n' and 't' B given as it is or transposed, 'w' Aᵀ B (the gradient of a
// weight)
void product(Index m, Index n, Index k, char mode) {
  const Numbers a = numbers(m * k);
  const Numbers b = numbers(n * k);
  const Numbers bias = numbers(n);
  Numbers c(static_cast<std::size_t>(m * n));
  Numbers packed(static_cast<std::size_t>(table<float>().gemm_packed_size(n, k)));
  ocellus::kernels::Gemm<float> g;
  g.m = m;
  g.n = n;
  g.k = k;
  g.a = a.data();
  g.transpose_a = mode == 'w';
  g.lda = g.transpose_a ? m : k;
  g.b = b.data();
  g.transpose_b = mode == 't';
  g.ldb = g.transpose_b ? k : n;
  g.c = c.data();
  g.ldc = n;
  if (mode == 'p') {
    table<float>().gemm_pack(n, k, b.data(), n, false, packed.data());
    g.packed_b = packed.data();
    g.epilogue.bias = bias.data();
    g.epilogue.before = Act::relu;
  }
  char name[64];
  const char* kind = mode == 'p' ? "packed" : mode == 'n' ? "A B" : mode == 't' ? "A Bt" : "At B";
  std::snprintf(name, sizeof name, "%ldx%ldx%ld %s", static_cast<long>(m), static_cast<long>(n), static_cast<long>(k),
                kind);
  report(name, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k),
         [&] { table<float>().gemm(g); });
}

void convolution(Index size, Index channels, Index out, Index kernel, Index stride, Index groups, bool backward,
                 Index batch = 1) {
  ocellus::kernels::ConvShape s;
  s.batch = batch;
  s.height = s.width = size;
  s.channels = channels;
  s.out_channels = out;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = kernel == stride ? 0 : kernel / 2;
  s.dilation = 1;
  s.groups = groups;
  s.out_height = s.out_width = (size + 2 * s.padding.h - kernel) / stride + 1;
  const Index pixels = batch * s.out_height * s.out_width;
  const Index weights = out * kernel * kernel * (channels / groups);
  const Numbers x = numbers(batch * size * size * channels);
  const Numbers weight = numbers(weights);
  const Numbers bias = numbers(out);
  Numbers packed(static_cast<std::size_t>(table<float>().conv_packed_size(s)));
  table<float>().conv_pack(s, weight.data(), packed.data());
  Numbers y(static_cast<std::size_t>(pixels * out));
  const double flops = 2.0 * static_cast<double>(pixels) * static_cast<double>(weights);
  char name[64];
  const auto named = [&](const char* what) {
    std::snprintf(name, sizeof name, "%ld² %ld>%ld k%ld s%ld b%ld %s%s", static_cast<long>(size),
                  static_cast<long>(channels), static_cast<long>(out), static_cast<long>(kernel),
                  static_cast<long>(stride), static_cast<long>(batch), groups > 1 ? "depthwise " : "", what);
    return name;
  };
  ocellus::kernels::Conv<float> c;
  c.shape = s;
  c.x = x.data();
  c.packed_weight = packed.data();
  c.y = y.data();
  c.epilogue.bias = bias.data();
  c.epilogue.before = Act::relu;
  report(named("forward"), flops, [&] { table<float>().conv(c); });
  if (!backward) return;
  Numbers dx(x.size());
  Numbers dweight(weight.size());
  ocellus::kernels::ConvBackward<float> b;
  b.shape = s;
  b.x = x.data();
  b.weight = weight.data();
  b.dy = y.data();
  b.dx = dx.data();
  report(named("dx"), flops, [&] { table<float>().conv_backward(b); });
  b.dx = nullptr;
  b.dweight = dweight.data();
  report(named("dweight"), flops, [&] { table<float>().conv_backward(b); });
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ocellus::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("%s, %d thread(s)\n", table<float>().instruction_set, ocellus::num_threads());
  const Index packed[][3] = {{1024, 1024, 1024}, {16384, 32, 32},  {4096, 256, 64}, {1024, 640, 160},
                             {256, 1024, 256},   {256, 256, 1024}, {197, 768, 768}, {197, 3072, 768},
                             {197, 768, 3072},   {1, 1000, 2048},  {3136, 64, 576}, {37, 45, 33}};
  product(512, 32, 32, 'p');
  for (const auto& s : packed) product(s[0], s[1], s[2], 'p');
  product(1024, 1024, 1024, 'n');
  product(4096, 256, 64, 't');
  product(1, 1000, 2048, 't');
  product(64, 256, 65536, 'w');
  product(256, 64, 16384, 'w');
  product(32, 32, 65536, 'w');
  product(160, 640, 8192, 'w');
  convolution(56, 64, 64, 3, 1, 1, true);
  convolution(28, 128, 128, 3, 1, 1, false);
  convolution(14, 256, 256, 3, 1, 1, false);
  convolution(7, 512, 512, 3, 1, 1, true);
  convolution(80, 64, 128, 3, 2, 1, true);
  convolution(512, 3, 32, 7, 4, 1, true);
  convolution(224, 3, 32, 3, 2, 1, false);
  convolution(128, 32, 32, 8, 8, 1, true);
  convolution(56, 96, 96, 3, 1, 96, true);
  convolution(32, 640, 640, 3, 1, 640, true);
  convolution(128, 128, 128, 3, 1, 128, true);
  convolution(56, 144, 144, 5, 2, 144, true);
}
