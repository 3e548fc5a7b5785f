// Linear maps and convolutions in bf16 and int8 against a scalar twin: shapes around the tile sizes, every epilogue, windows
// of every kind, rows that are not finite. int8 has to give the twin's integers, so without a bias it gives its very bits.
#include <bit>
#include <cmath>
#include <limits>

#include <ocellus/core/dtype.hpp>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::ConvShape;
using kernels::low_precision_table;
using kernels::LowPrecisionConv;

namespace {

struct Case {
  ConvShape shape;
  bool bias = false;
  bool residual = false;
  Act before = Act::none;
  Act after = Act::none;

  Index rows() const { return shape.batch * shape.out_height * shape.out_width; }
  Index n() const { return shape.out_channels; }
  Index k() const { return shape.kernel.h * shape.kernel.w * shape.channels; }
};

Case linear(Index m, Index n, Index k) {
  Case c;
  c.shape.batch = c.shape.height = c.shape.out_height = 1;
  c.shape.width = c.shape.out_width = m;
  c.shape.channels = k;
  c.shape.out_channels = n;
  return c;
}

Case convolution(Index height, Index width, Index channels, Index n, Size2 kernel, Size2 stride, Size2 padding,
                 Size2 dilation = 1) {
  const auto out = [](Index size, Index taps, Index step, Index pad, Index gap) {
    return (size + 2 * pad - gap * (taps - 1) - 1) / step + 1;
  };
  Case c;
  ConvShape& s = c.shape;
  s.batch = 2;
  s.height = height;
  s.width = width;
  s.channels = channels;
  s.out_channels = n;
  s.out_height = out(height, kernel.h, stride.h, padding.h, dilation.h);
  s.out_width = out(width, kernel.w, stride.w, padding.w, dilation.w);
  s.kernel = kernel;
  s.stride = stride;
  s.padding = padding;
  s.dilation = dilation;
  return c;
}

struct Data {
  std::vector<float> x, weight, bias, residual;

  explicit Data(const Case& c)
      : x(random<float>(c.shape.batch * c.shape.height * c.shape.width * c.shape.channels, 1, -1, 2)),
        weight(random<float>(c.n() * c.k(), 2)),
        bias(random<float>(c.n(), 3)),
        residual(random<float>(c.rows() * c.n(), 4)) {}
};

std::vector<float> run(const Case& c, const Data& data, DType type) {
  const auto& kernel = low_precision_table();
  const Index bytes = kernel.packed_bytes(type, c.n(), c.k());
  Guarded<std::uint32_t> packed((bytes + 3) / 4);
  kernel.pack(type, c.n(), c.k(), data.weight.data(), packed.data());
  Guarded<float> y(c.rows() * c.n());
  LowPrecisionConv job;
  job.type = type;
  job.shape = c.shape;
  job.x = data.x.data();
  job.packed_weight = packed.data();
  job.y = y.data();
  job.epilogue.bias = c.bias ? data.bias.data() : nullptr;
  job.epilogue.residual = c.residual ? data.residual.data() : nullptr;
  job.epilogue.before = c.before;
  job.epilogue.after = c.after;
  kernel.conv(job);
  CHECK(packed.intact());
  CHECK(y.intact());
  return y.values();
}

// The windows of all output pixels, row by row.
std::vector<float> windows(const Case& c, const std::vector<float>& x) {
  const ConvShape& s = c.shape;
  std::vector<float> rows;
  for (Index image = 0; image < s.batch; ++image) {
    for (Index i = 0; i < s.out_height; ++i) {
      for (Index j = 0; j < s.out_width; ++j) {
        for (Index u = 0; u < s.kernel.h; ++u) {
          for (Index v = 0; v < s.kernel.w; ++v) {
            const Index h = i * s.stride.h - s.padding.h + u * s.dilation.h;
            const Index w = j * s.stride.w - s.padding.w + v * s.dilation.w;
            const bool inside = h >= 0 && w >= 0 && h < s.height && w < s.width;
            for (Index k = 0; k < s.channels; ++k)
              rows.push_back(inside ? x[at(((image * s.height + h) * s.width + w) * s.channels + k)] : 0.0f);
          }
        }
      }
    }
  }
  return rows;
}

// Numbers as an 8-bit kernel sees them: value ≈ scale (integer − zero).
struct Quantised {
  std::vector<std::int32_t> integers;
  float scale;
  std::int32_t zero = 0;

