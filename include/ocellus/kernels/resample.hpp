// Separable resampling of (N, H, W, C) pictures with given taps, and its gradient, which is the same computation with
// the transposed taps. One output row at a time: the input rows it needs are combined into a row buffer, whose pixels
// are then combined along the row.
#pragma once

#include <ocellus/kernels/elementwise.hpp>

namespace ocellus::kernels::OCELLUS_ISA {

// Output i is Σ weight[t] x[from[t]] over t in [first[i], first[i + 1]).
template <class T>
struct ResampleTaps {
  Index in, out;
  const Index* first;
  const Index* from;
  const T* weight;
};

// The taps of an axis, without those of weight 0.
template <class T>
ResampleTaps<T> forward_taps(const ResampleAxis& axis, Scratch& scratch) {
  Index* first = scratch.take<Index>(axis.out + 1);
  Index* from = scratch.take<Index>(axis.out * axis.taps);
  T* weight = scratch.take<T>(axis.out * axis.taps);
  Index count = 0;
  for (Index i = 0; i < axis.out; ++i) {
    first[i] = count;
    for (Index j = 0; j < axis.taps; ++j) {
      const double w = axis.weight[i * axis.taps + j];
      if (w == 0.0) continue;
      from[count] = axis.start[i] + j;
      weight[count++] = static_cast<T>(w);
    }
  }
  first[axis.out] = count;
  return {axis.in, axis.out, first, from, weight};
}

// The same matrix by columns: which outputs an input reaches, in ascending order.
template <class T>
ResampleTaps<T> transposed_taps(const ResampleAxis& axis, Scratch& scratch) {
  Index* first = scratch.take<Index>(axis.in + 1);
  Index* next = scratch.take<Index>(axis.in + 1);
  Index* from = scratch.take<Index>(axis.out * axis.taps);
  T* weight = scratch.take<T>(axis.out * axis.taps);
  for (Index i = 0; i <= axis.in; ++i) next[i] = 0;
  for (Index i = 0; i < axis.out; ++i) {
    for (Index j = 0; j < axis.taps; ++j) {
      if (axis.weight[i * axis.taps + j] != 0.0) ++next[axis.start[i] + j];
    }
  }
  Index count = 0;
  for (Index i = 0; i <= axis.in; ++i) {
    first[i] = count;
    count += next[i];
    next[i] = first[i];
  }
  for (Index i = 0; i < axis.out; ++i) {
    for (Index j = 0; j < axis.taps; ++j) {
      const double w = axis.weight[i * axis.taps + j];
      if (w == 0.0) continue;
      Index& at = next[axis.start[i] + j];
      from[at] = i;
      weight[at++] = static_cast<T>(w);
    }
  }
  return {axis.out, axis.in, first, from, weight};
}

// y[i] = Σ over taps t of weight[t] x[from[t] * step + i] for i in [0, n), plus the residual. Taps > 0: as many.
template <int Taps, class T>
OCELLUS_INLINE void resample_sum(Index n, Index taps, const Index* from, const T* weight, const T* x, Index step,
                                 const T* residual, T* y) {
  constexpr Index width = vec<T>::size;
  constexpr std::size_t held{Taps > 0 ? Taps : 1};
  vec<T> w[held];
  const T* in[held];
  for (int t = 0; t < Taps; ++t) {
    w[t] = vec<T>(weight[t]);
    in[t] = x + from[t] * step;
  }
  const auto sum = [&](Index i, vec<T> all, auto lanes) OCELLUS_INLINE_LAMBDA {
    if constexpr (Taps > 0) {
      OCELLUS_UNROLL for (int t = 0; t < Taps; ++t) all = fma<T>(w[t], load_n(in[t] + i, lanes), all);
    } else {
      for (Index t = 0; t < taps; ++t) all = fma<T>(vec<T>(weight[t]), load_n(x + from[t] * step + i, lanes), all);
    }
    return all;
  };
  Index i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    OCELLUS_UNROLL for (int u = 0; u < 4; ++u) {
      const Index at = i + u * width;
      store(y + at, sum(at, residual ? load(residual + at) : vec<T>(T(0)), WholeVector{}));
    }
  }
  each_vector<T>(i, n, [=](Index j, auto lanes) OCELLUS_INLINE_LAMBDA {
    store_n(y + j, sum(j, residual ? load_n(residual + j, lanes) : vec<T>(T(0)), lanes), lanes);
  });
}
template <class T>
[[gnu::noinline]] void resample_combine(Index n, Index taps, const Index* from, const T* weight, const T* x, Index step,
                                        const T* residual, T* y) {
  if (taps == 2) {
    resample_sum<2>(n, taps, from, weight, x, step, residual, y);
  } else {
    resample_sum<0>(n, taps, from, weight, x, step, residual, y);
  }
}

template <class T>
void resample_rows(Index batch, Index channels, const ResampleTaps<T>& vertical, const ResampleTaps<T>& horizontal,
                   const T* x, const T* residual, T* y) {
  const Index in_row = horizontal.in * channels;
  const Index out_row = horizontal.out * channels;
  const Index cost = (in_row * (vertical.first[vertical.out] + 1) + out_row * vertical.out) / larger(vertical.out, 1);
  parallel_for(batch * vertical.out, ceil_div(cheap_grain, larger(cost, 1)), [&](Index begin, Index end) {
    Scratch scratch;
    T* buffer = scratch.take<T>(in_row);
    for (Index r = begin; r < end; ++r) {
      const Index i = r % vertical.out;
      const Index first = vertical.first[i];
      const Index taps = vertical.first[i + 1] - first;
      const T* picture = x + r / vertical.out * vertical.in * in_row;
      const T* row = buffer;
      if (taps == 1 && vertical.weight[first] == T(1)) {
        row = picture + vertical.from[first] * in_row;
      } else {
        resample_combine<T>(in_row, taps, vertical.from + first, vertical.weight + first, picture, in_row, nullptr,
                            buffer);
      }
      for (Index j = 0; j < horizontal.out; ++j) {
        const Index at = horizontal.first[j];
        const Index offset = r * out_row + j * channels;
        resample_combine<T>(channels, horizontal.first[j + 1] - at, horizontal.from + at, horizontal.weight + at, row,
                            channels, residual ? residual + offset : nullptr, y + offset);
      }
    }
  });
}

template <class T>
void resample(const Resample<T>& p) {
  Scratch scratch;
  const ResampleTaps<T> vertical = forward_taps<T>(p.vertical, scratch);
  const ResampleTaps<T> horizontal = forward_taps<T>(p.horizontal, scratch);
  resample_rows<T>(p.batch, p.channels, vertical, horizontal, p.x, p.residual, p.y);
}

template <class T>
void resample_backward(const ResampleBackward<T>& p) {
  Scratch scratch;
  const ResampleTaps<T> vertical = transposed_taps<T>(p.vertical, scratch);
  const ResampleTaps<T> horizontal = transposed_taps<T>(p.horizontal, scratch);
  resample_rows<T>(p.batch, p.channels, vertical, horizontal, p.dy, nullptr, p.dx);
}

}  // namespace ocellus::kernels::OCELLUS_ISA
