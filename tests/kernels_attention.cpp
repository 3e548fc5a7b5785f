// Attention and its gradient against the textbook formulas in double.
#include <cmath>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Attention;
using kernels::AttentionBackward;
using kernels::table;

namespace {

struct Case {
  Index batch, heads, queries, keys, dim;
};

// Tokens of q, k, v, y, each with channels to spare so that a kernel that ignores the row strides fails.
template <class T>
struct Problem {
  explicit Problem(Case c, double spread = 1)
      : sizes(c),
        q(random<T>(c.batch * c.queries * row(c, 3), 1, -spread, spread)),
        k(random<T>(c.batch * c.keys * row(c, 5), 2, -spread, spread)),
        v(random<T>(c.batch * c.keys * row(c, 0), 3)),
        dy(random<T>(c.batch * c.queries * row(c, 2), 4)),
        y(c.batch * c.queries * row(c, 2)),
        log_sum(c.batch * c.heads * c.queries),
        dq(c.batch * c.queries * row(c, 3)),
        dk(c.batch * c.keys * row(c, 5)),
        dv(c.batch * c.keys * row(c, 0)) {}

  static Index row(Case c, Index spare) { return c.heads * c.dim + spare; }

  Attention<T> forward() {
    Attention<T> p;
    p.batch = sizes.batch;
    p.heads = sizes.heads;
    p.queries = sizes.queries;
    p.keys = sizes.keys;
    p.dim = sizes.dim;
    p.q = q.data();
    p.k = k.data();
    p.v = v.data();
    p.y = y.data();
    p.log_sum = log_sum.data();
    p.row_q = row(sizes, 3);
    p.row_k = row(sizes, 5);
    p.row_v = row(sizes, 0);
    p.row_y = row(sizes, 2);
    p.batch_q = sizes.queries * p.row_q;
    p.batch_k = sizes.keys * p.row_k;
    p.batch_v = sizes.keys * p.row_v;
    p.batch_y = sizes.queries * p.row_y;
    p.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(sizes.dim)));
    return p;
  }

  AttentionBackward<T> backward() { return {forward(), dy.data(), dq.data(), dk.data(), dv.data()}; }

  Case sizes;
  std::vector<T> q, k, v, dy;
  Guarded<T> y, log_sum, dq, dk, dv;
};

struct Twin {
  std::vector<double> y, log_sum, dq, dk, dv;
};

// Elements outside the heads keep the value of Guarded.
template <class T>
Twin twin(Problem<T>& problem) {
  const Attention<T> p = problem.forward();
  Twin t;
  t.y.assign(problem.y.values().size(), -77);
  t.dq.assign(problem.dq.values().size(), -77);
  t.dk.assign(problem.dk.values().size(), -77);
  t.dv.assign(problem.dv.values().size(), -77);
  const auto q = widen(problem.q);
  const auto k = widen(problem.k);
  const auto v = widen(problem.v);
  const auto dy = widen(problem.dy);
  const double scale = static_cast<double>(p.scale);
  for (Index b = 0; b < p.batch; ++b) {
    for (Index h = 0; h < p.heads; ++h) {
      const auto in_q = [&](Index i, Index d) { return at(b * p.batch_q + i * p.row_q + h * p.dim + d); };
      const auto in_k = [&](Index j, Index d) { return at(b * p.batch_k + j * p.row_k + h * p.dim + d); };
      const auto in_v = [&](Index j, Index d) { return at(b * p.batch_v + j * p.row_v + h * p.dim + d); };
      const auto in_y = [&](Index i, Index d) { return at(b * p.batch_y + i * p.row_y + h * p.dim + d); };
      for (Index j = 0; j < p.keys; ++j) {
        for (Index d = 0; d < p.dim; ++d) {
          t.dk[in_k(j, d)] = 0;
          t.dv[in_v(j, d)] = 0;
        }
      }
      for (Index i = 0; i < p.queries; ++i) {
        std::vector<double> score(at(p.keys));
        double top = -HUGE_VAL;
        for (Index j = 0; j < p.keys; ++j) {
          double s = 0;
          for (Index d = 0; d < p.dim; ++d) s += q[in_q(i, d)] * k[in_k(j, d)];
          score[at(j)] = s * scale;
          top = std::fmax(top, score[at(j)]);
        }
        double sum = 0;
        for (double s : score) sum += std::exp(s - top);
        t.log_sum.push_back(top + std::log(sum));
        double dot = 0;
        for (Index d = 0; d < p.dim; ++d) {
          double y = 0;
          for (Index j = 0; j < p.keys; ++j) y += std::exp(score[at(j)] - top) / sum * v[in_v(j, d)];
          t.y[in_y(i, d)] = y;
          t.dq[in_q(i, d)] = 0;
          dot += y * dy[in_y(i, d)];
        }
        for (Index j = 0; j < p.keys; ++j) {
          const double probability = std::exp(score[at(j)] - top) / sum;
          double g = 0;
          for (Index d = 0; d < p.dim; ++d) {
            g += dy[in_y(i, d)] * v[in_v(j, d)];
            t.dv[in_v(j, d)] += probability * dy[in_y(i, d)];
          }
          const double ds = probability * (g - dot) * scale;
          for (Index d = 0; d < p.dim; ++d) {
            t.dq[in_q(i, d)] += ds * k[in_k(j, d)];
            t.dk[in_k(j, d)] += ds * q[in_q(i, d)];
          }
        }
      }
    }
  }
  return t;
}

