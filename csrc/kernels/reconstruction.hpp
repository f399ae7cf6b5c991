#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// out = reconstruction of `mask` from `seed` by dilation (or erosion): same shape and dtype;
// seed <= mask (>=) wherever neither is NaN. Values spread from a pixel by `steps` (int64, a row of
// ndim numbers each, none zero). out has the dtype of the image or is float64. Pixels that are NaN
// in either let nothing through and become NaN.
void reconstruction(const Array& seed, const Array& mask, bool dilation, const Array& steps,
                    const MutableArray& out);

}  // namespace msf
