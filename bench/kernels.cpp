// Every kernel family, forward and backward, one row a case; suite.hpp says what a row shows.
// Usage: bench_kernels [--benchmark_filter=attention] [--benchmark_out=new.json]
#include <memory>
#include <utility>

#include "gemm_shapes.hpp"
#include "suite.hpp"

namespace {

using namespace bench;
using ocellus::Act;
namespace kernels = ocellus::kernels;

constexpr double float_bytes = sizeof(float);

// Arguments of a kernel and the arrays that they point to, kept together for as long as the row runs.
template <class Arguments>
struct Held {
  Arguments arguments;
  std::vector<Numbers> arrays;

  float* array(Index size) {
    arrays.push_back(numbers(size));
    return arrays.back().data();
  }
};

template <class Arguments>
Work work(std::shared_ptr<Held<Arguments>> held, void (*kernel)(const Arguments&), double flops, double bytes) {
  return {[held = std::move(held), kernel] { kernel(held->arguments); }, flops, bytes};
}

template <class Arguments>
auto held() {
  return std::make_shared<Held<Arguments>>();
}

std::string dimensions(std::initializer_list<Index> sizes) {
  std::string text;
  for (Index size : sizes) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text;
}

// --- matrix products ---

enum class Product { packed, gradient_of_input, gradient_of_weight };

Work gemm(const GemmShape& s, Product kind) {
  auto h = held<kernels::Gemm<float>>();
  kernels::Gemm<float>& g = h->arguments;
  g.m = s.m;
  g.n = s.n;
  g.k = s.k;
  g.a = h->array(s.m * s.k);
  g.transpose_a = kind == Product::gradient_of_weight;
  g.lda = g.transpose_a ? s.m : s.k;
  const float* b = h->array(s.n * s.k);
  if (kind == Product::packed) {
    float* packed = h->array(table<float>().gemm_packed_size(s.n, s.k));
    table<float>().gemm_pack(s.n, s.k, b, s.n, false, packed);
    g.packed_b = packed;
    g.epilogue.bias = h->array(s.n);
    g.epilogue.before = Act::relu;
  }
  g.b = b;
  g.ldb = s.n;
  g.c = h->array(s.m * s.n);
  g.ldc = s.n;
  return work(h, table<float>().gemm, s.flops(), 0);
}

// --- convolutions ---

struct ConvCase {
  Index size, channels, out_channels, kernel, stride, groups = 1, batch = 1;

  kernels::ConvShape shape() const {
    kernels::ConvShape s;
    s.batch = batch;
    s.height = s.width = size;
    s.channels = channels;
    s.out_channels = out_channels;
    s.kernel = kernel;
    s.stride = stride;
    s.padding = kernel == stride ? 0 : kernel / 2;
    s.groups = groups;
    s.out_height = s.out_width = (size + 2 * s.padding.h - kernel) / stride + 1;
    return s;
  }
  Index inputs() const { return batch * size * size * channels; }
  Index outputs() const { return batch * shape().out_height * shape().out_width * out_channels; }
  Index weights() const { return out_channels * kernel * kernel * channels / groups; }
  double flops() const { return 2.0 * static_cast<double>(outputs()) * static_cast<double>(weights() / out_channels); }
};

Work conv(const ConvCase& c) {
  auto h = held<kernels::Conv<float>>();
  const kernels::ConvShape shape = c.shape();
  const float* weight = h->array(c.weights());
  float* packed = h->array(table<float>().conv_packed_size(shape));
  table<float>().conv_pack(shape, weight, packed);
  h->arguments.shape = shape;
  h->arguments.x = h->array(c.inputs());
  h->arguments.packed_weight = packed;
  h->arguments.y = h->array(c.outputs());
  h->arguments.epilogue.bias = h->array(c.out_channels);
  h->arguments.epilogue.before = Act::relu;
  return work(h, table<float>().conv, c.flops(), 0);
}

Work conv_backward(const ConvCase& c, bool of_weight) {
  auto h = held<kernels::ConvBackward<float>>();
  h->arguments.shape = c.shape();
  h->arguments.x = h->array(c.inputs());
  h->arguments.weight = h->array(c.weights());
  h->arguments.dy = h->array(c.outputs());
  (of_weight ? h->arguments.dweight : h->arguments.dx) = h->array(of_weight ? c.weights() : c.inputs());
  return work(h, table<float>().conv_backward, c.flops(), 0);
}

// --- attention ---

struct AttentionCase {
  Index batch, heads, queries, keys, dim;

