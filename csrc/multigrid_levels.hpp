// Levels of multigrid.hpp: a graph, groups of its nodes, and the graph of the groups.
#pragma once

#include <cstdint>
#include <vector>

#include "multigrid.hpp"
#include "parallel.hpp"

namespace msf {

inline constexpr std::uint32_t nowhere = UINT32_MAX;
inline constexpr std::int64_t few_rows = 1 << 14;  // not worth a second thread

struct Level {
  WeightedGraph graph;
  std::vector<float> inverse;        // of the diagonal
  std::vector<std::uint32_t> group;  // row of the next level, or nowhere
  std::int64_t rows() const { return graph.rows(); }
};

// The graph and coarser ones, the last with few rows.
std::vector<Level> coarser_levels(WeightedGraph graph);

// Inverse of the coarsest operator, dense, by Gauss-Jordan: it is positive definite.
std::vector<double> inverse_of(const WeightedGraph& graph);

// f(block, begin, end) for all blocks of rows.
template <class F>
void blocks(const WeightedGraph& graph, F&& f) {
  const auto count = static_cast<std::int64_t>(graph.block.size()) - 1;
  const auto run = [&](std::int64_t b) { f(b, graph.block[b], graph.block[b + 1]); };
  if (graph.rows() >= few_rows && count > 1) {
    parallel_tasks(count, run);
  } else {
    for (std::int64_t b = 0; b < count; ++b) run(b);
  }
}

}  // namespace msf
