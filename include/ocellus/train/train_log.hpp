// The log of a training run: one JSON object per line, and the learning curve that it draws.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ocellus/core/config.hpp>
#include <ocellus/core/shape.hpp>

namespace ocellus {

struct TrainLogEntry {
  Index step = 0;  // steps done
  double epoch = 0;
  double loss = 0;                                    // mean since the last entry
  std::vector<std::pair<std::string, double>> terms;  // likewise, not weighted
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double images_per_second = 0;
  double seconds = 0;  // wall time of training, summed over all parts of a run

  // {"step":100,"epoch":2.2,"loss":…,"terms":{…},"learning_rate":…,"gradient_norm":…,"images_per_second":…,"seconds":…}
  std::string json() const;
};

// Throws FileError naming the line.
std::vector<TrainLogEntry> read_train_log(const std::string& path);

// Loss and terms over steps as SVG text.
std::string learning_curve(const std::vector<TrainLogEntry>& log, const std::string& title = "Training");

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_TRAIN)
#include <ocellus/io/file.hpp>
#include <ocellus/io/json.hpp>
#include <ocellus/vision/chart.hpp>

namespace ocellus {

OCELLUS_FN std::string TrainLogEntry::json() const {
  JsonWriter json;
  json.begin_object().field("step", step).field("epoch", epoch).field("loss", loss).key("terms").begin_object();
  for (const auto& [name, value] : terms) json.field(name, value);
  json.end_object().field("learning_rate", learning_rate).field("gradient_norm", gradient_norm);
  json.field("images_per_second", images_per_second).field("seconds", seconds).end_object();
  return json.str();
}

OCELLUS_FN std::vector<TrainLogEntry> read_train_log(const std::string& path) {
  const Bytes bytes = read_file(path);
  std::vector<TrainLogEntry> log;
  std::string_view rest = bytes.text();
  for (Index line = 1; !rest.empty(); ++line) {
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;  // a line that a crash cut off
    const std::string_view text = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (text.empty()) continue;
    const Json json = Json::parse(text, path + ", line " + std::to_string(line));
    TrainLogEntry entry;
    entry.step = json.get<Index>("step");
    entry.epoch = json.get<double>("epoch");
    entry.loss = json.get<double>("loss");
    const Json terms = json.at("terms");
    for (Index i = 0; i < terms.size(); ++i) entry.terms.emplace_back(terms.at(i).key(), terms.at(i).get<double>());
    entry.learning_rate = json.get<double>("learning_rate");
    entry.gradient_norm = json.get<double>("gradient_norm");
    entry.images_per_second = json.get<double>("images_per_second");
    entry.seconds = json.get<double>("seconds");
    log.push_back(std::move(entry));
  }
  return log;
}

OCELLUS_FN std::string learning_curve(const std::vector<TrainLogEntry>& log, const std::string& title) {
  std::vector<double> steps, loss;
  for (const TrainLogEntry& e : log) {
    steps.push_back(static_cast<double>(e.step));
    loss.push_back(e.loss);
  }
  Chart chart{.title = title, .x_label = "step", .y_label = "loss", .log_y = true};
  chart.series("loss", steps, loss);
  const std::size_t terms = log.empty() ? 0 : log.front().terms.size();
  for (std::size_t t = 0; terms > 1 && t < terms; ++t) {
    std::vector<double> values;
    for (const TrainLogEntry& e : log) values.push_back(t < e.terms.size() ? e.terms[t].second : 0.0);
    chart.series(log.front().terms[t].first, steps, values);
  }
  return chart.svg();
}

}  // namespace ocellus
#endif
