#pragma once

#include "array.hpp"

namespace msf {

// minima (bool, the image's shape) = whether a pixel belongs to a regional minimum; maxima:
// maximum. steps: int8, a row of -1, 0 or 1 per axis for each neighbour; symmetric: with each step
// its opposite is there. borders: whether a minimum may touch the border of the image; else every
// axis must have at least 3 pixels. NaN counts as the image's highest (maxima: lowest) value, and
// is no minimum.
void local_minima(const Array& image, bool maxima, const Array& steps, bool symmetric, bool borders,
                  const MutableArray& minima);

}  // namespace msf
