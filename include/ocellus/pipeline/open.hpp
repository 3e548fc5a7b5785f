// open() of any architecture that the library has.
#pragma once

#include <ocellus/models/zoo.hpp>
#include <ocellus/pipeline/model.hpp>

namespace ocellus {

// open<Models...>() of pipeline/model.hpp for every architecture of the library.
Model open(const std::string& directory, const OpenOptions& options = {});
Model open(const ModelBytes& files, const std::string& name = "(memory)", const OpenOptions& options = {});

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_PIPELINE)
namespace ocellus {

OCELLUS_FN Model open(const std::string& directory, const OpenOptions& options) {
  return pipeline_detail::open_with(&make_network, directory, options);
}

OCELLUS_FN Model open(const ModelBytes& files, const std::string& name, const OpenOptions& options) {
  return pipeline_detail::open_with(&make_network, files, name, options);
}

}  // namespace ocellus
#endif
