// Canny's edge detector on 2D images: gradient and suppression in one kernel each for
// scikit-image's and OpenCV's definition. Hysteresis follows on the masks that they write
// (components.cuh).
//
// A block copies 32 by 32 smoothed values with two more on each side to its own memory, computes
// magnitudes with one more, then looks for maxima. The arithmetic is the CPU's
// (csrc/canny_rows.hpp, csrc/canny_opencv.cpp) in the same order, so edges are the same even where
// they hang on a rounding.
#pragma once
#include "device.cuh"

constexpr int side = 32, canny_threads = 256, canny_warps = canny_threads / 32;
constexpr int wide = side + 4, near = side + 2;

// The first of a block's 32 by 32 pixels, in one plane of many.
struct Square {
  int plane, row, column;

  __device__ __forceinline__ Square(int rows, int columns) {
    const unsigned across = (columns + side - 1) / side, down = (rows + side - 1) / side;
    column = int(blockIdx.x % across) * side;
    row = int(blockIdx.x / across % down) * side;
    plane = int(blockIdx.x / across / down);
  }
};

// Calls `fill(y, x)` for a square of the block's memory, a warp a row.
template <int extent, class Fill>
__device__ __forceinline__ void for_square(const Fill& fill) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < (extent + canny_warps - 1) / canny_warps; ++k) {
    const int y = warp + k * canny_warps;
    if (y >= extent) break;
    fill(y, lane);
    if (extent > 32 && lane < extent - 32) fill(y, lane + 32);
  }
}

// What the smoothed values are divided by: the weight that the kernel has inside the image or mask.
// Without a mask it is the same for all pixels but those within `row_margin` and `column_margin` of
// the border, so a small image holds it; `plane` is 0 where one serves all planes.
template <class T>
struct Share {
  const T* values;  // may be null
  int rows, columns, row_margin, column_margin;
  int64 plane;

  __device__ __forceinline__ T at(int image, int y, int x, int image_rows,
                                  int image_columns) const {
    if (y >= row_margin) y = max(y - (image_rows - rows), row_margin);
    if (x >= column_margin) x = max(x - (image_columns - columns), column_margin);
    return values[image * plane + int64(y) * columns + x];
  }
};

// Maxima of at least `low`, and those of at least `high`; the image's border has none. With a
// `mask` the 3 by 3 pixels around an edge must be inside.
template <class T>
__global__ void __launch_bounds__(canny_threads)
    canny_maxima(const T* smoothed, const T* shares, int share_rows, int share_columns,
                 int row_margin, int column_margin, int64 share_plane, T epsilon, const uint8* mask,
                 int rows, int columns, T per_row, T per_column, T low, T high, uint8* weak,
                 uint8* strong) {
  SHARED(T, value, [wide * wide]);
  SHARED(T, magnitude, [near * near]);
  const Square square(rows, columns);
  const int64 plane = int64(square.plane) * rows * columns;
  const Share<T> share{shares, share_rows, share_columns, row_margin, column_margin, share_plane};
  for_square<wide>([&](int i, int j) {
    // Beyond the border the edge pixel: Sobel's mode "reflect" with a radius of 1.
    const int y = min(max(square.row - 2 + i, 0), rows - 1);
    const int x = min(max(square.column - 2 + j, 0), columns - 1);
    T s = smoothed[plane + int64(y) * columns + x];
    if (shares != nullptr) s /= share.at(square.plane, y, x, rows, columns) + epsilon;
    value[i * wide + j] = s + 0 * s;  // infinity counts as NaN
  });
  __syncthreads();
  // Differences along both axes around position `at` of `value`.
  const auto differences = [&](int at, T& down, T& right) {
    const T* const v = value + at;
    const int row = wide;
    const T left = v[row - 1] - v[-row - 1], centre = v[row] - v[-row],
            beside = v[row + 1] - v[-row + 1];
    const T above = v[-row + 1] - v[-row - 1], middle = v[1] - v[-1],
            below = v[row + 1] - v[row - 1];
    down = T(double(centre) * 2 + (double(left) + double(beside))) * per_row;
    right = T(double(middle) * 2 + (double(above) + double(below))) * per_column;
  };
  for_square<near>([&](int i, int j) {
    T down, right;
    differences((i + 1) * wide + j + 1, down, right);
    magnitude[i * near + j] = sqrt(down * down + right * right);
  });
  __syncthreads();
  for_square<side>([&](int i, int j) {
    const int y = square.row + i, x = square.column + j;
    if (y >= rows || x >= columns) return;
    const int64 at = plane + int64(y) * columns + x;
    const T* const m = magnitude + (i + 1) * near + j + 1;
    const T here = *m;
    bool edge = here >= low && y > 0 && y < rows - 1 && x > 0 && x < columns - 1;
    if (edge && mask != nullptr)
      for (int dy = -1; dy <= 1; ++dy)
        for (int dx = -1; dx <= 1; ++dx) edge &= mask[at + int64(dy) * columns + dx] != 0;
    if (edge) {
      T down, right;
      differences((i + 2) * wide + j + 2, down, right);
      down *= per_row;
      right *= per_column;
      const T down_abs = down < 0 ? -down : down, right_abs = right < 0 ? -right : right;
      // Whether both directions have the same sign, or either none.
      const bool same = (down >= 0 && right >= 0) || (down <= 0 && right <= 0);
      const bool steep = down_abs > right_abs || (!same && down_abs == right_abs);
      const T w = steep ? right_abs / down_abs : down_abs / right_abs;
      const int turn = same ? near : -near, beside = steep ? turn : 1;
      const double rest = 1.0 - double(w), most = here;
      edge = double(m[turn + 1] * w) + double(m[beside]) * rest <= most &&
             double(m[-turn - 1] * w) + double(m[-beside]) * rest <= most;
    }
    weak[at] = edge;
    strong[at] = edge && here >= high;
  });
}

