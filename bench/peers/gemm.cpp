// C = A B in f32 through our packed product and through oneDNN (weights in the layout of its choice), BLIS, OpenBLAS and
// Eigen, interleaved, after comparing the results. Engines with a call for packed weights get them packed beforehand.
// oneDNN takes part where CMake found it, the BLAS libraries where the loader finds them: they define the same names, so
// each is loaded into a scope of its own.
// Usage: bench_peers_gemm [threads = 1] [rounds = 15] [engine...]      only these beside ours
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <omp.h>

#include <Eigen/Core>
#if defined(PEERS_HAVE_DNNL)
#include <dnnl.hpp>
#endif

#include "../gemm_shapes.hpp"
#include "../measure.hpp"

namespace {

using bench::GemmShape;
using bench::median;
using bench::Numbers;
using ocellus::Index;

struct Problem {
  GemmShape shape;
  Numbers a = bench::numbers(shape.m * shape.k);
  Numbers b = bench::numbers(shape.k * shape.n);
};

// Makes a call that writes c, which has room for (m, n). Whatever may be prepared once is prepared here.
using Prepare = std::function<std::function<void()>(const Problem&, float* c)>;

struct Engine {
  std::string name;
  Prepare prepare;
};

std::function<void()> prepare_ours(const Problem& p, float* c) {
  const auto& table = ocellus::kernels::table<float>();
  const auto [m, n, k] = p.shape;
  Numbers packed(static_cast<std::size_t>(table.gemm_packed_size(n, k)));
  table.gemm_pack(n, k, p.b.data(), n, false, packed.data());
  return [&p, c, &table, packed = std::move(packed)] {
    ocellus::kernels::Gemm<float> g;
    g.m = p.shape.m;
    g.n = p.shape.n;
    g.k = p.shape.k;
    g.a = p.a.data();
    g.lda = p.shape.k;
    g.packed_b = packed.data();
    g.c = c;
    g.ldc = p.shape.n;
    table.gemm(g);
  };
}

std::function<void()> prepare_eigen(const Problem& p, float* c) {
  return [&p, c] {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::Map<const Matrix> a(p.a.data(), p.shape.m, p.shape.k);
    Eigen::Map<const Matrix> b(p.b.data(), p.shape.k, p.shape.n);
    Eigen::Map<Matrix> y(c, p.shape.m, p.shape.n);
    if (p.shape.matrix_vector()) {
      y.row(0).noalias() = a.row(0) * b;  // the matrix-vector product is chosen at compile time
    } else {
      y.noalias() = a * b;
    }
  };
}

#if defined(PEERS_HAVE_DNNL)
std::function<void()> prepare_dnnl(const Problem& p, float* c) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  const auto [m, n, k] = p.shape;
  const auto plain = [](Index rows, Index columns) {
    return memory::desc({rows, columns}, memory::data_type::f32, memory::format_tag::ab);
  };
  const memory::desc any({k, n}, memory::data_type::f32, memory::format_tag::any);
  const dnnl::matmul::primitive_desc description({plain(m, k), any, plain(m, n)}, engine);
  memory b(plain(k, n), engine, const_cast<float*>(p.b.data()));
  memory weights(description.weights_desc(), engine);
  dnnl::reorder(b, weights).execute(stream, b, weights);
  stream.wait();
  const std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(plain(m, k), engine, const_cast<float*>(p.a.data()))},
      {DNNL_ARG_WEIGHTS, weights},
      {DNNL_ARG_DST, memory(plain(m, n), engine, c)}};
  return [product = dnnl::matmul(description), arguments] {
    product.execute(stream, arguments);
    stream.wait();
  };
}
#endif

// The standard C interface of BLAS; its enumerations are ints.
using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a, int lda,
                       const float* b, int ldb, float beta, float* c, int ldc);

// Adds an engine if the loader finds the library.
template <class Count>
void add_blas(std::vector<Engine>& engines, const char* name, const char* library, const char* set_threads, Count threads) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    std::printf("%s: not here (%s)\n", name, dlerror());
    return;
  }
  const auto sgemm = reinterpret_cast<Sgemm>(dlsym(handle, "cblas_sgemm"));
  const auto set = reinterpret_cast<void (*)(Count)>(dlsym(handle, set_threads));
  if (!sgemm || !set) throw std::runtime_error(std::string(library) + " has no cblas_sgemm or no " + set_threads);
  set(threads);
  engines.push_back({name, [sgemm](const Problem& p, float* c) -> std::function<void()> {
                       return [sgemm, &p, c] {
                         constexpr int row_major = 101, as_is = 111;
                         const int m = static_cast<int>(p.shape.m), n = static_cast<int>(p.shape.n);
                         const int k = static_cast<int>(p.shape.k);
                         sgemm(row_major, as_is, as_is, m, n, k, 1, p.a.data(), k, p.b.data(), n, 0, c, n);
                       };
                     }});
}

std::vector<Engine> find_engines(int threads) {
  ocellus::set_num_threads(threads);
  omp_set_num_threads(threads);  // oneDNN and Eigen
  std::vector<Engine> engines = {{"ocellus", prepare_ours}};
#if defined(PEERS_HAVE_DNNL)
  engines.push_back({"oneDNN", prepare_dnnl});
#endif
  add_blas(engines, "BLIS", "libblis.so.4", "bli_thread_set_num_threads", static_cast<Index>(threads));
  add_blas(engines, "OpenBLAS", "libopenblas.so.0", "openblas_set_num_threads", threads);
  engines.push_back({"Eigen", prepare_eigen});
  return engines;
}

