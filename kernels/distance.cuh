// Exact Euclidean distances, axis by axis: squares of the distance to the nearest background pixel.
//
// Along rows: a warp makes bits of 1024 pixels of a row and counts zeros in them.
//
// Along the other axes: a thread makes a band of 8 pixels of a column. It looks at bands above and
// below, both ways at once, until a step alone is longer than the best distances found: a search is
// as long as the result, not as the image. It leaves out a band whose least square cannot better
// any of its pixels, and each value that cannot; one that is read is tried for all 8.
//
// The CPU's passes (csrc/distance_passes.hpp) do less work a pixel but follow a line in order.
// Squares are integers where pixels are of size 1, so that the distances are the CPU's to the last
// bit. A row's pass then stores steps in 16 bits: host code lets no square reach 2^30.
#pragma once
#include "tile.cuh"

constexpr int band = 8, chunk_size = 1024, nowhere = 0x7fffffff;

using Steps = unsigned short;

// What the passes compare, by what a pass reads; `far` where no background was found yet.
template <class T>
struct Kind {
  using Square = int;
  static constexpr int far = 1 << 30;
};
template <>
struct Kind<double> {
  using Square = double;
  static constexpr double far = 1e300;
};
template <class T>
using Square = typename Kind<T>::Square;

// Squares of what a pass wrote: 2^15 steps, the most there are, are far.
__device__ __forceinline__ int squared(Steps steps) { return int(steps) * steps; }
__device__ __forceinline__ int squared(int before) { return before; }
__device__ __forceinline__ double squared(double before) { return before; }

// `steps` along a row as its pass stores them.
__device__ __forceinline__ void store(Steps* place, int steps, int) {
  *place = Steps(min(steps, 1 << 15));
}
__device__ __forceinline__ void store(double* place, int steps, double size) {
  const double step = size * steps;
  *place = steps == nowhere ? Kind<double>::far : step * step;
}

// The first background pixel from `x` on, where a warp goes `way` along a row (1 or -1).
__device__ __forceinline__ int background_from(const uint8* row, int x, int way, int columns) {
  constexpr int each = 8;
  const int lane = threadIdx.x % 32;
  int found = nowhere;
  unsigned lanes = 0;
#pragma unroll 1
  for (; lanes == 0 && x >= 0 && x < columns; x += 32 * each * way) {
#pragma unroll
    for (int k = each - 1; k >= 0; --k) {
      const int i = x + way * (each * lane + k);
      if (i >= 0 && i < columns && !row[i]) found = i;
    }
    lanes = __ballot_sync(all_lanes, found != nowhere);
  }
  return __shfl_sync(all_lanes, found, max(__ffs(lanes) - 1, 0));
}

