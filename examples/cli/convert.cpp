// ocellus convert IN OUT.safetensors
#include <algorithm>
#include <cstdio>
#include <iterator>

#include <CLI/CLI.hpp>

#include <ocellus/core/error.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/io/torch_file.hpp>

#include "command.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string in, out, dtype;
};

constexpr const char* torch_suffixes[] = {".pth", ".pt", ".bin", ".th"};

void convert_file(const Options& o) {
  apply(o.common);
  if (!o.out.ends_with(".safetensors")) throw UsageError("convert writes .safetensors; got '" + o.out + "'");
  const auto is_torch = [&] {
    return std::any_of(std::begin(torch_suffixes), std::end(torch_suffixes),
                       [&](const char* s) { return o.in.ends_with(s); });
  };
  NamedTensors tensors;
  if (o.in.ends_with(".safetensors")) {
    tensors = read_safetensors(o.in);
  } else if (o.in.ends_with(".npz")) {
    tensors = read_npz(o.in);
  } else if (is_torch()) {
    tensors = read_torch_file(o.in);
  } else {
    throw FileError(o.in, "convert reads .safetensors, .npz and PyTorch's .pth, .pt, .bin and .th");
  }
  NamedTensors result;
  result.metadata = tensors.metadata;
  const DType to = o.dtype == "bf16" ? DType::bf16 : o.dtype == "f16" ? DType::f16 : DType::f32;
  for (const NamedTensor& t : tensors) {
    const DType type = t.tensor.dtype();
    const bool real = type == DType::f32 || type == DType::f64 || type == DType::bf16 || type == DType::f16;
    result.add(t.name, !o.dtype.empty() && real ? convert(t.tensor, to) : t.tensor);
  }
  write_safetensors(o.out, result);
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.convert/1").field("in", o.in).field("out", o.out).field("tensors", result.size()).end_object();
    std::puts(json.str().c_str());
  } else {
    std::printf("%s: %zu tensors\n", o.out.c_str(), result.size());
  }
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("convert", "Weights to safetensors, from .safetensors, .npz, .pth, .pt, .bin or .th");
  auto o = std::make_shared<Options>();
  command->add_option("in", o->in, "file to read")->required()->check(is_path());
  command->add_option("out", o->out, "file to write, .safetensors")->required()->check(is_path());
  command->add_option("--dtype", o->dtype, "element type of the real tensors")->check(CLI::IsMember({"f32", "f16", "bf16"}));
  add_common(*command, o->common, {"f32"});
  command->callback([o] { convert_file(*o); });
}

}  // namespace ocellus::cli
