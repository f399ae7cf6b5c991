#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "array.hpp"

namespace msf {

// The steps to the neighbours of a voxel, image.ndim coordinates each.
using Steps = std::vector<std::int64_t>;

// labels (bool or integer) receives the basins of the markers, which may lie there. Voxels outside
// the mask, if there is one, and NaN become 0. wide: 64-bit indices though 32 would do, for tests.
void watershed(const Array& image, const std::optional<Array>& mask, const Steps& steps, bool lines,
               bool wide, const Array& markers, const MutableArray& labels);

// The same with the distance to the marker in the cost, compactness > 0; steps in the order in
// which neighbours enter the queue.
void watershed_compact(const Array& image, const std::optional<Array>& mask, const Steps& steps,
                       double compactness, const Array& markers, const MutableArray& labels);

}  // namespace msf
