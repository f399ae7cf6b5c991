#pragma once

#include <cstdint>
#include <memory>

#include "array.hpp"
#include "kernels/flow_graph.hpp"

namespace msf {

// Any edges between nodes. Capacities are int64 or float64, nodes int64 within range.
class SparseGraph : public FlowGraph {
 public:
  virtual std::int64_t nodes() const = 0;
  virtual std::int64_t edges() const = 0;
  virtual void add_nodes(std::int64_t n) = 0;
  // One edge for each entry: from i to j, and back. Throws std::length_error beyond 2^31.
  virtual void add_edges(const Array& i, const Array& j, const Array& capacity,
                         const Array& reverse) = 0;
  // Terminal capacities too large to be cut: mask is 1 for the source, 2 for the sink (uint8).
  // Throws std::overflow_error, before any change, where a sum has no int64.
  virtual void tie(const Array& mask) = 0;
  // The edges, with what is left of their capacities and of the ways back.
  virtual void residual(const MutableArray& i, const MutableArray& j, const MutableArray& capacity,
                        const MutableArray& reverse) const = 0;
};

std::unique_ptr<SparseGraph> make_sparse_graph(DType capacity, std::int64_t nodes);

}  // namespace msf
