#include "pictures.hpp"

#include <filesystem>
#include <set>

#include <ocellus/core/error.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/vision/image_file.hpp>

#include "command.hpp"

namespace ocellus::cli {

ResultFiles::ResultFiles(const std::string& directory, const std::vector<std::string>& pictures) : directory_(directory), several_(pictures.size() > 1) {
  std::set<std::string> stems;
  for (const std::string& p : pictures) {
    const std::string stem = std::filesystem::path(p).stem().string();
    if (!stems.insert(stem).second) throw UsageError("two pictures are named '" + stem + "'; their results would overwrite each other");
  }
  make_directory(directory_);
}

std::string ResultFiles::path(const std::string& picture, const std::string& file) const {
  return directory_ + "/" + (several_ ? std::filesystem::path(picture).stem().string() + "." : "") + file;
}

Image read_timed(const std::string& path, StageTimes& ms) {
  const double start = seconds();
  Image image = read_image(path);
  ms.read = 1e3 * (seconds() - start);
  return image;
}

void begin_result(JsonWriter& json, const char* schema, const std::string& model, const std::string& image, const Image& picture) {
  json.begin_object().field("schema", schema).field("model", model).field("image", image);
  json.field("size", std::vector<Index>{picture.height(), picture.width()});
}

void write_times(JsonWriter& json, const StageTimes& ms) {
  json.key("ms").begin_object().field("read", ms.read).field("preprocess", ms.preprocess).field("model", ms.model);
  json.field("postprocess", ms.postprocess).end_object();
}

}  // namespace ocellus::cli
