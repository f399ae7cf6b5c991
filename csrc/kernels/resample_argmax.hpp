#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "array.hpp"

namespace msf {

// How an axis is resampled. `scale`: input voxels an output voxel covers (with `align_corners`,
// input steps an output step covers). Not `linear`: the nearest input voxel.
struct ResampledAxis {
  double scale = 1;
  bool linear = true;
};

// labels (batch, depth, rows, columns; unsigned) = the class of the largest resampled logit, the
// first of equals; with a `threshold`, 1 + the last class whose logit exceeds it, 0 where none
// does. logits: all values in any order (float16, float32, float64); shape (batch, classes, depth,
// rows, columns) and strides, in elements, say where a value lies. NaN counts as the largest
// number.
void resample_argmax(const Array& logits, const std::array<std::int64_t, 5>& shape,
                     const std::array<std::int64_t, 5>& strides,
                     const std::array<ResampledAxis, 3>& axes, bool align_corners,
                     std::optional<double> threshold, const MutableArray& labels);

}  // namespace msf
