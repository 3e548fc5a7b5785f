// Convolution on the tile kernel of kernels/gemm.hpp, without im2col: a row of A is an output pixel's window, read in
// place. In NHWC the kernel_w * channels numbers of one kernel row are contiguous, so a window is kernel_h segments;
// only windows that cross the left or right border are copied. Dilated and grouped convolutions take one segment per
// tap. The gradient for the input is the same over dy, one set of taps per phase of the stride; the gradient for the
// weight is a product over blocks of im2col rows. Dense 3x3 convolutions at stride 1 and their input's gradient run on
// kernels/winograd.hpp where that is estimated to be faster.
#pragma once

#include <cstring>
#include <string_view>

#include <ocellus/kernels/depthwise.hpp>
#include <ocellus/kernels/gemm.hpp>
#include <ocellus/kernels/tuning.hpp>
#include <ocellus/kernels/winograd.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

OCELLUS_INLINE bool is_pointwise(const ConvShape& s) {
  return s.groups == 1 && s.kernel == Size2(1) && s.stride == Size2(1) && s.padding == Size2(0);
}
OCELLUS_INLINE bool has_winograd(const ConvShape& s) {
  return s.groups == 1 && s.kernel == Size2(3) && s.stride == Size2(1) && s.dilation == Size2(1);
}
OCELLUS_INLINE bool is_depthwise(const ConvShape& s) {
  return s.groups > 1 && s.groups == s.channels && s.groups == s.out_channels;
}

// A product whose rows of A are lists of segments somewhere in memory.
template <class T>
struct Indirect {
  Index images = 0, height = 0, width = 0;  // rows of A: pixels
  Index segments = 0, length = 0;           // of a row
  Index zeros = 0;                          // a row of zeros this long is at the callback's disposal
  Index copies = 0;                         // and memory for this much per pixel
  Index groups = 1;
  Index group_offset = 0;  // from one group's segments to the next one's
  Index n = 0;             // columns of a group
  const T* packed = nullptr;
  Index packed_stride = 0;  // from group to group
  T* c = nullptr;
  Epilogue<T> epilogue = {};
};

// Pixels [m0, m1), panels [q0, q1) counted over all groups. fill(pixel, set, zeros, copies) calls set(segment, address)
// for each segment; output(pixel) is the offset of the pixel's first column in C.
template <class T, class Fill, class Output>
void indirect_block(const Indirect<T>& job, Index m0, Index m1, Index q0, Index q1, const Fill& fill,
                    const Output& output) {
  constexpr Index most_rows = Tiling<T>::most_rows;
  const Panels<T> panels(job.n);
  const Index rows = m1 - m0;
  const Index tiles = ceil_div(rows, Tiling<T>::rows(static_cast<int>(panels.vectors)));
  Scratch scratch;
  const T** table = scratch.take<const T*>(tiles * job.segments * most_rows);
  Index* offset = scratch.take<Index>(rows);
  T* zeros = scratch.take<T>(job.zeros);
  T* copies = scratch.take<T>(rows * job.copies);
  std::memset(zeros, 0, static_cast<std::size_t>(job.zeros) * sizeof(T));

  const EvenCut cut(rows, tiles);
  Pixel pixel(m0, job.height, job.width);
  Index* next = offset;
  for (Index tile = 0; tile < tiles; ++tile) {
    const T** row = table + tile * job.segments * most_rows;
    for (Index r = 0; r < cut[tile]; ++r, ++row) {
      fill(
          pixel, [&](Index segment, const T* address) OCELLUS_INLINE_LAMBDA { row[segment * most_rows] = address; },
          zeros, copies);
      *next++ = output(pixel);
      pixel.step();
    }
  }

  Tile<T> t;
  t.length = job.length;
  t.before = job.epilogue.before;
  t.after = job.epilogue.after;
  const Index blocks = larger(1, smaller(job.segments, ceil_div(job.segments * job.length, 1152)));
  for (Index block = 0; block < blocks; ++block) {
    const Index s0 = job.segments * block / blocks;
    const Index s1 = job.segments * (block + 1) / blocks;
    t.segments = s1 - s0;
    t.add = block > 0;
    t.last = block + 1 == blocks;
    for (Index q = q0; q < q1; ++q) {
      const Index group = q / panels.count;
      const Index panel = q % panels.count;
      const Index n0 = panel * panels.width();
      const Index column = group * job.n + n0;
      const Index vectors = panels.vectors_of(panel);
      t.columns = panels.columns(panel);
      t.ldb = vectors * vec<T>::size;
      t.b = job.packed + group * job.packed_stride + n0 * job.segments * job.length + s0 * job.length * t.ldb;
      t.bias = job.epilogue.bias ? job.epilogue.bias + column : nullptr;
      t.a_offset = group * job.group_offset;
      t.c = job.c + column;
      t.residual = job.epilogue.residual ? job.epilogue.residual + column : nullptr;
      t.c_rows = offset;
      for (Index tile = 0; tile < tiles; ++tile) {
        t.a_rows = table + (tile * job.segments + s0) * most_rows;
        t.fetch(t.b + job.segments * job.length * t.ldb, t.segments * t.length, tile, tiles);
        tile_kernels<T>.at[vectors - 1][cut[tile] - 1](t);
        t.c_rows += cut[tile];
      }
    }
  }
}

