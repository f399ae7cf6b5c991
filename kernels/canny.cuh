// Canny's edge detector on 2D images: gradient and suppression in one kernel each for
// scikit-image's and OpenCV's definition. Hysteresis follows on the masks that they write
// (components.cuh).
//
// A block copies its tile of smoothed values with two pixels more on each side to its own memory,
// computes magnitudes with one more, then looks for maxima. The arithmetic is the CPU's
// (csrc/canny_rows.hpp, csrc/canny_opencv.cpp) in the same order, so edges are the same even where
// they hang on a rounding.
#pragma once
#include "tile.cuh"

constexpr int wide_rows = tile_rows + 4, wide_columns = tile_columns + 4;
constexpr int near_rows = tile_rows + 2, near_columns = tile_columns + 2;

// What the smoothed values are divided by: the weight that the kernel has inside the image or mask.
// Without a mask it is the same for all pixels but those within `row_margin` and `column_margin` of
// the border, so a small image holds it; `plane` is 0 where one serves all planes.
template <class T>
struct Share {
  const T* values;  // may be null
  int rows, columns, row_margin, column_margin;
  int64 plane;

  __device__ __forceinline__ T at(const Pixel& tile, int y, int x, int image_rows,
                                  int image_columns) const {
    if (y >= row_margin) y = max(y - (image_rows - rows), row_margin);
    if (x >= column_margin) x = max(x - (image_columns - columns), column_margin);
    return values[tile.plane * plane + int64(y) * columns + x];
  }
};

// Maxima of at least `low`, and those of at least `high`; the image's border has none. With a
// `mask` the 3 by 3 pixels around an edge must be inside.
template <class T>
__global__ void __launch_bounds__(tile_size)
    canny_maxima(const T* smoothed, const T* shares, int share_rows, int share_columns,
                 int row_margin, int column_margin, int64 share_plane, T epsilon, const uint8* mask,
                 int rows, int columns, T per_row, T per_column, T low, T high, uint8* weak,
                 uint8* strong) {
  SHARED(T, value, [wide_rows * wide_columns]);
  SHARED(T, magnitude, [near_rows * near_columns]);
  const Pixel pixel(rows, columns);
  const int x0 = pixel.column - int(threadIdx.x) % tile_columns;
  const int y0 = pixel.row - int(threadIdx.x) / tile_columns;
  const int64 plane = int64(pixel.plane) * rows * columns;
  const Share<T> share{shares, share_rows, share_columns, row_margin, column_margin, share_plane};
  for (int k = threadIdx.x; k < wide_rows * wide_columns; k += tile_size) {
    // Beyond the border the edge pixel: Sobel's mode "reflect" with a radius of 1.
    const int y = min(max(y0 - 2 + k / wide_columns, 0), rows - 1);
    const int x = min(max(x0 - 2 + k % wide_columns, 0), columns - 1);
    T s = smoothed[plane + int64(y) * columns + x];
    if (shares != nullptr) s /= share.at(pixel, y, x, rows, columns) + epsilon;
    value[k] = s + 0 * s;  // infinity counts as NaN
  }
  __syncthreads();
  // Differences along both axes around position `at` of `value`.
  const auto differences = [&](int at, T& down, T& right) {
    const T* const v = value + at;
    const int row = wide_columns;
    const T left = v[row - 1] - v[-row - 1], centre = v[row] - v[-row],
            beside = v[row + 1] - v[-row + 1];
    const T above = v[-row + 1] - v[-row - 1], middle = v[1] - v[-1],
            below = v[row + 1] - v[row - 1];
    down = T(double(centre) * 2 + (double(left) + double(beside))) * per_row;
    right = T(double(middle) * 2 + (double(above) + double(below))) * per_column;
  };
  for (int k = threadIdx.x; k < near_rows * near_columns; k += tile_size) {
    T down, right;
    differences((k / near_columns + 1) * wide_columns + k % near_columns + 1, down, right);
    magnitude[k] = sqrt(down * down + right * right);
  }
  __syncthreads();
  if (!pixel.exists) return;
  const int y = threadIdx.x / tile_columns, x = threadIdx.x % tile_columns;
  const T* const m = magnitude + (y + 1) * near_columns + x + 1;
  const T here = *m;
  bool edge = here >= low && pixel.row > 0 && pixel.row < rows - 1 && pixel.column > 0 &&
              pixel.column < columns - 1;
  if (edge && mask != nullptr)
    for (int dy = -1; dy <= 1; ++dy)
      for (int dx = -1; dx <= 1; ++dx) edge &= mask[pixel.index + int64(dy) * columns + dx] != 0;
  if (edge) {
    T down, right;
    differences((y + 2) * wide_columns + x + 2, down, right);
    down *= per_row;
    right *= per_column;
    const T down_abs = down < 0 ? -down : down, right_abs = right < 0 ? -right : right;
    // Whether both directions have the same sign, or either none.
    const bool same = (down >= 0 && right >= 0) || (down <= 0 && right <= 0);
    const bool steep = down_abs > right_abs || (!same && down_abs == right_abs);
    const T w = steep ? right_abs / down_abs : down_abs / right_abs;
    const int turn = same ? near_columns : -near_columns;
    const int side = steep ? turn : 1;
    const double rest = 1.0 - double(w), most = here;
    edge = double(m[turn + 1] * w) + double(m[side]) * rest <= most &&
           double(m[-turn - 1] * w) + double(m[-side]) * rest <= most;
  }
  weak[pixel.index] = edge;
  strong[pixel.index] = edge && here >= high;
}

