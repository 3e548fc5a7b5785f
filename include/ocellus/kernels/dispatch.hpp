// The table in use. Header-only: the one set this translation unit's flags ask for. Split: the best of the sets built
// that this CPU has, chosen on first use; the environment variable OCELLUS_ISA = sse2 | avx2 | avx512 | avx512_vnni |
// avx512_bf16 | amx (or neon) asks for one by name. The last three differ from avx512 in the low precisions alone.
#pragma once

#include <ocellus/core/config.hpp>
#include <ocellus/kernels/arguments.hpp>

#if defined(__x86_64__) && defined(__linux__) && (!defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_KERNELS))
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ocellus::kernels {

// Does this CPU have AMX, and may this process use it? Linux makes room for the tiles only where it is asked to.
OCELLUS_FN bool amx_permitted() {
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25;  // cpuid leaf 7, edx
  unsigned a, b, c, features;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &features) || (~features & (bf16 | tile | int8))) return false;
  constexpr long request = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long tile_data = 18;    // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

}  // namespace ocellus::kernels
#endif

// One set, that of this translation unit's flags: header-only, or ocellus/impl.hpp, which asks for the set and the
// choice together.
#if !defined(OCELLUS_SPLIT) || (defined(OCELLUS_IMPL_KERNELS) && defined(OCELLUS_IMPL_KERNEL_SET))
#include <utility>

#include <ocellus/kernels/set.hpp>

namespace ocellus::kernels {

#if defined(OCELLUS_SPLIT)
template <>
OCELLUS_FN const Table<float>& table<float>() {
  static constexpr Table<float> instance = OCELLUS_ISA::make_table<float>();
  return instance;
}
template <>
OCELLUS_FN const Table<double>& table<double>() {
  static constexpr Table<double> instance = OCELLUS_ISA::make_table<double>();
  return instance;
}
#else
// The same names as Table has, called directly: a program pays at compile time only for the kernels that it reaches.
template <class T>
struct Calls {
  static constexpr const char* instruction_set = OCELLUS_ISA_NAME;

#define OCELLUS_KERNEL(name)                                            \
  template <class... Arguments>                                         \
  static decltype(auto) name(Arguments&&... arguments) {                \
    return OCELLUS_ISA::name<T>(std::forward<Arguments>(arguments)...); \
  }
  OCELLUS_KERNEL(gemm_packed_size)
  OCELLUS_KERNEL(gemm_pack)
  OCELLUS_KERNEL(gemm)
  OCELLUS_KERNEL(conv_packed_size)
  OCELLUS_KERNEL(conv_pack)
  OCELLUS_KERNEL(conv)
  OCELLUS_KERNEL(conv_backward)
  OCELLUS_KERNEL(layer_norm)
  OCELLUS_KERNEL(layer_norm_backward)
  OCELLUS_KERNEL(group_norm_statistics)
  OCELLUS_KERNEL(group_norm_apply)
  OCELLUS_KERNEL(group_norm_backward)
  OCELLUS_KERNEL(softmax)
  OCELLUS_KERNEL(softmax_backward)
  OCELLUS_KERNEL(attention)
  OCELLUS_KERNEL(attention_backward)
  OCELLUS_KERNEL(resample)
  OCELLUS_KERNEL(resample_backward)
  OCELLUS_KERNEL(max_pool)
  OCELLUS_KERNEL(max_pool_backward)
  OCELLUS_KERNEL(average_pool)
  OCELLUS_KERNEL(average_pool_backward)
  OCELLUS_KERNEL(activation)
  OCELLUS_KERNEL(activation_backward)
  OCELLUS_KERNEL(unary)
  OCELLUS_KERNEL(binary)
  OCELLUS_KERNEL(reduce)
  OCELLUS_KERNEL(axpy)
  OCELLUS_KERNEL(adam_step)
  OCELLUS_KERNEL(sgd_step)
  OCELLUS_KERNEL(fma_loop)
#undef OCELLUS_KERNEL
};

template <class T>
constexpr Calls<T> table() {
  return {};
}
#endif

OCELLUS_FN const LowPrecisionTable& low_precision_table() {
#if defined(OCELLUS_ISA_AMX)
  static const bool tiles = amx_permitted();
  if (!tiles) return OCELLUS_ISA::low_precision_paths<OCELLUS_ISA::Dots>;
#endif
  return OCELLUS_ISA::low_precision_paths<OCELLUS_ISA::BestPaths>;
}

}  // namespace ocellus::kernels

#elif defined(OCELLUS_IMPL_KERNELS)
#include <cstdlib>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus::kernels {

// Each is defined by its own translation unit: kernels/set.hpp, kernels/low_precision.hpp.
#if defined(__x86_64__)
extern const Table<float> table_avx512;
extern const Table<float> table_avx2;
#if defined(__linux__)
extern const LowPrecisionTable table_low_amx;
#endif
extern const LowPrecisionTable table_low_avx512_bf16;
extern const LowPrecisionTable table_low_avx512_vnni;
extern const LowPrecisionTable table_low_avx512;
extern const LowPrecisionTable table_low_avx2;
#endif
extern const Table<float> table_baseline;
extern const Table<double> table_double;
extern const LowPrecisionTable table_low_baseline;

namespace {

// An instruction set and its kernels. It is named after those of the low precisions: floats have fewer sets.
struct Level {
  const Table<float>& floats;
  const LowPrecisionTable& low_precision;
  bool (*supported)();
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_avx512_bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }
#if defined(__linux__)
bool has_amx() { return has_avx512_bf16() && amx_permitted(); }
#endif
#endif
bool always() { return true; }

const Level& choose_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  static constexpr Level levels[] = {
#if defined(__x86_64__)
#if defined(__linux__)
      {table_avx512, table_low_amx, has_amx},
#endif
      {table_avx512, table_low_avx512_bf16, has_avx512_bf16},
      {table_avx512, table_low_avx512_vnni, has_avx512_vnni},
      {table_avx512, table_low_avx512, has_avx512},
      {table_avx2, table_low_avx2, has_avx2},
#endif
      {table_baseline, table_low_baseline, always},
  };
  const char* wanted = std::getenv("OCELLUS_ISA");
  std::string known;
  for (const Level& level : levels) {
    const std::string name = level.low_precision.instruction_set;
    if (!level.supported()) continue;
    if (!wanted || wanted == name) return level;
    known += (known.empty() ? "" : ", ") + name;
  }
  throw UsageError("OCELLUS_ISA is '" + std::string(wanted) + "', which this build or CPU does not have; use one of " +
                   known + " or unset it");
}

const Level& level() {
  static const Level& chosen = choose_level();
  return chosen;
}

}  // namespace

template <>
const Table<float>& table<float>() {
  return level().floats;
}
template <>
const Table<double>& table<double>() {
  return table_double;
}
const LowPrecisionTable& low_precision_table() { return level().low_precision; }

}  // namespace ocellus::kernels
#endif
