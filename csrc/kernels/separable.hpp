#pragma once

#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"

namespace msf {

// Weights of distance 0, 1, ... from the pixel; odd: those before it have the other sign.
struct Taps {
  std::vector<double> half;
  bool odd = false;
};

// A sum of separable filters: term i applies `derive` along the axis terms[i] and `smooth` along
// all others. Without terms: `smooth` along all axes.
struct Separable {
  std::vector<Taps> smooth, derive;  // one per axis
  std::vector<int> terms;
  // sqrt(sum of squared terms) / sqrt(over), else the sum. Roots apart as in scikit-image: a step
  // of one in two dimensions has a magnitude that sqrt(2) turns into one.
  bool magnitude = false;
  double over = 1;
  std::vector<BorderMode> border;  // per axis
  double cval = 0;
  // Border constant. True: the image is surrounded by cval. False: what enters each pass is, which
  // is SciPy's gaussian_filter with derivatives.
  bool surround = true;
  // Odd kernels skip the pixel itself; else it counts, times 0, so its NaN or infinity spreads.
  bool skip_centre = true;
  bool round = false;  // values in float64 are rounded to float32 between the axes
};

// out (float32 or float64, the image's shape) = the filtered image; pixels are first multiplied by
// `scale` and, if signed integers and scale is not 1, raised to -1 at least.
void separable_filter(const Array& image, double scale, const Separable& filter,
                      const MutableArray& out);

}  // namespace msf