// A block makes 1024 pixels of each row in a band, and the least steps of each column in it.
template <class T>
__global__ void __launch_bounds__(32 * band, 6)
    nearest_in_rows(const uint8* mask, T* nearest, T* least, int rows, int columns,
                    Square<T> size) {
  SHARED(int, steps_of_band, [chunk_size]);
  const int lane = threadIdx.x % 32;
  const unsigned chunks = (columns + chunk_size - 1) / chunk_size;
  const unsigned bands = (rows + band - 1) / band, number = blockIdx.x / chunks;
  const int x0 = int(blockIdx.x % chunks) * chunk_size, used = min(chunk_size, columns - x0);
  const int y = int(number % bands) * band + int(threadIdx.x) / 32, words = (used + 31) / 32;
  for (int i = threadIdx.x; i < used; i += 32 * band) steps_of_band[i] = nowhere;
  __syncthreads();
  const bool exists = y < rows;  // else the last row is made once more, for nothing
  const int64 begin = (int64(number / bands) * rows + min(y, rows - 1)) * columns;
  const uint8* const row = mask + begin;
  unsigned mine = 0;  // 32 pixels from 32 * lane on: which of them are background
#pragma unroll 8
  for (int k = 0; k < words; ++k) {
    const int x = x0 + 32 * k + lane;
    const unsigned word = __ballot_sync(all_lanes, x < columns && !row[min(x, columns - 1)]);
    if (k == lane) mine = word;
  }
  // The nearest background before and after these 32 pixels: in other lanes', or beyond them.
  const unsigned filled = __ballot_sync(all_lanes, mine != 0);
  const unsigned before = filled & ((1u << lane) - 1), after = filled & ~((2u << lane) - 1);
  const int start = x0 + 32 * lane;
  const int last = __shfl_sync(all_lanes, start + 31 - __clz(mine), 31 - __clz(before));
  const int first = __shfl_sync(all_lanes, start + __ffs(mine) - 1, __ffs(after) - 1);
  const int beyond_low = background_from(row, x0 - 1, -1, columns);
  const int beyond_high = background_from(row, x0 + used, 1, columns);
  const int low = before ? last : beyond_low, high = after ? first : beyond_high;
  for (int k = 0; k < words; ++k) {
    const unsigned word = __shfl_sync(all_lanes, mine, k);
    const int left = __shfl_sync(all_lanes, low, k), right = __shfl_sync(all_lanes, high, k);
    const unsigned down = word & (all_lanes >> (31 - lane)), up = word & (all_lanes << lane);
    const int x = x0 + 32 * k + lane;
    const int to_left = down ? lane - 31 + __clz(down) : left == nowhere ? nowhere : x - left;
    const int to_right = up ? __ffs(up) - 1 - lane : right == nowhere ? nowhere : right - x;
    if (exists && x < columns) {
      const int steps = min(to_left, to_right);
      store(&nearest[begin + x], steps, size);
      atomicMin(&steps_of_band[x - x0], steps);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < used; i += 32 * band)
    store(&least[int64(number) * columns + x0 + i], steps_of_band[i], size);
}

// Gives `put` the squares along the rows' axis, of pixels of a `size`. `least` are the least values
// of each band, or null.
template <class T, class Put>
__device__ __forceinline__ void search_columns(const T* before, const T* least, int rows,
                                               int columns, Square<T> size, Put put) {
  using S = Square<T>;
  const int bands = (rows + band - 1) / band;
  const Pixel strip(bands, columns);
  if (!strip.exists) return;
  const int first = strip.row * band;
  const int64 column = int64(strip.plane) * rows * columns + strip.column;
  S best[band], bound = Kind<T>::far;
#pragma unroll
  for (int j = 0; j < band; ++j) best[j] = Kind<T>::far;
  // What a band's values offer to the pixels of this one, `square` away at the least.
  const auto try_band = [&](int other, S square) {
    S offered[band];
#pragma unroll
    for (int i = 0; i < band; ++i) {
      const int row = other * band + i;
      offered[i] = row < rows ? squared(before[column + int64(row) * columns]) : Kind<T>::far;
    }
#pragma unroll
    for (int i = 0; i < band; ++i) {
      if (offered[i] + square >= bound) continue;
#pragma unroll
      for (int j = 0; j < band; ++j) {
        const S step = size * S(other * band + i - first - j);
        best[j] = min(best[j], offered[i] + step * step);
      }
    }
    bound = best[0];
#pragma unroll
    for (int j = 1; j < band; ++j) bound = max(bound, best[j]);
  };
  try_band(strip.row, 0);
  for (int away = 1; away < bands; ++away) {
    const S step = size * S(band * (away - 1) + 1), square = step * step;
    if (square >= bound) break;
#pragma unroll 1
    for (int other = strip.row - away; other <= strip.row + away; other += 2 * away) {
      if (other < 0 || other >= bands) continue;
      const int64 place = strip.index + int64(other - strip.row) * columns;
      if (least != nullptr && squared(least[place]) + square >= bound) continue;
      try_band(other, square);
    }
  }
#pragma unroll
  for (int j = 0; j < band; ++j)
    if (first + j < rows) put(column + int64(first + j) * columns, best[j]);
}

template <class T>
__global__ void __launch_bounds__(tile_size)
    nearest_in_columns(const T* before, const T* least, int rows, int columns, Square<T> size,
                       Square<T>* squares) {
  search_columns(before, least, rows, columns, size,
                 [&](int64 i, Square<T> square) { squares[i] = square; });
}

// The last pass: distances, `none` where there is no background.
template <class T, class F>
__global__ void __launch_bounds__(tile_size)
    distances_in_columns(const T* before, const T* least, int rows, int columns, Square<T> size,
                         F none, F* distances) {
  search_columns(before, least, rows, columns, size, [&](int64 i, Square<T> square) {
    distances[i] = square >= Kind<T>::far ? none : F(sqrt(double(square)));
  });
}
