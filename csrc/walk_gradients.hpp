// Conjugate gradients for the Laplacian of a grid's unknown pixels, up to four right sides at once.
//
// Unknown pixels are nodes one after another, known ones take neither time nor memory. A vector has
// a node's right sides side by side, so that a weight and a neighbour's index are read once for all
// of them. The Laplacian is applied to differences, p_i - p_j, so that rows sum to zero whatever
// the weights are rounded to. A right side that is solved stands still; when half of them are, the
// others go on in vectors half as wide. Sums are by pieces, then over pieces in order: they do not
// depend on threads.
#pragma once

#include <cstdint>
#include <vector>

namespace msf {

// Neighbours along z and y, the node itself where there is none; along x they are the nodes before
// and after. Weights are of the edges to the nodes after along z, y and x, 0 where there is none.
struct WalkNode {
  std::uint32_t before[2], after[2];
  float weight[3];
  float excess;  // weight to seeds
};

struct WalkSeed {  // an edge from an unknown pixel to a seed
  std::int64_t pixel;
  std::int32_t label;
  float weight;
};

struct WalkSystem {
  std::vector<WalkNode> nodes;  // and one before the first
  std::vector<float> inverse;   // what preconditions
  std::vector<WalkSeed> seeds;  // `pixel` is the node
  double tolerance;             // of the residual's norm, relative to the right side's
  std::int64_t most_iterations;
  std::int64_t size() const { return static_cast<std::int64_t>(inverse.size()); }
};

class WalkSolutions {
 public:
  // x: the solution for a label, a node's value `stride` after that of the node before.
  virtual void take(std::int32_t label, const double* x, int stride) = 0;

 protected:
  ~WalkSolutions() = default;
};

// Solves for labels `first` to first + count - 1, at most four. Returns iterations, or -1 if there
// were the most.
std::int64_t solve_walk(const WalkSystem& system, std::int32_t first, int count,
                        WalkSolutions& solutions);

}  // namespace msf