// OpenCV's: differences of the image as it is, magnitudes by absolute values or `squares`, maxima
// above `low`. The direction comes from comparing |dy| / |dx| with the tangents of 22.5 and 67.5
// degrees, 13573 / 2^15 and 2 more.
__global__ void __launch_bounds__(tile_size)
    canny_opencv_maxima(const uint8* image, int rows, int columns, int squares, int low, int high,
                        uint8* weak, uint8* strong) {
  SHARED(int, value, [wide_rows * wide_columns]);
  SHARED(int, magnitude, [near_rows * near_columns]);
  const Pixel pixel(rows, columns);
  const int x0 = pixel.column - int(threadIdx.x) % tile_columns;
  const int y0 = pixel.row - int(threadIdx.x) / tile_columns;
  for (int k = threadIdx.x; k < wide_rows * wide_columns; k += tile_size) {
    const int y = min(max(y0 - 2 + k / wide_columns, 0), rows - 1);
    const int x = min(max(x0 - 2 + k % wide_columns, 0), columns - 1);
    value[k] = image[(int64(pixel.plane) * rows + y) * columns + x];
  }
  __syncthreads();
  const auto differences = [&](int at, int& down, int& right) {
    const int* const v = value + at;
    const int row = wide_columns;
    down = v[row - 1] - v[-row - 1] + 2 * (v[row] - v[-row]) + v[row + 1] - v[-row + 1];
    right = v[-row + 1] - v[-row - 1] + 2 * (v[1] - v[-1]) + v[row + 1] - v[row - 1];
  };
  for (int k = threadIdx.x; k < near_rows * near_columns; k += tile_size) {
    const int y = y0 - 1 + k / near_columns, x = x0 - 1 + k % near_columns;
    int down, right;
    differences((k / near_columns + 1) * wide_columns + k % near_columns + 1, down, right);
    const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
    magnitude[k] = !inside ? 0 : squares ? down * down + right * right : abs(down) + abs(right);
  }
  __syncthreads();
  if (!pixel.exists) return;
  const int y = threadIdx.x / tile_columns, x = threadIdx.x % tile_columns;
  const int* const m = magnitude + (y + 1) * near_columns + x + 1;
  bool edge = *m > low;
  if (edge) {
    int down, right;
    differences((y + 2) * wide_columns + x + 2, down, right);
    const int across = abs(right) * 13573, along = abs(down) << 15;
    if (along < across) {
      edge = *m > m[-1] && *m >= m[1];
    } else if (along > across + (abs(right) << 16)) {
      edge = *m > m[-near_columns] && *m >= m[near_columns];
    } else {
      const int turn = (right < 0) != (down < 0) ? -1 : 1;
      edge = *m > m[-near_columns - turn] && *m > m[near_columns + turn];
    }
  }
  weak[pixel.index] = edge;
  strong[pixel.index] = edge && *m > high;
}
