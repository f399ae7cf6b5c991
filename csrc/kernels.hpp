// Every kernel that Python can call, by family: the engine's table of contents.
//
// Arguments are checked by the Python function of the same family; a kernel may rely on what its
// comment says. Kernels allocate only scratch memory; results go to arrays that Python allocated.
#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// --- threshold.cpp
// -----------------------------------------------------------------------------------------------
// mask = bounds[0] <= image <= bounds[1]; bounds has two elements of the image's dtype, mask is
// bool.
void in_range(const Array& image, const Array& bounds, const MutableArray& mask);

}  // namespace msf
