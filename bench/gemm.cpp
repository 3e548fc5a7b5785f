// Matrix products and convolutions: best and median GFLOP/s, and the share of what the cores can do at most. That limit
// is a loop of fused multiply-adds in registers with the same instruction set, run right behind every millisecond of
// work: a processor that lowers its clock under wide vectors has then the same clock for both. The share is the median
// of these pairs; the last line gives the loop's highest rate. One thread: CPU time; more: wall time.
// Usage: bench_gemm [threads]
#include "gemm_shapes.hpp"
#include "measure.hpp"

namespace {

using namespace bench;
using ocellus::Act;

template <class F>
void report(const char* name, double flops, F&& f) {
  const Rate rate = measure(flops, 60, f);
  std::printf("%-40s %7.1f best %7.1f median GFLOP/s  %3.0f %% of the peak beside it\n", name, rate.best, rate.median,
              100 * rate.share);
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
  table<float>().gemm(g);
  for (const Index at : {Index{0}, m * n / 2, m * n - 1}) {
    double sum = mode == 'p' ? static_cast<double>(bias.data()[at % n]) : 0;
    for (Index i = 0; i < k; ++i) {
      const float x = a.data()[g.transpose_a ? i * m + at / n : at / n * k + i];
      const float y = b.data()[g.transpose_b ? at % n * k + i : i * n + at % n];
      sum += static_cast<double>(x) * static_cast<double>(y);
    }
    check(static_cast<double>(c.data()[at]), mode == 'p' ? std::max(sum, 0.0) : sum, name);
  }
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
  product(512, 32, 32, 'p');
  for (const GemmShape& s : gemm_shapes) product(s.m, s.n, s.k, 'p');
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
  std::printf("highest peak: %.1f GFLOP/s\n", highest_peak);
}
