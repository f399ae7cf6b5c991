#pragma once

#include <cstdint>
#include <memory>

#include "array.hpp"

namespace msf {

// Nodes with a source and a sink: capacities, the flow so far, the minimum cut; what grids and
// other graphs have in common. Arrays are of the graph's capacity type, one value a node; the
// caller sees to it that no sum of capacities overflows. Not for two threads at once.
class FlowGraph {
 public:
  virtual ~FlowGraph() = default;
  virtual std::unique_ptr<FlowGraph> clone() const = 0;

  // Adds capacities from the source and to the sink, of all nodes or of the nodes `at` (flat
  // indices, int64). May be negative: what counts is the difference.
  virtual void add_terminal(const Array& source, const Array& sink, const Array* at) = 0;
  virtual void maxflow() = 0;
  // The flow found so far, as int64 or float64.
  virtual std::int64_t flow_integer() const = 0;
  virtual double flow_float() const = 0;
  virtual void set_flow(std::int64_t integer, double floating) = 0;
  // out (bool) = where a path of capacity left leads to the sink, after maxflow().
  virtual void segments(const MutableArray& out) const = 0;
  // What is left of the terminals; negative: to the sink.
  virtual void excess(const MutableArray& out) const = 0;
};

}  // namespace msf
