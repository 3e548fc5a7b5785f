// All kernels of one instruction set, and the table that holds them. Split mode compiles this header once per set with
// that set's flags and OCELLUS_IMPL_KERNEL_SET; such a translation unit holds nothing else.
#pragma once

#include <ocellus/kernels/attention.hpp>
#include <ocellus/kernels/conv.hpp>
#include <ocellus/kernels/elementwise.hpp>
#include <ocellus/kernels/gemm.hpp>
#include <ocellus/kernels/low_precision.hpp>
#include <ocellus/kernels/norm.hpp>
#include <ocellus/kernels/optimizer.hpp>
#include <ocellus/kernels/peak.hpp>
#include <ocellus/kernels/pool.hpp>
#include <ocellus/kernels/resample.hpp>
#include <ocellus/kernels/softmax.hpp>
#include <ocellus/kernels/arguments.hpp>

namespace ocellus::kernels {
namespace OCELLUS_ISA {

template <class T>
constexpr Table<T> make_table() {
  Table<T> t{};
  t.instruction_set = OCELLUS_ISA_NAME;
  t.gemm_packed_size = &gemm_packed_size<T>;
  t.gemm_pack = &gemm_pack<T>;
  t.gemm = &gemm<T>;
  t.conv_packed_size = &conv_packed_size<T>;
  t.conv_pack = &conv_pack<T>;
  t.conv = &conv<T>;
  t.conv_backward = &conv_backward<T>;
  t.layer_norm = &layer_norm<T>;
  t.layer_norm_backward = &layer_norm_backward<T>;
  t.group_norm_statistics = &group_norm_statistics<T>;
  t.group_norm_apply = &group_norm_apply<T>;
  t.group_norm_backward = &group_norm_backward<T>;
  t.softmax = &softmax<T>;
  t.softmax_backward = &softmax_backward<T>;
  t.attention = &attention<T>;
  t.attention_backward = &attention_backward<T>;
  t.resample = &resample<T>;
  t.resample_backward = &resample_backward<T>;
  t.max_pool = &max_pool<T>;
  t.max_pool_backward = &max_pool_backward<T>;
  t.average_pool = &average_pool<T>;
  t.average_pool_backward = &average_pool_backward<T>;
  t.activation = &activation<T>;
  t.activation_backward = &activation_backward<T>;
  t.unary = &unary<T>;
  t.binary = &binary<T>;
  t.reduce = &reduce<T>;
  t.axpy = &axpy<T>;
  t.adam_step = &adam_step<T>;
  t.sgd_step = &sgd_step<T>;
  t.fma_loop = &fma_loop<T>;
  return t;
}

}  // namespace OCELLUS_ISA

#if defined(OCELLUS_IMPL_KERNEL_SET)
#if defined(OCELLUS_ISA_AVX512)
extern const Table<float> table_avx512;
constinit const Table<float> table_avx512 = OCELLUS_ISA::make_table<float>();
#elif defined(OCELLUS_ISA_AVX2)
extern const Table<float> table_avx2;
constinit const Table<float> table_avx2 = OCELLUS_ISA::make_table<float>();
#else
extern const Table<float> table_baseline;
constinit const Table<float> table_baseline = OCELLUS_ISA::make_table<float>();
extern const Table<double> table_double;
constinit const Table<double> table_double = OCELLUS_ISA::make_table<double>();
#endif
#endif

}  // namespace ocellus::kernels
