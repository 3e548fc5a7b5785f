// What the library may ask of a kernel: plain argument structs over raw pointers and sizes, and one table of functions per element
// type, filled for one instruction set. Split mode holds one table per set and chooses at start-up; header-only mode has the one set
// its translation unit was compiled for; double is compiled once at the baseline. A kernel cuts its own work over the pool
// (runtime/parallel.hpp) and takes temporary memory from runtime/scratch.hpp. Images are (N, H, W, C), matrices row-major.
#pragma once

#include <cstdint>

#include <ocellus/core/dtype.hpp>
#include <ocellus/core/shape.hpp>
#include <ocellus/kernels/activation.hpp>

namespace ocellus::kernels {

// y = after(before(acc + bias[channel]) + residual): runs on the accumulators of a matrix product or convolution.
template <class T>
struct Epilogue {
  const T* bias = nullptr;      // one per column or output channel
  const T* residual = nullptr;  // laid out as the output
  Act before = Act::none;
  Act after = Act::none;
};

// C = epilogue(op(A) op(B)), or C += op(A) op(B) with `accumulate` (no epilogue then), for each of `batch` problems.
template <class T>
struct Gemm {
  Index m = 0, n = 0, k = 0;
  const T* a = nullptr;  // (m, k) with lda ≥ k; transposed: stored (k, m) with lda ≥ m
  Index lda = 0;
  bool transpose_a = false;
  const T* b = nullptr;  // (k, n) with ldb ≥ n; transposed: stored (n, k) with ldb ≥ k (a Linear weight)
  Index ldb = 0;
  bool transpose_b = false;
  const T* packed_b = nullptr;  // from gemm_pack: b, ldb and transpose_b are then unused
  T* c = nullptr;               // (m, n) with ldc ≥ n; the residual has ldc too
  Index ldc = 0;
  bool accumulate = false;
  Epilogue<T> epilogue = {};
  Index batch = 1;
  Index stride_a = 0, stride_b = 0, stride_c = 0;  // elements between problems; 0 shares
};

// How a convolution is computed: its multiply-adds as they stand, or Winograd's F(2x2, 3x3) and F(4x4, 3x3), which only
// dense 3x3 float convolutions of stride and dilation 1 have (others fall back to direct).
enum class ConvAlgorithm : std::uint8_t { automatic, direct, winograd2, winograd4 };

// Sizes of a convolution. The weight is (out_channels, kernel_h, kernel_w, channels / groups).
struct ConvShape {
  Index batch = 0, height = 0, width = 0, channels = 0;
  Index out_channels = 0, out_height = 0, out_width = 0;
  Size2 kernel = 1, stride = 1, padding = 0, dilation = 1;
  Index groups = 1;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;  // by the sizes: kernels/tuning.hpp

