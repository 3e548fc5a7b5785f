// Activations, unary and binary maps, reductions and axpy against scalar twins in double.
#include <cmath>
#include <cstdlib>
#include <limits>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Binary;
using kernels::BinaryMap;
using kernels::Reduce;
using kernels::Reduction;
using kernels::table;
using kernels::Unary;

namespace {

constexpr int acts = 11;

// Absolute errors over [-12, 12], values and slopes.
double act_bound(Act f) {
  switch (f) {
    case Act::none:
    case Act::relu:
    case Act::relu6:
    case Act::leaky_relu: return 1e-7;
    case Act::gelu: return 1.5e-6;
    default: return 2e-6;
  }
}

template <class T>
std::vector<double> reduce_twin(const Reduce<T>& p) {
  std::vector<double> y;
  for (Index o = 0; o < p.outer; ++o) {
    for (Index i = 0; i < p.inner; ++i) {
      double sum = p.op == Reduction::sum ? 0 : p.op == Reduction::max ? -HUGE_VAL : HUGE_VAL;
      for (Index r = 0; r < p.reduced; ++r) {
        const double x = static_cast<double>(p.x[(o * p.reduced + r) * p.inner + i]);
        if (p.op == Reduction::sum) sum += x;
        if (p.op == Reduction::max && (x > sum || std::isnan(x))) sum = x;
        if (p.op == Reduction::min && (x < sum || std::isnan(x))) sum = x;
      }
      y.push_back(p.op == Reduction::sum ? sum * static_cast<double>(p.scale) : sum);
    }
  }
  return y;
}

template <class T>
std::vector<double> binary_twin(const BinaryMap<T>& m) {
  std::vector<double> y;
  Index n = 1;
  for (int i = 0; i < m.rank; ++i) n *= m.size[i];
  for (Index k = 0; k < n; ++k) {
    Index rest = k;
    Index a = 0;
    Index b = 0;
    for (int i = m.rank - 1; i >= 0; --i) {
      a += rest % m.size[i] * m.stride_a[i];
      b += rest % m.size[i] * m.stride_b[i];
      rest /= m.size[i];
    }
    const double u = static_cast<double>(m.a[a]);
    const double v = static_cast<double>(m.b[b]);
    y.push_back(m.op == Binary::add ? u + v : m.op == Binary::sub ? u - v : m.op == Binary::mul ? u * v : u / v);
  }
  return y;
}

}  // namespace

TEST_CASE("OCELLUS_ISA decides the instruction set") {
  if (const char* asked = std::getenv("OCELLUS_ISA")) CHECK(std::string(asked) == table<float>().instruction_set);
}

TEST_CASE_TEMPLATE("activations and slopes keep their stated absolute error", T, float, double) {
  for (int code = 0; code < acts; ++code) {
    const Act f = static_cast<Act>(code);
    CAPTURE(act_names[code]);
    for (Index n : odd_sizes()) {
      const auto x = random<T>(n, 1, -4, 4);
      const auto dy = random<T>(n, 2);
      Guarded<T> y(n);
      Guarded<T> dx(n);
      table<T>().activation(f, n, x.data(), y.data());
      table<T>().activation_backward(f, n, x.data(), dy.data(), dx.data());
      std::vector<double> want;
      std::vector<double> want_dx;
      for (std::size_t i = 0; i < x.size(); ++i) {
        want.push_back(act_value<double>(f, static_cast<double>(x[i])));
        want_dx.push_back(act_slope<double>(f, static_cast<double>(x[i])) * static_cast<double>(dy[i]));
      }
      const double tolerance = sizeof(T) == 4 ? act_bound(f) : 1e-12;
      CHECK(error(y.values(), want) <= tolerance);
      CHECK(error(dx.values(), want_dx) <= tolerance);
      CHECK(y.intact());
      CHECK(dx.intact());
    }
    std::vector<T> x;
    for (double v = -12; v <= 12; v += 1.0 / 512) x.push_back(static_cast<T>(v));
    std::vector<T> y = x;
    table<T>().activation(f, static_cast<Index>(y.size()), y.data(), y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = std::fmax(worst, std::abs(static_cast<double>(y[i]) - act_value<double>(f, static_cast<double>(x[i]))) /
                                   std::fmax(1.0, std::abs(static_cast<double>(x[i]))));
    }
    CHECK(worst <= (sizeof(T) == 4 ? act_bound(f) : 1e-12));
  }
}

