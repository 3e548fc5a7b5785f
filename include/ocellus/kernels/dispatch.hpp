// The table in use. Header-only: the one set this translation unit's flags ask for. Split: the best of the sets built
// that this CPU has, chosen on first use; the environment variable OCELLUS_ISA = sse2 | avx2 | avx512 (or neon) asks
// for one by name.
#pragma once

#include <ocellus/core/config.hpp>
#include <ocellus/kernels/arguments.hpp>

// One set, that of this translation unit's flags: header-only, or ocellus/impl.hpp, which asks for the set and the
// choice together.
#if !defined(OCELLUS_SPLIT) || (defined(OCELLUS_IMPL_KERNELS) && defined(OCELLUS_IMPL_KERNEL_SET))
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
// A template, so that a program pays at compile time only for the element types whose kernels it reaches.
template <class T>
const Table<T>& table() {
  static constexpr Table<T> instance = OCELLUS_ISA::make_table<T>();
  return instance;
}
#endif

}  // namespace ocellus::kernels

#elif defined(OCELLUS_IMPL_KERNELS)
#include <cstdlib>
#include <string>

#include <ocellus/core/error.hpp>

namespace ocellus::kernels {

// Each is defined by its own translation unit: kernels/set.hpp.
#if defined(__x86_64__)
extern const Table<float> table_avx512;
extern const Table<float> table_avx2;
#endif
extern const Table<float> table_baseline;
extern const Table<double> table_double;

namespace {

const Table<float>& choose_table() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  const struct {
    const Table<float>* table;
    bool supported;
  } sets[] = {{&table_avx512, avx512}, {&table_avx2, avx2}, {&table_baseline, true}};
#else
  const struct {
    const Table<float>* table;
    bool supported;
  } sets[] = {{&table_baseline, true}};
#endif
  const char* wanted = std::getenv("OCELLUS_ISA");
  std::string known;
  for (const auto& set : sets) {
    if (!set.supported) continue;
    if (!wanted || std::string(wanted) == set.table->instruction_set) return *set.table;
    known += (known.empty() ? "" : ", ") + std::string(set.table->instruction_set);
  }
  throw UsageError("OCELLUS_ISA is '" + std::string(wanted) + "', which this build or CPU does not have; use one of " +
                   known + " or unset it");
}

}  // namespace

template <>
const Table<float>& table<float>() {
  static const Table<float>& instance = choose_table();
  return instance;
}
template <>
const Table<double>& table<double>() {
  return table_double;
}

}  // namespace ocellus::kernels
#endif
