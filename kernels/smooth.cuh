// Sums along one axis by an even or odd kernel of any length: one axis of a Gaussian or of its
// derivative.
//
// A block copies its pixels and those within the radius to its own memory, so each is read and
// converted once; a thread makes 8 results side by side. The order is SciPy's and our CPU's: the
// centre, then pairs of equal distance, farthest first, each added before it is multiplied; without
// contraction the results are the CPU's bit for bit.
#pragma once
#include "border.cuh"

constexpr int smooth_threads = 256, smooth_warps = smooth_threads / 32, smooth_results = 8;
constexpr int near_radius = 32;  // what a block's memory has room for; beyond it the caches serve

// Where a block's results lie, and how its memory is laid out: along the rows' axis 64 rows of 32
// columns, along each row 8 rows of 256.
template <bool down>
struct SmoothBlock {
  static constexpr int along = (down ? smooth_warps : 32) * smooth_results;
  static constexpr int step = down ? 32 : 1;                        // from a value to the next
  static constexpr int jump = down ? 32 * smooth_warps : 32;        // from a result to the next
  static constexpr int pitch = down ? 1 : along + 2 * near_radius;  // from a line to the next
};
constexpr int smooth_values = (SmoothBlock<true>::along + 2 * near_radius) * 32;

template <bool down, bool odd, class T, class C, class F>
__device__ __forceinline__ void smooth_block(const T* image, F* result, int rows, int columns,
                                             const C* weights, int radius, C scale, C least,
                                             int border, C cval, C* values, C* weight) {
  using Block = SmoothBlock<down>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int wide = down ? 32 : Block::along, high = down ? Block::along : smooth_warps;
  const unsigned across = (columns + wide - 1) / wide, deep = (rows + high - 1) / high;
  const int x0 = int(blockIdx.x % across) * wide, y0 = int(blockIdx.x / across % deep) * high;
  const int64 plane = int64(blockIdx.x / across / deep) * rows * columns;
  // The line that this thread's results lie on, and its own place on it and beside it.
  const int first = down ? y0 : x0, length = down ? rows : columns;
  const int mine = down ? warp : lane, line = down ? lane : warp;
  const bool exists = down ? x0 + lane < columns : y0 + warp < rows;
  const int64 stride = down ? columns : 1;
  const int64 start = plane + (down ? x0 + lane : int64(y0 + warp) * columns);
  const auto value = [&](int i) {
    const int j = within(i, length, border);
    return j < 0 ? cval : as_float(image[start + j * stride], scale, least);
  };
  const auto pair = [](C before, C after) { return odd ? after - before : before + after; };
  constexpr int others = down ? smooth_warps : 32;  // threads on the same line
  if (radius <= near_radius) {
    const int me = threadIdx.x;
    if (me <= radius) weight[me] = weights[me];
    const int last = min(Block::along, length - first) + 2 * radius;
    for (int j = mine; exists && j < last; j += others)
      values[line * Block::pitch + j * Block::step] = value(first - radius + j);
    __syncthreads();
  }
  if (!exists) return;
  C sums[smooth_results];
  if (radius <= near_radius) {
    const C* const centre = values + line * Block::pitch + (radius + mine) * Block::step;
#pragma unroll
    for (int k = 0; k < smooth_results; ++k) sums[k] = centre[k * Block::jump] * weight[0];
#pragma unroll 1
    for (int t = radius; t > 0; --t) {
      const C *const before = centre - t * Block::step, *const after = centre + t * Block::step;
#pragma unroll
      for (int k = 0; k < smooth_results; ++k)
        sums[k] += pair(before[k * Block::jump], after[k * Block::jump]) * weight[t];
    }
  }
#pragma unroll
  for (int k = 0; k < smooth_results; ++k) {
    const int place = first + mine + k * others;
    if (place >= length) return;
    if (radius > near_radius) {
      sums[k] = value(place) * weights[0];
#pragma unroll 1
      for (int t = radius; t > 0; --t)
        sums[k] += pair(value(place - t), value(place + t)) * weights[t];
    }
    result[start + place * stride] = F(sums[k]);
  }
}

// `weights` of distance 0 to `radius`; along the rows' axis (`down`) or along each row. Sums are of
// type C, the result rounds them to F.
template <class T, class C, class F>
__global__ void __launch_bounds__(smooth_threads)
    smooth_axis(const T* image, F* result, int rows, int columns, int down, const C* weights,
                int radius, C scale, C least, int border, C cval) {
  SHARED(C, values, [smooth_values]);
  SHARED(C, weight, [near_radius + 1]);
  if (down)
    smooth_block<true, false>(image, result, rows, columns, weights, radius, scale, least, border,
                              cval, values, weight);
  else
    smooth_block<false, false>(image, result, rows, columns, weights, radius, scale, least, border,
                               cval, values, weight);
}

// The same by an odd kernel, with a weight of distance 0 all the same.
template <class F>
__global__ void __launch_bounds__(smooth_threads)
    differ_axis(const F* image, F* result, int rows, int columns, int down, const F* weights,
                int radius, F scale, F least, int border, F cval) {
  SHARED(F, values, [smooth_values]);
  SHARED(F, weight, [near_radius + 1]);
  if (down)
    smooth_block<true, true>(image, result, rows, columns, weights, radius, scale, least, border,
                             cval, values, weight);
  else
    smooth_block<false, true>(image, result, rows, columns, weights, radius, scale, least, border,
                              cval, values, weight);
}
