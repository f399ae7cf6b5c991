#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "array.hpp"

namespace msf {

// What the edge flow of an image is computed from. Maps of one attribute (a channel; the texture)
// follow each other, and an attribute's weight says how much of the flow is its.
struct FlowAttributes {
  std::vector<int> of_map;  // attribute of each map, from 0, rising
  std::vector<double> map;  // weight of each map within its attribute
  std::vector<double> attribute;
};

// flow (2, rows, columns; float32) = the edge flow vectors (row and column part, per mm) from maps
// (n, rows, columns; float32), already smoothed. offsets: where the prediction error is taken, in
// pixels, for directions evenly spread over half a circle from the column axis on; directions:
// their (row, column) unit vectors in mm. 0 where a map is not finite.
void edge_flow_vectors(const Array& maps, const FlowAttributes& attributes,
                       const std::vector<std::array<std::int64_t, 2>>& offsets,
                       const std::vector<std::array<double, 2>>& directions,
                       const std::array<double, 2>& spacing, const MutableArray& flow);

// Carries the flow on until it stands or `most` steps were made (the return value says how many).
// energy (2, rows, columns; float32): where two flows meet between a pixel and the next in its row
// (first plane), in its column (second), what arrives there from both sides, per pixel times its
// size, else 0. strength (rows, columns; float32): the root of the sum of both squares.
std::int64_t meet_flows(const Array& flow, const std::array<double, 2>& spacing, std::int64_t most,
                        const MutableArray& energy, const MutableArray& strength);

// Makes the flow vectors unit vectors; those of length 0 stay.
void unit_flow(const MutableArray& flow);

// Boundaries run between pixels. In masks (uint8, one for each pixel) bit 0 is the boundary towards
// the next pixel in the row, bit 1 in the column; 2 and 3 the same where it closes a gap.
//
// Boundaries whose energy exceeds `low` and that hang together with one above `high`, and, in
// `rounds` rounds, what closes gaps of at most `reach` pixels at their ends.
void link_boundaries(const Array& energy, double low, double high, double reach, int rounds,
                     const MutableArray& masks);

// labels (int32) = regions that boundaries enclose, numbered from 1 in raster order; returns their
// number. Boundaries that have one region on both sides are cleared.
std::int64_t label_enclosed(const MutableArray& masks, const MutableArray& labels);

// Merges neighbouring regions: first those smaller than `min_size` pixels, then the most similar
// until n_regions are left (0: no more). labels are numbered anew, boundaries within regions
// cleared. maps as of edge_flow_vectors, with the weight of each. Returns the number of regions.
std::int64_t merge_enclosed(const Array& maps, const std::vector<double>& weights,
                            std::int64_t min_size, std::int64_t n_regions,
                            const MutableArray& masks, const MutableArray& labels);

}  // namespace msf
