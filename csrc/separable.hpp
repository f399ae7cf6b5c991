// The ways to apply a Separable filter.
#pragma once

#include "kernels/separable.hpp"

namespace msf {

// Gradients of at most three axes by kernels of 3 or 5 taps: bound by memory (gradient.cpp). False:
// the filter is not of this kind, nothing was done.
bool short_gradient(const Array& image, double scale, const Separable& filter,
                    const MutableArray& out);
// Magnitudes of 8-bit images in two dimensions, in whole numbers (gradient_bytes.cpp); likewise.
bool byte_gradient(const Array& image, double scale, const Separable& filter,
                   const MutableArray& out);
// Anything else: bound by arithmetic (separable.cpp).
void long_filter(const Array& image, double scale, const Separable& filter,
                 const MutableArray& out);

}  // namespace msf
