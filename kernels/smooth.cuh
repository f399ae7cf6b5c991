// Sums along one axis by a symmetric kernel of any length: one axis of a Gaussian.
//
// A thread computes a pixel; the neighbours' reads along the axis come from the caches. The order
// is SciPy's and our CPU's: the centre, then pairs of equal distance, farthest first, each added
// before it is multiplied; without contraction the results are the CPU's bit for bit.
#pragma once
#include "border.cuh"
#include "tile.cuh"

// `weights` of distance 0 to `radius`; along the rows' axis (`down`) or along each row. Sums are of
// type C, the result rounds them to F.
template <class T, class C, class F>
__global__ void __launch_bounds__(tile_size)
    smooth_axis(const T* image, F* result, int rows, int columns, int down, const C* weights,
                int radius, C scale, C least, int border, C cval) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int place = down ? pixel.row : pixel.column, length = down ? rows : columns;
  const int64 stride = down ? columns : 1;
  const T* const line = image + (pixel.index - place * stride);
  const auto value = [&](int i) {
    const int j = within(i, length, border);
    return j < 0 ? cval : as_float(line[j * stride], scale, least);
  };
  C sum = value(place) * weights[0];
  for (int t = radius; t > 0; --t) sum += (value(place - t) + value(place + t)) * weights[t];
  result[pixel.index] = F(sum);
}
