#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"

namespace msf {

// A grid of pixels with a source and a sink: capacities, the flow so far, the minimum cut. Arrays
// are of the graph's capacity type and hold one value a pixel in raster order; the caller sees to
// it that no sum of capacities overflows. Not for two threads at once.
class GridGraph {
 public:
  virtual ~GridGraph() = default;
  virtual std::unique_ptr<GridGraph> clone() const = 0;

  // Adds capacities from the source and to the sink, of all pixels or of the pixels `at` (flat
  // indices, int64). May be negative: what counts is the difference.
  virtual void add_terminal(const Array& source, const Array& sink, const Array* at) = 0;
  // Adds capacities of the arcs from each pixel to the one at `direction` (2 k: positive offset k,
  // 2 k + 1: its opposite) and back; the value is at the pixel where the arc starts, for `reverse`
  // where it ends. An array of no dimension holds the value of all.
  virtual void add_edges(int direction, const Array& weights, const Array& reverse) = 0;
  virtual void maxflow() = 0;
  // The flow found so far, as int64 or float64.
  virtual std::int64_t flow_integer() const = 0;
  virtual double flow_float() const = 0;
  virtual void set_flow(std::int64_t integer, double floating) = 0;
  // out (bool) = where a path of capacity left leads to the sink, after maxflow().
  virtual void segments(const MutableArray& out) const = 0;
  // What is left: of the terminals (negative: to the sink), of the arcs in a direction.
  virtual void excess(const MutableArray& out) const = 0;
  virtual void residual(int direction, const MutableArray& out) const = 0;
};

// shape: one to three axes. offsets: the positive ones, at most 13, with as many numbers.
// Throws std::length_error beyond 2^31 nodes.
std::unique_ptr<GridGraph> make_grid_graph(DType capacity, const std::vector<std::int64_t>& shape,
                                           const std::vector<std::vector<int>>& offsets);

struct CapacityRange {
  double least = 0, most = 0;  // of those that are not NaN; 0 for none
  bool nan = false;
};
CapacityRange capacity_range(const Array& capacities);

}  // namespace msf
