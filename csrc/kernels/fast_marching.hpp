#pragma once

#include <cstdint>
#include <vector>

#include "../array.hpp"

namespace msf {

// Arrival times (float32 or float64) of a front that starts at `seeds` (int64, flat) at `times`
// (float64) and moves at `speed`; infinity where it does not come before `latest`. order: 1 or 2.
// Returns the flat index of a speed that is negative or NaN, and then writes nothing; else -1.
std::int64_t fast_marching(const Array& speed, const Array& seeds, const Array& times,
                           const std::vector<double>& spacing, int order, double latest,
                           const MutableArray& out);

}  // namespace msf
