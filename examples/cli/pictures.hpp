// What segment and classify share: a list of pictures, where their results go, and how a failure of one is reported.
#pragma once

#include <string>
#include <vector>

#include <ocellus/io/json.hpp>
#include <ocellus/pipeline/open.hpp>

namespace ocellus::cli {

// Where the files of one picture's result go: OUT/overlay.png for one picture, OUT/<stem>.overlay.png for several.
class ResultFiles {
 public:
  // Creates the directory. Throws UsageError when two pictures would write the same files.
  ResultFiles(const std::string& directory, const std::vector<std::string>& pictures);
  std::string path(const std::string& picture, const std::string& file) const;

 private:
  std::string directory_;
  bool several_;
};

// Reads a picture and says how long that took.
Image read_timed(const std::string& path, StageTimes& ms);

// The members that every result begins and ends with.
void begin_result(JsonWriter& json, const char* schema, const std::string& model, const std::string& image, const Image& picture);
void write_times(JsonWriter& json, const StageTimes& ms);

}  // namespace ocellus::cli
