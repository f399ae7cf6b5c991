#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// Smooths a float32 histogram in place, three bins a pass, until at most two peaks are left or
// max_passes are done. The places are those of the first two peaks.
struct Peaks {
  std::int64_t passes, count, first, second;
};
Peaks smooth_to_two_peaks(const MutableArray& histogram, std::int64_t max_passes);

}  // namespace msf
