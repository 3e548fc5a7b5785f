// Line charts as SVG text: loss curves, learning-rate schedules, precision over recall. No dependency, opens in every
// browser.
#pragma once

#include <string>
#include <vector>

#include <ocellus/core/config.hpp>

namespace ocellus {

struct ChartSeries {
  std::string name;
  std::vector<double> x, y;  // equally long; points that are not finite leave a gap
};

struct Chart {
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  bool log_y = false;  // decades; points that are not positive leave a gap
  int width = 720;     // pixels
  int height = 420;
  std::vector<ChartSeries> all = {};

  // Throws UsageError if x and y differ in length.
  Chart& series(std::string name, std::vector<double> x, std::vector<double> y);
  // Against 0, 1, 2, ...
  Chart& series(std::string name, std::vector<double> y);

  std::string svg() const;
};

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace vision_detail {

// Distinguishable with any colour vision (Okabe and Ito, "Color Universal Design", 2008), dark enough for white paper.
inline constexpr const char* chart_colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                "#e69f00", "#56b4e9", "#555555"};
inline constexpr std::size_t chart_colour_count = sizeof chart_colours / sizeof *chart_colours;

OCELLUS_FN std::string chart_number(double value, const char* format = "%.2f") {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

OCELLUS_FN std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

// One direction of the chart: which values are shown, where they are, where the ticks are. A logarithmic axis works on
// log10.
struct ChartAxis {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double step = 1.0;
  bool logarithmic = false;

  bool shows(double value) const { return std::isfinite(value) && (!logarithmic || value > 0.0); }
  double scaled(double value) const { return logarithmic ? std::log10(value) : value; }
  double share(double value) const { return (scaled(value) - low) / (high - low); }

  void include(double value) {
    if (!shows(value)) return;
    low = std::min(low, scaled(value));
    high = std::max(high, scaled(value));
  }

  // Steps of 1, 2 or 5 times a power of ten, about `wanted` of them; `round_out`: the ends become ticks.
  void choose_ticks(int wanted, bool round_out) {
    if (!(low <= high)) {
      low = 0.0;
      high = 1.0;
    }
    if (high - low < 1e-12 * std::max(1.0, std::abs(high))) {
      const double margin = low == 0.0 ? 1.0 : std::abs(low) * 0.1;
      low -= margin;
      high += margin;
    }
    const double rough = (high - low) / wanted, power = std::pow(10.0, std::floor(std::log10(rough)));
    const double mantissa = rough / power;
    step = power * (mantissa < 1.5 ? 1.0 : mantissa < 3.5 ? 2.0 : mantissa < 7.5 ? 5.0 : 10.0);
    if (logarithmic) step = std::max(1.0, std::round(step));
    if (round_out) {
      low = std::floor(low / step + 1e-9) * step;
      high = std::ceil(high / step - 1e-9) * step;
    }
  }

  std::vector<double> ticks() const {
    std::vector<double> values;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * (high - low); k += 1.0)
      values.push_back(k * step);
    return values;
  }

  std::string label(double tick) const {
    if (logarithmic) return chart_number(std::pow(10.0, tick), "%g");
    const double size = std::max(std::abs(low), std::abs(high));
    if (size >= 1e6 || step < 1e-4) return chart_number(tick, "%.3g");
    const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, tick == 0.0 ? 0.0 : tick);
    return text;
  }
};

}  // namespace vision_detail

OCELLUS_FN Chart& Chart::series(std::string name, std::vector<double> x, std::vector<double> y) {
  if (x.size() != y.size()) {
    throw UsageError("Chart: series \"" + name + "\" has " + std::to_string(x.size()) + " x and " +
                     std::to_string(y.size()) + " y");
  }
  all.push_back({std::move(name), std::move(x), std::move(y)});
  return *this;
}

