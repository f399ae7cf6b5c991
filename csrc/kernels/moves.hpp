#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// Energies of labellings (int32, z y x) of L labels. Costs are int32, int64, float32 or float64: of
// labels `unary` (z y x L), of pairs `pairwise` (L, L) times a weight. Weights: of each pixel to
// the neighbour at an offset (z y x), or one number (no dimension).

// A move gives pixels of label f the label stay[f] or go[f] (int32, L entries each). Its energy is
// binary: gain[p] is added to where p goes, forth[p] (set here) where p stays and its neighbour
// goes. `gain` starts with move_unary; move_pairs adds to it for each offset.
void move_unary(const Array& unary, const Array& labels, const Array& stay, const Array& go,
                const MutableArray& gain);
void move_pairs(const Array& labels, const std::array<int, 3>& offset, const Array& pairwise,
                const Array& weights, const Array& stay, const Array& go, const MutableArray& gain,
                const MutableArray& forth);
// Labels after the move, which goes where `segments` (bool) says; returns how many changed.
std::int64_t move_labels(const MutableArray& labels, const Array& segments, const Array& stay,
                         const Array& go);

// Each pixel in raster order takes the label that is cheapest beside its neighbours' (the lowest of
// equal ones if the current one is dearer). Returns how many changed.
std::int64_t icm_sweep(const Array& unary, const Array& pairwise,
                       const std::vector<std::array<int, 3>>& offsets,
                       const std::vector<Array>& weights, const MutableArray& labels);

}  // namespace msf
