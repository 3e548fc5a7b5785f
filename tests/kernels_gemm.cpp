// Matrix products against a scalar twin in double: shapes around the tile and vector sizes, every epilogue, both
// transpositions, packed and not, accumulation, batches, long sums cut into chunks, one row.
#include <cmath>

#include "kernel_twins.hpp"

using namespace ocellus;
using namespace twins;
using kernels::Gemm;
using kernels::table;

namespace {

struct Case {
  Index m, n, k;
  bool transpose_a = false;
  bool transpose_b = false;
  bool packed = false;
  bool accumulate = false;
  bool bias = false;
  bool residual = false;
  Act before = Act::none;
  Act after = Act::none;
  Index batch = 1;
  bool share_b = false;
  Index extra = 0;  // leading dimensions are this much longer than the rows
};

template <class T>
std::vector<T> run(const Case& c, bool& intact, double& worst) {
  const Index lda = (c.transpose_a ? c.m : c.k) + c.extra;
  const Index ldb = (c.transpose_b ? c.k : c.n) + c.extra;
  const Index ldc = c.n + c.extra;
  const Index size_a = (c.transpose_a ? c.k : c.m) * lda;
  const Index size_b = (c.transpose_b ? c.n : c.k) * ldb;
  const Index size_c = c.m * ldc;
  const Index matrices_b = c.share_b ? 1 : c.batch;
  const std::vector<T> a = random<T>(size_a * c.batch, 1);
  const std::vector<T> b = random<T>(size_b * matrices_b, 2);
  const std::vector<T> bias = random<T>(c.n, 3);
  const std::vector<T> residual = random<T>(size_c * c.batch, 4);
  const std::vector<T> start = random<T>(size_c * c.batch, 5);
  Guarded<T> y(size_c * c.batch);
  std::copy(start.begin(), start.end(), y.data());

  const auto& kernel = table<T>();
  const Index packed_size = kernel.gemm_packed_size(c.n, c.k);
  Guarded<T> packed(packed_size * matrices_b);
  for (Index i = 0; c.packed && i < matrices_b; ++i) {
    kernel.gemm_pack(c.n, c.k, b.data() + i * size_b, ldb, c.transpose_b, packed.data() + i * packed_size);
  }
  Gemm<T> g;
  g.m = c.m;
  g.n = c.n;
  g.k = c.k;
  g.a = a.data();
  g.lda = lda;
  g.transpose_a = c.transpose_a;
  g.b = c.packed ? nullptr : b.data();
  g.ldb = ldb;
  g.transpose_b = c.transpose_b;
  g.packed_b = c.packed ? packed.data() : nullptr;
  g.c = y.data();
  g.ldc = ldc;
  g.accumulate = c.accumulate;
  g.epilogue.bias = c.bias ? bias.data() : nullptr;
  g.epilogue.residual = c.residual ? residual.data() : nullptr;
  g.epilogue.before = c.before;
  g.epilogue.after = c.after;
  g.batch = c.batch;
  g.stride_a = size_a;
  g.stride_b = c.share_b ? 0 : size_b;
  g.stride_c = size_c;
  kernel.gemm(g);

  std::vector<double> want = widen(start);
  double largest = 1;
  for (Index i = 0; i < c.batch; ++i) {
    for (Index r = 0; r < c.m; ++r) {
      for (Index j = 0; j < c.n; ++j) {
        double sum = 0;
        const T* row = a.data() + i * size_a + (c.transpose_a ? r : r * lda);
        const T* column = b.data() + (c.share_b ? 0 : i * size_b) + (c.transpose_b ? j * ldb : j);
        const Index step_a = c.transpose_a ? lda : 1;
        const Index step_b = c.transpose_b ? 1 : ldb;
        for (Index k = 0; k < c.k; ++k)
          sum += static_cast<double>(row[k * step_a]) * static_cast<double>(column[k * step_b]);
        const std::size_t to = at(i * size_c + r * ldc + j);
        if (c.accumulate) {
          sum += want[to];
        } else {
          sum = act_value(c.before, sum + (c.bias ? static_cast<double>(bias[at(j)]) : 0.0));
          sum = act_value(c.after, sum + (c.residual ? static_cast<double>(residual[to]) : 0.0));
        }
        want[to] = sum;
        largest = std::fmax(largest, std::abs(sum));
      }
    }
  }
  const std::vector<T> got = y.values();
  intact = y.intact() && packed.intact();
  worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double e = std::abs(static_cast<double>(got[i]) - want[i]) / largest;
    if (!(e <= worst || std::isnan(worst))) worst = e;
  }
  return got;
}

template <class T>
void check(const Case& c) {
  bool intact = false;
  double worst = 0;
  run<T>(c, intact, worst);
  INFO("m ", c.m, " n ", c.n, " k ", c.k, " ta ", c.transpose_a, " tb ", c.transpose_b, " packed ", c.packed, " extra ",
       c.extra);
  CHECK(intact);
  CHECK(worst <= bound<T>(1e-5));
}