  bool depthwise() const { return groups == channels && out_channels == channels && groups > 1; }
};

template <class T>
struct Conv {
  ConvShape shape;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* packed_weight = nullptr;  // from conv_pack: weight is then unused
  T* y = nullptr;
  Epilogue<T> epilogue = {};
};

// A convolution of one group, or a linear map (the pointwise convolution of a row of pixels), whose weight stands in a low precision:
// DType::bf16: weight and input rounded to bf16, sums in float.
// DType::i8: weight symmetric with a scale per output channel, each window (a row of the linear map) in 8 bits with its own scale and
// zero point, exact integer sums: the same integers with every instruction set. A window with NaN or infinity gives NaN.
struct LowPrecisionConv {
  DType type = DType::none;
  ConvShape shape;
  const float* x = nullptr;
  const void* packed_weight = nullptr;  // from LowPrecisionTable::pack
  float* y = nullptr;
  Epilogue<float> epilogue = {};
};
// Longest sum of 8-bit products that 32 bits hold.
inline constexpr Index most_int8_terms = 66000;

// Gradients of a convolution; a null output is not wanted. Outputs are written, not added to.
template <class T>
struct ConvBackward {
  ConvShape shape;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;
  T* dweight = nullptr;
};

// y[r, :] = x̂ γ + β over `channels`, x̂ = (x − mean) rstd. mean and rstd are per row, written when not null. γ, β may be null.
template <class T>
struct LayerNorm {
  Index rows = 0, channels = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* bias = nullptr;
  T* y = nullptr;
  T* mean = nullptr;
  T* rstd = nullptr;
  T eps = 0;
};
template <class T>
struct LayerNormBackward {
  Index rows = 0, channels = 0;
  const T* x = nullptr;
  const T* weight = nullptr;  // null: ones
  const T* mean = nullptr;
  const T* rstd = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;
  T* dweight = nullptr;
  T* dbias = nullptr;
};

// Normalisation over (batch, pixels) per channel, or over (pixels, channels of a group) per picture: statistics are
// (batch_of_statistics, groups) with x seen as (outer, pixels, channels). Batch norm: outer = 1, groups = channels.
// y = (x − mean) rstd γ[c] + β[c].
template <class T>
struct GroupNorm {
  Index outer = 0, pixels = 0, channels = 0, groups = 0;
  const T* x = nullptr;
  const T* weight = nullptr;  // per channel, may be null
  const T* bias = nullptr;
  T* y = nullptr;
  T* mean = nullptr;  // (outer, groups); group_norm_statistics writes both, group_norm_apply reads them
  T* rstd = nullptr;
  T eps = 0;
};
template <class T>
struct GroupNormBackward {
  Index outer = 0, pixels = 0, channels = 0, groups = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  const T* mean = nullptr;
  const T* rstd = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;
  T* dweight = nullptr;
  T* dbias = nullptr;
  bool constant_statistics = false;  // evaluation: mean and rstd do not depend on x
};

// softmax(scale q kᵀ) v per (batch, head), never holding more than a block of the score matrix. q, k, v, y are token lists whose
// heads lie side by side in the channels: element (b, l, h, d) of q is q[b * batch_q + l * row_q + h * dim + d].
template <class T>
struct Attention {
  Index batch = 0, heads = 0, queries = 0, keys = 0, dim = 0;  // dim: channels of one head
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  T* y = nullptr;
  T* log_sum = nullptr;  // (batch, heads, queries): log Σ exp(score), written when not null
  Index row_q = 0, row_k = 0, row_v = 0, row_y = 0;
  Index batch_q = 0, batch_k = 0, batch_v = 0, batch_y = 0;
  T scale = 0;
};
template <class T>
struct AttentionBackward {
  Attention<T> forward;  // with y and log_sum as forward left them
  const T* dy = nullptr;  // laid out as y
  T* dq = nullptr;        // laid out as q, k, v
  T* dk = nullptr;
  T* dv = nullptr;
};

// One axis of a separable resampling: output i is Σ_j weight[i * taps + j] x[start[i] + j].
struct ResampleAxis {
  Index in = 0, out = 0, taps = 0;
  const Index* start = nullptr;   // (out), start[i] + taps ≤ in
  const double* weight = nullptr;  // (out, taps)
};
template <class T>
struct Resample {
  Index batch = 0, channels = 0;
  ResampleAxis vertical, horizontal;
  const T* x = nullptr;         // (batch, vertical.in, horizontal.in, channels)
  T* y = nullptr;               // (batch, vertical.out, horizontal.out, channels)
  const T* residual = nullptr;  // laid out as y, added; may be null
};
template <class T>
struct ResampleBackward {
  Index batch = 0, channels = 0;
  ResampleAxis vertical, horizontal;
  const T* dy = nullptr;
  T* dx = nullptr;
};

// Pooling windows. Average: divides by the window's area, clipped to the picture unless count_include_pad (as PyTorch defines it).
struct PoolShape {
  Index batch = 0, height = 0, width = 0, channels = 0, out_height = 0, out_width = 0;
  Size2 kernel = 1, stride = 1, padding = 0;
  bool count_include_pad = true;
};
template <class T>
struct Pool {
  PoolShape shape;
  const T* x = nullptr;
  T* y = nullptr;
  std::int32_t* argmax = nullptr;  // max pooling: pixel h * width + w of each maximum, written when not null; NaN wins, else the first
};
template <class T>
struct PoolBackward {
  PoolShape shape;
  const std::int32_t* argmax = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;
};

enum class Binary : std::uint8_t { add, sub, mul, div };
enum class Unary : std::uint8_t { exp, log, sqrt, abs, neg, square, reciprocal };
enum class Reduction : std::uint8_t { sum, max, min };

// y = a (op) b over a shape of up to 8 axes, with strides in elements per operand (0: broadcast); y is dense.
template <class T>
struct BinaryMap {
  Binary op = Binary::add;
  int rank = 0;
  Index size[8] = {};
  Index stride_a[8] = {};
  Index stride_b[8] = {};
  const T* a = nullptr;
  const T* b = nullptr;
  T* y = nullptr;
};

// y[o, i] = reduce over r of x[o, r, i]. Sums are cut by sizes alone (same bits for any number of threads).
template <class T>
struct Reduce {
  Reduction op = Reduction::sum;
  Index outer = 0, reduced = 0, inner = 0;
  const T* x = nullptr;
  T* y = nullptr;
  T scale = 1;  // multiplies a sum: 1 / reduced makes a mean
};

// One step of AdamW (Loshchilov and Hutter, 2019) or Adam (decoupled = false: the decay joins the gradient), as PyTorch computes it.
template <class T>
struct AdamStep {
  Index n = 0;
  T* weight = nullptr;
  const T* gradient = nullptr;
  T* first = nullptr;   // exponential mean of gradients
  T* second = nullptr;  // of their squares
  double learning_rate = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
  double correction1 = 1, correction2 = 1;  // 1 − beta^t
  bool decoupled = true;
};
// SGD with momentum as PyTorch computes it; velocity null: no momentum.
template <class T>
struct SgdStep {
  Index n = 0;
  T* weight = nullptr;
  const T* gradient = nullptr;
  T* velocity = nullptr;
  double learning_rate = 0, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  bool first_step = false;  // velocity starts as the gradient
};

// One instruction set's kernels for one element type. Every pointer is filled.
template <class T>
struct Table {
  const char* instruction_set;  // "sse2", "avx2", "avx512", "neon", "generic"

