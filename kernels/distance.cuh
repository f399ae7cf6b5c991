// Exact Euclidean distances, axis by axis: squares of the distance to the nearest background pixel.
//
// A thread makes a pixel and walks away from it along the axis, both ways at once, until a step
// alone is longer than the best distance found: a walk is as long as the result, not as the image.
// The CPU's passes (csrc/distance_passes.hpp) do less work a pixel but follow a line in order.
// Squares are integers where pixels are of size 1, so that the distances are the CPU's to the last
// bit.
#pragma once
#include "tile.cuh"

template <class S> struct Far;
template <> struct Far<int> {
  static constexpr int value = 1 << 30;
};
template <> struct Far<double> {
  static constexpr double value = 1e300;
};

// What a pixel of the first pass, or of a later one, is at distance 0 along the axis.
template <class S> __device__ __forceinline__ S squared(uint8 foreground, S*) {
  return foreground ? Far<S>::value : S(0);
}
template <class S> __device__ __forceinline__ S squared(S before, S*) { return before; }

// Along the rows' axis (`down`) or along each row; `size` of a pixel along it. `before` is a mask in
// the first pass and squares of S in the later ones.
template <class T, class S>
__global__ void __launch_bounds__(tile_size)
    nearest_along(const T* before, S* squares, int rows, int columns, int down, S size) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int place = down ? pixel.row : pixel.column, length = down ? rows : columns;
  const int64 stride = down ? columns : 1;
  const T* const line = before + (pixel.index - place * stride);
  S best = squared(line[place * stride], (S*)nullptr);
  for (int t = 1; t < length; ++t) {
    const S step = size * S(t), square = step * step;
    if (square >= best) break;
    const int low = place - t, high = place + t;
    if (low < 0 && high >= length) break;
    if (low >= 0) best = min(best, squared(line[low * stride], (S*)nullptr) + square);
    if (high < length) best = min(best, squared(line[high * stride], (S*)nullptr) + square);
  }
  squares[pixel.index] = best;
}

// `none` where there is no background.
template <class S, class F>
__global__ void __launch_bounds__(256) roots(const S* squares, int64 n, F none, F* distances) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const S square = squares[i];
    distances[i] = square >= Far<S>::value ? none : F(sqrt(double(square)));
  }
}