// Threads of one engine spin for a while behind its work; the next one starts when they sleep.
void pause() {
  if (ocellus::num_threads() == 1) return;
  const timespec fifty_milliseconds{0, 50'000'000};
  nanosleep(&fifty_milliseconds, nullptr);
}

struct Outcome {
  double share = 0;                     // ours of the peak
  std::map<std::string, double> ratio;  // their time / ours
};

Outcome compare(const GemmShape& shape, const std::vector<Engine>& engines, int rounds) {
  const Problem problem{shape};
  const auto size = static_cast<std::size_t>(shape.m * shape.n);
  std::vector<Numbers> results(engines.size(), Numbers(size));
  std::vector<std::function<void()>> calls;
  for (std::size_t i = 0; i < engines.size(); ++i) {
    calls.push_back(engines[i].prepare(problem, results[i].data()));
    calls[i]();
    float difference = 0, largest = 0;
    for (std::size_t at = 0; at < size; ++at) {
      difference = std::max(difference, std::abs(results[i][at] - results[0][at]));
      largest = std::max(largest, std::abs(results[0][at]));
    }
    if (!(difference <= 1e-5f * largest)) throw std::runtime_error(engines[i].name + " computes something else");
  }

  const long repeats = std::max(1L, std::lround(4e8 * ocellus::num_threads() / shape.flops()));
  std::vector<std::vector<double>> rates(engines.size());
  std::vector<double> shares;
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t turn = 0; turn < engines.size(); ++turn) {
      const std::size_t i = (turn + static_cast<std::size_t>(round)) % engines.size();
      pause();
      for (long k = 0; k <= repeats / 4; ++k) calls[i]();
      const double start = bench::now();
      for (long k = 0; k < repeats; ++k) calls[i]();
      rates[i].push_back(1e-9 * shape.flops() * static_cast<double>(repeats) / (bench::now() - start));
      if (i == 0) shares.push_back(rates[0].back() / bench::peak());
    }
  }

  Outcome outcome{median(shares), {}};
  std::printf("%5ldx%4ldx%4ld", static_cast<long>(shape.m), static_cast<long>(shape.n), static_cast<long>(shape.k));
  for (std::size_t i = 0; i < engines.size(); ++i) {
    std::printf("  %6.1f %6.1f", *std::max_element(rates[i].begin(), rates[i].end()), median(rates[i]));
    if (i == 0) continue;
    std::vector<double> ratios;
    for (std::size_t round = 0; round < rates[i].size(); ++round) ratios.push_back(rates[0][round] / rates[i][round]);
    outcome.ratio[engines[i].name] = median(ratios);
  }
  const auto fastest = std::min_element(outcome.ratio.begin(), outcome.ratio.end(),
                                        [](const auto& x, const auto& y) { return x.second < y.second; });
  std::printf("  %5.1f %%  %5.2f %s", 100 * outcome.share, fastest->second, fastest->first.c_str());
  if (shape.matrix_vector()) {
    const double bytes = 4.0 * static_cast<double>(shape.n * shape.k);
    const double bandwidth = bench::read_bandwidth(static_cast<std::size_t>(bytes));
    std::printf(", %.0f %% of %.0f GB/s read", 100 * median(rates[0]) * bytes / shape.flops() / bandwidth, bandwidth);
  }
  std::printf("\n");
  return outcome;
}

void run(int threads, int rounds, const std::vector<std::string>& names) {
  std::vector<Engine> engines = find_engines(threads);
  const auto unwanted = [&](const Engine& e) { return std::find(names.begin(), names.end(), e.name) == names.end(); };
  if (!names.empty()) engines.erase(std::remove_if(engines.begin() + 1, engines.end(), unwanted), engines.end());
  if (engines.size() < 2) throw std::runtime_error("there is no engine to compare with");
  std::printf("%d thread(s), %d rounds; GFLOP/s best and median of each engine, ours as a share of the peak beside it,\n"
              "our speed / that of the fastest other engine (median of the rounds)\n%15s",
              threads, rounds, "");
  for (const Engine& engine : engines) std::printf("  %13s", engine.name.c_str());
  std::printf("\n");
  double share = 0, fastest = 0;
  std::map<std::string, double> ratio;
  int products = 0, shapes = 0;
  for (const GemmShape& shape : bench::gemm_shapes) {
    const Outcome outcome = compare(shape, engines, rounds);
    double least = INFINITY;
    for (const auto& [name, value] : outcome.ratio) {
      ratio[name] += std::log(value);
      least = std::min(least, value);
    }
    fastest += std::log(least);
    ++shapes;
    if (shape.matrix_vector()) continue;
    share += std::log(outcome.share);
    ++products;
  }
  std::printf("geometric means: %.1f %% of the peak without the matrix-vector product; ratio to the fastest %.3f",
              100 * std::exp(share / products), std::exp(fastest / shapes));
  for (const auto& [name, value] : ratio) std::printf(", to %s %.3f", name.c_str(), std::exp(value / shapes));
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const std::vector<std::string> names(argv + std::min(argc, 3), argv + argc);
    run(argc > 1 ? std::atoi(argv[1]) : 1, argc > 2 ? std::atoi(argv[2]) : 15, names);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
