// Separable resampling and its gradient against a double twin that sums over both axes at once.
#include <cmath>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Resample;
using kernels::ResampleAxis;
using kernels::ResampleBackward;
using kernels::table;

namespace {

struct Axis {
  Axis(Index in_size, Index out_size, Index tap_count, std::uint64_t seed)
      : in(in_size), out(out_size), taps(tap_count) {
    for (Index i = 0; i < out; ++i) start.push_back(out == 1 ? 0 : i * (in - taps) / (out - 1));
    weight = random<double>(out * taps, seed, 0, 1);
    for (std::size_t i = 0; i < weight.size(); i += 3) weight[i] = i % 2 ? 0.0 : 1.0;
  }
  ResampleAxis view() const { return {in, out, taps, start.data(), weight.data()}; }
  double at(Index o, Index i) const {
    const Index j = i - start[twins::at(o)];
    return j >= 0 && j < taps ? weight[twins::at(o * taps + j)] : 0.0;
  }

  Index in, out, taps;
  std::vector<Index> start;
  std::vector<double> weight;
};

// y[o] = Σ over inputs of weight x, or transposed, dx[i] = Σ over outputs of weight dy.
std::vector<double> twin(Index batch, Index channels, const Axis& v, const Axis& h, const std::vector<double>& x,
                         bool transposed) {
  const Index in_h = transposed ? v.out : v.in;
  const Index in_w = transposed ? h.out : h.in;
  const Index out_h = transposed ? v.in : v.out;
  const Index out_w = transposed ? h.in : h.out;
  std::vector<double> y(at(batch * out_h * out_w * channels));
  for (Index n = 0; n < batch; ++n) {
    for (Index i = 0; i < out_h; ++i) {
      for (Index j = 0; j < out_w; ++j) {
        for (Index a = 0; a < in_h; ++a) {
          for (Index b = 0; b < in_w; ++b) {
            const double w = transposed ? v.at(a, i) * h.at(b, j) : v.at(i, a) * h.at(j, b);
            for (Index c = 0; c < channels; ++c) {
              y[at(((n * out_h + i) * out_w + j) * channels + c)] +=
                  w * x[at(((n * in_h + a) * in_w + b) * channels + c)];
            }
          }
        }
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("resampling and its gradient", T, float, double) {
  const std::vector<std::pair<Axis, Axis>> axes = {
      {Axis(1, 1, 1, 1), Axis(1, 1, 1, 2)},   {Axis(5, 11, 2, 1), Axis(7, 13, 2, 2)},
      {Axis(12, 4, 5, 1), Axis(9, 3, 4, 2)},  {Axis(6, 6, 1, 1), Axis(4, 9, 3, 2)},
      {Axis(3, 1, 3, 1), Axis(17, 40, 4, 2)}, {Axis(20, 33, 2, 1), Axis(1, 8, 1, 2)},
  };
  for (const auto& [v, h] : axes) {
    for (Index channels : {Index{1}, Index{3}, Index{16}, Index{19}, Index{67}, Index{131}}) {
      for (Index batch : {Index{1}, Index{2}}) {
        CAPTURE(v.in);
        CAPTURE(v.out);
        CAPTURE(channels);
        const Index ins = batch * v.in * h.in * channels;
        const Index outs = batch * v.out * h.out * channels;
        const auto x = random<T>(ins, 3);
        const auto dy = random<T>(outs, 4);
        const auto residual = random<T>(outs, 5);
        Guarded<T> y(outs);
        Guarded<T> dx(ins);
        Resample<T> p{batch, channels, v.view(), h.view(), x.data(), y.data(), nullptr};
        const ResampleBackward<T> b{batch, channels, v.view(), h.view(), dy.data(), dx.data()};
        auto want = twin(batch, channels, v, h, widen(x), false);
        table<T>().resample(p);
        CHECK(error(y.values(), want) <= bound<T>(2e-6));
        p.residual = residual.data();
        table<T>().resample(p);
        for (std::size_t i = 0; i < want.size(); ++i) want[i] += static_cast<double>(residual[i]);
        CHECK(error(y.values(), want) <= bound<T>(2e-6));
        table<T>().resample_backward(b);
        CHECK(error(dx.values(), twin(batch, channels, v, h, widen(dy), true)) <= bound<T>(4e-6));
        CHECK(y.intact());
        CHECK(dx.intact());
        if (channels == 131) {
          CHECK(same_for_any_threads([&] {
            table<T>().resample(p);
            return y.values();
          }));
          CHECK(same_for_any_threads([&] {
            table<T>().resample_backward(b);
            return dx.values();
          }));
        }
      }
    }
  }
}

TEST_CASE("a resampling by single taps of weight 1 copies, NaN and all") {
  const Axis v(3, 3, 1, 1);
  Axis same = v;
  for (double& w : same.weight) w = 1;
  std::vector<float> x = random<float>(9 * 5, 1);
  x[7] = std::nanf("");
  std::vector<float> y(x.size());
  table<float>().resample({1, 5, same.view(), same.view(), x.data(), y.data(), nullptr});
  for (std::size_t i = 0; i < x.size(); ++i) CHECK((i == 7 ? std::isnan(y[i]) : y[i] == x[i]));
}