template <class T>
void check_layouts(Case c) {
  for (int mode = 0; mode < 8; ++mode) {
    c.transpose_a = mode & 1;
    c.transpose_b = mode & 2;
    c.packed = mode & 4;
    check<T>(c);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("products of odd shapes", T, float, double) {
  for (Index m : {1, 2, 5, 7, 9, 37}) {
    for (Index n : {1, 3, 15, 16, 17, 33, 48, 64, 80, 96, 131}) {
      for (Index k : {1, 3, 16, 33}) check_layouts<T>({.m = m, .n = n, .k = k});
    }
  }
  check_layouts<T>({.m = 37, .n = 45, .k = 33, .extra = 3});
  check_layouts<T>({.m = 101, .n = 67, .k = 1100, .extra = 1});
  check_layouts<T>({.m = 6, .n = 64, .k = 2049});
  check_layouts<T>({.m = 1, .n = 200, .k = 1030, .extra = 5});
}

TEST_CASE("nothing to sum or to write") {
  Gemm<float> g;
  float c[6] = {1, 2, 3, 4, 5, 6};
  const float bias[3] = {-1, 2, 3};
  g.m = 2;
  g.n = 3;
  g.c = c;
  g.ldc = 3;
  g.a = c;
  g.b = c;
  g.ldb = 3;
  g.epilogue.bias = bias;
  g.epilogue.before = Act::relu;
  table<float>().gemm(g);
  CHECK(std::vector<float>(c, c + 6) == std::vector<float>{0, 2, 3, 0, 2, 3});
  g.m = 0;
  table<float>().gemm(g);
  g.m = 2;
  g.n = 0;
  table<float>().gemm(g);
  CHECK(std::vector<float>(c, c + 6) == std::vector<float>{0, 2, 3, 0, 2, 3});
}

TEST_CASE_TEMPLATE("every epilogue", T, float, double) {
  for (int before = 0; before <= static_cast<int>(Act::hard_swish); ++before) {
    for (int after = 0; after <= static_cast<int>(Act::hard_swish); ++after) {
      for (bool residual : {false, true}) {
        for (Index m : {1, 13}) {
          check<T>({.m = m,
                    .n = 37,
                    .k = 19,
                    .bias = true,
                    .residual = residual,
                    .before = static_cast<Act>(before),
                    .after = static_cast<Act>(after),
                    .extra = 2});
        }
      }
    }
  }
  check<T>({.m = 20,
            .n = 70,
            .k = 2100,
            .packed = true,
            .bias = true,
            .residual = true,
            .before = Act::gelu,
            .after = Act::relu});
}

TEST_CASE("an activation in the epilogue keeps NaN") {
  for (int f = 0; f <= static_cast<int>(Act::hard_swish); ++f) {
    std::vector<float> a(12, 1.0f);
    a[3] = std::nanf("");
    const std::vector<float> b = random<float>(4 * 20, 1);
    std::vector<float> c(60);
    Gemm<float> g;
    g.m = 3;
    g.n = 20;
    g.k = 4;
    g.a = a.data();
    g.lda = 4;
    g.b = b.data();
    g.ldb = 20;
    g.c = c.data();
    g.ldc = 20;
    g.epilogue.before = static_cast<Act>(f);
    table<float>().gemm(g);
    INFO(act_names[f]);
    CHECK(std::isnan(c[0]));
    CHECK(std::isnan(c[19]));
    CHECK_FALSE(std::isnan(c[20]));
  }
}

TEST_CASE_TEMPLATE("accumulation", T, float, double) {
  for (Index m : {1, 2, 23}) check_layouts<T>({.m = m, .n = 53, .k = 29, .accumulate = true, .extra = 1});
  check_layouts<T>({.m = 8, .n = 32, .k = 5000, .accumulate = true});
}

TEST_CASE_TEMPLATE("batches", T, float, double) {
  for (bool share : {false, true}) {
    for (Index m : {1, 11})
      check_layouts<T>({.m = m, .n = 40, .k = 21, .bias = true, .residual = true, .batch = 5, .share_b = share});
  }
}

TEST_CASE_TEMPLATE("long sums are cut into chunks", T, float, double) {
  check_layouts<T>({.m = 32, .n = 48, .k = 6000});
  check_layouts<T>(
      {.m = 7, .n = 35, .k = 4097, .bias = true, .residual = true, .before = Act::relu, .after = Act::gelu});
  for (bool accumulate : {false, true}) {
    check<T>({.m = 67, .n = 272, .k = 4100, .transpose_a = true, .accumulate = accumulate, .extra = 2});
    check<T>({.m = 200, .n = 80, .k = 4100, .accumulate = accumulate});
  }
}

TEST_CASE_TEMPLATE("the number of threads changes no bit", T, float, double) {
  const Case cases[] = {
      {.m = 500, .n = 96, .k = 64, .bias = true, .before = Act::gelu},
      {.m = 40, .n = 300, .k = 1500, .packed = true, .bias = true, .residual = true},
      {.m = 33, .n = 64, .k = 9000, .transpose_a = true},
      {.m = 33, .n = 61, .k = 9000, .transpose_a = true, .accumulate = true},
      {.m = 67, .n = 272, .k = 4100, .transpose_a = true},
      {.m = 200, .n = 270, .k = 600, .transpose_a = true},
      {.m = 1, .n = 1000, .k = 300, .transpose_b = true, .bias = true},
      {.m = 1, .n = 1000, .k = 300, .packed = true, .bias = true},
      {.m = 50, .n = 50, .k = 50, .batch = 7},
  };
  for (const Case& c : cases) {
    bool intact = false;
    double worst = 0;
    INFO("m ", c.m, " n ", c.n, " k ", c.k);
    CHECK(same_for_any_threads([&] { return run<T>(c, intact, worst); }));
    CHECK(intact);
    CHECK(worst <= bound<T>(1e-5));
  }
}
