#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// Merges of basins in the order of the height at which water passes between them, of equally high
// passes by basin numbers: a minimum spanning forest of the basins. All three have one entry a
// merge; first < second are basins on either side, height is the higher of the two pixels.
struct Merges {
  std::vector<std::int32_t> first, second;
  std::vector<double> height;
};
// labels: int32 as watershed_immersion makes them, `basins` of them; the image's connectivity.
Merges merge_basins(const Array& image, const Array& labels, std::int64_t basins, int connectivity);

// By basin, from 0 for label 1: its first lowest pixel (flat index) and its number of pixels,
// int64.
void measure_basins(const Array& image, const Array& labels, const MutableArray& lowest,
                    const MutableArray& sizes);

enum class Attribute { dynamics, area, volume };
// Merges two components after the other (first, second: int32 labels from 1, a forest; height:
// float64). The one with less of the attribute ends: saliency of the merge and extinction of its
// minimum are that amount (of equal ones the one whose minimum has the higher label ends). What
// never ends has extinction +inf. depths, areas: float64 by basin: the height of its minimum, its
// size. The volume grows by the area of the basins flooded so far for each unit that water rises.
void extinguish(const Array& first, const Array& second, const Array& height, Attribute attribute,
                const Array& depths, const Array& areas, const MutableArray& saliency,
                const MutableArray& extinction);

// table (int32, one entry a label from 0) = region of each label after merging the pairs; regions
// are numbered from 1 by their lowest label, label 0 stays. Returns the number of regions.
std::int64_t merge_labels(const Array& first, const Array& second, const MutableArray& table);

// out = table[labels], both int32; with `image` only on each label's minimum (the pixels as low as
// `lowest`), else 0.
void map_labels(const Array& labels, const Array& table, const MutableArray& out);
void map_minima(const Array& image, const Array& labels, const Array& lowest, const Array& table,
                const MutableArray& out);

}  // namespace msf
