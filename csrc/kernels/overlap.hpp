#pragma once

#include <array>
#include <vector>

#include "array.hpp"

namespace msf {

// Voxels that are not 0 in both, in a alone, in b alone. Same shape, items of the same size, no
// floats.
std::array<std::int64_t, 3> overlap_counts(const Array& a, const Array& b);

// How often each pair of values occurs, in no order; values as unsigned integers of their width.
struct LabelPairs {
  std::vector<std::uint64_t> a, b;
  std::vector<std::int64_t> count;
};
LabelPairs label_pairs(const Array& a, const Array& b);

}  // namespace msf
