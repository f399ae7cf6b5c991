#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"
#include "kernels/flow_graph.hpp"

namespace msf {

// A grid of pixels, arrays in raster order.
class GridGraph : public FlowGraph {
 public:
  // Adds capacities of the arcs from each pixel to the one at `direction` (2 k: positive offset k,
  // 2 k + 1: its opposite) and back; the value is at the pixel where the arc starts, for `reverse`
  // where it ends. An array of no dimension holds the value of all.
  virtual void add_edges(int direction, const Array& weights, const Array& reverse) = 0;
  // Like add_edges, for changes of either sign. The flow stays as far as capacities allow. Where
  // both ways of an edge together would have less than nothing, they have nothing.
  virtual void change_edges(int direction, const Array& weights, const Array& reverse) = 0;
  // What is left of the arcs in a direction.
  virtual void residual(int direction, const MutableArray& out) const = 0;
};

// shape: one to three axes. offsets: the positive ones, at most 13, with as many numbers.
// Throws std::length_error beyond 2^31 nodes.
std::unique_ptr<GridGraph> make_grid_graph(DType capacity, const std::vector<std::int64_t>& shape,
                                           const std::vector<std::vector<int>>& offsets);

struct CapacityRange {
  double least = 0, most = 0;  // 0 among them; where there is NaN it may be either
  bool nan = false;
};
CapacityRange capacity_range(const Array& capacities);

}  // namespace msf
