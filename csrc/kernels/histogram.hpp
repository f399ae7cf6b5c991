#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// bounds = smallest and largest pixel that is not NaN, in the image's dtype; returns whether one is
// NaN. The image is not empty.
bool value_range(const Array& image, const MutableArray& bounds);
// counts[value - low] += 1 for every pixel of an integer image; counts is int64 and wide enough.
void count_values(const Array& image, std::int64_t low, const MutableArray& counts);
// numpy.histogram of a float32 or float64 image without NaN, all within the outer edges, which
// differ by a finite number. edges has the image's dtype; counts is int64, one less, and added to.
void count_bins(const Array& image, const Array& edges, const MutableArray& counts);

}  // namespace msf
