#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "array.hpp"

namespace msf {

// labels holds the seeds (0: none, no negative label) and receives the regions. Only voxels inside
// the mask, if there is one, are labelled. max_voxels 0: no limit. Returns the labels of the
// regions that max_voxels stopped. Throws std::invalid_argument if a seed is NaN or infinite.
std::vector<std::int64_t> seeded_region_growing(const Array& image, const MutableArray& labels,
                                                const std::optional<Array>& mask, int connectivity,
                                                double max_distance, std::int64_t max_voxels);

}  // namespace msf