  double product_flops() const { return 2.0 * static_cast<double>(batch * heads * queries * keys * dim); }
};

template <class Arguments>
void set_attention(const AttentionCase& c, Held<Arguments>& h, kernels::Attention<float>& a) {
  const Index channels = c.heads * c.dim;
  a.batch = c.batch;
  a.heads = c.heads;
  a.queries = c.queries;
  a.keys = c.keys;
  a.dim = c.dim;
  a.q = h.array(c.batch * c.queries * channels);
  a.k = h.array(c.batch * c.keys * channels);
  a.v = h.array(c.batch * c.keys * channels);
  a.y = h.array(c.batch * c.queries * channels);
  a.log_sum = h.array(c.batch * c.heads * c.queries);
  a.row_q = a.row_k = a.row_v = a.row_y = channels;
  a.batch_q = a.batch_y = c.queries * channels;
  a.batch_k = a.batch_v = c.keys * channels;
  a.scale = 0.125f;
}

Work attention(const AttentionCase& c) {
  auto h = held<kernels::Attention<float>>();
  set_attention(c, *h, h->arguments);
  return work(h, table<float>().attention, 2 * c.product_flops(), 0);
}

Work attention_backward(const AttentionCase& c) {
  auto h = held<kernels::AttentionBackward<float>>();
  kernels::AttentionBackward<float>& b = h->arguments;
  set_attention(c, *h, b.forward);
  table<float>().attention(b.forward);
  const Index channels = c.heads * c.dim;
  b.dy = h->array(c.batch * c.queries * channels);
  b.dq = h->array(c.batch * c.queries * channels);
  b.dk = h->array(c.batch * c.keys * channels);
  b.dv = h->array(c.batch * c.keys * channels);
  return work(h, table<float>().attention_backward, 5 * c.product_flops(), 0);
}

// --- norms ---

Work layer_norm(Index rows, Index channels) {
  auto h = held<kernels::LayerNorm<float>>();
  kernels::LayerNorm<float>& a = h->arguments;
  a.rows = rows;
  a.channels = channels;
  a.x = h->array(rows * channels);
  a.weight = h->array(channels);
  a.bias = h->array(channels);
  a.y = h->array(rows * channels);
  a.eps = 1e-6f;
  return work(h, table<float>().layer_norm, 0, 2 * float_bytes * static_cast<double>(rows * channels));
}

Work layer_norm_backward(Index rows, Index channels) {
  auto h = held<kernels::LayerNormBackward<float>>();
  kernels::LayerNormBackward<float>& a = h->arguments;
  a.rows = rows;
  a.channels = channels;
  a.x = h->array(rows * channels);
  a.weight = h->array(channels);
  a.mean = h->array(rows);
  a.rstd = h->array(rows);
  a.dy = h->array(rows * channels);
  a.dx = h->array(rows * channels);
  a.dweight = h->array(channels);
  a.dbias = h->array(channels);
  return work(h, table<float>().layer_norm_backward, 0, 3 * float_bytes * static_cast<double>(rows * channels));
}

// Batch norm in training: statistics and application.
Work batch_norm(Index pixels, Index channels) {
  auto h = held<kernels::GroupNorm<float>>();
  kernels::GroupNorm<float>& a = h->arguments;
  a.outer = 1;
  a.pixels = pixels;
  a.channels = a.groups = channels;
  a.x = h->array(pixels * channels);
  a.weight = h->array(channels);
  a.bias = h->array(channels);
  a.y = h->array(pixels * channels);
  a.mean = h->array(channels);
  a.rstd = h->array(channels);
  a.eps = 1e-5f;
  const auto both = [](const kernels::GroupNorm<float>& g) {
    table<float>().group_norm_statistics(g);
    table<float>().group_norm_apply(g);
  };
  return work<kernels::GroupNorm<float>>(h, both, 0, 3 * float_bytes * static_cast<double>(pixels * channels));
}

Work batch_norm_backward(Index pixels, Index channels) {
  auto h = held<kernels::GroupNormBackward<float>>();
  kernels::GroupNormBackward<float>& a = h->arguments;
  a.outer = 1;
  a.pixels = pixels;
  a.channels = a.groups = channels;
  a.x = h->array(pixels * channels);
  a.weight = h->array(channels);
  a.mean = h->array(channels);
  a.rstd = h->array(channels);
  a.dy = h->array(pixels * channels);
  a.dx = h->array(pixels * channels);
  a.dweight = h->array(channels);
  a.dbias = h->array(channels);
  return work(h, table<float>().group_norm_backward, 0, 5 * float_bytes * static_cast<double>(pixels * channels));
}

// --- softmax and element by element: arrays in, one array out ---

using Arrays = Held<Index>;  // the argument is the number of elements

Work elementwise(Index n, int inputs, void (*kernel)(Arrays&)) {
  auto h = std::make_shared<Arrays>();
  h->arguments = n;
  for (int i = 0; i <= inputs; ++i) h->array(n);
  return {[h, kernel] { kernel(*h); }, 0, float_bytes * static_cast<double>(n * (inputs + 1))};
}

template <Act act>
Work activation(Index n) {
  return elementwise(n, 1, [](Arrays& h) {
    table<float>().activation(act, h.arguments, h.arrays[0].data(), h.arrays[1].data());
  });
}
template <Act act>
Work activation_backward(Index n) {
  return elementwise(n, 2, [](Arrays& h) {
    table<float>().activation_backward(act, h.arguments, h.arrays[0].data(), h.arrays[1].data(), h.arrays[2].data());
  });
}
template <kernels::Unary f>
Work unary(Index n) {
  return elementwise(n, 1, [](Arrays& h) {
    table<float>().unary(f, h.arguments, h.arrays[0].data(), h.arrays[1].data());
  });
}
template <Index columns>
Work softmax(Index n) {
  return elementwise(n, 1, [](Arrays& h) {
    table<float>().softmax(h.arguments / columns, columns, h.arrays[0].data(), h.arrays[1].data(), false);
  });
}
template <Index columns>
Work softmax_backward(Index n) {
  return elementwise(n, 2, [](Arrays& h) {
    const float *y = h.arrays[0].data(), *dy = h.arrays[1].data();
    table<float>().softmax_backward(h.arguments / columns, columns, y, dy, h.arrays[2].data(), false);
  });
}

// --- resize and pooling ---

// Bilinear positions of a side that grows by a whole factor, without aligned corners.
struct Bilinear {
  std::vector<Index> start;
  std::vector<double> weight;
  kernels::ResampleAxis axis;

