// Max and average pooling and their gradients against scalar twins.
#include <cmath>
#include <limits>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Pool;
using kernels::PoolBackward;
using kernels::PoolShape;
using kernels::table;

namespace {

PoolShape make(Index batch, Index height, Index width, Index channels, Size2 kernel, Size2 stride, Size2 padding,
               bool ceil, bool count) {
  PoolShape s;
  s.batch = batch;
  s.height = height;
  s.width = width;
  s.channels = channels;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = padding;
  s.count_include_pad = count;
  // PyTorch's output size: with ceil_mode the last window must start inside the picture or its left padding.
  const auto out = [ceil](Index size, Index k, Index step, Index pad) {
    Index n = (size + 2 * pad - k + (ceil ? step - 1 : 0)) / step + 1;
    if (ceil && (n - 1) * step >= size + pad) --n;
    return n;
  };
  s.out_height = out(height, kernel.h, stride.h, padding.h);
  s.out_width = out(width, kernel.w, stride.w, padding.w);
  return s;
}

struct Twin {
  std::vector<double> max, average, max_dx, average_dx;
  std::vector<std::int32_t> argmax;
};

Twin twin(const PoolShape& s, const std::vector<double>& x, const std::vector<double>& dy) {
  Twin t;
  t.max_dx.resize(x.size());
  t.average_dx.resize(x.size());
  std::size_t o = 0;
  for (Index n = 0; n < s.batch; ++n) {
    for (Index i = 0; i < s.out_height; ++i) {
      for (Index j = 0; j < s.out_width; ++j) {
        for (Index c = 0; c < s.channels; ++c) {
          double best = -HUGE_VAL;
          Index place = -1;
          double sum = 0;
          std::vector<std::size_t> inside;
          Index padded = 0;
          for (Index a = i * s.stride.h - s.padding.h; a < i * s.stride.h - s.padding.h + s.kernel.h; ++a) {
            for (Index b = j * s.stride.w - s.padding.w; b < j * s.stride.w - s.padding.w + s.kernel.w; ++b) {
              padded += a < s.height + s.padding.h && b < s.width + s.padding.w;
              if (a < 0 || b < 0 || a >= s.height || b >= s.width) continue;
              inside.push_back(at(((n * s.height + a) * s.width + b) * s.channels + c));
              const double v = x[inside.back()];
              sum += v;
              if (place < 0 || v > best || (std::isnan(v) && !std::isnan(best))) {
                best = v;
                place = a * s.width + b;
              }
            }
          }
          const double divisor = static_cast<double>(s.count_include_pad ? padded : static_cast<Index>(inside.size()));
          t.max.push_back(best);
          t.argmax.push_back(static_cast<std::int32_t>(place));
          t.average.push_back(sum / divisor);
          t.max_dx[at((n * s.height * s.width + place) * s.channels + c)] += dy[o];
          for (std::size_t k : inside) t.average_dx[k] += dy[o] / divisor;
          ++o;
        }
      }
    }
  }
  return t;
}

}  // namespace

TEST_CASE_TEMPLATE("pooling", T, float, double) {
  for (Index channels : {Index{1}, Index{3}, Index{16}, Index{19}, Index{67}}) {
    for (const PoolShape& s :
         {make(2, 7, 9, channels, 2, 2, 0, false, true), make(1, 7, 9, channels, 3, 2, 1, false, true),
          make(1, 8, 11, channels, 3, 2, 1, true, true), make(2, 8, 11, channels, 3, 2, 1, true, false),
          make(1, 5, 6, channels, {5, 6}, {5, 6}, 0, false, true),
          make(1, 6, 5, channels, {1, 3}, {1, 2}, {0, 1}, false, false), make(1, 9, 9, channels, 2, 3, 0, true, true),
          make(3, 1, 1, channels, 1, 1, 0, false, true), make(1, 12, 40, channels, 5, 1, 2, false, false)}) {
      CAPTURE(channels);
      CAPTURE(s.kernel.h);
      CAPTURE(s.out_height);
      const Index ins = s.batch * s.height * s.width * s.channels;
      const Index outs = s.batch * s.out_height * s.out_width * s.channels;
      auto x = random<T>(ins, 1, -3, -1);
      for (std::size_t i = 0; i < x.size(); i += 5) x[i] = T(-2);  // ties: the first wins
      const auto dy = random<T>(outs, 2);
      Guarded<T> max(outs);
      Guarded<T> average(outs);
      Guarded<std::int32_t> argmax(outs);
      Guarded<T> max_dx(ins);
      Guarded<T> average_dx(ins);
      const auto compute = [&] {
        table<T>().max_pool({s, x.data(), max.data(), argmax.data()});
        table<T>().average_pool({s, x.data(), average.data(), nullptr});
        table<T>().max_pool_backward({s, argmax.data(), dy.data(), max_dx.data()});
        table<T>().average_pool_backward({s, nullptr, dy.data(), average_dx.data()});
      };
      compute();
      const Twin want = twin(s, widen(x), widen(dy));
      CHECK(error(max.values(), want.max) == 0);
      CHECK(argmax.values() == want.argmax);
      CHECK(error(average.values(), want.average) <= bound<T>(1e-6));
      CHECK(error(max_dx.values(), want.max_dx) <= bound<T>(1e-6));
      CHECK(error(average_dx.values(), want.average_dx) <= bound<T>(1e-6));
      CHECK(max.intact());
      CHECK(argmax.intact());
      CHECK(average.intact());
      CHECK(max_dx.intact());
      CHECK(average_dx.intact());
      Guarded<T> alone(outs);
      table<T>().max_pool({s, x.data(), alone.data(), nullptr});
      CHECK(alone.values() == max.values());
      CHECK(same_for_any_threads([&] {
        compute();
        std::vector<T> all = max_dx.values();
        for (const auto& part : {average_dx.values(), average.values()})
          all.insert(all.end(), part.begin(), part.end());
        return all;
      }));
    }
  }
}

TEST_CASE_TEMPLATE("max pooling: the first NaN wins, a window of -inf gives -inf", T, float, double) {
  const PoolShape s = make(1, 6, 6, 19, 3, 1, 1, false, true);
  auto x = random<T>(6 * 6 * 19, 1);
  for (Index i : {14, 200, 201, 333, 600}) x[at(i)] = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> y(x.size());
  std::vector<std::int32_t> argmax(x.size());
  table<T>().max_pool({s, x.data(), y.data(), argmax.data()});
  const Twin want = twin(s, widen(x), std::vector<double>(x.size()));
  CHECK(error(y, want.max) == 0);
  CHECK(argmax == want.argmax);
  for (T& v : x) v = -std::numeric_limits<T>::infinity();
  table<T>().max_pool({s, x.data(), y.data(), argmax.data()});
  CHECK(y[40] == -std::numeric_limits<T>::infinity());
  CHECK(argmax[0] == 0);
}
