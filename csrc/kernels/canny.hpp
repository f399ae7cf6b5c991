#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"

namespace msf {

// Canny's edges of 2D images of one shape and dtype; all memory is allocated when it is made. A
// call must not run beside another of the same plan.
class CannyPlan {
 public:
  virtual ~CannyPlan() = default;
  // out (bool) = edges: local maxima of the gradient of at least `low` that are connected with one
  // of at least `high`. `mask` (bool) may be null.
  virtual void edges(const Array& image, const Array* mask, double low, double high,
                     const MutableArray& out) = 0;
  // out (float32 or float64, as the plan computes) = magnitude of the gradient.
  virtual void magnitude(const Array& image, const Array* mask, const MutableArray& out) = 0;
};

// What scikit-image computes before it looks for edges.
struct CannySmoothing {
  double scale = 1;                  // pixels are first multiplied by it, see separable_filter
  std::vector<double> down, across;  // halves of the Gaussians, the centre first
  BorderMode border = BorderMode::constant;
  double cval = 0;
  std::array<double, 2> per_step{1, 1};  // differences along the axes are multiplied by it
};

// In scikit-image's arithmetic and order: float32 (sums in float64) or float64.
std::unique_ptr<CannyPlan> canny_plan(std::int64_t rows, std::int64_t columns, bool float32,
                                      const CannySmoothing& smoothing);

// By OpenCV's definition, of uint8 images, without a mask; `low` and `high` as cv2.Canny takes
// them. squares: its L2gradient.
std::unique_ptr<CannyPlan> canny_opencv_plan(std::int64_t rows, std::int64_t columns, bool squares);

// By ITK's definition, of a smoothed image (float32 or float64, no axis of one pixel, not empty):
// out (bool) = edges whose gradient exceeds `low`, connected with one that exceeds `high`. `inside`
// (bool) may be null. per_mm: 1 / voxel size, by axis.
void canny_crossings(const Array& smooth, const std::vector<double>& per_mm, double low,
                     double high, const Array* inside, const MutableArray& out);
// out (dtype of smooth) = length of its gradient.
void canny_magnitude(const Array& smooth, const std::vector<double>& per_mm,
                     const MutableArray& out);

}  // namespace msf
