// Modules ↔ named tensors. Files hold PyTorch's layout and the reference's key names; loading and saving permute. Loading is strict:
// missing, unexpected and mis-shaped keys are one error with a report.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <ocellus/io/named_tensors.hpp>
#include <ocellus/nn/module.hpp>

namespace ocellus {

// A key that a model may find in a file and not use. `*` in the pattern stands for any characters.
struct IgnoredKey {
  const char* pattern;
  const char* reason;
};

struct LoadReport {
  Index loaded = 0;
  std::vector<std::string> ignored;    // "key: reason"
  std::vector<std::string> converted;  // "key: bf16 to f32"
};

// One parameter in PyTorch's layout, as a tensor of `dtype` (DType::none: the parameter's own file type), and back.
AnyTensor to_file(const Parameter& p, DType dtype = DType::none);
void from_file(const AnyTensor& tensor, Parameter& p);

// Throws ConfigError that lists every missing, unexpected and mis-shaped key with the nearest names; nothing is changed then.
LoadReport load_parameters(const std::vector<NamedParameter>& parameters, const NamedTensors& tensors, std::span<const IgnoredKey> ignored,
                           const std::string& source);

template <class M>
LoadReport load_state(M& module, const NamedTensors& tensors, std::span<const IgnoredKey> ignored = {}, const std::string& source = "weights") {
  return load_parameters(named_parameters(module), tensors, ignored, source);
}

// Every parameter and buffer by key, floats as `dtype` (f32, bf16 or f16).
template <class M>
NamedTensors state_of(const M& module, DType dtype = DType::f32) {
  NamedTensors tensors;
  for (const NamedParameter& p : named_parameters(const_cast<M&>(module))) {
    tensors.add(p.name, to_file(*p.parameter, p.parameter->file_dtype() == DType::f32 ? dtype : p.parameter->file_dtype()));
  }
  tensors.metadata["format"] = "pt";
  return tensors;
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_NN)
#include <algorithm>
#include <cstring>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace nn_detail {

// (out, channels, spatial…) ↔ (out, spatial…, channels) of 4-byte elements.
OCELLUS_FN void move_channels(const Shape& view, const float* from, float* to, bool channels_last) {
  const Index outer = view[0], channels = view[1], spatial = view.numel() / std::max<Index>(outer * channels, 1);
  for (Index o = 0; o < outer; ++o) {
    for (Index c = 0; c < channels; ++c) {
      for (Index s = 0; s < spatial; ++s) {
        const Index file = (o * channels + c) * spatial + s, memory = (o * spatial + s) * channels + c;
        if (channels_last) {
          to[memory] = from[file];
        } else {
          to[file] = from[memory];
        }
      }
    }
  }
}

OCELLUS_FN bool matches(const char* pattern, const char* text) {
  if (*pattern == '*') return matches(pattern + 1, text) || (*text && matches(pattern, text + 1));
  return *pattern == *text && (!*pattern || matches(pattern + 1, text + 1));
}

// Levenshtein's distance.
OCELLUS_FN std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

OCELLUS_FN std::string nearest(const std::string& name, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t least = name.size() / 2 + 1;
  for (const std::string& c : candidates) {
    const std::size_t length_gap = c.size() > name.size() ? c.size() - name.size() : name.size() - c.size();
    if (length_gap >= least) continue;
    const std::size_t d = edit_distance(name, c);
    if (d < least) {
      least = d;
      best = c;
    }
  }
  return best;
}

inline constexpr std::size_t most_shown = 12;  // keys of a section

OCELLUS_FN void append_section(std::string& report, const char* title, const std::vector<std::string>& lines) {
  constexpr std::size_t shown = most_shown;
  if (lines.empty()) return;
  report += "\n  " + std::string(title) + " (" + std::to_string(lines.size()) + "):";
  for (std::size_t i = 0; i < std::min(lines.size(), shown); ++i) report += "\n    " + lines[i];
  if (lines.size() > shown) report += "\n    … and " + std::to_string(lines.size() - shown) + " more";
}

}  // namespace nn_detail

