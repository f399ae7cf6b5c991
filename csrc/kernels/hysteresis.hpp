#pragma once

#include "array.hpp"

namespace msf {

// mask (bool) = components of image >= bounds[0] that hold a pixel >= bounds[1]; bounds[0] <=
// bounds[1], two elements of the image's dtype. NaN is outside.
void hysteresis(const Array& image, const Array& bounds, int connectivity,
                const MutableArray& mask);

}  // namespace msf