template <class T, class Fill, class Output>
void indirect(const Indirect<T>& job, const Fill& fill, const Output& output) {
  const Index m = job.images * job.height * job.width;
  const Index panels = Panels<T>(job.n).count * job.groups;
  if (m == 0 || panels == 0) return;
  const Index threads = m * job.n * job.groups * larger(1, job.segments * job.length) < 65536 ? 1 : num_threads();
  const Index row_blocks = ceil_div(m, 96);
  const Index panel_groups = threads == 1 ? 1 : smaller(panels, ceil_div(8 * threads, row_blocks));
  const auto block = [&](Index piece) {
    const Index i = piece / panel_groups;
    const Index j = piece % panel_groups;
    indirect_block<T>(job, m * i / row_blocks, m * (i + 1) / row_blocks, panels * j / panel_groups,
                      panels * (j + 1) / panel_groups, fill, output);
  };
  const Index pieces = row_blocks * panel_groups;
  if (threads == 1) {
    for (Index piece = 0; piece < pieces; ++piece) block(piece);
  } else {
    for_pieces(pieces, block);
  }
}

// The row of this instruction set.
constexpr const ConvCosts& own_conv_costs() {
  for (const ConvCosts& row : conv_costs) {
    if (std::string_view(row.instruction_set) == OCELLUS_ISA_NAME) return row;
  }
  throw "kernels/tuning.hpp has no row for this instruction set";  // does not compile
}

// Estimated time of a dense convolution by F(MxM, 3x3), or directly with M = 0.
template <int M>
OCELLUS_INLINE double conv_cost(const ConvShape& s, const ConvCost& cost, bool packed) {
  const auto numbers = [](Index a, Index b) { return static_cast<double>(a) * static_cast<double>(b); };
  const double weights = numbers(s.channels, s.out_channels);
  const double once = packed ? 0 : cost.packing * 9 * weights;
  if constexpr (M == 0) {
    return cost.product * static_cast<double>(9 * s.batch * s.out_height * s.out_width) * weights +
           cost.weight * 9 * weights + once;
  } else {
    const Index tiles = winograd_points<M> * s.batch * ceil_div(s.out_height, M) * ceil_div(s.out_width, M);
    return cost.product * static_cast<double>(tiles) * weights +
           cost.transform * numbers(tiles, s.channels + s.out_channels) +
           cost.weight * static_cast<double>(winograd_points<M>) * weights + once;
  }
}

// The algorithm of a dense convolution, of those estimated the fastest; `packed`: its weights are packed once and for
// all, not in every call.
template <class T>
ConvAlgorithm algorithm_of(const ConvShape& s, bool packed) {
  if (!std::is_same_v<T, float> || !has_winograd(s)) return ConvAlgorithm::direct;
  if (s.algorithm != ConvAlgorithm::automatic) return s.algorithm;
  constexpr const ConvCosts& costs = own_conv_costs();
  const double direct = conv_cost<0>(s, costs.direct, packed);
  const double two = conv_cost<2>(s, costs.winograd2, packed);
  const double four = conv_cost<4>(s, costs.winograd4, packed);
  if (four < two && four < direct) return ConvAlgorithm::winograd4;
  return two < direct ? ConvAlgorithm::winograd2 : ConvAlgorithm::direct;
}

