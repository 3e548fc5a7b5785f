// Masks of objects as COCO stores them: run lengths, their compressed text, and polygons; and how much two masks
// overlap. Nothing that was built breaks a rule, so only what comes from outside is checked, where it comes in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ocellus/vision/boxes.hpp>
#include <ocellus/vision/image.hpp>

namespace ocellus {

// x, y, x, y, … of the corners in pixels; pixel i covers [i, i + 1). Closed; even-odd where it crosses itself.
using Polygon = std::vector<double>;

// Which pixels belong to an object: how many do not, then how many do, and so on, column after column from the upper
// left on.
class MaskRuns {
 public:
  MaskRuns() = default;

  // Non-zero pixels of a grey image. Throws UsageError for an empty or coloured one.
  explicit MaskRuns(const Image& mask);
  // The rest throws FileError naming `source`: for sizes that are not those of an image, and
  // counts that do not cover height · width exactly;
  static MaskRuns from_counts(const std::vector<std::int64_t>& counts, Size2 size, const std::string& source);
  // text that does not hold such counts;
  static MaskRuns from_text(std::string_view text, Size2 size, const std::string& source);
  // a polygon of fewer than three corners or with a coordinate that is not a number or beyond ±65536. The mask is what
  // at least one of them covers, on the grid that pycocotools uses (a fifth of a pixel), pixel for pixel.
  static MaskRuns from_polygons(const std::vector<Polygon>& polygons, Size2 size, const std::string& source);

  Size2 size() const { return size_; }
  const std::vector<std::uint32_t>& counts() const { return counts_; }
  // COCO's compressed counts.
  std::string text() const;
  // Grey: `value` where the object is, 0 elsewhere.
  Image image(std::uint8_t value = 1) const;
  // Of each part whose pixels touch at their sides; holes are joined to their outline by a cut without width. They give
  // the same mask back.
  std::vector<Polygon> polygons() const;

  Index area() const;  // pixels
  // Around the object, all zeros for none.
  Box box() const;

  friend bool operator==(const MaskRuns&, const MaskRuns&) = default;

 private:
  void append(std::uint32_t count, bool inside);

  Size2 size_;
  std::vector<std::uint32_t> counts_;  // none but the first is 0
};

// Pixels that both have. Throws UsageError for masks of different sizes.
Index intersection(const MaskRuns& a, const MaskRuns& b);
// The same over those that either has, or, for a crowd, over those of `a`; 0 for nothing.
double iou(const MaskRuns& a, const MaskRuns& b, bool b_is_crowd = false);

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_VISION)
#include <algorithm>
#include <cmath>

#include <ocellus/core/error.hpp>
#include <ocellus/io/limits.hpp>
#include <ocellus/vision/geometry.hpp>