TEST_CASE_TEMPLATE("activations keep NaN and meet their limits", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for (int code = 0; code < acts; ++code) {
    const Act f = static_cast<Act>(code);
    CAPTURE(act_names[code]);
    std::vector<T> x(19, nan);
    std::vector<T> y(19);
    table<T>().activation(f, 19, x.data(), y.data());
    for (T v : y) CHECK(std::isnan(v));
    std::vector<T> big(5, inf);
    table<T>().activation(f, 5, big.data(), big.data());
    CHECK(big[2] == act_value<T>(f, inf));
  }
}

TEST_CASE_TEMPLATE("unary maps", T, float, double) {
  for (Index n : odd_sizes()) {
    const auto x = random<T>(n, 3, 0.1, 20);
    for (Unary f : {Unary::exp, Unary::log, Unary::sqrt, Unary::abs, Unary::neg, Unary::square, Unary::reciprocal}) {
      CAPTURE(static_cast<int>(f));
      Guarded<T> y(n);
      table<T>().unary(f, n, x.data(), y.data());
      std::vector<double> want;
      for (T value : x) {
        const double v = static_cast<double>(value);
        switch (f) {
          case Unary::exp: want.push_back(std::exp(v)); break;
          case Unary::log: want.push_back(std::log(v)); break;
          case Unary::sqrt: want.push_back(std::sqrt(v)); break;
          case Unary::abs: want.push_back(std::abs(v)); break;
          case Unary::neg: want.push_back(-v); break;
          case Unary::square: want.push_back(v * v); break;
          case Unary::reciprocal: want.push_back(1 / v); break;
        }
      }
      CHECK(error(y.values(), want) <= bound<T>(2.5e-7));
      CHECK(y.intact());
    }
  }
}

TEST_CASE("exp of floats: relative error 2e-7 over its whole range, 0 and infinity beyond it") {
  std::vector<float> x;
  for (double v = -87; v <= 88.5; v += 1.0 / 128) x.push_back(static_cast<float>(v));
  std::vector<float> y(x.size());
  table<float>().unary(Unary::exp, static_cast<Index>(x.size()), x.data(), y.data());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    worst = std::fmax(worst, std::abs(static_cast<double>(y[i]) - want) / want);
  }
  CHECK(worst <= 2e-7);
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> edge = {-inf, -200, inf, 200, 0};
  table<float>().unary(Unary::exp, 5, edge.data(), edge.data());
  CHECK(edge[0] == 0);
  CHECK(edge[1] == 0);
  CHECK(edge[2] == inf);
  CHECK(edge[3] == inf);
  CHECK(edge[4] == 1);
}

TEST_CASE_TEMPLATE("binary maps broadcast, and may write onto a dense operand", T, float, double) {
  struct Row {
    int rank;
    Index size[4];
    Index a[4];
    Index b[4];
  };
  std::vector<Row> rows = {
      {3, {2, 3, 5, 0}, {15, 5, 1, 0}, {15, 5, 1, 0}},  // same shape
      {2, {7, 19, 0, 0}, {19, 1, 0, 0}, {0, 0, 0, 0}},  // scalar
      {2, {7, 19, 0, 0}, {19, 1, 0, 0}, {0, 1, 0, 0}},  // a row for all
      {2, {7, 19, 0, 0}, {19, 1, 0, 0}, {1, 0, 0, 0}},  // a column for all
      {2, {7, 19, 0, 0}, {0, 0, 0, 0}, {19, 1, 0, 0}},  // scalar on the left
      {2, {7, 19, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}},   // outer product
      {2, {7, 19, 0, 0}, {19, 1, 0, 0}, {1, 7, 0, 0}},  // transposed
      {4, {2, 3, 4, 5}, {60, 20, 5, 1}, {0, 4, 1, 0}},  // middle axes
      {4, {2, 1, 4, 3}, {12, 12, 3, 1}, {3, 3, 0, 1}},  // an axis of one
      {0, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}},    // scalars
      {2, {3, 20011, 0, 0}, {20011, 1, 0, 0}, {1, 0, 0, 0}},
      {3, {3, 2, 20011, 0}, {40022, 20011, 1, 0}, {20011, 0, 1, 0}},
      {2, {20011, 3, 0, 0}, {3, 1, 0, 0}, {0, 1, 0, 0}},
  };
  for (const Row& row : rows) {
    Index n = 1;
    Index last_a = 1;
    Index last_b = 1;
    bool dense_a = true;
    for (int i = row.rank - 1; i >= 0; --i) {
      dense_a = dense_a && (row.size[i] == 1 || row.a[i] == n);
      n *= row.size[i];
      last_a += (row.size[i] - 1) * row.a[i];
      last_b += (row.size[i] - 1) * row.b[i];
    }
    const auto a = random<T>(last_a, 5, 1, 2);
    const auto b = random<T>(last_b, 6, 1, 2);
    for (Binary op : {Binary::add, Binary::sub, Binary::mul, Binary::div}) {
      BinaryMap<T> m;
      m.op = op;
      m.rank = row.rank;
      for (int i = 0; i < row.rank; ++i) {
        m.size[i] = row.size[i];
        m.stride_a[i] = row.a[i];
        m.stride_b[i] = row.b[i];
      }
      m.a = a.data();
      m.b = b.data();
      Guarded<T> y(n);
      m.y = y.data();
      const auto want = binary_twin(m);
      table<T>().binary(m);
      CAPTURE(row.rank);
      CAPTURE(static_cast<int>(op));
      CHECK(error(y.values(), want) <= bound<T>(1e-7));
      CHECK(y.intact());
      CHECK(same_for_any_threads([&] {
        table<T>().binary(m);
        return y.values();
      }));
      if (dense_a) {
        std::vector<T> onto = a;
        m.a = onto.data();
        m.y = onto.data();
        table<T>().binary(m);
        CHECK(error(onto, want) <= bound<T>(1e-7));
      }
    }
  }
}