// Calls body(std::integral_constant<int, M>{}) if F(MxM, 3x3) is the algorithm; says whether it was.
template <class T, class Body>
OCELLUS_INLINE bool with_winograd(ConvAlgorithm algorithm, Body&& body) {
  if constexpr (std::is_same_v<T, float>) {  // nobody tunes double, and it would cost compile time
    if (algorithm == ConvAlgorithm::winograd2) {
      body(std::integral_constant<int, 2>{});
      return true;
    }
    if (algorithm == ConvAlgorithm::winograd4) {
      body(std::integral_constant<int, 4>{});
      return true;
    }
  }
  return false;
}

template <class T>
Index direct_packed_size(const ConvShape& s) {
  return s.groups * gemm_packed_size<T>(s.out_channels / s.groups, s.kernel.h * s.kernel.w * (s.channels / s.groups));
}

template <class T>
void direct_pack(const ConvShape& s, const T* weight, T* packed) {
  const Index n = s.out_channels / s.groups;
  const Index k = s.kernel.h * s.kernel.w * (s.channels / s.groups);
  for (Index g = 0; g < s.groups; ++g)
    gemm_pack<T>(n, k, weight + g * n * k, k, true, packed + g * gemm_packed_size<T>(n, k));
}

template <class T>
Index conv_packed_size(const ConvShape& s) {
  if (is_depthwise(s)) return s.kernel.h * s.kernel.w * s.channels;
  Index size = 0;
  const bool found = with_winograd<T>(algorithm_of<T>(s, true), [&](auto m) {
    size = winograd_packed_size<T, decltype(m)::value>(s.out_channels, s.channels);
  });
  return found ? size : direct_packed_size<T>(s);
}

template <class T>
void conv_pack(const ConvShape& s, const T* weight, T* packed) {
  if (is_depthwise(s)) {
    depthwise_pack<T>(s, weight, packed);
    return;
  }
  const bool found = with_winograd<T>(algorithm_of<T>(s, true), [&](auto m) {
    winograd_pack<T, decltype(m)::value>(Filters<T>::forward(s, weight), packed);
  });
  if (!found) direct_pack<T>(s, weight, packed);
}

// Taps [t0, t1) of the windows of output pixels [m0, m1), one group's channels, as rows of `ld` filled up with zeros.
template <class T>
void window_rows(const ConvShape& s, const T* x, Index group, Index t0, Index t1, Index m0, Index m1, T* rows,
                 Index ld) {
  const Index in = s.channels / s.groups;
  const bool contiguous = s.groups == 1 && s.dilation.w == 1;
  Pixel p(m0, s.out_height, s.out_width);
  for (Index m = m0; m < m1; ++m, rows += ld, p.step()) {
    T* to = rows;
    const Index left = p.x * s.stride.w - s.padding.w;
    Index i = t0 / s.kernel.w;
    Index tap = t0 - i * s.kernel.w;
    for (Index t = t0; t < t1;) {
      const Index y = p.y * s.stride.h - s.padding.h + i * s.dilation.h;
      const Index run = contiguous ? smaller(s.kernel.w - tap, t1 - t) : 1;  // taps to take at once
      const Index start = left + tap * s.dilation.w;
      const bool inside = y >= 0 && y < s.height;
      const Index begin = inside ? smaller(run, larger(0, -start)) : run;
      const Index end = inside ? larger(begin, smaller(run, s.width - start)) : run;
      const Index from = ((p.image * s.height + y) * s.width + start) * s.channels + group * in;
      if (begin > 0) zero_row<T>(to, begin * in);
      if (begin < end) copy_row<T>(to + begin * in, x + (from + begin * in), (end - begin) * in);
      if (end < run) zero_row<T>(to + end * in, (run - end) * in);
      to += run * in;
      t += run;
      tap += run;
      if (tap == s.kernel.w) {
        tap = 0;
        ++i;
      }
    }
    if (to < rows + ld) zero_row<T>(to, rows + ld - to);
  }
}