namespace ocellus {
namespace vision_detail {

OCELLUS_FN void check_mask_size(Size2 size, const std::string& source) {
  const Limits limits;
  const bool fits = size.h >= 1 && size.w >= 1 && size.h <= limits.image_side && size.w <= limits.image_side &&
                    size.h * size.w <= limits.image_pixels;
  if (!fits)
    throw FileError(source, "a mask of " + size.str() + " pixels; each side must be 1 or more, and at most " +
                                std::to_string(limits.image_pixels) + " pixels are read");
}

// Where the outline of a polygon enters or leaves columns of pixels: places in column order, unsorted. Corners are
// rounded to a grid of fifths, edges are walked on it point by point along their longer axis. `left` is how many points
// may still be walked; false if they do not suffice.
OCELLUS_FN bool add_crossings(const Polygon& polygon, Size2 size, std::vector<std::int64_t>& places,
                              std::int64_t& left) {
  constexpr double grid = 5;
  struct Point {
    std::int64_t x, y;
  };
  const auto rounded = [](double v) { return static_cast<std::int64_t>(v); };
  const auto corner = [&](std::size_t i) {
    return Point{rounded(grid * polygon[2 * i] + 0.5), rounded(grid * polygon[2 * i + 1] + 0.5)};
  };
  const std::size_t corners = polygon.size() / 2;
  Point before{};
  bool started = false;
  const auto visit = [&](const Point& p) {
    if (started && p.x != before.x) {
      // The step enters or leaves a column where it crosses the middle of one.
      const double column = (static_cast<double>(p.x < before.x ? p.x : p.x - 1) + 0.5) / grid - 0.5;
      if (column == std::floor(column) && column >= 0 && column <= static_cast<double>(size.w - 1)) {
        const double row = (static_cast<double>(std::min(p.y, before.y)) + 0.5) / grid - 0.5;
        const double below = std::ceil(std::clamp(row, 0.0, static_cast<double>(size.h)));
        places.push_back(static_cast<std::int64_t>(column) * size.h + static_cast<std::int64_t>(below));
      }
    }
    before = p;
    started = true;
  };
  for (std::size_t i = 0; i < corners; ++i) {
    Point from = corner(i), to = corner((i + 1) % corners);
    const std::int64_t dx = std::abs(to.x - from.x), dy = std::abs(to.y - from.y), steps = std::max(dx, dy);
    left -= steps + 1;
    if (left < 0) return false;
    // Always computed from the same end, so that an edge is the same points in both directions.
    const bool backwards = dx >= dy ? from.x > to.x : from.y > to.y;
    if (backwards) std::swap(from, to);
    const double slope = steps == 0 ? 0
                         : dx >= dy ? static_cast<double>(to.y - from.y) / static_cast<double>(dx)
                                    : static_cast<double>(to.x - from.x) / static_cast<double>(dy);
    for (std::int64_t step = 0; step <= steps; ++step) {
      const std::int64_t t = backwards ? steps - step : step;
      const double along = slope * static_cast<double>(t);
      visit(dx >= dy ? Point{from.x + t, rounded(static_cast<double>(from.y) + along + 0.5)}
                     : Point{rounded(static_cast<double>(from.x) + along + 0.5), from.y + t});
    }
  }
  return true;
}

}  // namespace vision_detail

OCELLUS_FN void MaskRuns::append(std::uint32_t count, bool inside) {
  if (counts_.empty()) counts_.push_back(0);
  if (count == 0) return;
  const bool last_is_inside = counts_.size() % 2 == 0;
  if (last_is_inside == inside) {
    counts_.back() += count;
  } else {
    counts_.push_back(count);
  }
}

OCELLUS_FN MaskRuns::MaskRuns(const Image& mask) : size_(mask.size()) {
  if (mask.empty() || mask.channels() != 1) throw UsageError("MaskRuns: a grey image is needed");
  for (Index x = 0; x < size_.w; ++x) {
    for (Index y = 0; y < size_.h; ++y) append(1, *mask.at(y, x) != 0);
  }
}

OCELLUS_FN MaskRuns MaskRuns::from_counts(const std::vector<std::int64_t>& counts, Size2 size,
                                          const std::string& source) {
  vision_detail::check_mask_size(size, source);
  MaskRuns mask;
  mask.size_ = size;
  const std::int64_t pixels = size.h * size.w;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 0 || counts[i] > pixels - sum) {
      throw FileError(source, "run " + std::to_string(i) + " of a mask has " + std::to_string(counts[i]) + " pixels; " +
                                  std::to_string(pixels - sum) + " of " + size.str() + " are left");
    }
    sum += counts[i];
    mask.append(static_cast<std::uint32_t>(counts[i]), i % 2 == 1);
  }
  if (sum != pixels) {
    throw FileError(source, "the runs of a mask cover " + std::to_string(sum) + " pixels of " + size.str());
  }
  return mask;
}

OCELLUS_FN MaskRuns MaskRuns::from_text(std::string_view text, Size2 size, const std::string& source) {
  // Numbers of 5 bits a character, low ones first, 32 in every character but a number's last, two's complement; from
  // the fourth number on the difference to the one before the last.
  constexpr int first_character = 48, bits = 5, more = 32, sign = 16;
  constexpr int most_bits = 35;  // more than any count of an image needs
  std::vector<std::int64_t> counts;
  for (std::size_t at = 0; at < text.size();) {
    std::int64_t number = 0;
    int code = more;
    for (int shift = 0; code & more; shift += bits, ++at) {
      if (at == text.size()) throw FileError(source, "the compressed mask ends within a number");
      code = static_cast<unsigned char>(text[at]) - first_character;
      if (code < 0 || code >= 2 * more) {
        throw FileError(source, "character " + std::to_string(at) + " of the compressed mask is none of '0' to 'o'");
      }
      if (shift >= most_bits)
        throw FileError(source, "a number at character " + std::to_string(at) + " of the compressed mask is too long");
      number |= static_cast<std::int64_t>(code & (more - 1)) << shift;
      const bool negative = !(code & more) && (code & sign);
      if (negative) number -= std::int64_t{1} << (shift + bits);
    }
    if (counts.size() > 2) number += counts[counts.size() - 2];
    counts.push_back(number);
  }
  return from_counts(counts, size, source);
}