OCELLUS_FN Chart& Chart::series(std::string name, std::vector<double> y) {
  std::vector<double> x(y.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
  return series(std::move(name), std::move(x), std::move(y));
}

OCELLUS_FN std::string Chart::svg() const {
  using namespace vision_detail;
  ChartAxis across, up;
  up.logarithmic = log_y;
  for (const ChartSeries& s : all) {
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!across.shows(s.x[i]) || !up.shows(s.y[i])) continue;
      across.include(s.x[i]);
      up.include(s.y[i]);
    }
  }
  across.choose_ticks(8, false);
  up.choose_ticks(6, true);

  std::size_t widest_tick = 1, widest_name = 0;
  for (const double t : up.ticks()) widest_tick = std::max(widest_tick, up.label(t).size());
  for (const ChartSeries& s : all) widest_name = std::max(widest_name, s.name.size());
  const double left = 24.0 + 7.0 * static_cast<double>(widest_tick) + (y_label.empty() ? 0.0 : 20.0),
               right = width - 20.0;
  const double top = title.empty() ? 20.0 : 48.0, bottom = height - (x_label.empty() ? 36.0 : 56.0);
  const auto place_x = [&](double x) { return left + across.share(x) * (right - left); };
  const auto place_y = [&](double y) { return bottom - up.share(y) * (bottom - top); };

  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(width) + "\" height=\"" +
                    std::to_string(height) + "\" viewBox=\"0 0 " + std::to_string(width) + " " +
                    std::to_string(height) +
                    "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333333\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  const auto text = [&](double x, double y, const char* attributes, const std::string& words) {
    out += "<text x=\"" + chart_number(x) + "\" y=\"" + chart_number(y) + "\" " + attributes + ">" + escaped(words) +
           "</text>\n";
  };
  const auto line = [&](double x0, double y0, double x1, double y1, const char* attributes) {
    out += "<line x1=\"" + chart_number(x0) + "\" y1=\"" + chart_number(y0) + "\" x2=\"" + chart_number(x1) +
           "\" y2=\"" + chart_number(y1) + "\" " + attributes + "/>\n";
  };
  if (!title.empty()) text((left + right) / 2, 28, "text-anchor=\"middle\" font-size=\"16\" fill=\"#111111\"", title);
  for (const double t : up.ticks()) {
    const double y = bottom - (t - up.low) / (up.high - up.low) * (bottom - top);
    line(left, y, right, y, "stroke=\"#e4e4e4\"");
    text(left - 8, y + 4, "text-anchor=\"end\"", up.label(t));
  }
  for (const double t : across.ticks()) {
    const double x = place_x(t);
    line(x, bottom, x, bottom + 5, "stroke=\"#333333\"");
    text(x, bottom + 19, "text-anchor=\"middle\"", across.label(t));
  }
  line(left, bottom, right, bottom, "stroke=\"#333333\"");
  line(left, top, left, bottom, "stroke=\"#333333\"");
  if (!x_label.empty()) text((left + right) / 2, height - 14.0, "text-anchor=\"middle\" font-size=\"13\"", x_label);
  if (!y_label.empty()) {
    const std::string middle = chart_number((top + bottom) / 2);
    text(0, 0,
         ("text-anchor=\"middle\" font-size=\"13\" transform=\"translate(18 " + middle + ") rotate(-90)\"").c_str(),
         y_label);
  }

  for (std::size_t k = 0; k < all.size(); ++k) {
    const ChartSeries& s = all[k];
    const std::string stroke = chart_colours[k % chart_colour_count];
    const std::string dashes = k < chart_colour_count ? "" : " stroke-dasharray=\"6 4\"";
    std::string path;
    std::size_t points = 0;
    bool pen_down = false;
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      const bool visible = across.shows(s.x[i]) && up.shows(s.y[i]);
      if (visible) {
        path += (pen_down ? 'L' : 'M') + chart_number(place_x(s.x[i])) + " " + chart_number(place_y(s.y[i]));
        ++points;
      }
      pen_down = visible;
    }
    if (points == 0) continue;
    out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + stroke +
           "\" stroke-width=\"2\" stroke-linejoin=\"round\"" + " stroke-linecap=\"round\"" + dashes + "/>\n";
    constexpr std::size_t most_markers = 40;
    for (std::size_t i = 0; i < s.x.size() && points <= most_markers; ++i) {
      if (!across.shows(s.x[i]) || !up.shows(s.y[i])) continue;
      out += "<circle cx=\"" + chart_number(place_x(s.x[i])) + "\" cy=\"" + chart_number(place_y(s.y[i])) +
             "\" r=\"2.5\" fill=\"" + stroke + "\"/>\n";
    }
  }

  if (widest_name > 0) {
    // In the corner that covers the fewest points.
    const double box_width = 56.0 + 7.5 * static_cast<double>(widest_name);
    const double box_height = 12.0 + 18.0 * static_cast<double>(all.size());
    const double lefts[] = {right - 12 - box_width, left + 12}, tops[] = {top + 8, bottom - 8 - box_height};
    double box_left = 0, box_top = 0;
    std::size_t fewest = std::numeric_limits<std::size_t>::max();
    for (const double y0 : tops) {
      for (const double x0 : lefts) {
        std::size_t covered = 0;
        for (const ChartSeries& s : all) {
          for (std::size_t i = 0; i < s.x.size(); ++i) {
            if (!across.shows(s.x[i]) || !up.shows(s.y[i])) continue;
            const double x = place_x(s.x[i]), y = place_y(s.y[i]);
            covered += x > x0 && x < x0 + box_width && y > y0 && y < y0 + box_height;
          }
        }
        if (covered >= fewest) continue;
        fewest = covered;
        box_left = x0;
        box_top = y0;
      }
    }
    out += "<rect x=\"" + chart_number(box_left) + "\" y=\"" + chart_number(box_top) + "\" width=\"" +
           chart_number(box_width) + "\" height=\"" + chart_number(box_height) +
           "\" rx=\"4\" fill=\"#ffffff\" fill-opacity=\"0.85\" stroke=\"#cccccc\"/>\n";
    for (std::size_t k = 0; k < all.size(); ++k) {
      const double y = box_top + 15 + 18.0 * static_cast<double>(k);
      const std::string stroke = "stroke-width=\"2\" stroke=\"" + std::string(chart_colours[k % chart_colour_count]) +
                                 "\"" + (k < chart_colour_count ? "" : " stroke-dasharray=\"6 4\"");
      line(box_left + 10, y, box_left + 34, y, stroke.c_str());
      text(box_left + 42, y + 4, "text-anchor=\"start\"", all[k].name);
    }
  }
  return out + "</svg>\n";
}

}  // namespace ocellus
#endif
