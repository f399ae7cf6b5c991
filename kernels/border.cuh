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
template <class F, class T> __device__ __forceinline__ F as_float(T value, F scale, F least) {
  const F x = F(value) * scale;
  return x < least ? least : x;
}
