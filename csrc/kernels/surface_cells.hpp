#pragma once

#include "array.hpp"

namespace msf {

// codes (uint8, one more than the mask along each axis; 2D or 3D) = which corners of the cell
// between neighbouring voxels are inside the mask (bool): bit 4 z + 2 y + x. Cells reach half a
// voxel beyond the mask, where nothing is inside.
void surface_cells(const Array& mask, const MutableArray& codes);

// counts (int64, (labels, 2^ndim)) = cells of each code by label, where a cell's corners differ.
// Labels (2D or 3D) of 0 and at or above the number of labels are outside of all.
void label_cells(const Array& labels, const MutableArray& counts);

}  // namespace msf