// Sizes around the tiles (6 rows, 48 query rows, panels of up to 64 keys), more than one block of keys, more than one
// run of queries.
const Case cases[] = {{1, 1, 1, 1, 1},      {1, 2, 7, 5, 5},     {2, 3, 50, 17, 12},  {1, 2, 49, 64, 32},
                      {2, 1, 48, 67, 33},   {1, 1, 97, 131, 64}, {1, 2, 600, 30, 16}, {1, 1, 6, 1100, 20},
                      {2, 2, 300, 1030, 8}, {3, 2, 16, 16, 67}};

}  // namespace

TEST_CASE_TEMPLATE("attention and its gradient", T, float, double) {
  for (const Case& c : cases) {
    CAPTURE(c.queries);
    CAPTURE(c.keys);
    CAPTURE(c.dim);
    Problem<T> problem(c);
    table<T>().attention(problem.forward());
    table<T>().attention_backward(problem.backward());
    const Twin want = twin(problem);
    CHECK(error(problem.y.values(), want.y) <= bound<T>(1e-6));
    CHECK(error(problem.log_sum.values(), want.log_sum) <= bound<T>(1e-6));
    CHECK(error(problem.dq.values(), want.dq) <= bound<T>(2e-6));
    CHECK(error(problem.dk.values(), want.dk) <= bound<T>(5e-6));
    CHECK(error(problem.dv.values(), want.dv) <= bound<T>(5e-6));
    CHECK(problem.y.intact());
    CHECK(problem.log_sum.intact());
    CHECK(problem.dq.intact());
    CHECK(problem.dk.intact());
    CHECK(problem.dv.intact());
  }
}

TEST_CASE_TEMPLATE("attention: scores far below zero and large ones neither vanish nor overflow", T, float, double) {
  for (const Case& c : {Case{1, 1, 5, 19, 8}, Case{1, 1, 5, 1200, 8}}) {
    Problem<T> problem(c, 1);
    for (T& x : problem.q) x = T(30);
    for (T& x : problem.k) x = x - T(20);  // every score is about -1600
    table<T>().attention(problem.forward());
    CHECK(error(problem.y.values(), twin(problem).y) <= (sizeof(T) == 4 ? 1e-3 : 1e-10));
    for (T& x : problem.k) x = -x;
    table<T>().attention(problem.forward());
    CHECK(error(problem.y.values(), twin(problem).y) <= (sizeof(T) == 4 ? 1e-3 : 1e-10));
  }
}

TEST_CASE_TEMPLATE("attention gives the same bits for any number of threads", T, float, double) {
  for (const Case& c : cases) {
    Problem<T> problem(c);
    CHECK(same_for_any_threads([&] {
      table<T>().attention(problem.forward());
      table<T>().attention_backward(problem.backward());
      std::vector<T> all = problem.y.values();
      for (const auto& part : {problem.dq.values(), problem.dk.values(), problem.dv.values()}) {
        all.insert(all.end(), part.begin(), part.end());
      }
      return all;
    }));
  }
}

TEST_CASE("attention without log_sum") {
  Problem<float> problem(cases[2]);
  Attention<float> p = problem.forward();
  p.log_sum = nullptr;
  table<float>().attention(p);
  CHECK(error(problem.y.values(), twin(problem).y) <= 1e-6);
}