TEST_CASE_TEMPLATE("reductions", T, float, double) {
  struct Row {
    Index outer, reduced, inner;
  };
  for (Row row : {Row{1, 1, 1}, Row{3, 17, 1}, Row{2, 33, 5}, Row{1, 1000, 67}, Row{1, 20000, 1}, Row{5, 0, 3},
                  Row{2, 3, 600}, Row{300, 7, 1}, Row{1, 70000, 3}, Row{4, 300, 16}}) {
    CAPTURE(row.reduced);
    CAPTURE(row.inner);
    const auto x = random<T>(row.outer * row.reduced * row.inner, 7);
    for (Reduction op : {Reduction::sum, Reduction::max, Reduction::min}) {
      Guarded<T> y(row.outer * row.inner);
      Reduce<T> p;
      p.op = op;
      p.outer = row.outer;
      p.reduced = row.reduced;
      p.inner = row.inner;
      p.x = x.data();
      p.y = y.data();
      p.scale = op == Reduction::sum ? T(0.25) : T(1);
      table<T>().reduce(p);
      CHECK(error(y.values(), reduce_twin(p)) <= bound<T>(5e-6));
      CHECK(y.intact());
      CHECK(same_for_any_threads([&] {
        table<T>().reduce(p);
        return y.values();
      }));
    }
  }
}

TEST_CASE("a maximum of rows and of columns hands NaN on wherever it stands") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (Index place : {0, 1, 16, 40, 80}) {
    std::vector<float> x = random<float>(81, 9);
    x[at(place)] = nan;
    float y = 0;
    Reduce<float> p{Reduction::max, 1, 81, 1, x.data(), &y, 1};
    table<float>().reduce(p);
    CHECK(std::isnan(y));
    std::vector<float> columns(9);
    p = {Reduction::min, 1, 9, 9, x.data(), columns.data(), 1};
    table<float>().reduce(p);
    for (Index c = 0; c < 9; ++c) CHECK(std::isnan(columns[at(c)]) == (c == place % 9));
  }
}

TEST_CASE("the float sum of a million numbers about 10 is right to 1e-7") {
  const auto x = random<float>(1 << 20, 11, 9, 11);
  double want = 0;
  for (float v : x) want += static_cast<double>(v);
  float y = 0;
  table<float>().reduce({Reduction::sum, 1, 1 << 20, 1, x.data(), &y, 1});
  CHECK(std::abs(static_cast<double>(y) - want) <= 1e-7 * want);
}

TEST_CASE_TEMPLATE("axpy", T, float, double) {
  for (Index n : {Index{1}, Index{17}, Index{40003}}) {
    const auto x = random<T>(n, 12);
    const auto y = random<T>(n, 13);
    std::vector<T> out = y;
    table<T>().axpy(n, T(0.5), x.data(), out.data());
    std::vector<double> want;
    for (std::size_t i = 0; i < x.size(); ++i)
      want.push_back(static_cast<double>(y[i]) + 0.5 * static_cast<double>(x[i]));
    CHECK(error(out, want) <= bound<T>(1e-7));
    CHECK(same_for_any_threads([&] {
      std::vector<T> again = y;
      table<T>().axpy(n, T(0.5), x.data(), again.data());
      return again;
    }));
  }
}
