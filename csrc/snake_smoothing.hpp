// The two smoothers of morphological snakes, on bits: the infimum over all lines of three pixels
// (2D) or planes of nine voxels (3D) through a pixel of the dilation along each ("inf-sup"), and
// the supremum of the erosions ("sup-inf"). Outside the image is 0. Sixty-four pixels at a time,
// about 70 operations on words.
#pragma once

#include "bit_volume.hpp"

namespace msf {

// dilate: inf-sup, else sup-inf. volume: by planes, else by lines within each plane.
void smooth_bits(const BitVolume& in, bool dilate, bool volume, BitVolume& out);

}  // namespace msf
