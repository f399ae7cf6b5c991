// Smoothing a histogram until two peaks are left, for the minimum method of Prewitt and Mendelsohn
// (1966).
//
// The mean of three bins is a running sum in float64, stored as float32 after each pass: the
// rounding of SciPy's uniform_filter1d on a float32 histogram, so that hundreds of passes end in
// the same peaks as scikit-image's.
#include <vector>

#include "kernels/histogram_peaks.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Mirrored at the ends: the first and the last bin count twice.
void smooth(float* bins, std::int64_t n, double* line) {
  line[0] = bins[0];
  std::copy_n(bins, n, line + 1);
  line[n + 1] = bins[n - 1];
  double sum = line[0] + line[1] + line[2];
  bins[0] = static_cast<float>(sum / 3);
  for (std::int64_t i = 1; i < n; ++i) {
    sum += line[i + 2] - line[i - 1];
    bins[i] = static_cast<float>(sum / 3);
  }
}

}  // namespace

Peaks smooth_to_two_peaks(const MutableArray& histogram, std::int64_t max_passes) {
  float* bins = histogram.as<float>();
  const std::int64_t n = histogram.size();
  std::vector<double> line(n + 2);
  Peaks peaks{};
  for (peaks.passes = 1;; ++peaks.passes) {
    poll();
    smooth(bins, n, line.data());
    peaks.count = 0;
    bool rising = true;  // a plateau belongs to the slope before it
    for (std::int64_t i = 0; i + 1 < n; ++i) {
      if (rising && bins[i + 1] < bins[i]) {
        rising = false;
        if (peaks.count < 2) (peaks.count == 0 ? peaks.first : peaks.second) = i;
        ++peaks.count;
      } else if (!rising && bins[i + 1] > bins[i]) {
        rising = true;
      }
    }
    if (peaks.count < 3 || peaks.passes == max_passes) return peaks;
  }
}

}  // namespace msf