OCELLUS_FN std::string MaskRuns::text() const {
  std::string text;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    std::int64_t number = counts_[i];
    if (i > 2) number -= counts_[i - 2];
    for (bool more = true; more;) {
      int code = static_cast<int>(number & 31);
      number >>= 5;
      // Enough when the rest is nothing but the sign that the last bit shows.
      more = number != (code & 16 ? -1 : 0);
      if (more) code |= 32;
      text += static_cast<char>(code + 48);
    }
  }
  return text;
}

OCELLUS_FN MaskRuns MaskRuns::from_polygons(const std::vector<Polygon>& polygons, Size2 size,
                                            const std::string& source) {
  vision_detail::check_mask_size(size, source);
  constexpr double farthest = 65536;
  std::int64_t left = std::int64_t{1} << 26;  // hundreds of times around the largest image
  const std::int64_t pixels = size.h * size.w;
  // +1 where a polygon begins to cover the pixels, −1 where it ends; the union is where the sum is above 0.
  struct Side {
    std::int64_t place;
    int step;
  };
  std::vector<Side> edges;
  std::vector<std::int64_t> places;
  for (std::size_t i = 0; i < polygons.size(); ++i) {
    const Polygon& polygon = polygons[i];
    const auto refuse = [&](const char* what) {
      throw FileError(source, "polygon " + std::to_string(i) + " of a mask " + what);
    };
    if (polygon.size() < 6 || polygon.size() % 2) refuse("needs x and y of three corners or more");
    for (const double v : polygon) {
      if (!(std::abs(v) <= farthest)) refuse("has a coordinate that is not a number or lies far outside");
    }
    places.clear();
    if (!vision_detail::add_crossings(polygon, size, places, left)) refuse("has an outline that is too long");
    std::sort(places.begin(), places.end());
    if (places.size() % 2) places.push_back(pixels);
    for (std::size_t p = 0; p < places.size(); ++p) edges.push_back({places[p], p % 2 ? -1 : 1});
  }
  std::stable_sort(edges.begin(), edges.end(), [](const Side& a, const Side& b) { return a.place < b.place; });
  MaskRuns mask;
  mask.size_ = size;
  std::int64_t at = 0;
  int covering = 0;
  for (const Side& edge : edges) {
    mask.append(static_cast<std::uint32_t>(edge.place - at), covering > 0);
    at = edge.place;
    covering += edge.step;
  }
  mask.append(static_cast<std::uint32_t>(pixels - at), covering > 0);
  return mask;
}

OCELLUS_FN Image MaskRuns::image(std::uint8_t value) const {
  Image result(size_, 1);
  std::uint8_t* to = result.writable();
  std::int64_t at = 0;
  bool inside = false;
  for (const std::uint32_t count : counts_) {
    for (const std::int64_t end = at + count; at < end; ++at) {
      if (inside) to[at % size_.h * size_.w + at / size_.h] = value;
    }
    inside = !inside;
  }
  return result;
}

OCELLUS_FN Index MaskRuns::area() const {
  Index sum = 0;
  for (std::size_t i = 1; i < counts_.size(); i += 2) sum += counts_[i];
  return sum;
}

OCELLUS_FN Box MaskRuns::box() const {
  Index left = size_.w, right = 0, top = size_.h, bottom = 0, at = 0;
  for (std::size_t i = 0; i < counts_.size(); at += counts_[i++]) {
    if (i % 2 == 0) continue;
    const Index last = at + counts_[i] - 1, first_column = at / size_.h, last_column = last / size_.h;
    left = std::min(left, first_column);
    right = std::max(right, last_column + 1);
    // A run that goes on into the next column touches its upper edge and the lower one of this column.
    const bool turns = first_column != last_column;
    top = std::min(top, turns ? 0 : at % size_.h);
    bottom = std::max(bottom, turns ? size_.h : last % size_.h + 1);
  }
  if (right == 0) return {};
  return {static_cast<float>(left), static_cast<float>(top), static_cast<float>(right), static_cast<float>(bottom)};
}

