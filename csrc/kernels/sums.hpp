#pragma once

#include <cstdint>
#include <utility>

#include "array.hpp"

namespace msf {

// Exact sum of an integer image as high * 2^64 + low.
std::pair<std::int64_t, std::uint64_t> sum_integers(const Array& image);
// Sum in float64 of a float32 or float64 image; the same bits for any number of threads.
double sum_floats(const Array& image);
// Sum and number of the values y = pixel - origin > t, y and t in the image's dtype (float32, 64).
std::pair<double, std::int64_t> sum_above(const Array& image, double origin, double t);

}  // namespace msf