// Windows whose rows are short (a first layer): they are copied side by side, a block at a time, and multiplied as the
// rows of A. A tile that reads them in place has a pointer a row to look up again every few multiply-adds.
template <class T>
void conv_short_rows(const ConvShape& s, const T* x, const T* packed, T* y, const Epilogue<T>& e) {
  constexpr Index block = 48;  // pixels; whole tiles of 6 and of 8
  constexpr Index w = vec<T>::size;
  const Index length = s.kernel.w * s.channels;
  const Index pitch = s.width * s.channels;
  GemmJob<T> job;
  job.n = s.out_channels;
  job.k = s.kernel.h * length;
  job.lda = round_up(job.k, 4);
  job.packed_b = packed;
  job.ldc = s.out_channels;
  const Index pixels = s.batch * s.out_height * s.out_width;
  // Outputs of a row whose windows lie inside.
  const Index inner_begin = ceil_div(s.padding.w, s.stride.w);
  const Index inner_end = (s.width + s.padding.w - s.kernel.w) / s.stride.w + 1;
  parallel_for(ceil_div(pixels, block), ceil_div(65536, larger(1, block * job.n * job.k)), [&](Index from, Index to) {
    Scratch scratch;
    T* rows = scratch.take<T>(block * job.lda + w);
    for (Index piece = from; piece < to; ++piece) {
      const Index m0 = piece * block;
      const Index m1 = smaller(pixels, m0 + block);
      Pixel p(m0, s.out_height, s.out_width);
      T* row = rows;
      for (Index m = m0; m < m1;) {
        const Index top = p.y * s.stride.h - s.padding.h;
        const Index run = smaller(m1 - m, s.out_width - p.x);  // pixels left of this output row
        const bool inside = top >= 0 && top + s.kernel.h <= s.height && p.x >= inner_begin && p.x < inner_end;
        const Index count = inside ? smaller(run, inner_end - p.x) : 1;
        if (inside) {
          const T* window = x + ((p.image * s.height + top) * s.width + p.x * s.stride.w - s.padding.w) * s.channels;
          for (Index i = 0; i < count; ++i, row += job.lda, window += s.stride.w * s.channels) {
            T* to_row = row;
            for (Index h = 0; h < s.kernel.h; ++h, to_row += length) {
              const T* from_row = window + h * pitch;
              Index j = 0;
              for (; j + w < length; j += w) store<T>(to_row + j, load<T>(from_row + j));
              store<T>(to_row + j, load_n(from_row + j, length - j));  // what it writes too far is written again
            }
          }
        } else {
          window_rows<T>(s, x, 0, 0, s.kernel.h * s.kernel.w, m, m + 1, row, job.lda);
          row += job.lda;
        }
        m += count;
        p.x += count - 1;
        p.step();
      }
      GemmJob<T> part = job;
      part.m = m1 - m0;
      part.a = rows;
      part.c = y + m0 * job.ldc;
      part.epilogue = e;
      if (e.residual) part.epilogue.residual = e.residual + m0 * job.ldc;
      gemm_block<T>(part, 0, part.m, 0, Panels<T>(job.n).count);
    }
  });
}

