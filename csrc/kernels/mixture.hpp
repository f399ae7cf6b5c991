#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// Mixtures of normal distributions of pixels, C channels, the last axis of the image. A component
// is a row of 1 + C + C (C + 1) / 2 numbers (float64).

// A component is: a constant, the mean, the lower triangle L by rows; a pixel v costs the constant
// plus |L (v - mean)|^2 / 2. costs (float32): of the cheapest component; components (optional,
// uint8): which that is.
void mixture_costs(const Array& image, const Array& mixture, const MutableArray& costs,
                   const MutableArray* components);

// sums: for each component the number of pixels, the sum of their values minus `origin` (C numbers)
// and of products of these, lower triangle by rows. components: uint8, beyond the last row: none.
void mixture_sums(const Array& image, const Array& components, const Array& origin,
                  const MutableArray& sums);

}  // namespace msf
