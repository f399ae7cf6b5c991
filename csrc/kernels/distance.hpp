#pragma once

#include <vector>

#include "array.hpp"

namespace msf {

// Voxel size along each axis. Where the sizes are whole multiples of a common unit, distances are
// found in integers; `multiple` is empty where they are not.
struct VoxelSize {
  std::vector<double> size;
  std::vector<std::int64_t> multiple;
  double unit = 1;
};

// out (float32 or float64) = distance of each voxel of the mask (bool) to the nearest voxel outside
// it; 0 outside. The mask must not cover the image.
void distance_transform(const Array& mask, const VoxelSize& voxel, const MutableArray& out);

// out = distance to the nearest voxel of the other side, negative inside the mask. Both sides must
// have a voxel.
void signed_distance(const Array& mask, const VoxelSize& voxel, const MutableArray& out);

// indices (int32, (ndim, ...)) = the nearest voxel outside the mask; of several the one whose last
// coordinate is lowest, then the one before it, and so on. `distances` may be null.
void nearest_background(const Array& mask, const VoxelSize& voxel, const MutableArray* distances,
                        const MutableArray& indices);

// out = labels, and in the background the label of the nearest voxel that has one, chosen as in
// nearest_background, where its distance is at most `distance`; else 0. background (bool): where
// labels are 0, not everywhere. out has the labels' dtype and does not overlap them.
void expand_labels(const Array& background, const Array& labels, const VoxelSize& voxel,
                   double distance, const MutableArray& out);

}  // namespace msf
