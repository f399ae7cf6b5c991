// Masks of instances, resized to their boxes and pasted into images.
#pragma once

#include "array.hpp"

namespace msf {

// masks: (n, rows, columns), float32 or float64, `padding` zeros around each are implied. boxes:
// (n, 4) int64, the first and last pixel of each mask as x0, y0, x1, y1, coordinates below 2^40 in
// absolute value. out: (n, rows, columns), all zero; of the masks' dtype, or bool: then a pixel is
// whether its value is at least `threshold`.
void paste_masks(const Array& masks, const Array& boxes, std::int64_t padding, double threshold,
                 const MutableArray& out);

}  // namespace msf
