#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"

namespace msf {

// In all of these `out` is float32 or float64 and has the image's shape; pixels are first
// multiplied by `scale` as in separable_filter.

// Sum over the axes of weights[axis] * (2 * pixel - the two neighbours); border reflect.
void laplace(const Array& image, double scale, const std::vector<double>& weights,
             const MutableArray& out);
// Differences across the 2 x ... x 2 block that starts at the pixel, border reflect. `corner` lists
// one end of each diagonal (bit k: one step along axis k); the other is opposite, and the
// difference is opposite minus corner. Several: root mean square.
void cross_difference(const Array& image, double scale, const std::vector<std::uint64_t>& corners,
                      const MutableArray& out);
// out = 0 where the 3 x ... x 3 block around the pixel is not all inside the mask (bool); outside
// the image is outside the mask.
void clip_to_mask(const Array& mask, const MutableArray& out);
// out (bool) = where the image changes sign towards a neighbour, see second_difference.py.
void zero_crossings(const Array& image, double threshold, const MutableArray& out);

}  // namespace msf