  Bilinear(Index in, Index factor) {
    for (Index i = 0; i < in * factor; ++i) {
      const double at = std::max(0.0, (static_cast<double>(i) + 0.5) / static_cast<double>(factor) - 0.5);
      start.push_back(std::min(static_cast<Index>(at), in - 2));
      const double right = std::min(1.0, at - static_cast<double>(start.back()));
      weight.insert(weight.end(), {1 - right, right});
    }
    axis = {in, in * factor, 2, start.data(), weight.data()};
  }
};

template <class Arguments>
Work resize(Index size, Index channels, Index factor, void (*kernel)(const Arguments&)) {
  auto h = held<Arguments>();
  const auto positions = std::make_shared<Bilinear>(size, factor);
  Arguments& a = h->arguments;
  a.batch = 1;
  a.channels = channels;
  a.vertical = a.horizontal = positions->axis;
  const Index small = size * size * channels, large = small * factor * factor;
  if constexpr (requires { a.dx; }) {
    a.dy = h->array(large);
    a.dx = h->array(small);
  } else {
    a.x = h->array(small);
    a.y = h->array(large);
  }
  return {[h, positions, kernel] { kernel(h->arguments); }, 0, float_bytes * static_cast<double>(small + large)};
}

kernels::PoolShape pool_shape(Index size, Index channels, Index kernel, Index stride) {
  kernels::PoolShape s;
  s.batch = 1;
  s.height = s.width = size;
  s.channels = channels;
  s.kernel = kernel;
  s.stride = stride;
  s.padding = kernel > stride ? kernel / 2 : 0;
  s.out_height = s.out_width = (size + 2 * s.padding.h - kernel) / stride + 1;
  return s;
}

Work pool(const kernels::PoolShape& s, bool backward, bool maximum) {
  const Index in = s.height * s.width * s.channels, out = s.out_height * s.out_width * s.channels;
  const double bytes = float_bytes * static_cast<double>(in + out);
  auto forward = held<kernels::Pool<float>>();
  auto argmax = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(out));
  forward->arguments = {s, forward->array(in), forward->array(out), maximum ? argmax->data() : nullptr};
  const auto run_forward = maximum ? table<float>().max_pool : table<float>().average_pool;
  if (!backward) return {[forward, argmax, run_forward] { run_forward(forward->arguments); }, 0, bytes};
  run_forward(forward->arguments);
  auto h = held<kernels::PoolBackward<float>>();
  h->arguments = {s, maximum ? argmax->data() : nullptr, h->array(out), h->array(in)};
  const auto run_backward = maximum ? table<float>().max_pool_backward : table<float>().average_pool_backward;
  return {[h, argmax, run_backward] { run_backward(h->arguments); }, 0, bytes};
}

