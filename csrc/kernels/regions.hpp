#pragma once

#include <vector>

#include "array.hpp"

namespace msf {

// Labels of 0 and at or above the number of labels are outside of all.

// What the place of its voxels says of each label, in one pass.
//   boxes   (int64, (labels, 2, ndim)) first index and one behind the last; 0 without voxels
//   sums    (int64, (labels, 1 + ndim)) number of voxels, sum of their indices
//   moments (float64, (labels, ndim, ndim)) central second moments: sums of products of the
//           indices' distances from their mean, found in integers and rounded once
void region_table(const Array& labels, const MutableArray& boxes, const MutableArray& sums,
                  const MutableArray& moments);

// values = those of the image, label after label, in raster order within each; starts (int64,
// (labels + 1,)) = the place of each label's first value, as the numbers of voxels say.
void gather_values(const Array& labels, const Array& image, const Array& starts,
                   const MutableArray& values);

// out (float64, (labels, 20)) = statistics of values between two starts, NaN left out:
// number, mean, variance, skewness, excess kurtosis, median, minimum, 10th and 90th percentile,
// maximum, interquartile range, range, mean absolute deviation from the mean, the same between the
// 10th and 90th percentile, median absolute deviation from the median (sum of distances over n),
// coefficient of variation, quartile coefficient of dispersion, energy, root mean square, standard
// deviation.
void first_order(const Array& values, const Array& starts, const MutableArray& out);

// out (float64, (labels, 1 + ndim)) = sum of the image's values, and of their products with each
// index; NaN counts 0. The same whatever the number of threads.
void weighted_sums(const Array& labels, const Array& image, const MutableArray& out);

// out (float64, (labels, 12)): diameters in mm between outer faces of voxels, of labels of at least
// one voxel: the largest of all; the largest within a plane, the widest across it there, the plane,
// and as (row, column) both ends of the first, both ends of the second. 2D or 3D.
void diameters(const Array& labels, const std::vector<double>& spacing, const MutableArray& out);

// out (bool) = the pixels of a 2D mask (bool, not empty) whose centres are in the convex hull of
// the middles of the mask's faces, its border included.
void convex_image(const Array& mask, const MutableArray& out);

}  // namespace msf
