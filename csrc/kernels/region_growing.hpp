#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// (value, region mean, region standard deviation, seed value) -> 0 no, 1 yes, else: it failed.
using Criterion = std::uint8_t (*)(double, double, double, double);
struct GrowthLimits {
  std::int64_t max_voxels, max_growth;  // 0: none
};
enum class GrowthLimit { voxels, growth };
// A region that a limit stopped: its label, the step undone, its voxels, whether by max_growth.
using Leak = std::array<std::int64_t, 4>;
// Seeds of region i are seeds[ends[i - 1]] to seeds[ends[i] - 1], its label values[i]; all int64.
// labels (bool or int32) holds zeros and receives the regions.
std::vector<Leak> region_growing(const Array& image, const Array& seeds, const Array& ends,
                                 const Array& values, int connectivity, Criterion criterion,
                                 GrowthLimits limits, const MutableArray& labels);

}  // namespace msf