template <class T>
void conv(const Conv<T>& c) {
  const ConvShape& s = c.shape;
  if (is_depthwise(s)) {
    depthwise<T>(c);
    return;
  }
  if (is_pointwise(s)) {
    Gemm<T> g;
    g.m = s.batch * s.height * s.width;
    g.n = s.out_channels;
    g.k = s.channels;
    g.a = c.x;
    g.lda = g.k;
    g.b = c.weight;
    g.ldb = g.k;
    g.transpose_b = true;
    g.packed_b = c.packed_weight;
    g.c = c.y;
    g.ldc = g.n;
    g.epilogue = c.epilogue;
    gemm<T>(g);
    return;
  }
  const bool found = with_winograd<T>(algorithm_of<T>(s, c.packed_weight), [&](auto m) {
    winograd<T, decltype(m)::value>(s, c.x, Filters<T>::forward(s, c.weight), c.packed_weight, c.y, c.epilogue);
  });
  if (found) return;
  Scratch scratch;
  Indirect<T> job;
  job.images = s.batch;
  job.height = s.out_height;
  job.width = s.out_width;
  job.n = s.out_channels / s.groups;
  job.c = c.y;
  job.epilogue = c.epilogue;
  job.packed = c.packed_weight;
  if (!job.packed) {
    T* own = scratch.take<T>(direct_packed_size<T>(s));
    direct_pack<T>(s, c.weight, own);
    job.packed = own;
  }
  const Index in = s.channels / s.groups;
  if (s.groups == 1 && s.dilation == Size2(1) && s.kernel.w * in <= 16 && s.kernel.h <= 16) {
    conv_short_rows<T>(s, c.x, job.packed, c.y, c.epilogue);
    return;
  }
  job.packed_stride = gemm_packed_size<T>(job.n, s.kernel.h * s.kernel.w * in);
  const T* x = c.x;
  const auto output = [&](const Pixel& p) OCELLUS_INLINE_LAMBDA {
    return ((p.image * s.out_height + p.y) * s.out_width + p.x) * s.out_channels;
  };
  if (s.groups == 1 && s.dilation.w == 1) {
    job.segments = s.kernel.h;
    job.length = s.kernel.w * in;
    job.zeros = job.length;
    job.copies = s.kernel.h * job.length;
    const Index reach = (s.kernel.h - 1) * s.dilation.h;
    const auto fill = [&](const Pixel& p, auto&& set, const T* zeros, T*& copies) OCELLUS_INLINE_LAMBDA {
      const Index top = p.y * s.stride.h - s.padding.h;
      const Index left = p.x * s.stride.w - s.padding.w;
      const Index first = ((p.image * s.height + top) * s.width + left) * in;
      const Index row = s.dilation.h * s.width * in;
      if (left >= 0 && left + s.kernel.w <= s.width && top >= 0 && top + reach < s.height) {
        for (Index i = 0; i < s.kernel.h; ++i) set(i, x + (first + i * row));
        return;
      }
      const Index begin = smaller(s.kernel.w, larger(0, -left));  // taps inside the picture
      const Index end = larger(begin, smaller(s.kernel.w, s.width - left));
      for (Index i = 0; i < s.kernel.h; ++i) {
        const Index y = top + i * s.dilation.h;
        if (y < 0 || y >= s.height) {
          set(i, zeros);
        } else if (begin == 0 && end == s.kernel.w) {
          set(i, x + (first + i * row));
        } else {
          zero_row<T>(copies, begin * in);
          copy_row<T>(copies + begin * in, x + (first + i * row + begin * in), (end - begin) * in);
          zero_row<T>(copies + end * in, (s.kernel.w - end) * in);
          set(i, copies);
          copies += s.kernel.w * in;
        }
      }
    };
    indirect<T>(job, fill, output);
    return;
  }
  job.segments = s.kernel.h * s.kernel.w;
  job.length = in;
  job.zeros = s.channels;
  job.groups = s.groups;
  job.group_offset = in;
  const auto fill = [&](const Pixel& p, auto&& set, const T* zeros, T*&) OCELLUS_INLINE_LAMBDA {
    for (Index i = 0; i < s.kernel.h; ++i) {
      const Index y = p.y * s.stride.h - s.padding.h + i * s.dilation.h;
      for (Index j = 0; j < s.kernel.w; ++j) {
        const Index at = p.x * s.stride.w - s.padding.w + j * s.dilation.w;
        const bool inside = y >= 0 && y < s.height && at >= 0 && at < s.width;
        set(i * s.kernel.w + j, inside ? x + ((p.image * s.height + y) * s.width + at) * s.channels : zeros);
      }
    }
  };
  indirect<T>(job, fill, output);
}

