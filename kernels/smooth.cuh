// Sums along one axis by a symmetric kernel of any length: one axis of a Gaussian.
//
// A thread computes a pixel; the neighbours' reads along the axis come from the caches. The order
// is SciPy's and our CPU's: the centre, then pairs of equal distance, farthest first, each added
// before it is multiplied; without contraction the results are the CPU's bit for bit.
#pragma once
#include "border.cuh"

// `weights` of distance 0 to `radius`. The axis has `length` pixels, `stride` elements apart.
template <class T, class F>
__global__ void __launch_bounds__(256)
    smooth_axis(const T* image, F* result, int64 n, int length, int64 stride, const F* weights,
                int radius, F scale, F least, int border, F cval) {
  for (int64 at = global_thread(); at < n; at += global_threads()) {
    const int place = int(at / stride % length);
    const T* const line = image + (at - place * stride);
    const auto value = [&](int i) {
      const int j = within(i, length, border);
      return j < 0 ? cval : as_float(line[j * stride], scale, least);
    };
    F sum = value(place) * weights[0];
    for (int t = radius; t > 0; --t) sum += (value(place - t) + value(place + t)) * weights[t];
    result[at] = sum;
  }
}
