#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"

namespace msf {

// Thresholds from a window of odd sizes `block` (one per axis) around each pixel. `out` has the
// image's shape; float64 (float32 for float16 and float32 images): it receives the thresholds;
// bool: the mask image > threshold. Positions outside the image count as `border` says; as `cval`
// if constant.
enum class BorderMode : std::uint8_t { reflect, constant, nearest, mirror, wrap };

// Mean of the window, minus offset.
void local_mean(const Array& image, const std::vector<std::int64_t>& block, BorderMode border,
                double cval, double offset, const MutableArray& out);
// Mean weighted by a Gaussian, minus offset; per axis the weights of distance 0, 1, ... (their
// number is the block's size / 2 + 1).
void local_gaussian(const Array& image, const std::vector<std::vector<double>>& half_weights,
                    BorderMode border, double cval, double offset, const MutableArray& out);
// Median of the window, minus offset; NaN where the window holds NaN.
void local_median(const Array& image, const std::vector<std::int64_t>& block, BorderMode border,
                  double cval, double offset, const MutableArray& out);
// mean - k * std, or with `sauvola` mean * (1 + k * (std / r - 1)); border mirror.
void local_mean_std(const Array& image, const std::vector<std::int64_t>& block, double k, double r,
                    bool sauvola, const MutableArray& out);

}  // namespace msf
