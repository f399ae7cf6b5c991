#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

enum class BoundaryMode : int { thick, inner, outer };

// boundaries (bool) = pixels that have a neighbour of another label; a coordinate less for each of
// `connectivity` axes at most. inner: those that are not background; outer: those that are, and
// those beside another object. background: one element of the labels' dtype, or null if no pixel
// can have it. Labels are bool or integers.
void find_boundaries(const Array& labels, int connectivity, BoundaryMode mode,
                     const Array* background, const MutableArray& boundaries);

// boundaries (bool, 2 s - 1 along an axis of s) = places between pixels of different labels. Pixels
// of the label `none`, one element of the labels' dtype and its largest value, do not count.
void find_subpixel_boundaries(const Array& labels, const Array& none,
                              const MutableArray& boundaries);

}  // namespace msf