// --- optimizer steps ---

Work adam(Index n) {
  auto h = held<kernels::AdamStep<float>>();
  kernels::AdamStep<float>& a = h->arguments;
  a.n = n;
  a.weight = h->array(n);
  a.gradient = h->array(n);
  a.first = h->array(n);
  a.second = h->array(n);
  std::fill(a.second, a.second + n, 1.0f);  // a mean of squares
  a.learning_rate = 1e-6;
  a.beta1 = 0.9;
  a.beta2 = 0.999;
  a.eps = 1e-8;
  return work(h, table<float>().adam_step, 0, 7 * float_bytes * static_cast<double>(n));
}

Work sgd(Index n) {
  auto h = held<kernels::SgdStep<float>>();
  kernels::SgdStep<float>& a = h->arguments;
  a.n = n;
  a.weight = h->array(n);
  a.gradient = h->array(n);
  a.velocity = h->array(n);
  a.learning_rate = 1e-6;
  a.momentum = 0.9;
  return work(h, table<float>().sgd_step, 0, 5 * float_bytes * static_cast<double>(n));
}

// --- the rows ---

void add_rows() {
  for (const GemmShape& s : gemm_shapes) {
    add_row("gemm/packed/" + dimensions({s.m, s.n, s.k}), [s] { return gemm(s, Product::packed); });
  }
  for (const GemmShape& s : {GemmShape{4096, 64, 256}, {8192, 160, 640}}) {
    add_row("gemm/dx/" + dimensions({s.m, s.n, s.k}), [s] { return gemm(s, Product::gradient_of_input); });
  }
  for (const GemmShape& s : {GemmShape{256, 64, 16384}, {160, 640, 8192}}) {
    add_row("gemm/dweight/" + dimensions({s.m, s.n, s.k}), [s] { return gemm(s, Product::gradient_of_weight); });
  }

  const ConvCase convolutions[] = {
      {56, 64, 64, 3, 1},   {28, 128, 128, 3, 1},       {14, 256, 256, 3, 1},     {7, 512, 512, 3, 1},
      {80, 64, 128, 3, 2},  {512, 3, 32, 7, 4},         {224, 3, 32, 3, 2},       {224, 3, 64, 7, 2},
      {128, 32, 32, 8, 8},  {56, 96, 96, 3, 1, 96},     {32, 640, 640, 3, 1, 640}, {128, 128, 128, 3, 1, 128},
      {112, 96, 96, 3, 2, 96}, {56, 144, 144, 5, 2, 144}, {56, 96, 96, 7, 1, 96}};
  for (const ConvCase& c : convolutions) {
    const std::string name = dimensions({c.size, c.channels, c.out_channels}) + "k" + std::to_string(c.kernel) + "s" +
                             std::to_string(c.stride);
    const std::string family = c.groups > 1 ? "depthwise/" : "conv/";
    add_row(family + "forward/" + name, [c] { return conv(c); });
    add_row(family + "dx/" + name, [c] { return conv_backward(c, false); });
    add_row(family + "dweight/" + name, [c] { return conv_backward(c, true); });
  }

  const AttentionCase attentions[] = {
      {1, 1, 16384, 256, 32}, {1, 2, 4096, 256, 32}, {1, 5, 1024, 256, 32}, {1, 8, 256, 256, 32}, {1, 12, 197, 197, 64}};
  for (const AttentionCase& c : attentions) {
    const std::string name = dimensions({c.heads, c.queries, c.keys, c.dim});
    add_row("attention/forward/" + name, [c] { return attention(c); });
    add_row("attention/backward/" + name, [c] { return attention_backward(c); });
  }

  for (const auto& [rows, channels] : {std::pair<Index, Index>{16384, 32}, {1024, 160}, {197, 768}}) {
    const auto [r, c] = std::pair(rows, channels);
    add_row("layer_norm/forward/" + dimensions({r, c}), [r, c] { return layer_norm(r, c); });
    add_row("layer_norm/backward/" + dimensions({r, c}), [r, c] { return layer_norm_backward(r, c); });
  }
  for (const auto& [pixels, channels] : {std::pair<Index, Index>{16384, 64}, {1024, 512}}) {
    const auto [p, c] = std::pair(pixels, channels);
    add_row("batch_norm/forward/" + dimensions({p, c}), [p, c] { return batch_norm(p, c); });
    add_row("batch_norm/backward/" + dimensions({p, c}), [p, c] { return batch_norm_backward(p, c); });
  }

  const struct {
    const char* name;
    Work (*make)(Index n);
  } elementwise_rows[] = {{"softmax/forward/256", softmax<256>},
                          {"softmax/backward/256", softmax_backward<256>},
                          {"softmax/forward/19", softmax<19>},
                          {"exp", unary<kernels::Unary::exp>},
                          {"gelu/forward", activation<Act::gelu>},
                          {"gelu/backward", activation_backward<Act::gelu>},
                          {"silu/forward", activation<Act::silu>},
                          {"silu/backward", activation_backward<Act::silu>},
                          {"relu/forward", activation<Act::relu>},
                          {"relu/backward", activation_backward<Act::relu>}};
  for (const auto& row : elementwise_rows) {
    constexpr Index n = 256 * 19 * 64;  // whole rows of each softmax
    add_row(row.name, [make = row.make] { return make(n); });
  }

  const auto resize_rows = [](Index size, Index channels, Index factor) {
    const std::string name = dimensions({size, channels}) + "to" + std::to_string(size * factor);
    add_row("resize/forward/" + name, [=] { return resize(size, channels, factor, table<float>().resample); });
    add_row("resize/backward/" + name, [=] { return resize(size, channels, factor, table<float>().resample_backward); });
  };
  resize_rows(16, 256, 8);
  resize_rows(64, 256, 2);
  resize_rows(128, 19, 4);

  for (const bool maximum : {true, false}) {
    const std::string kind = maximum ? "max_pool/" : "average_pool/";
    for (const kernels::PoolShape& s : {pool_shape(112, 64, 3, 2), pool_shape(112, 128, 2, 2), pool_shape(7, 2048, 7, 7)}) {
      const std::string name = dimensions({s.height, s.channels}) + "k" + std::to_string(s.kernel.h);
      add_row(kind + "forward/" + name, [=] { return pool(s, false, maximum); });
      add_row(kind + "backward/" + name, [=] { return pool(s, true, maximum); });
    }
  }

  for (const Index n : {Index{1} << 16, Index{1} << 22}) {
    add_row("adamw/" + std::to_string(n), [n] { return adam(n); });
    add_row("sgd_momentum/" + std::to_string(n), [n] { return sgd(n); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_rows();
  return run_suite(argc, argv);
}
