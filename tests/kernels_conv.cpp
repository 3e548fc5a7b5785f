// Convolutions, dense, grouped, dilated and depthwise, and their gradients against scalar twins in double.
#include <cmath>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Conv;
using kernels::ConvAlgorithm;
using kernels::ConvBackward;
using kernels::ConvShape;
using kernels::table;

namespace {

ConvShape shape(Index batch, Size2 size, Index channels, Index out_channels, Size2 kernel, Size2 stride = 1,
                Size2 padding = 0, Size2 dilation = 1, Index groups = 1) {
  ConvShape s;
  s.batch = batch;
  s.height = size.h;
  s.width = size.w;
  s.channels = channels;
  s.out_channels = out_channels;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = padding;
  s.dilation = dilation;
  s.groups = groups;
  s.out_height = (size.h + 2 * padding.h - dilation.h * (kernel.h - 1) - 1) / stride.h + 1;
  s.out_width = (size.w + 2 * padding.w - dilation.w * (kernel.w - 1) - 1) / stride.w + 1;
  return s;
}

// Calls f(offset in y, offset in x, offset in weight) for every product of the convolution.
template <class F>
void each_product(const ConvShape& s, F&& f) {
  const Index in = s.channels / s.groups;
  const Index out = s.out_channels / s.groups;
  for (Index p = 0; p < s.batch * s.out_height * s.out_width; ++p) {
    const Index image = p / (s.out_height * s.out_width);
    const Index oy = p / s.out_width % s.out_height;
    const Index ox = p % s.out_width;
    for (Index i = 0; i < s.kernel.h; ++i) {
      for (Index j = 0; j < s.kernel.w; ++j) {
        const Index y = oy * s.stride.h - s.padding.h + i * s.dilation.h;
        const Index x = ox * s.stride.w - s.padding.w + j * s.dilation.w;
        if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
        for (Index o = 0; o < s.out_channels; ++o) {
          for (Index c = 0; c < in; ++c) {
            f(at(p * s.out_channels + o), at(((image * s.height + y) * s.width + x) * s.channels + o / out * in + c),
              at(((o * s.kernel.h + i) * s.kernel.w + j) * in + c));
          }
        }
      }
    }
  }
}

template <class T>
struct Data {
  ConvShape s;
  std::vector<T> x, weight, bias, residual, dy;

  explicit Data(const ConvShape& shape) : s(shape) {
    x = random<T>(s.batch * s.height * s.width * s.channels, 1);
    weight = random<T>(s.out_channels * s.kernel.h * s.kernel.w * (s.channels / s.groups), 2);
    bias = random<T>(s.out_channels, 3);
    residual = random<T>(outputs(), 4);
    dy = random<T>(outputs(), 5);
  }
  Index outputs() const { return s.batch * s.out_height * s.out_width * s.out_channels; }
};

double largest_of(const std::vector<double>& values) {
  double largest = 1;
  for (double v : values) largest = std::fmax(largest, std::abs(v));
  return largest;
}

// Largest difference over `largest`.
template <class T>
double relative(const std::vector<T>& got, const std::vector<double>& want, double largest) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - want[i]) / largest;
    if (!(e <= worst || std::isnan(worst))) worst = e;
  }
  return worst;
}

template <class T>
std::vector<T> forward(const Data<T>& d, bool packed, Act before, Act after, bool residual, bool& intact) {
  const auto& kernel = table<T>();
  Guarded<T> y(d.outputs());
  Guarded<T> pack(kernel.conv_packed_size(d.s));
  if (packed) kernel.conv_pack(d.s, d.weight.data(), pack.data());
  Conv<T> c;
  c.shape = d.s;
  c.x = d.x.data();
  c.weight = packed ? nullptr : d.weight.data();
  c.packed_weight = packed ? pack.data() : nullptr;
  c.y = y.data();
  c.epilogue.bias = d.bias.data();
  c.epilogue.residual = residual ? d.residual.data() : nullptr;
  c.epilogue.before = before;
  c.epilogue.after = after;
  kernel.conv(c);
  intact = y.intact() && pack.intact();
  return y.values();
}

template <class T>
void check_forward(const Data<T>& d, bool packed, Act before, Act after, bool residual) {
  std::vector<double> want(at(d.outputs()));
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = static_cast<double>(d.bias[i % d.bias.size()]);
  each_product(d.s, [&](std::size_t y, std::size_t x, std::size_t w) {
    want[y] += static_cast<double>(d.x[x]) * static_cast<double>(d.weight[w]);
  });
  const double largest = largest_of(want);  // an activation may cut it off, not the error
  for (std::size_t i = 0; i < want.size(); ++i) {
    want[i] = act_value(after, act_value(before, want[i]) + (residual ? static_cast<double>(d.residual[i]) : 0.0));
  }
  bool intact = false;
  const std::vector<T> got = forward(d, packed, before, after, residual, intact);
  CHECK(intact);
  CHECK(relative(got, want, largest) <= bound<T>(1e-5));
}

