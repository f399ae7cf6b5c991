// ROI Align (He et al., "Mask R-CNN", ICCV 2017) in 2D and 3D.
#pragma once

#include <vector>

#include "array.hpp"

namespace msf {

struct RoiPooling {
  std::vector<std::int64_t> bins;  // [planes,] rows, columns of a pooled box
  double scale;                    // from the boxes' coordinates to pixels
  std::int64_t samples;            // per bin and axis; <= 0: as many as the bin has pixels
  bool aligned;                    // a pixel's centre is at + 0.5
};

// input: (images, channels, [planes,] rows, columns), or with `channels_last` (images, [planes,]
// rows, columns, channels); float32 or float64, or bfloat16 with channels last. boxes: (n, 1 + 2
// ndim) of the same dtype, or float32, finite: image, then the least x, y[, z], then the most;
// `image` is a valid index. to: for each box, its place in `out`, (.., channels, bins...), or with
// `out_channels_last`, as of bfloat16, (.., bins..., channels), which is written there only.
void roi_align(const Array& input, bool channels_last, const Array& boxes, const Array& to,
               const RoiPooling& pooling, const MutableArray& out, bool out_channels_last);

// The gradient of the input from `gradient`, that of `out`. out: (images, channels, [planes,] rows,
// columns), all of it is written.
void roi_align_backward(const Array& gradient, const Array& boxes, const Array& from,
                        const RoiPooling& pooling, const MutableArray& out);

}  // namespace msf
