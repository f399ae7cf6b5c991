#pragma once

#include <vector>

#include "array.hpp"

namespace msf {

// Grey levels are uint16, 0 is outside the region. Row i of counts is of level i + 1. All counts
// are integers: the number of threads changes nothing.

// counts (int64, (offsets, levels, levels)) = how often voxels of level i + 1 have the neighbour at
// the offset at level j + 1.
void cooccurrence(const Array& levels, const std::vector<std::vector<std::int64_t>>& offsets,
                  const MutableArray& counts);

// counts (int64, (offsets, levels, longest)) = how many runs of j + 1 voxels of level i + 1 there
// are along the offset, which has a step of 1 or -1 in some axis and none of more.
void run_lengths(const Array& levels, const std::vector<std::vector<std::int64_t>>& offsets,
                 const MutableArray& counts);

// Of the 3^ndim - 1 neighbours; columns are numbers of neighbours from 0 on.
//   voxels       (int64, (levels, 3^ndim)) how many have m neighbours in the region
//   differences  (the same) sum of |m * level - sum of the neighbours' levels| of these
//   dependences  (the same) how many have m neighbours whose level differs by `coarseness` at most
void neighbourhoods(const Array& levels, std::int64_t coarseness, const MutableArray& voxels,
                    const MutableArray& differences, const MutableArray& dependences);

// out (int32) = steps along axes from each voxel of the mask (bool) to the nearest outside, which
// begins behind the image's edge, too; 0 outside.
void border_steps(const Array& mask, const MutableArray& out);

}  // namespace msf
