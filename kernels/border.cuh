// How an image goes on beyond its border, in SciPy's words and the order of `_stencil.MODES`; and
// pixels as the floats that filters work on.
#pragma once
#include "device.cuh"

enum Border { reflect, constant, nearest, mirror, wrap };

// The position that stands for i, which may be outside [0, n); -1 where `cval` does.
__device__ __forceinline__ int within(int i, int n, int border) {
  if (i >= 0 && i < n) return i;
  if (border == constant) return -1;
  if (border == nearest) return i < 0 ? 0 : n - 1;
  if (border == wrap) return (i % n + n) % n;
  const int period = border == reflect ? 2 * n : 2 * n - 2;
  if (period == 0) return 0;  // mirrored, a single pixel
  i = (i % period + period) % period;
  if (i < n) return i;
  return border == reflect ? period - 1 - i : period - i;
}

// A pixel as a float, multiplied by `scale`, at least `least`: scikit-image's -1 for integers.
template <class F, class T>
__device__ __forceinline__ F as_float(T value, F scale, F least) {
  const F x = F(value) * scale;
  return x < least ? least : x;
}

// Whether all of the 3 wide block around a pixel is in the mask and the image.
__device__ __forceinline__ bool surrounded(const uint8* mask, int z, int y, int x, int planes,
                                           int rows, int columns, int rank) {
  const int deep = rank > 2, high = rank > 1;
#pragma unroll 1
  for (int k = z - deep; k <= z + deep; ++k)
#pragma unroll 1
    for (int j = y - high; j <= y + high; ++j)
#pragma unroll 1
      for (int i = x - 1; i <= x + 1; ++i) {
        if (k < 0 || k >= planes || j < 0 || j >= rows || i < 0 || i >= columns) return false;
        if (!mask[(int64(k) * rows + j) * columns + i]) return false;
      }
  return true;
}