  // kernels/gemm.hpp
  Index (*gemm_packed_size)(Index n, Index k);  // elements
  void (*gemm_pack)(Index n, Index k, const T* b, Index ldb, bool transpose_b, T* packed);
  void (*gemm)(const Gemm<T>&);

  // kernels/conv.hpp, kernels/depthwise.hpp (chosen inside by ConvShape::depthwise)
  Index (*conv_packed_size)(const ConvShape&);
  void (*conv_pack)(const ConvShape&, const T* weight, T* packed);
  void (*conv)(const Conv<T>&);
  void (*conv_backward)(const ConvBackward<T>&);

  // kernels/norm.hpp
  void (*layer_norm)(const LayerNorm<T>&);
  void (*layer_norm_backward)(const LayerNormBackward<T>&);
  void (*group_norm_statistics)(const GroupNorm<T>&);
  void (*group_norm_apply)(const GroupNorm<T>&);
  void (*group_norm_backward)(const GroupNormBackward<T>&);

  // kernels/softmax.hpp: rows of n; log: log-softmax
  void (*softmax)(Index rows, Index n, const T* x, T* y, bool log);
  void (*softmax_backward)(Index rows, Index n, const T* y, const T* dy, T* dx, bool log);

  // kernels/attention.hpp
  void (*attention)(const Attention<T>&);
  void (*attention_backward)(const AttentionBackward<T>&);

  // kernels/resample.hpp, kernels/pool.hpp
  void (*resample)(const Resample<T>&);
  void (*resample_backward)(const ResampleBackward<T>&);
  void (*max_pool)(const Pool<T>&);
  void (*max_pool_backward)(const PoolBackward<T>&);
  void (*average_pool)(const Pool<T>&);
  void (*average_pool_backward)(const PoolBackward<T>&);

  // kernels/elementwise.hpp
  void (*activation)(Act f, Index n, const T* x, T* y);
  void (*activation_backward)(Act f, Index n, const T* x, const T* dy, T* dx);
  void (*unary)(Unary f, Index n, const T* x, T* y);
  void (*binary)(const BinaryMap<T>&);
  void (*reduce)(const Reduce<T>&);
  void (*axpy)(Index n, T alpha, const T* x, T* y);  // y += alpha x

  // kernels/optimizer.hpp
  void (*adam_step)(const AdamStep<T>&);
  void (*sgd_step)(const SgdStep<T>&);

  // kernels/peak.hpp: runs multiply-adds on registers, returns how many floating-point operations that were
  double (*fma_loop)(Index iterations);
};

// One instruction set's kernels for bf16 and int8: kernels/low_precision.hpp.
struct LowPrecisionTable {
  const char* instruction_set;  // "sse2", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "neon", "neon_dotprod"

  Index (*packed_bytes)(DType type, Index n, Index k);
  void (*pack)(DType type, Index n, Index k, const float* weight, void* packed);  // weight (n, k)
  void (*conv)(const LowPrecisionConv&);
};
const LowPrecisionTable& low_precision_table();

// The table in use, for float and double. Header-only programs have calls of the same names instead: kernels/dispatch.hpp.
#if defined(OCELLUS_SPLIT)
template <class T>
const Table<T>& table();
template <>
const Table<float>& table<float>();
template <>
const Table<double>& table<double>();
#endif

}  // namespace ocellus::kernels
