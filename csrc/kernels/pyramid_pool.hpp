#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// pooled (planes, b*b summed over all bins b) = the means of input (planes, rows, columns; float32
// or float64) over the cells of a b x b grid, for one b of `bins` after another. Cell i of an axis
// of n covers [floor(i n / b), ceil((i + 1) n / b)), as PyTorch's adaptive pooling.
void pyramid_means(const Array& input, const std::vector<std::int64_t>& bins,
                   const MutableArray& pooled);

// mixed (batch, outputs, cells; cells = size^2) = weight (outputs, channels) times pooled (batch,
// channels, all cells) from its cell `begin` on, plus bias (outputs); not below zero if `relu`.
void pyramid_mix(const Array& pooled, std::int64_t begin, const Array& weight, const Array& bias,
                 bool relu, const MutableArray& mixed);

// output (batch, channels, rows, columns) = input (the same but channels), then the grids' maps
// (batch, outputs of each, size * size) interpolated linearly to the input's size.
void pyramid_concat(const Array& input, const std::vector<Array>& grids,
                    const std::vector<std::int64_t>& sizes, bool align_corners,
                    const MutableArray& output);

}  // namespace msf