template <class T>
std::vector<T> backward(const Data<T>& d, bool& intact) {
  Guarded<T> dx(static_cast<Index>(d.x.size()));
  Guarded<T> dweight(static_cast<Index>(d.weight.size()));
  ConvBackward<T> c;
  c.shape = d.s;
  c.x = d.x.data();
  c.weight = d.weight.data();
  c.dy = d.dy.data();
  c.dx = dx.data();
  c.dweight = dweight.data();
  table<T>().conv_backward(c);
  intact = dx.intact() && dweight.intact();
  std::vector<T> all = dx.values();
  const std::vector<T> second = dweight.values();
  all.insert(all.end(), second.begin(), second.end());
  return all;
}

template <class T>
void check_backward(const Data<T>& d) {
  std::vector<double> dx(d.x.size());
  std::vector<double> dweight(d.weight.size());
  each_product(d.s, [&](std::size_t y, std::size_t x, std::size_t w) {
    dx[x] += static_cast<double>(d.dy[y]) * static_cast<double>(d.weight[w]);
    dweight[w] += static_cast<double>(d.dy[y]) * static_cast<double>(d.x[x]);
  });
  bool intact = false;
  const std::vector<T> got = backward(d, intact);
  CHECK(intact);
  const auto cut = got.begin() + static_cast<std::ptrdiff_t>(dx.size());
  CHECK(relative(std::vector<T>(got.begin(), cut), dx, largest_of(dx)) <= bound<T>(1e-5));
  CHECK(relative(std::vector<T>(cut, got.end()), dweight, largest_of(dweight)) <= bound<T>(1e-5));
}

std::vector<ConvShape> shapes() {
  return {
      shape(2, {5, 7}, 3, 5, 1),       // pointwise
      shape(1, {6, 9}, 16, 20, 1, 2),  // pointwise with a stride
      shape(2, {9, 11}, 3, 17, 3, 1, 1),
      shape(1, {8, 8}, 19, 33, 3, 2, 1),
      shape(1, {1, 1}, 5, 4, 3, 1, 1),
      shape(1, {2, 3}, 4, 6, 5, 1, 2),
      shape(1, {3, 40}, 2, 3, {1, 7}, 1, {0, 3}),
      shape(1, {13, 5}, 3, 2, {5, 2}, {2, 1}, {1, 0}, {2, 3}),
      shape(1, {17, 19}, 3, 32, 7, 4, 3),    // SegFormer's first
      shape(2, {16, 8}, 6, 10, 4, 4),        // kernel = stride
      shape(1, {7, 7}, 4, 8, 2, 3),          // a stride that skips pixels
      shape(1, {9, 9}, 5, 7, 3, 1, 3),       // more padding than the kernel needs
      shape(1, {12, 13}, 8, 9, 3, 1, 2, 2),  // dilated
      shape(1, {12, 13}, 8, 9, 3, 2, 4, 3),
      shape(2, {7, 6}, 6, 9, 3, 1, 1, 1, 3),   // grouped
      shape(1, {7, 6}, 4, 12, 3, 2, 1, 1, 4),  // several filters per channel
      shape(1, {6, 6}, 200, 70, 3, 1, 1),      // several blocks of k
      shape(1, {20, 21}, 33, 100, 3, 1, 1),
      shape(2, {9, 11}, 5, 5, 3, 1, 1, 1, 5),  // depthwise
      shape(1, {8, 9}, 37, 37, 3, 2, 1, 1, 37),
      shape(1, {11, 13}, 48, 48, 5, 1, 2, 1, 48),
      shape(1, {11, 13}, 17, 17, 7, 1, 3, 1, 17),
      shape(1, {11, 13}, 33, 33, {3, 5}, {1, 2}, {2, 4}, {2, 2}, 33),
      shape(1, {1, 2}, 3, 3, 3, 1, 1, 1, 3),
      shape(1, {5, 5}, 4, 4, 3, 1, 4, 1, 4),
      shape(2, {10, 9}, 150, 150, 3, 1, 1, 1, 150),  // several blocks of channels, bands of rows
      shape(1, {19, 21}, 135, 135, 3, 2, 1, 1, 135),
      shape(1, {9, 4}, 6, 6, 2, 3, 0, 1, 6),
  };
}