// Taps of one axis that reach the input positions phase, phase + stride, ...: position phase + stride * i reads output
// i + shift.
struct PhaseTaps {
  Index count = 0;
  Index* tap;
  Index* shift;

  PhaseTaps(Scratch& scratch, Index kernel, Index stride, Index padding, Index dilation, Index phase) {
    tap = scratch.take<Index>(kernel);
    shift = scratch.take<Index>(kernel);
    for (Index i = 0; i < kernel; ++i) {
      const Index from = phase + padding - i * dilation;
      if (from % stride != 0) continue;
      tap[count] = i;
      shift[count] = from / stride;
      ++count;
    }
  }
};

template <class T>
void conv_backward_input(const ConvShape& s, const T* weight, const T* dy, T* dx) {
  const Index in = s.channels / s.groups;
  const Index out = s.out_channels / s.groups;
  const Index taps = s.kernel.h * s.kernel.w;
  for (Index phase_y = 0; phase_y < smaller(s.stride.h, s.height); ++phase_y) {
    for (Index phase_x = 0; phase_x < smaller(s.stride.w, s.width); ++phase_x) {
      Scratch scratch;
      const PhaseTaps vertical(scratch, s.kernel.h, s.stride.h, s.padding.h, s.dilation.h, phase_y);
      const PhaseTaps horizontal(scratch, s.kernel.w, s.stride.w, s.padding.w, s.dilation.w, phase_x);
      Indirect<T> job;
      job.images = s.batch;
      job.height = ceil_div(s.height - phase_y, s.stride.h);
      job.width = ceil_div(s.width - phase_x, s.stride.w);
      job.segments = vertical.count * horizontal.count;
      job.length = out;
      job.zeros = s.out_channels;
      job.groups = s.groups;
      job.group_offset = out;
      job.n = in;
      job.c = dx;
      const Index k = job.segments * out;
      job.packed_stride = gemm_packed_size<T>(in, k);
      T* packed = scratch.take<T>(s.groups * job.packed_stride);
      T* rows = scratch.take<T>(k * in);
      for (Index g = 0; g < s.groups; ++g) {
        T* row = rows;
        for (Index i = 0; i < vertical.count; ++i) {
          for (Index j = 0; j < horizontal.count; ++j) {
            const Index tap = vertical.tap[i] * s.kernel.w + horizontal.tap[j];
            for (Index o = g * out; o < (g + 1) * out; ++o, row += in) {
              std::memcpy(row, weight + (o * taps + tap) * in, static_cast<std::size_t>(in) * sizeof(T));
            }
          }
        }
        gemm_pack<T>(in, k, rows, in, false, packed + g * job.packed_stride);
      }
      job.packed = packed;
      const auto fill = [&](const Pixel& p, auto&& set, const T* zeros, T*&) OCELLUS_INLINE_LAMBDA {
        for (Index i = 0; i < vertical.count; ++i) {
          const Index y = p.y + vertical.shift[i];
          const Index row = (p.image * s.out_height + y) * s.out_width;
          for (Index j = 0; j < horizontal.count; ++j) {
            const Index x = p.x + horizontal.shift[j];
            const bool inside = y >= 0 && y < s.out_height && x >= 0 && x < s.out_width;
            set(i * horizontal.count + j, inside ? dy + (row + x) * s.out_channels : zeros);
          }
        }
      };
      const auto output = [&](const Pixel& p) OCELLUS_INLINE_LAMBDA {
        const Index y = phase_y + p.y * s.stride.h;
        const Index x = phase_x + p.x * s.stride.w;
        return ((p.image * s.height + y) * s.width + x) * s.channels;
      };
      indirect<T>(job, fill, output);
    }
  }
}

