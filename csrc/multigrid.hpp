// Multigrid for the Laplacian of a weighted graph with grounded nodes, as a preconditioner.
//
// Aggregation as in Notay (2010), An aggregation-based algebraic multigrid method, ETNA 37:123-146:
// nodes are paired along their heaviest edges, pairs again, and each group is one node of the next
// coarser graph, whose edges are sums. A group has no edge that is weak beside its nodes' others,
// so that contrasts of 1e10 between weights do no harm. Cycles are K-cycles (Notay and Vassilevski
// 2008): a coarse system is solved by at most two steps of conjugate gradients, preconditioned by
// the next level.
//
// The smoother is Gauss-Seidel, forward before and backward after the coarse level, in blocks of
// rows that are the same for any number of threads; between blocks it is Jacobi. An operator is
// kept as edges and excess, sum_j w_ij (x_i - x_j) + e_i x_i: nothing cancels, so that its weights
// may be float32. Vectors may not: a region that weights of 1e-10 tie to the rest takes steps of
// 1e10.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace msf {

struct WeightedGraph {
  std::vector<std::uint32_t> first;   // of a row's edges, and one past the last row's
  std::vector<std::uint32_t> column;  // ascending in a row
  std::vector<float> weight;
  std::vector<float> excess;         // weight to the ground
  std::vector<std::uint32_t> block;  // first rows of blocks, and the number of rows
  std::int64_t rows() const { return static_cast<std::int64_t>(excess.size()); }
};

// Solves the systems of `count` (1, 2 or 4) right sides, interleaved (row, side), to a residual of
// norm less than enough[side]. `x` receives the solutions. Returns iterations, or -1 if there were
// `most` of them.
class Multigrid {
 public:
  explicit Multigrid(WeightedGraph graph);
  ~Multigrid();
  std::int64_t solve(int count, const double* b, const double* enough, std::int64_t most,
                     double* x);

 private:
  struct Levels;
  std::unique_ptr<Levels> levels_;
};

}  // namespace msf