OCELLUS_FN std::vector<Polygon> MaskRuns::polygons() const {
  const Image mask = image();
  const std::uint8_t* pixels = mask.data();
  const Index h = size_.h, w = size_.w;
  const auto inside = [&](Index x, Index y) { return x >= 0 && y >= 0 && x < w && y < h && pixels[y * w + x] != 0; };

  // Which part each pixel belongs to, numbered by the first pixel of each.
  std::vector<std::int32_t> part(static_cast<std::size_t>(h * w), -1);
  std::vector<Index> open;
  std::int32_t parts = 0;
  for (Index start = 0; start < h * w; ++start) {
    if (!pixels[start] || part[static_cast<std::size_t>(start)] >= 0) continue;
    part[static_cast<std::size_t>(start)] = parts;
    open.push_back(start);
    while (!open.empty()) {
      const Index at = open.back(), x = at % w, y = at / w;
      open.pop_back();
      const Index neighbours[4][2] = {{x - 1, y}, {x + 1, y}, {x, y - 1}, {x, y + 1}};
      for (const auto& n : neighbours) {
        if (!inside(n[0], n[1]) || part[static_cast<std::size_t>(n[1] * w + n[0])] >= 0) continue;
        part[static_cast<std::size_t>(n[1] * w + n[0])] = parts;
        open.push_back(n[1] * w + n[0]);
      }
    }
    ++parts;
  }

  // Every outline runs along the sides of pixels with the object on its right, so it goes east along a pixel's upper
  // side somewhere. A part's first pixel lies on its outer outline, which is therefore found before its holes.
  std::vector<Polygon> result(static_cast<std::size_t>(parts));
  std::vector<char> seen(static_cast<std::size_t>(h * w));
  constexpr Index step[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};  // east, south, west, north
  for (Index start = 0; start < h * w; ++start) {
    const Index start_x = start % w, start_y = start / w;
    if (!inside(start_x, start_y) || inside(start_x, start_y - 1) || seen[static_cast<std::size_t>(start)]) continue;
    Polygon outline;
    Index x = start_x, y = start_y;
    std::size_t heading = 0;
    do {
      if (heading == 0) seen[static_cast<std::size_t>(y * w + x)] = 1;
      x += step[heading][0];
      y += step[heading][1];
      // The pixels ahead of corner (x, y), right and left of the way.
      const std::size_t right = (heading + 1) % 4, left = (heading + 3) % 4;
      const auto ahead = [&](std::size_t side) {
        const Index dx = step[heading][0] + step[side][0], dy = step[heading][1] + step[side][1];
        return inside(dx > 0 ? x : x - 1, dy > 0 ? y : y - 1);
      };
      const std::size_t next = !ahead(right) ? right : ahead(left) ? left : heading;
      if (next != heading) {
        outline.push_back(static_cast<double>(x));
        outline.push_back(static_cast<double>(y));
      }
      heading = next;
    } while (x != start_x || y != start_y || heading != 0);
    Polygon& polygon = result[static_cast<std::size_t>(part[static_cast<std::size_t>(start)])];
    const bool is_hole = !polygon.empty();
    if (is_hole) {
      // There, around the hole, and the same way back.
      const double first_x = polygon[0], first_y = polygon[1];
      polygon.insert(polygon.end(), {first_x, first_y});
      polygon.insert(polygon.end(), outline.begin(), outline.end());
      polygon.insert(polygon.end(), {outline[0], outline[1]});
    } else {
      polygon = std::move(outline);
    }
  }
  return result;
}

OCELLUS_FN Index intersection(const MaskRuns& a, const MaskRuns& b) {
  if (!(a.size() == b.size())) {
    throw UsageError("intersection: masks of one size are needed; got " + a.size().str() + " and " + b.size().str());
  }
  const auto &p = a.counts(), &q = b.counts();
  Index shared = 0;
  std::uint32_t left_p = p.empty() ? 0 : p[0], left_q = q.empty() ? 0 : q[0];
  for (std::size_t i = 0, j = 0; i < p.size() && j < q.size();) {
    const std::uint32_t both = std::min(left_p, left_q);
    if (i % 2 && j % 2) shared += both;
    left_p -= both;
    left_q -= both;
    if (left_p == 0 && ++i < p.size()) left_p = p[i];
    if (left_q == 0 && ++j < q.size()) left_q = q[j];
  }
  return shared;
}

OCELLUS_FN double iou(const MaskRuns& a, const MaskRuns& b, bool b_is_crowd) {
  const double shared = static_cast<double>(intersection(a, b)), own = static_cast<double>(a.area());
  return b_is_crowd ? share_of(shared, own) : iou_of(shared, own, static_cast<double>(b.area()));
}

}  // namespace ocellus
#endif
