// The second half of hysteresis thresholding.
#pragma once

#include "components.hpp"

namespace msf {

// mask (bool) = the components that hold a bit of `strong`: rows of words as the runs have them.
void keep_strong(const Components& components, const Word* strong, const MutableArray& mask);

}  // namespace msf
