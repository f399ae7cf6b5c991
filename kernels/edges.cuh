// Gradients by small kernels: Sobel, Prewitt, Scharr and Farid, in one to three dimensions.
//
// One sweep for the derivatives along all axes. The kernels are separable: a thread makes some rows
// of a column and sums up each row (and its planes) once, for all of its pixels that the row is a
// neighbour of. What lies beyond a border is decided once for a thread's planes, columns and rows.
// The results are written once. The CPU filters axis by axis instead, so results differ by
// rounding.
#pragma once
#include "border.cuh"
#include "tile.cuh"

// Sums over a row and its planes around a pixel's column: smooth, or as a difference along one
// axis.
template <class F>
struct Sums {
  F smooth = 0, along_z = 0, along_x = 0;
};

// The derivative along one axis, or the magnitude along several: sqrt(share * sum of squares).
// `smooth` are the weights at distance 0, 1, 2 across an axis, `edge` those along it at 1 and 2.
// Along an axis of mm spacing the difference is multiplied by `per_mm`, 0 where it is left out.
// The last `rank` of three axes are filtered. `mask` may be null. A pixel without weight is never
// added: NaN must not spread from it.
template <class T, class F, int rank, int radius>
__global__ void __launch_bounds__(tile_size, radius > 1 || (rank > 2 && sizeof(F) > 4) ? 1 : 3)
    gradient(const T* __restrict__ image, const uint8* mask, F* __restrict__ result, int planes,
             int rows, int columns, F scale, F least, F cval, int border_z, int border_y,
             int border_x, F smooth_0, F smooth_1, F smooth_2, F edge_1, F edge_2, F per_mm_z,
             F per_mm_y, F per_mm_x, int magnitude, F share) {
  constexpr int radius_z = rank > 2 ? radius : 0, radius_y = rank > 1 ? radius : 0;
  constexpr int width = 2 * radius + 1, depth = 2 * radius_z + 1, height = 2 * radius_y + 1;
  constexpr int made = rows_of_thread;
  const Pixel strip((rows + made - 1) / made, columns);
  if (!strip.exists) return;
  const F smooth[3] = {smooth_0, smooth_1, smooth_2}, edge[3] = {0, edge_1, edge_2};
  // The weight across an axis, and along it, at position 0 to 2 * of_axis.
  const auto across = [&](int at, int of_axis) {
    return of_axis == 0 ? F(1) : smooth[at < of_axis ? of_axis - at : at - of_axis];
  };
  const auto along = [&](int at, int of_axis) {
    return at < of_axis ? -edge[of_axis - at] : edge[at - of_axis];
  };
  // Negative where `cval` stands for a pixel: then another is read in its place.
  int plane_at[depth], column_at[width];
#pragma unroll
  for (int k = 0; k < depth; ++k)
    plane_at[k] = within(strip.plane + k - radius_z, planes, border_z);
#pragma unroll
  for (int i = 0; i < width; ++i)
    column_at[i] = within(strip.column + i - radius, columns, border_x);
  const auto row_sums = [&](int row) {
    Sums<F> sums;
#pragma unroll
    for (int k = 0; k < depth; ++k) {
      const T* const line = image + (int64(max(plane_at[k], 0)) * rows + max(row, 0)) * columns;
      const bool outside = plane_at[k] < 0 || row < 0;
      F smoothed = 0, difference = 0;
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const T pixel = line[max(column_at[i], 0)];
        const F value = outside || column_at[i] < 0 ? cval : as_float(pixel, scale, least);
        smoothed += across(i, radius) * value;
        if (i != radius) difference += along(i, radius) * value;
      }
      sums.smooth += across(k, radius_z) * smoothed;
      sums.along_x += across(k, radius_z) * difference;
      if (k != radius_z) sums.along_z += along(k, radius_z) * smoothed;
    }
    return sums;
  };

  // All positions first, then all reads: none waits for a branch, or for what is written before.
  // In three dimensions the reads of one row after the other, for the registers, which have no
  // index: what is next moves to the front.
  constexpr int read = made + height - 1;
  const int first = strip.row * made;
  int row_at[read];
  Sums<F> sums[read];
#pragma unroll
  for (int j = 0; j < read; ++j) row_at[j] = within(first + j - radius_y, rows, border_y);
#pragma unroll(rank < 3 ? read : 1)
  for (int j = 0; j < read; ++j) {
    const Sums<F> next = row_sums(row_at[0]);
#pragma unroll
    for (int i = 1; i < read; ++i) {
      row_at[i - 1] = row_at[i];
      sums[i - 1] = sums[i];
    }
    sums[read - 1] = next;
  }
  F value[made];
#pragma unroll
  for (int r = 0; r < made; ++r) {
    F along_z = 0, along_y = 0, along_x = 0;
#pragma unroll
    for (int j = 0; j < height; ++j) {
      const Sums<F>& row = sums[r + j];
      along_z += across(j, radius_y) * row.along_z;
      along_x += across(j, radius_y) * row.along_x;
      if (j != radius_y) along_y += along(j, radius_y) * row.smooth;
    }
    along_z = per_mm_z != 0 ? along_z * per_mm_z : F(0);
    along_y = per_mm_y != 0 ? along_y * per_mm_y : F(0);
    along_x = per_mm_x != 0 ? along_x * per_mm_x : F(0);
    // One axis has a weight, the others are 0.
    value[r] = magnitude ? share * (along_z * along_z + along_y * along_y + along_x * along_x)
                         : along_z + along_y + along_x;
  }
  // One root at a time, for the registers: the next value moves to the front.
#pragma unroll 1
  for (int y = first; y < min(first + made, rows); ++y) {
    const bool wanted = mask == nullptr ||
                        surrounded(mask, strip.plane, y, strip.column, planes, rows, columns, rank);
    result[(int64(strip.plane) * rows + y) * columns + strip.column] = !wanted ? F(0)
                                                                       : magnitude
                                                                           ? F(sqrt(value[0]))
                                                                           : value[0];
#pragma unroll
    for (int r = 1; r < made; ++r) value[r - 1] = value[r];
  }
}
