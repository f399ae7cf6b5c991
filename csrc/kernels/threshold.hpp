#pragma once

#include "array.hpp"

namespace msf {

// mask = bounds[0] <= image <= bounds[1]; bounds has two elements of the image's dtype, mask is
// bool.
void in_range(const Array& image, const Array& bounds, const MutableArray& mask);

}  // namespace msf