// OpenCV's: differences of the image as it is, magnitudes by absolute values or `squares`, maxima
// above `low`. The direction comes from comparing |dy| / |dx| with the tangents of 22.5 and 67.5
// degrees, 13573 / 2^15 and 2 more.
__global__ void __launch_bounds__(canny_threads)
    canny_opencv_maxima(const uint8* image, int rows, int columns, int squares, int low, int high,
                        uint8* weak, uint8* strong) {
  SHARED(int, value, [wide * wide]);
  SHARED(int, magnitude, [near * near]);
  const Square square(rows, columns);
  const int64 plane = int64(square.plane) * rows * columns;
  for_square<wide>([&](int i, int j) {
    const int y = min(max(square.row - 2 + i, 0), rows - 1);
    const int x = min(max(square.column - 2 + j, 0), columns - 1);
    value[i * wide + j] = image[plane + int64(y) * columns + x];
  });
  __syncthreads();
  const auto differences = [&](int at, int& down, int& right) {
    const int* const v = value + at;
    const int row = wide;
    down = v[row - 1] - v[-row - 1] + 2 * (v[row] - v[-row]) + v[row + 1] - v[-row + 1];
    right = v[-row + 1] - v[-row - 1] + 2 * (v[1] - v[-1]) + v[row + 1] - v[row - 1];
  };
  for_square<near>([&](int i, int j) {
    const int y = square.row - 1 + i, x = square.column - 1 + j;
    int down, right;
    differences((i + 1) * wide + j + 1, down, right);
    const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
    magnitude[i * near + j] = !inside   ? 0
                              : squares ? down * down + right * right
                                        : abs(down) + abs(right);
  });
  __syncthreads();
  for_square<side>([&](int i, int j) {
    const int y = square.row + i, x = square.column + j;
    if (y >= rows || x >= columns) return;
    const int64 at = plane + int64(y) * columns + x;
    const int* const m = magnitude + (i + 1) * near + j + 1;
    bool edge = *m > low;
    if (edge) {
      int down, right;
      differences((i + 2) * wide + j + 2, down, right);
      const int across = abs(right) * 13573, along = abs(down) << 15;
      if (along < across) {
        edge = *m > m[-1] && *m >= m[1];
      } else if (along > across + (abs(right) << 16)) {
        edge = *m > m[-near] && *m >= m[near];
      } else {
        const int turn = (right < 0) != (down < 0) ? -1 : 1;
        edge = *m > m[-near - turn] && *m > m[near + turn];
      }
    }
    weak[at] = edge;
    strong[at] = edge && *m > high;
  });
}
