#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

struct ChanVeseRule {
  double mu, lambda1, lambda2, dt, tolerance;
  std::int64_t max_num_iter;
};

// Evolves phi, of the image's shape and dtype (float32 or float64, 2D), until an iteration changes
// it by at most `tolerance` (root mean square). Returns the energy before each iteration, or
// nothing if `with_energies` is false.
std::vector<double> chan_vese(const Array& image, const ChanVeseRule& rule, bool with_energies,
                              const MutableArray& phi);

}  // namespace msf
