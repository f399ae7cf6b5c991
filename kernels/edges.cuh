// Gradients by small kernels: Sobel, Prewitt, Scharr and Farid, in one to three dimensions.
//
// One sweep: a thread reads the 3 or 5 wide block around its pixel, through the L1 cache that
// neighbours share, and adds up the derivatives along all axes at once; the result is written once.
// The CPU filters axis by axis instead, so results differ by rounding.
#pragma once
#include "border.cuh"
#include "tile.cuh"

template <class F> struct Weights {
  F centre, near, far;
  __device__ F operator()(int distance) const {
    return distance == 0 ? centre : (distance == 1 || distance == -1) ? near : far;
  }
};

// Whether all of the 3 wide block around a pixel is in the mask and the image.
__device__ __forceinline__ bool surrounded(const uint8* mask, int z, int y, int x, int planes,
                                           int rows, int columns, int rank) {
  const int deep = rank > 2, high = rank > 1;
  for (int k = z - deep; k <= z + deep; ++k)
    for (int j = y - high; j <= y + high; ++j)
      for (int i = x - 1; i <= x + 1; ++i) {
        if (k < 0 || k >= planes || j < 0 || j >= rows || i < 0 || i >= columns) return false;
        if (!mask[(int64(k) * rows + j) * columns + i]) return false;
      }
  return true;
}

// The derivative along one axis, or the magnitude along several: sqrt(share * sum of squares).
// `smooth` are the weights at distance 0, 1, 2 across an axis, `edge` those along it at 1 and 2.
// Along an axis of mm spacing the difference is multiplied by `per_mm`, 0 where it is left out.
// The last `rank` of three axes are filtered. `mask` may be null.
template <class T, class F>
__global__ void __launch_bounds__(tile_size)
    gradient(const T* image, const uint8* mask, F* result, int planes, int rows, int columns,
             int rank, int radius, F scale, F least, F cval, int border_z, int border_y,
             int border_x, F smooth_0, F smooth_1, F smooth_2, F edge_1, F edge_2, F per_mm_z,
             F per_mm_y, F per_mm_x, int magnitude, F share) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int x = pixel.column, y = pixel.row, z = pixel.plane;
  if (mask != nullptr && !surrounded(mask, z, y, x, planes, rows, columns, rank)) {
    result[pixel.index] = 0;
    return;
  }
  const Weights<F> smooth{smooth_0, smooth_1, smooth_2}, edge{F(0), edge_1, edge_2};
  const int radius_z = rank > 2 ? radius : 0, radius_y = rank > 1 ? radius : 0;
  F along_z = 0, along_y = 0, along_x = 0;
#pragma unroll 1
  for (int dz = -radius_z; dz <= radius_z; ++dz) {
    const int k = within(z + dz, planes, border_z);
    const F across_z = rank > 2 ? smooth(dz) : F(1), edge_z = dz < 0 ? -edge(dz) : edge(dz);
#pragma unroll 1
    for (int dy = -radius_y; dy <= radius_y; ++dy) {
      const int j = within(y + dy, rows, border_y);
      const F across_y = rank > 1 ? smooth(dy) : F(1), edge_y = dy < 0 ? -edge(dy) : edge(dy);
#pragma unroll 1
      for (int dx = -radius; dx <= radius; ++dx) {
        const F across_x = smooth(dx), edge_x = dx < 0 ? -edge(dx) : edge(dx);
        const F by_z = edge_z * across_y * across_x * per_mm_z;
        const F by_y = across_z * edge_y * across_x * per_mm_y;
        const F by_x = across_z * across_y * edge_x * per_mm_x;
        if (by_z == 0 && by_y == 0 && by_x == 0) continue;
        const int i = within(x + dx, columns, border_x);
        const F value = k < 0 || j < 0 || i < 0
                            ? cval
                            : as_float(image[(int64(k) * rows + j) * columns + i], scale, least);
        // A pixel that has no weight is not read: NaN must not spread from it.
        if (by_z != 0) along_z += by_z * value;
        if (by_y != 0) along_y += by_y * value;
        if (by_x != 0) along_x += by_x * value;
      }
    }
  }
  const F squares = along_z * along_z + along_y * along_y + along_x * along_x;
  // One axis has a weight, the others are 0.
  result[pixel.index] = magnitude ? F(sqrt(share * squares)) : along_z + along_y + along_x;
}
