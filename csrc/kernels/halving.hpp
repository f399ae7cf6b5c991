#pragma once

#include "array.hpp"

namespace msf {

// Max pooling of features (batch, planes, rows, columns, channels), float32 or bfloat16, by windows
// of `depth` planes (1 or 2), 2 rows and 2 columns, which do not overlap; what does not fill one is
// left out. places: which of a window's values, in raster order, was the first of the largest, or
// the last NaN.
void halve(const Array& input, int depth, const MutableArray& output, const MutableArray& places);

// The gradient of the input, given that of the output and its places.
void halve_gradient(const Array& gradient, const Array& places, int depth,
                    const MutableArray& by_input);

}  // namespace msf
