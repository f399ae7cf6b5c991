#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// mask and out are bool and may be the same array. Sizes are in pixels.
// out = mask without objects (or, holes: with all holes filled) of up to max_size pixels.
void remove_small(const Array& mask, std::int64_t max_size, int connectivity, bool holes,
                  const MutableArray& out);
// The first of the largest in raster order; nothing if mask is empty.
void largest_component(const Array& mask, int connectivity, const MutableArray& out);
// Sets what is not connected to the image's border outside the mask.
void fill_holes(const Array& mask, int connectivity, const MutableArray& out);
// out = labels, but components of equal value (all neighbours count) that come closer than `width`
// pixels to the border, or with `mask` (bool) have a pixel outside it, become `background` (one
// element of the labels' dtype); so do all pixels of value 0 if one of them does.
void clear_border(const Array& labels, std::int64_t width, const Array* mask,
                  const Array& background, const MutableArray& out);

}  // namespace msf
