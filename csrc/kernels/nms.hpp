// Non-maximum suppression of boxes in 2D and 3D.
#pragma once

#include "array.hpp"

namespace msf {

// boxes: (n, 4) x1, y1, x2, y2 or (n, 6) x1, y1, z1, x2, y2, z2; scores: (n); float32 or float64,
// both the same. classes: (n) int64 or null; boxes of different classes do not meet. Writes the
// kept indices to `keep` (n), best score first, equal scores in index order, NaN before all;
// returns how many.
std::int64_t nms(const Array& boxes, const Array& scores, const Array* classes,
                 double iou_threshold, const MutableArray& keep);

struct SoftNms {
  double iou_threshold;    // linear: from where on scores decay
  double sigma;            // Gaussian: its width; 0 means linear
  double score_threshold;  // stops when the best score left is not above
};

// Also writes the decayed scores of the kept boxes to `decayed` (n), in their order.
std::int64_t soft_nms(const Array& boxes, const Array& scores, const SoftNms& rule,
                      const MutableArray& keep, const MutableArray& decayed);

}  // namespace msf