OCELLUS_FN AnyTensor to_file(const Parameter& p, DType dtype) {
  AnyTensor t(Spec{p.file_shape(), DType::f32});
  if (p.file_view().empty()) {
    std::memcpy(t.raw(), p.data(), p.spec().bytes());
  } else {
    nn_detail::move_channels(p.file_view(), p.data(), static_cast<float*>(t.raw()), false);
  }
  return convert(t, dtype == DType::none ? p.file_dtype() : dtype);
}

OCELLUS_FN void from_file(const AnyTensor& tensor, Parameter& p) {
  const Tensor t = convert<float>(tensor);
  if (p.file_view().empty()) {
    std::memcpy(p.data(), t.data(), p.spec().bytes());
  } else {
    nn_detail::move_channels(p.file_view(), t.data(), p.data(), true);
  }
}

OCELLUS_FN LoadReport load_parameters(const std::vector<NamedParameter>& parameters, const NamedTensors& tensors,
                                      std::span<const IgnoredKey> ignored, const std::string& source) {
  LoadReport report;
  std::vector<std::string> missing, unexpected, mismatched, wanted, unused;
  for (const NamedParameter& p : parameters) {
    wanted.push_back(p.name);
    const AnyTensor* t = tensors.find(p.name);
    const bool counter = p.parameter->file_dtype() == DType::i64;  // num_batches_tracked, which many exporters drop
    if (!t && counter) {
      report.ignored.push_back(p.name + ": not in the file, counts from the start");
    } else if (!t) {
      missing.push_back(p.name);
    } else if (!counter && t->dtype() != DType::f32 && t->dtype() != DType::f64 && t->dtype() != DType::f16 && t->dtype() != DType::bf16) {
      mismatched.push_back(p.name + ": the file has " + name_of(t->dtype()) + ", the model needs f32, f64, f16 or bf16");
    } else if (!(t->shape() == p.parameter->file_shape())) {
      mismatched.push_back(p.name + ": the file has " + t->shape().str() + ", the model needs " + p.parameter->file_shape().str());
    } else if (t->dtype() != p.parameter->file_dtype()) {
      report.converted.push_back(p.name + ": " + name_of(t->dtype()) + " to " + name_of(DType::f32));
    }
  }
  std::sort(wanted.begin(), wanted.end());
  for (const NamedTensor& t : tensors) {
    if (std::binary_search(wanted.begin(), wanted.end(), t.name)) continue;
    const auto rule = std::find_if(ignored.begin(), ignored.end(), [&](const IgnoredKey& k) { return nn_detail::matches(k.pattern, t.name.c_str()); });
    if (rule == ignored.end()) {
      unexpected.push_back(t.name);
    } else {
      report.ignored.push_back(t.name + ": " + rule->reason);
    }
  }
  constexpr std::size_t compared = 1000;  // names to look for a near one in; a damaged file may have millions
  unused.assign(unexpected.begin(), unexpected.begin() + static_cast<std::ptrdiff_t>(std::min(compared, unexpected.size())));
  for (std::size_t i = 0; i < std::min(missing.size(), nn_detail::most_shown); ++i) {
    const auto prefixed = std::find_if(unexpected.begin(), unexpected.end(), [&](const std::string& u) { return u.ends_with("." + missing[i]); });
    const std::string near = prefixed != unexpected.end() ? *prefixed : nn_detail::nearest(missing[i], unused);
    if (!near.empty()) missing[i] += "   (the file has " + near + ")";
  }
  if (!missing.empty() || !unexpected.empty() || !mismatched.empty()) {
    std::string text = source + ": the weights do not fit the model";
    nn_detail::append_section(text, "missing in the file", missing);
    nn_detail::append_section(text, "unexpected in the file", unexpected);
    nn_detail::append_section(text, "of another shape or type", mismatched);
    throw ConfigError(text);
  }
  for (const NamedParameter& p : parameters) {
    const AnyTensor* t = tensors.find(p.name);
    if (!t) continue;
    from_file(*t, *p.parameter);
    ++report.loaded;
  }
  return report;
}

}  // namespace ocellus
#endif
