// How the library is compiled. Header-only (nothing defined): every header declares and defines. Split (OCELLUS_SPLIT, set by the
// CMake target ocellus::split): headers stop at declarations; the library's own translation units add OCELLUS_IMPL_<FOLDER> and emit
// that folder's definitions once.
#pragma once

#if defined(OCELLUS_SPLIT)
#define OCELLUS_FN            // defined in exactly one translation unit of the split library
#else
#define OCELLUS_FN inline     // header-only: every user emits it, the linker keeps one
#endif

// Cold paths stay out of line: inlined, they tripled the object code of an op.
#define OCELLUS_COLD [[gnu::noinline, gnu::cold]]

// Keeps the float and double instantiations of the function templates named, in the translation unit that defines them.
// A template that is only declared elsewhere then links (split mode); header-only mode instantiates on use and needs nothing.
#if defined(OCELLUS_SPLIT)
#define OCELLUS_FLOATS_JOIN_(a, b) a##b
#define OCELLUS_FLOATS_NAME_(number) OCELLUS_FLOATS_JOIN_(kept_, number)
#define OCELLUS_FLOATS(function)                                                         \
  namespace {                                                                            \
  [[gnu::used]] const auto OCELLUS_FLOATS_NAME_(__COUNTER__) =                           \
      ::std::pair{&function<float>, &function<double>};                                  \
  }
#else
#define OCELLUS_FLOATS(function)
#endif

// Who sees the op structs: header-only users, the translation units that define ops, and the rules of graph/ that match them.
#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_AUTOGRAD) || defined(OCELLUS_IMPL_OPS) || defined(OCELLUS_IMPL_LOSSES) || \
    defined(OCELLUS_IMPL_OPTIM) || defined(OCELLUS_IMPL_GRAPH)
#define OCELLUS_OP_STRUCTS
#endif
