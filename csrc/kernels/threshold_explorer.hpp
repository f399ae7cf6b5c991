#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

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

}  // namespace msf
