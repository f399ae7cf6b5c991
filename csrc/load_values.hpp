// Any image's values as doubles, a row at a time, so that what is computed from them need not be
// compiled for every type.
#pragma once

#include "array.hpp"

namespace msf {

// out = n values from `begin` on, times `scale`; below `least` as `least`.
void load_values(const Array& image, std::int64_t begin, std::int64_t n, double scale, double least,
                 double* out);

}  // namespace msf
