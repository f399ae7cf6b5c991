#pragma once

#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"

namespace msf {

// One separable part of a filter: weights of distance 0, 1, ... along rows and columns.
struct SeparablePart {
  std::vector<double> down, right;
};

// A complex filter that is symmetric about its centre but for the sign of its imaginary part, as
// sums of separable parts: real those even, then odd along both axes; imaginary those even down and
// odd to the right, then odd down and even to the right. All parts have the same lengths.
struct SymmetricFilter {
  std::vector<SeparablePart> even_even, odd_odd, even_odd, odd_even;
};

// magnitude (rows, columns; float32) = magnitude of the filtered image (2D, float32); mirrored,
// where given: of the image filtered by the filter mirrored left to right.
void symmetric_filter(const Array& image, const SymmetricFilter& filter, BorderMode border,
                      const MutableArray& magnitude, const MutableArray* mirrored);

}  // namespace msf
