#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// labels (int32, the image's shape) = basin of each pixel, numbered from 1 by the first pixel of
// their minima in raster order; 0 outside the mask (bool, or null), on NaN, and on lines. Returns
// the number of basins.
std::int64_t watershed_immersion(const Array& image, int connectivity, const Array* mask,
                                 bool lines, const MutableArray& labels);

}  // namespace msf
