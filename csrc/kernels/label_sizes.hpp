#pragma once

#include "array.hpp"

namespace msf {

// sizes (int64) = pixels of each label; labels lie within [0, size of sizes).
void label_sizes(const Array& labels, const MutableArray& sizes);
// out = labels where keep (bool, by label), else 0; may be the same array.
void keep_labels(const Array& labels, const Array& keep, const MutableArray& out);

}  // namespace msf
