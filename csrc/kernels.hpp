// Every kernel that Python can call, by family: the engine's table of contents.
//
// Arguments are checked by the Python function of the same family; a kernel may rely on what its
// comment says. Kernels allocate only scratch memory; results go to arrays that Python allocated.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "array.hpp"

namespace msf {

// --- threshold.cpp
// -----------------------------------------------------------------------------------------------
// mask = bounds[0] <= image <= bounds[1]; bounds has two elements of the image's dtype, mask is
// bool.
void in_range(const Array& image, const Array& bounds, const MutableArray& mask);

// --- label.cpp
// -----------------------------------------------------------------------------------------------
// Runs of an image and their components (components.hpp). Pixels equal to `background` (one element
// of the image's dtype; null: there is none) and NaN belong to none; a bool image has one label,
// True, or False where background is True. `wide` forces 64-bit tables, for tests.
class Components;
std::shared_ptr<const Components> label_components(const Array& image, const Array* background,
                                                   int connectivity, bool wide);
std::int64_t count_components(const Components& components);
// labels: any integer dtype that holds the count. blank: it is known to hold zeros.
void write_labels(const Components& components, const MutableArray& labels, bool blank);

// --- threshold_explorer.cpp
// -----------------------------------------------------------------------------------------------
// One entry a level: a voxel whose value is the level, and how many voxels of the order have this
// level or one nearer to the seed's value.
struct Levels {
  std::vector<std::int64_t> voxels, ends;
};
// order (uint32 or int64, one element a voxel) receives the voxels connected to the seed, first
// those that join at the highest threshold (brighter) or at the lowest, then by position. The seed
// is not NaN.
Levels threshold_order(const Array& image, std::int64_t seed, int connectivity, bool brighter,
                       const MutableArray& order);
// mask[v] = value for all v in voxels (uint32 or int64, distinct).
void fill_voxels(const Array& voxels, bool value, const MutableArray& mask);

// --- seeded_region_growing.cpp
// -----------------------------------------------------------------------------------------------
// labels holds the seeds (0: none, no negative label) and receives the regions. Only voxels inside
// the mask, if there is one, are labelled. max_voxels 0: no limit. Returns the labels of the
// regions that max_voxels stopped. Throws std::invalid_argument if a seed is NaN or infinite.
std::vector<std::int64_t> seeded_region_growing(const Array& image, const MutableArray& labels,
                                                const std::optional<Array>& mask, int connectivity,
                                                double max_distance, std::int64_t max_voxels);

// --- region_growing.cpp
// -----------------------------------------------------------------------------------------------
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