  static Quantised weight(const float* w, Index k) {
    float most = 0;
    for (Index i = 0; i < k; ++i) most = std::fmax(most, std::abs(w[i]));
    Quantised q{{}, std::fmax(most / 127, std::numeric_limits<float>::min())};
    for (Index i = 0; i < k; ++i) q.integers.push_back(static_cast<std::int32_t>(std::nearbyint(w[i] * (1 / q.scale))));
    return q;
  }
  static Quantised row(const float* x, Index k) {
    float low = 0, high = 0;
    for (Index i = 0; i < k; ++i) {
      low = std::fmin(low, x[i]);
      high = std::fmax(high, x[i]);
    }
    Quantised q{{}, std::fmax(high / 255 - low / 255, std::numeric_limits<float>::min())};
    q.zero = -static_cast<std::int32_t>(std::nearbyint(low * (1 / q.scale)));
    for (Index i = 0; i < k; ++i) {
      const auto rounded = static_cast<std::int32_t>(std::nearbyint(x[i] * (1 / q.scale)));
      q.integers.push_back(std::min(255, std::max(0, rounded + q.zero)));
    }
    return q;
  }
};

// The twin, without the epilogue: the result, and Σ |x| |w| that bounds the error of sums in float.
void products(const Case& c, const Data& data, DType type, std::vector<float>& y, std::vector<double>& magnitude) {
  const std::vector<float> x = windows(c, data.x);
  std::vector<Quantised> columns;
  for (Index j = 0; type == DType::i8 && j < c.n(); ++j)
    columns.push_back(Quantised::weight(data.weight.data() + j * c.k(), c.k()));
  for (Index m = 0; m < c.rows(); ++m) {
    const float* row = x.data() + m * c.k();
    const Quantised quantised = Quantised::row(row, c.k());
    for (Index j = 0; j < c.n(); ++j) {
      if (type == DType::i8) {
        const Quantised& column = columns[at(j)];
        std::int32_t sum = 0;
        for (Index i = 0; i < c.k(); ++i) sum += (quantised.integers[at(i)] - quantised.zero) * column.integers[at(i)];
        y.push_back(static_cast<float>(sum) * column.scale * quantised.scale);
        magnitude.push_back(std::abs(static_cast<double>(y.back())));
      } else {
        double sum = 0, absolute = 0;
        for (Index i = 0; i < c.k(); ++i) {
          const double a = static_cast<double>(static_cast<float>(bfloat16(row[i])));
          const double b = static_cast<double>(static_cast<float>(bfloat16(data.weight[at(j * c.k() + i)])));
          sum += a * b;
          absolute += std::abs(a * b);
        }
        y.push_back(static_cast<float>(sum));
        magnitude.push_back(absolute);
      }
    }
  }
}

// Largest difference, relative to 1 + Σ |x| |w|.
double worst(const Case& c, DType type) {
  const Data data(c);
  const std::vector<float> got = run(c, data, type);
  std::vector<float> want;
  std::vector<double> magnitude;
  products(c, data, type, want, magnitude);
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    double y = static_cast<double>(want[i]);
    if (c.bias) y += static_cast<double>(data.bias[i % data.bias.size()]);
    y = act_value(c.before, y);
    if (c.residual) y += static_cast<double>(data.residual[i]);
    y = act_value(c.after, y);
    const double difference = std::abs(static_cast<double>(got[i]) - y) / (1 + magnitude[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

void check(const Case& c) {
  CAPTURE(c.rows());
  CAPTURE(c.n());
  CAPTURE(c.k());
  CHECK(worst(c, DType::bf16) <= 2e-6);
  CHECK(worst(c, DType::i8) <= 2e-6);
  const Data data(c);
  if (c.bias || c.residual || c.before != Act::none || c.after != Act::none) return;
  std::vector<float> want;
  std::vector<double> magnitude;
  products(c, data, DType::i8, want, magnitude);
  const std::vector<float> got = run(c, data, DType::i8);
  CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0);
}

}  // namespace

TEST_CASE("linear maps of odd shapes") {
  for (Index m : {1, 2, 4, 13, 16, 17, 33}) {
    for (Index n : {1, 15, 32, 33, 100}) {
      for (Index k : {1, 2, 3, 5, 31, 64, 65, 130}) check(linear(m, n, k));
    }
  }
  check(linear(101, 67, 1100));
  check(linear(3, 40, 5000));
}

TEST_CASE("windows") {
  check(convolution(7, 6, 4, 17, 3, 1, 1));
  check(convolution(9, 8, 2, 3, {3, 2}, {2, 3}, {2, 1}, {1, 2}));
  check(convolution(8, 9, 5, 4, 3, 1, 2, 2));
  check(convolution(8, 12, 3, 6, 4, 4, 0));
  check(convolution(11, 9, 3, 40, 7, 4, 3));
  check(convolution(5, 6, 34, 33, 1, 2, 0));
}

TEST_CASE("every epilogue") {
  for (int before = 0; before <= static_cast<int>(Act::hard_swish); ++before) {
    for (int after = 0; after <= static_cast<int>(Act::hard_swish); ++after) {
      for (bool residual : {false, true}) {
        Case c = linear(19, 37, 21);
        c.bias = true;
        c.residual = residual;
        c.before = static_cast<Act>(before);
        c.after = static_cast<Act>(after);
        check(c);
      }
    }
  }
}

TEST_CASE("the number of threads changes no bit") {
  const Case cases[] = {linear(700, 96, 64), linear(197, 300, 150), linear(3, 1000, 300), linear(70, 64, 1100),
                        convolution(30, 40, 8, 40, 3, 1, 1)};
  for (const Case& c : cases) {
    for (const DType type : {DType::bf16, DType::i8}) {
      const Data data(c);
      CHECK(same_for_any_threads([&] { return run(c, data, type); }));
    }
    check(c);
  }
}

TEST_CASE("a row that is not finite or huge leaves the others alone") {
  const Case c = linear(40, 50, 70);
  const Data clean(c);
  Data data = clean;
  const float infinity = std::numeric_limits<float>::infinity();
  data.x[at(3 * 70 + 69)] = std::nanf("");
  data.x[at(17 * 70)] = infinity;
  data.x[at(18 * 70 + 64)] = -infinity;
  data.x[at(18 * 70 + 65)] = infinity;
  data.x[at(30 * 70 + 5)] = 1e38f;
  data.x[at(30 * 70 + 6)] = -1e38f;
  for (Index i = 0; i < 70; ++i) data.x[at(31 * 70 + i)] = 0;
  for (const DType type : {DType::bf16, DType::i8}) {
    INFO(std::string(name_of(type)));
    const std::vector<float> want = run(c, clean, type);
    const std::vector<float> got = run(c, data, type);
    for (Index m = 0; m < 40; ++m) {
      CAPTURE(m);
      const float* row = got.data() + m * 50;
      bool all_nan = true, finite = true, zero = true;
      for (Index j = 0; j < 50; ++j) {
        all_nan = all_nan && std::isnan(row[j]);
        finite = finite && std::isfinite(row[j]);
        zero = zero && row[j] == 0.0f;
      }
      if (m == 3 || (m < 19 && m > 16 && type == DType::i8)) {
        CHECK(all_nan);
      } else if (m == 17 || m == 18) {
        CHECK_FALSE(finite);
      } else if (m == 30) {
        const float large = 1e38f * (clean.weight[5] - clean.weight[6]);
        CHECK(row[0] == doctest::Approx(static_cast<double>(large)).epsilon(0.02));
      } else if (m == 31) {
        CHECK(zero);
      } else {
        CHECK(std::memcmp(row, want.data() + m * 50, 50 * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("the largest sums fit") {
  const Index k = kernels::most_int8_terms;
  const Case c = linear(2, 3, k);
  Data data(c);
  for (Index i = 0; i < k; ++i) {
    data.x[at(i)] = 1;
    data.x[at(k + i)] = -1;
    for (Index j = 0; j < 3; ++j) data.weight[at(j * k + i)] = j == 1 ? -1.0f : 1.0f;
  }
  const std::vector<float> y = run(c, data, DType::i8);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double sign = (i < 3) == (i % 3 == 1) ? -1 : 1;
    CHECK(static_cast<double>(y[i]) == doctest::Approx(sign * static_cast<double>(k)).epsilon(1e-6));
  }
}

TEST_CASE("nothing to sum or to write") {
  Case c = linear(2, 3, 0);
  c.bias = true;
  for (const DType type : {DType::bf16, DType::i8}) {
    const Data data(c);
    const std::vector<float> y = run(c, data, type);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == data.bias[i % 3]);
    run(linear(0, 3, 5), Data(linear(0, 3, 5)), type);
    run(linear(3, 0, 5), Data(linear(3, 0, 5)), type);
  }
}