// 3x3 convolutions by every algorithm: tiles cut at the right and bottom, tails of channels and panels, more padding
// than the kernel needs or none, pictures smaller than a tile, several blocks of tiles.
std::vector<ConvShape> winograd_shapes() {
  const ConvShape sizes[] = {
      shape(1, {1, 1}, 1, 1, 3, 1, 1),     shape(2, {9, 11}, 3, 17, 3, 1, 1),    shape(1, {3, 4}, 19, 33, 3),
      shape(3, {5, 6}, 16, 64, 3, 1, 0),   shape(1, {7, 2}, 33, 70, 3, 1, 2),    shape(2, {4, 4}, 17, 100, 3, 1, 3),
      shape(1, {8, 13}, 5, 9, 3, 1, {0, 1}), shape(1, {41, 43}, 8, 20, 3, 1, 1), shape(1, {6, 6}, 1100, 19, 3, 1, 1),
  };
  std::vector<ConvShape> all;
  for (const auto algorithm :
       {ConvAlgorithm::automatic, ConvAlgorithm::direct, ConvAlgorithm::winograd2, ConvAlgorithm::winograd4}) {
    for (ConvShape s : sizes) {
      s.algorithm = algorithm;
      all.push_back(s);
    }
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("3x3 convolutions by every algorithm", T, float, double) {
  for (const ConvShape& s : winograd_shapes()) {
    INFO("algorithm ", static_cast<int>(s.algorithm), " H ", s.height, " W ", s.width, " C ", s.channels, " O ",
         s.out_channels, " padding ", s.padding.h);
    const Data<T> d(s);
    check_forward<T>(d, false, Act::none, Act::none, false);
    check_forward<T>(d, true, Act::relu, Act::none, true);
    check_forward<T>(d, true, Act::gelu, Act::silu, true);
    check_forward<T>(d, true, Act::none, Act::relu6, true);
    check_forward<T>(d, true, Act::relu6, Act::tanh, false);
    check_backward<T>(d);
    bool intact = false;
    CHECK(same_for_any_threads([&] { return forward(d, true, Act::none, Act::none, true, intact); }));
    CHECK(same_for_any_threads([&] { return backward(d, intact); }));
  }
}

TEST_CASE_TEMPLATE("convolutions", T, float, double) {
  for (const ConvShape& s : shapes()) {
    INFO("H ", s.height, " W ", s.width, " C ", s.channels, " O ", s.out_channels, " kernel ", s.kernel.h, " stride ",
         s.stride.h);
    const Data<T> d(s);
    check_forward<T>(d, false, Act::none, Act::none, false);
    check_forward<T>(d, true, Act::relu, Act::none, true);
    check_forward<T>(d, true, Act::gelu, Act::silu, true);
    check_forward<T>(d, true, Act::none, Act::relu, true);
    check_forward<T>(d, true, Act::hard_swish, Act::none, false);
    check_forward<T>(d, true, Act::relu6, Act::relu6, true);
  }
}

TEST_CASE_TEMPLATE("gradients of convolutions", T, float, double) {
  for (const ConvShape& s : shapes()) {
    INFO("H ", s.height, " W ", s.width, " C ", s.channels, " O ", s.out_channels, " kernel ", s.kernel.h, " stride ",
         s.stride.h);
    check_backward<T>(Data<T>(s));
  }
  check_backward<T>(Data<T>(shape(2, {40, 50}, 3, 16, 3, 1, 1)));  // several chunks of pixels
  check_backward<T>(Data<T>(shape(2, {40, 50}, 6, 6, 3, 1, 1, 1, 6)));
}

TEST_CASE_TEMPLATE("the number of threads changes no bit of a convolution", T, float, double) {
  const ConvShape cases[] = {
      shape(2, {33, 40}, 16, 48, 3, 1, 1),       shape(2, {40, 40}, 8, 16, 1),
      shape(1, {60, 61}, 3, 32, 7, 4, 3),        shape(1, {7, 7}, 64, 200, 3, 1, 1),
      shape(2, {31, 29}, 12, 24, 3, 2, 1, 1, 3), shape(2, {31, 29}, 40, 40, 3, 1, 1, 1, 40),
  };
  for (const ConvShape& s : cases) {
    const Data<T> d(s);
    bool intact = false;
    CHECK(same_for_any_threads([&] { return forward(d, true, Act::gelu, Act::none, true, intact); }));
    CHECK(same_for_any_threads([&] { return backward(d, intact); }));
  }
}
