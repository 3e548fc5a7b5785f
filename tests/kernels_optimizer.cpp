// Adam, AdamW and SGD steps against scalar twins in double.
#include <cmath>
#include <limits>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::AdamStep;
using kernels::SgdStep;
using kernels::table;

TEST_CASE_TEMPLATE("Adam and AdamW over five steps", T, float, double) {
  for (bool decoupled : {true, false}) {
    for (Index n : {Index{1}, Index{15}, Index{35}, Index{40003}}) {
      CAPTURE(decoupled);
      CAPTURE(n);
      const auto start = random<T>(n, 1);
      const auto run = [&] {
        std::vector<T> w = start;
        std::vector<T> m(at(n));
        std::vector<T> v(at(n));
        for (int t = 1; t <= 5; ++t) {
          const auto g = random<T>(n, static_cast<std::uint64_t>(t) + 10);
          AdamStep<T> p;
          p.n = n;
          p.weight = w.data();
          p.gradient = g.data();
          p.first = m.data();
          p.second = v.data();
          p.learning_rate = 1e-2;
          p.beta1 = 0.9;
          p.beta2 = 0.999;
          p.eps = 1e-8;
          p.weight_decay = 0.1;
          p.correction1 = 1 - std::pow(0.9, t);
          p.correction2 = 1 - std::pow(0.999, t);
          p.decoupled = decoupled;
          table<T>().adam_step(p);
        }
        w.insert(w.end(), m.begin(), m.end());
        w.insert(w.end(), v.begin(), v.end());
        return w;
      };
      std::vector<double> w = widen(start);
      std::vector<double> m(at(n));
      std::vector<double> v(at(n));
      for (int t = 1; t <= 5; ++t) {
        const auto g = widen(random<T>(n, static_cast<std::uint64_t>(t) + 10));
        for (std::size_t i = 0; i < w.size(); ++i) {
          double d = g[i];
          if (decoupled) {
            w[i] -= 1e-2 * 0.1 * w[i];
          } else {
            d += 0.1 * w[i];
          }
          m[i] = 0.9 * m[i] + 0.1 * d;
          v[i] = 0.999 * v[i] + 0.001 * d * d;
          w[i] -= 1e-2 * (m[i] / (1 - std::pow(0.9, t))) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
        }
      }
      w.insert(w.end(), m.begin(), m.end());
      w.insert(w.end(), v.begin(), v.end());
      CHECK(error(run(), w) <= bound<T>(1e-6));
      CHECK(same_for_any_threads(run));
    }
  }
}

TEST_CASE_TEMPLATE("SGD: plain, momentum, dampening, Nesterov", T, float, double) {
  struct Row {
    double momentum, dampening;
    bool nesterov;
  };
  for (Row row : {Row{0, 0, false}, Row{0.9, 0, false}, Row{0.9, 0.3, false}, Row{0.9, 0, true}}) {
    for (Index n : {Index{1}, Index{17}, Index{40003}}) {
      CAPTURE(row.momentum);
      CAPTURE(row.nesterov);
      CAPTURE(n);
      const auto start = random<T>(n, 1);
      const auto run = [&] {
        std::vector<T> w = start;
        std::vector<T> velocity(at(n), std::numeric_limits<T>::quiet_NaN());
        for (int t = 0; t < 4; ++t) {
          const auto g = random<T>(n, static_cast<std::uint64_t>(t) + 10);
          SgdStep<T> p;
          p.n = n;
          p.weight = w.data();
          p.gradient = g.data();
          p.velocity = row.momentum != 0 ? velocity.data() : nullptr;
          p.learning_rate = 0.1;
          p.momentum = row.momentum;
          p.dampening = row.dampening;
          p.weight_decay = 0.01;
          p.nesterov = row.nesterov;
          p.first_step = t == 0;
          table<T>().sgd_step(p);
        }
        return w;
      };
      std::vector<double> w = widen(start);
      std::vector<double> velocity(at(n));
      for (int t = 0; t < 4; ++t) {
        const auto g = widen(random<T>(n, static_cast<std::uint64_t>(t) + 10));
        for (std::size_t i = 0; i < w.size(); ++i) {
          double d = g[i] + 0.01 * w[i];
          if (row.momentum != 0) {
            velocity[i] = t == 0 ? d : row.momentum * velocity[i] + (1 - row.dampening) * d;
            d = row.nesterov ? d + row.momentum * velocity[i] : velocity[i];
          }
          w[i] -= 0.1 * d;
        }
      }
      CHECK(error(run(), w) <= bound<T>(1e-6));
      CHECK(same_for_any_threads(run));
    }
  }
}
