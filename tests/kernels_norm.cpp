// Layer, group and batch norm, softmax, and their gradients against scalar twins in double.
#include <cmath>
#include <limits>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::GroupNorm;
using kernels::GroupNormBackward;
using kernels::LayerNorm;
using kernels::LayerNormBackward;
using kernels::table;

namespace {

struct Statistics {
  std::vector<double> mean, rstd;
};
struct Gradients {
  std::vector<double> dx, dweight, dbias;
};

// x seen as (outer, pixels, channels); layer norm is outer = rows, pixels = 1, groups = 1.
Statistics statistics_twin(Index outer, Index pixels, Index channels, Index groups, const std::vector<double>& x,
                           double eps) {
  Statistics s;
  const Index each = channels / groups;
  for (Index o = 0; o < outer; ++o) {
    for (Index g = 0; g < groups; ++g) {
      double sum = 0;
      double squares = 0;
      for (Index p = 0; p < pixels; ++p) {
        for (Index c = g * each; c < (g + 1) * each; ++c) sum += x[at((o * pixels + p) * channels + c)];
      }
      const double mean = sum / static_cast<double>(pixels * each);
      for (Index p = 0; p < pixels; ++p) {
        for (Index c = g * each; c < (g + 1) * each; ++c) {
          const double d = x[at((o * pixels + p) * channels + c)] - mean;
          squares += d * d;
        }
      }
      s.mean.push_back(mean);
      s.rstd.push_back(1 / std::sqrt(squares / static_cast<double>(pixels * each) + eps));
    }
  }
  return s;
}

std::vector<double> apply_twin(Index outer, Index pixels, Index channels, Index groups, const std::vector<double>& x,
                               const Statistics& s, const std::vector<double>& weight,
                               const std::vector<double>& bias) {
  std::vector<double> y;
  for (Index i = 0; i < outer * pixels * channels; ++i) {
    const Index c = i % channels;
    const Index group = i / channels / pixels * groups + c / (channels / groups);
    const double normal = (x[at(i)] - s.mean[at(group)]) * s.rstd[at(group)];
    y.push_back(normal * (weight.empty() ? 1 : weight[at(c)]) + (bias.empty() ? 0 : bias[at(c)]));
  }
  return y;
}

Gradients backward_twin(Index outer, Index pixels, Index channels, Index groups, const std::vector<double>& x,
                        const Statistics& s, const std::vector<double>& weight, const std::vector<double>& dy,
                        bool constant) {
  Gradients g;
  g.dx.resize(x.size());
  g.dweight.resize(at(channels));
  g.dbias.resize(at(channels));
  const Index each = channels / groups;
  for (Index o = 0; o < outer; ++o) {
    for (Index k = 0; k < groups; ++k) {
      const double mean = s.mean[at(o * groups + k)];
      const double rstd = s.rstd[at(o * groups + k)];
      const double count = static_cast<double>(pixels * each);
      double sum = 0;
      double dot = 0;
      for (int pass = 0; pass < 2; ++pass) {
        for (Index p = 0; p < pixels; ++p) {
          for (Index c = k * each; c < (k + 1) * each; ++c) {
            const std::size_t i = at((o * pixels + p) * channels + c);
            const double normal = (x[i] - mean) * rstd;
            const double up = dy[i] * (weight.empty() ? 1 : weight[at(c)]);
            if (pass == 0) {
              sum += up;
              dot += up * normal;
              g.dweight[at(c)] += dy[i] * normal;
              g.dbias[at(c)] += dy[i];
            } else {
              g.dx[i] = rstd * (constant ? up : up - sum / count - normal * dot / count);
            }
          }
        }
      }
    }
  }
  return g;
}

// Every output of one call behind each other.
template <class T>
std::vector<T> joined(std::initializer_list<std::vector<T>> parts) {
  std::vector<T> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("layer norm", T, float, double) {
  for (Index rows : {Index{1}, Index{7}, Index{300}}) {
    for (Index n : odd_sizes()) {
      for (bool affine : {true, false}) {
        CAPTURE(rows);
        CAPTURE(n);
        CAPTURE(affine);
        const auto x = random<T>(rows * n, 1, 10 - 1.7, 10 + 1.7);  // mean 10, deviation 1
        const auto weight = random<T>(n, 2, 0.5, 1.5);
        const auto bias = random<T>(n, 3);
        Guarded<T> y(rows * n);
        Guarded<T> mean(rows);
        Guarded<T> rstd(rows);
        LayerNorm<T> p{rows,
                       n,
                       x.data(),
                       affine ? weight.data() : nullptr,
                       affine ? bias.data() : nullptr,
                       y.data(),
                       mean.data(),
                       rstd.data(),
                       T(1e-5)};
        table<T>().layer_norm(p);
        const Statistics s = statistics_twin(rows, 1, n, 1, widen(x), static_cast<double>(T(1e-5)));
        const auto want = apply_twin(rows, 1, n, 1, widen(x), s, affine ? widen(weight) : std::vector<double>(),
                                     affine ? widen(bias) : std::vector<double>());
        CHECK(error(mean.values(), s.mean) <= bound<T>(1e-6));
        if (n > 3) CHECK(error(rstd.values(), s.rstd) <= (sizeof(T) == 4 ? 1e-6 : 1e-11));
        if (n > 3) CHECK(error(y.values(), want) <= (sizeof(T) == 4 ? 3e-6 : 1e-11));
        CHECK(y.intact());
        CHECK(mean.intact());
        CHECK(rstd.intact());

        const auto dy = random<T>(rows * n, 4);
        Guarded<T> dx(rows * n);
        Guarded<T> dweight(n);
        Guarded<T> dbias(n);
        const LayerNormBackward<T> b{rows,           n,           x.data(),  affine ? weight.data() : nullptr,
                                     mean.data(),    rstd.data(), dy.data(), dx.data(),
                                     dweight.data(), dbias.data()};
        table<T>().layer_norm_backward(b);
        // The twin uses the statistics the kernel was given: rounding them is the forward's error.
        const Statistics given{widen(mean.values()), widen(rstd.values())};
        const Gradients g = backward_twin(rows, 1, n, 1, widen(x), given,
                                          affine ? widen(weight) : std::vector<double>(), widen(dy), false);
        if (n > 3) {
          CHECK(error(dx.values(), g.dx) <= (sizeof(T) == 4 ? 3e-6 : 1e-11));
          CHECK(error(dweight.values(), g.dweight) <= (sizeof(T) == 4 ? 1e-5 : 1e-11));
        }
        CHECK(error(dbias.values(), g.dbias) <= bound<T>(1e-5));
        CHECK(dx.intact());
        CHECK(dweight.intact());
        CHECK(dbias.intact());
        if (n == 67) {
          CHECK(same_for_any_threads([&] {
            table<T>().layer_norm(p);
            table<T>().layer_norm_backward(b);
            return joined({y.values(), mean.values(), dx.values(), dweight.values(), dbias.values()});
          }));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("layer norm keeps a row apart whose values are all the same", T, float, double) {
  const std::vector<T> x(33, T(3));
  std::vector<T> y(33);
  table<T>().layer_norm({1, 33, x.data(), nullptr, nullptr, y.data(), nullptr, nullptr, T(1e-5)});
  for (T v : y) CHECK(v == T(0));
}

TEST_CASE_TEMPLATE("group and batch norm", T, float, double) {
  struct Row {
    Index outer, pixels, channels, groups;
  };
  for (Row row : {Row{1, 1, 3, 3}, Row{1, 50, 1, 1}, Row{1, 1100, 35, 35}, Row{3, 17, 12, 4}, Row{2, 600, 32, 8},
                  Row{1, 37, 1024, 1024}, Row{2, 9, 67, 1}, Row{5, 30, 16, 16}}) {
    for (bool affine : {true, false}) {
      const Index size = row.outer * row.pixels * row.channels;
      CAPTURE(row.pixels);
      CAPTURE(row.channels);
      CAPTURE(affine);
      auto x = random<T>(size, 1, 10 - 1.7, 10 + 1.7);
      x[0] = T(-60);  // a first pixel far from the rest
      const auto weight = random<T>(row.channels, 2, 0.5, 1.5);
      const auto bias = random<T>(row.channels, 3);
      Guarded<T> y(size);
      Guarded<T> mean(row.outer * row.groups);
      Guarded<T> rstd(row.outer * row.groups);
      GroupNorm<T> p{row.outer,
                     row.pixels,
                     row.channels,
                     row.groups,
                     x.data(),
                     affine ? weight.data() : nullptr,
                     affine ? bias.data() : nullptr,
                     y.data(),
                     mean.data(),
                     rstd.data(),
                     T(1e-3)};
      table<T>().group_norm_statistics(p);
      table<T>().group_norm_apply(p);
      const Statistics s =
          statistics_twin(row.outer, row.pixels, row.channels, row.groups, widen(x), static_cast<double>(T(1e-3)));
      const auto w = affine ? widen(weight) : std::vector<double>();
      const auto want = apply_twin(row.outer, row.pixels, row.channels, row.groups, widen(x), s, w,
                                   affine ? widen(bias) : std::vector<double>());
      CHECK(error(mean.values(), s.mean) <= bound<T>(1e-6));
      CHECK(error(rstd.values(), s.rstd) <= (sizeof(T) == 4 ? 1e-6 : 1e-11));
      CHECK(error(y.values(), want) <= (sizeof(T) == 4 ? 4e-6 : 1e-11));
      CHECK(y.intact());
      CHECK(mean.intact());
      CHECK(rstd.intact());

      const auto dy = random<T>(size, 4);
      for (bool constant : {false, true}) {
        Guarded<T> dx(size);
        Guarded<T> dweight(row.channels);
        Guarded<T> dbias(row.channels);
        GroupNormBackward<T> b{
            row.outer,   row.pixels,  row.channels, row.groups, x.data(),       affine ? weight.data() : nullptr,
            mean.data(), rstd.data(), dy.data(),    dx.data(),  dweight.data(), dbias.data(),
            constant};
        table<T>().group_norm_backward(b);
        const Statistics given{widen(mean.values()), widen(rstd.values())};
        const Gradients g =
            backward_twin(row.outer, row.pixels, row.channels, row.groups, widen(x), given, w, widen(dy), constant);
        CHECK(error(dx.values(), g.dx) <= (sizeof(T) == 4 ? 4e-6 : 1e-11));
        CHECK(error(dweight.values(), g.dweight) <= (sizeof(T) == 4 ? 2e-5 : 1e-11));
        CHECK(error(dbias.values(), g.dbias) <= bound<T>(1e-5));
        CHECK(dx.intact());
        CHECK(dweight.intact());
        CHECK(dbias.intact());
        CHECK(same_for_any_threads([&] {
          table<T>().group_norm_statistics(p);
          table<T>().group_norm_apply(p);
          table<T>().group_norm_backward(b);
          return joined({y.values(), mean.values(), rstd.values(), dx.values(), dweight.values(), dbias.values()});
        }));
        b.dx = nullptr;
        table<T>().group_norm_backward(b);
        b.dx = dx.data();
        b.dweight = nullptr;
        b.dbias = nullptr;
        table<T>().group_norm_backward(b);
        CHECK(error(dx.values(), g.dx) <= (sizeof(T) == 4 ? 4e-6 : 1e-11));
      }
    }
  }
}

TEST_CASE_TEMPLATE("softmax and log-softmax", T, float, double) {
  for (Index rows : {Index{1}, Index{6}, Index{400}}) {
    for (Index n : odd_sizes()) {
      for (bool log : {false, true}) {
        CAPTURE(rows);
        CAPTURE(n);
        CAPTURE(log);
        const auto x = random<T>(rows * n, 1, -9, 9);
        const auto dy = random<T>(rows * n, 2);
        Guarded<T> y(rows * n);
        Guarded<T> dx(rows * n);
        table<T>().softmax(rows, n, x.data(), y.data(), log);
        table<T>().softmax_backward(rows, n, y.data(), dy.data(), dx.data(), log);
        std::vector<double> want;
        std::vector<double> want_dx;
        for (Index r = 0; r < rows; ++r) {
          double top = -HUGE_VAL;
          double sum = 0;
          double dot = 0;
          for (Index i = 0; i < n; ++i) top = std::fmax(top, static_cast<double>(x[at(r * n + i)]));
          for (Index i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[at(r * n + i)]) - top);
          for (Index i = 0; i < n; ++i) {
            const double v = static_cast<double>(x[at(r * n + i)]) - top;
            want.push_back(log ? v - std::log(sum) : std::exp(v) / sum);
            dot += static_cast<double>(dy[at(r * n + i)]) * (log ? 1 : want.back());
          }
          for (Index i = 0; i < n; ++i) {
            const double p = want[at(r * n + i)];
            const double d = static_cast<double>(dy[at(r * n + i)]);
            want_dx.push_back(log ? d - std::exp(p) * dot : p * (d - dot));
          }
        }
        CHECK(error(y.values(), want) <= bound<T>(log ? 2e-6 : 5e-7));
        CHECK(error(dx.values(), want_dx) <= bound<T>(3e-6));
        CHECK(y.intact());
        CHECK(dx.intact());
        if (n == 67) {
          CHECK(same_for_any_threads([&] {
            table<T>().softmax(rows, n, x.data(), y.data(), log);
            return y.values();
          }));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("softmax of rows with -inf, only -inf, +inf and NaN", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (Index n : {3, 16, 19, 70}) {
    const double others = static_cast<double>(n - 1);
    for (bool log : {false, true}) {
      std::vector<T> x(at(n), T(1));
      std::vector<T> y(at(n));
      x[1] = -inf;
      table<T>().softmax(1, n, x.data(), y.data(), log);
      CHECK(y[1] == (log ? -inf : T(0)));
      CHECK(std::abs(static_cast<double>(y[0]) - (log ? -std::log(others) : 1 / others)) <= bound<T>(1e-6));
      for (T special : {-inf, inf, nan}) {
        for (T& v : x) v = special == -inf ? -inf : T(1);
        x[at(n - 1)] = special;
        table<T>().softmax(1, n, x.data(), y.data(), log);
        CHECK(std::isnan(y[at(n - 1)]));
        if (special != inf) CHECK(std::isnan(y[0]));
      }
    }
  }
}
