// 3x3 convolutions of ResNet-50 and VGG-16 by every algorithm, MobileNetV2's depthwise ones and first layers: GFLOP/s
// counted as the direct sum does (a multiply-add per output, tap and input channel), and their share of the peak beside
// them; Winograd can pass 100 %. Weights are packed outside the timing, bias and ReLU inside. Every Winograd result is
// first compared with the direct one.
// Usage: bench_conv [threads]
#include "measure.hpp"

namespace {

using namespace bench;
using ocellus::Act;
using ocellus::kernels::Conv;
using ocellus::kernels::ConvAlgorithm;
using ocellus::kernels::ConvShape;

constexpr struct {
  ConvAlgorithm algorithm;
  const char* name;
} algorithms[] = {{ConvAlgorithm::direct, "direct"},
                  {ConvAlgorithm::winograd2, "F(2x2)"},
                  {ConvAlgorithm::winograd4, "F(4x4)"},
                  {ConvAlgorithm::automatic, "chosen"}};

void layer(const char* network, Index size, Index in, Index out, Index kernel = 3, Index stride = 1, Index groups = 1) {
  ConvShape s;
  s.batch = 1;
  s.height = s.width = size;
  s.channels = in;
  s.out_channels = out;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = kernel / 2;
  s.groups = groups;
  s.out_height = s.out_width = (size + 2 * s.padding.h - kernel) / stride + 1;
  const Index outputs = s.out_height * s.out_width * out;
  const Index taps = kernel * kernel * (in / groups);
  const Numbers x = numbers(size * size * in);
  const Numbers weight = numbers(out * taps);
  const Numbers bias = numbers(out);
  Numbers expected(static_cast<std::size_t>(outputs));
  Numbers y(expected.size());
  std::printf("%-10s %3ld² %3ld>%-3ld k%ld s%ld", network, static_cast<long>(size), static_cast<long>(in),
              static_cast<long>(out), static_cast<long>(kernel), static_cast<long>(stride));
  for (const auto& row : algorithms) {
    if (row.algorithm != ConvAlgorithm::direct && (kernel != 3 || stride != 1 || groups != 1)) {
      std::printf("%15s", "-");
      continue;
    }
    s.algorithm = row.algorithm;
    Numbers packed(static_cast<std::size_t>(table<float>().conv_packed_size(s)));
    table<float>().conv_pack(s, weight.data(), packed.data());
    Conv<float> c;
    c.shape = s;
    c.x = x.data();
    c.packed_weight = packed.data();
    c.y = row.algorithm == ConvAlgorithm::direct ? expected.data() : y.data();
    c.epilogue.bias = bias.data();
    c.epilogue.before = Act::relu;
    table<float>().conv(c);
    if (c.y == y.data()) {
      float largest = 0;
      float error = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        largest = std::max(largest, std::abs(expected[i]));
        error = std::max(error, std::abs(y[i] - expected[i]));
      }
      check(static_cast<double>(error / largest), 0, row.name);
    }
    const Rate rate = measure(2.0 * static_cast<double>(outputs) * static_cast<double>(taps), 40,
                              [&] { table<float>().conv(c); });
    std::printf("%8.1f %4.0f %%", rate.median, 100 * rate.share);
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ocellus::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("%s, %d thread(s); median GFLOP/s and share of peak\n%-25s", table<float>().instruction_set,
              ocellus::num_threads(), "");
  for (const auto& row : algorithms) std::printf("%15s", row.name);
  std::printf("\n");
  layer("ResNet-50", 56, 64, 64);
  layer("ResNet-50", 28, 128, 128);
  layer("ResNet-50", 14, 256, 256);
  layer("ResNet-50", 7, 512, 512);
  layer("VGG-16", 224, 64, 64);
  layer("VGG-16", 112, 128, 128);
  layer("VGG-16", 56, 256, 256);
  layer("VGG-16", 28, 512, 512);
  layer("VGG-16", 14, 512, 512);
  const Index depthwise[][3] = {{112, 32, 1}, {112, 96, 2}, {56, 144, 1}, {56, 144, 2}, {28, 192, 1},
                                {14, 384, 1}, {14, 576, 1}, {14, 576, 2}, {7, 960, 1}};
  for (const auto& d : depthwise) layer("depthwise", d[0], d[1], d[1], 3, d[2], d[1]);
  layer("first", 640, 3, 32, 3, 2);
  layer("first", 224, 3, 32, 3, 2);
  layer("first", 224, 3, 64, 7, 2);
  layer("first", 512, 3, 32, 7, 4);
  layer("first", 512, 3, 64, 7, 4);
  std::printf("highest peak: %.1f GFLOP/s\n", highest_peak);
}