// Output pixels are cut into chunks by the sizes alone; each chunk has its own sum, and the sums are added in order.
template <class T>
void conv_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dweight) {
  const Index in = s.channels / s.groups;
  const Index out = s.out_channels / s.groups;
  const Index taps = s.kernel.h * s.kernel.w;
  const Index k = taps * in;
  const Index m = s.batch * s.out_height * s.out_width;
  const Index size = s.out_channels * k;
  const Index chunks = larger(1, smaller(smaller(32, ceil_div(m, 1024)), (Index{1} << 23) / larger(1, size)));
  const Index tap_groups = ceil_div(taps, larger(1, 512 / larger(1, in)));
  Scratch scratch;
  T* partial = chunks == 1 ? dweight : scratch.take<T>(chunks * size);
  for_pieces(chunks * s.groups * tap_groups, [&](Index piece) {
    const Index tap_group = piece % tap_groups;
    const Index group = piece / tap_groups % s.groups;
    const Index chunk = piece / tap_groups / s.groups;
    const Index t0 = taps * tap_group / tap_groups;
    const Index t1 = taps * (tap_group + 1) / tap_groups;
    const Index m0 = m * chunk / chunks;
    const Index m1 = m * (chunk + 1) / chunks;
    GemmJob<T> job;
    job.m = out;
    job.n = (t1 - t0) * in;
    job.transpose_a = true;
    job.lda = s.out_channels;
    job.ldb = round_up(job.n, vec<T>::size);
    job.c = partial + chunk * size + group * out * k + t0 * in;
    job.ldc = k;
    const Index block = larger(32, smaller(256, 65536 / job.ldb));
    Scratch local;
    T* rows = local.take<T>(block * job.ldb);
    job.b = rows;
    const Index row_blocks = ceil_div(out, 96);
    const Index panels = Panels<T>(job.n).count;
    Index first = m0;
    do {
      const Index last = smaller(m1, first + block);
      window_rows<T>(s, x, group, t0, t1, first, last, rows, job.ldb);
      job.k = last - first;
      job.a = dy + first * s.out_channels + group * out;
      job.accumulate = first > m0;
      for (Index i = 0; i < row_blocks; ++i)
        gemm_block<T>(job, out * i / row_blocks, out * (i + 1) / row_blocks, 0, panels);
      first = last;
    } while (first < m1);
  });
  if (chunks > 1) sum_partials<T>(partial, chunks, s.out_channels, k, dweight, k, false, Epilogue<T>{});
}

template <class T>
void conv_backward(const ConvBackward<T>& c) {
  const ConvShape& s = c.shape;
  if (is_depthwise(s)) {
    if (c.dx) depthwise_backward_input<T>(s, c.weight, c.dy, c.dx);
    if (c.dweight) depthwise_backward_weight<T>(s, c.x, c.dy, c.dweight);
    return;
  }
  if (!is_pointwise(s)) {
    if (c.dx) {
      // At stride 1 a convolution of dy with the filters turned round.
      ConvShape turned = s;
      std::swap(turned.height, turned.out_height);
      std::swap(turned.width, turned.out_width);
      std::swap(turned.channels, turned.out_channels);
      turned.padding = Size2(2 - s.padding.h, 2 - s.padding.w);
      const bool found = with_winograd<T>(algorithm_of<T>(turned, false), [&](auto m) {
        winograd<T, decltype(m)::value>(turned, c.dy, Filters<T>::backward(s, c.weight), nullptr, c.dx, Epilogue<T>{});
      });
      if (!found) conv_backward_input<T>(s, c.weight, c.dy, c.dx);
    }
    if (c.dweight) conv_backward_weight<T>(s, c.x, c.dy, c.dweight);
    return;
  }
  const Index pixels = s.batch * s.height * s.width;
  if (c.dx) {
    Gemm<T> g;
    g.m = pixels;
    g.n = s.channels;
    g.k = s.out_channels;
    g.a = c.dy;
    g.lda = g.k;
    g.b = c.weight;
    g.ldb = g.n;
    g.c = c.dx;
    g.ldc = g.n;
    gemm<T>(g);
  }
  if (c.dweight) {
    Gemm<T> g;
    g.m = s.out_channels;
    g.n = s.channels;
    g.k = pixels;
    g.a = c.dy;
    g.lda = g.m;
    g.transpose_a = true;
    g.b = c.x;
    g.ldb = g.n;
    g.c = c.dweight;
    g.ldc = g.n;
    gemm<T>(g);
  }
}

}  // namespace ocellus::kernels::OCELLUS_ISA
