// Where water flows from each pixel: the first half of a watershed by immersion.
#pragma once

#include <cstdint>

#include "grid_steps.hpp"
#include "key_image.hpp"

namespace msf {

// How far a pixel is from lower ground, as lines need it: 1 with a lower neighbour, else one more
// than its nearest equal neighbour; beyond 1 modulo 3, as neighbours on a plateau differ by at most
// one. on_border is a flag beside it.
namespace distance_code {
inline constexpr std::uint8_t outside_mask = 0, one = 1, two_mod_three = 2, three_mod_three = 3,
                              four_mod_three = 4, in_minimum = 5;
inline constexpr std::uint8_t bits = 7, on_border = 8;
}  // namespace distance_code

// labels[v] = number of v's minimum, > 0, if v is in one; 0 outside the mask; else -(k + 1), where
// k is the step to the neighbour that water flows to. Returns the number of minima, which are
// numbered from 1 by their first pixel in raster order. steps: of the connectivity. distance: null
// or a byte per pixel.
std::int64_t find_descents(const KeyImage& keys, const Array& image, int connectivity,
                           const GridSteps& steps, const std::uint8_t* inside, std::int32_t* labels,
                           std::uint8_t* distance);

}  // namespace msf
