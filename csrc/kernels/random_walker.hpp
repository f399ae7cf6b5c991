#pragma once

#include <array>
#include <cstdint>

#include "array.hpp"

namespace msf {

// Mean and standard deviation of all values, not finite if one of them is not.
std::array<double, 2> mean_and_deviation(const Array& image);

enum class WalkSolver : int { plain, diagonal, multigrid };  // what preconditions the iteration

struct RandomWalk {
  std::array<double, 3> factors{};  // of squared differences along z, y, x in the exponent
  double tolerance = 1e-3;          // of the residual's norm, relative to that of the right side
  std::int64_t most_iterations = 0;
  WalkSolver solver = WalkSolver::diagonal;
};

struct RandomWalkReport {
  double least = 0, most = 0;  // probabilities
  std::int64_t iterations = 0;
  bool converged = true;
};

// image: (z, y, x, channels), values times `scale` and not below -1 where the type is a signed
// integer. labels (int32, z y x): 0 unknown, 1 to n seeds, negative: not in the graph; receives the
// label of the greatest probability where unknown. probabilities (optional, float64, label z y x):
// written where unknown.
RandomWalkReport random_walker(const Array& image, double scale, const RandomWalk& walk,
                               const MutableArray& labels, std::int64_t n,
                               const MutableArray* probabilities);

}  // namespace msf
