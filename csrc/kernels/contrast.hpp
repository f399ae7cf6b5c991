#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// Images are (z, y, x, channels); an offset is of a neighbour inside for the pixels that count.

// out (float32, z y x) = strength * exp(-|difference|^2 * sharpness) to the neighbour, 0 where
// there is none.
void contrast_weights(const Array& image, const std::array<int, 3>& offset, double strength,
                      double sharpness, const MutableArray& out);

// Sum of |difference|^2 over all pairs of neighbours.
double squared_differences(const Array& image, const std::array<int, 3>& offset);

// What it costs to part neighbouring regions: the sum of the weights, as above, of all pairs of
// neighbours between them. labels: int32 (z y x), not negative. Pairs of labels, the lower first,
// in the order they are met.
struct RegionEdges {
  std::vector<std::int64_t> i, j;
  std::vector<double> weight;
};
RegionEdges region_edges(const Array& image, const Array& labels,
                         const std::vector<std::array<int, 3>>& offsets,
                         const std::vector<double>& strengths, double sharpness);

// out (float32, z y x) = sum over channels c of table[c, bin], the bins of a channel as wide as
// step[c] from first[c] on; values beyond are in the last bins. table: float32 (channels, bins).
void table_costs(const Array& image, const Array& first, const Array& step, const Array& table,
                 const MutableArray& out);

}  // namespace msf
