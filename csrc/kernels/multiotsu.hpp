#pragma once

#include "array.hpp"

namespace msf {

// Thresholds (bin indices, int64, ascending; the class includes its threshold) of a float32
// histogram with more occupied bins than classes.
void multi_otsu(const Array& probabilities, const MutableArray& thresholds);

}  // namespace msf
