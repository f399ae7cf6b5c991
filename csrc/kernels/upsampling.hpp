#pragma once

#include <array>
#include <cstdint>

#include "array.hpp"

namespace msf {

// output (batch, outputs, doubled depth or 1, 2 rows, 2 columns) = input (batch, channels, depth,
// rows, columns; float32 or float64), every voxel times weight (channels, outputs, 1 or 2, 2, 2)
// in the 4 or 8 voxels it becomes, summed over channels, plus bias (outputs).
void transposed_conv2x2(const Array& input, const Array& weight, const Array& bias,
                        const MutableArray& output);

// output (batch, channels of both, depth, rows, columns) = the part of `skip` (batch, channels,
// larger depth, rows, columns) from `at` on, then input (batch, channels, depth, rows, columns);
// one type of any kind.
void crop_concat(const Array& skip, const Array& input, const std::array<std::int64_t, 3>& at,
                 const MutableArray& output);

}  // namespace msf
