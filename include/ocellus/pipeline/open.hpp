// open() of any architecture that the library has.
#pragma once

#include <ocellus/models/zoo.hpp>
#include <ocellus/pipeline/model.hpp>

namespace ocellus {

// open<Models...>() of pipeline/model.hpp for every architecture of the library.
Model open(const std::string& directory, const OpenOptions& options = {});
Model open(const ModelBytes& files, const std::string& name = "(memory)", const OpenOptions& options = {});

// Copies the model in the directory `from` to the directory `to`, which must exist: the same weights, with this choice of precision in
// the place of any that they carry.
void save_precision(const std::string& from, const std::string& to, const PrecisionPolicy& policy);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
#include <ocellus/io/file.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/io/torch_file.hpp>

namespace ocellus {
namespace pipeline_detail {

OCELLUS_FN OpenOptions with_torch(OpenOptions options) {
  if (!options.torch_reader) options.torch_reader = read_torch_file;
  return options;
}

}  // namespace pipeline_detail

OCELLUS_FN Model open(const std::string& directory, const OpenOptions& options) {
  return pipeline_detail::open_with(&make_network, directory, pipeline_detail::with_torch(options));
}

OCELLUS_FN Model open(const ModelBytes& files, const std::string& name, const OpenOptions& options) {
  return pipeline_detail::open_with(&make_network, files, name, options);
}

OCELLUS_FN void save_precision(const std::string& from, const std::string& to, const PrecisionPolicy& policy) {
  pipeline_detail::ModelFiles files = pipeline_detail::read_model(from, pipeline_detail::with_torch({}));
  files.weights.metadata[PrecisionPolicy::metadata_key] = policy.to_json();
  write_safetensors(to + "/model.safetensors", files.weights);
  if (files.bytes.preprocessor.size()) write_file_atomically(to + "/preprocessor_config.json", files.bytes.preprocessor.text());
  write_file_atomically(to + "/config.json", files.bytes.config.text());
}

}  // namespace ocellus
#endif
