#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "array.hpp"

namespace msf {

// The voxel o of the result lies at ``matrix o + offset + displacement(o)`` in the source, all in
// voxels; 2D uses the leading two by two and two numbers. `control`: float32 (D, [planes,] rows,
// columns), a uniform cubic B-spline over the result: intervals + 3 points along an axis.
struct WarpMap {
  std::array<double, 9> matrix;  // row-major, D by D
  std::array<double, 3> offset;
  const Array* control;
};

// Resamples an image (C, [z,] y, x) of uint8, uint16, int16 or float32 to float32 `out`, by linear
// (order 1) or cubic (order 3) interpolation; and its labels of any dtype to their nearest, where
// there are any. Beyond the source lie `fill` and `label_fill`, without `fill` its nearest voxels.
void warp(const Array& image, const WarpMap& map, int order, std::optional<double> fill,
          const MutableArray& out, const Array* label, std::int64_t label_fill,
          const MutableArray* label_out);

// In place on an image (C, z, y, x) of float32: multiplies by exp of a polynomial of degree 3 in
// coordinates from -1 to 1 (20 coefficients of z^i y^j x^k, k fastest, i + j + k <= 3; none: no
// field), then takes each channel's values, as parts of its range, to the power `gamma` (1: none),
// then adds normal noise of deviation `noise` (0: none). Numbers are those of Philox at each
// voxel's index, whatever the threads.
void shade(const MutableArray& image, const std::vector<double>& bias,
           const std::vector<double>& gamma, const std::vector<double>& noise, std::uint64_t seed);

}  // namespace msf
