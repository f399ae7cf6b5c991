// Of each region, the mask of its class alone.
#pragma once

#include "array.hpp"

namespace msf {

// features: (n, rows, columns, channels), float32 or bfloat16. labels: (n,) int64, valid indices.
// weight: (classes, channels), bias: (classes,), float32, of a convolution of single pixels. out:
// (n, rows, columns) float32: the sigmoid of the output channel of each region's label.
void class_masks(const Array& features, const Array& labels, const Array& weight, const Array& bias,
                 const MutableArray& out);

}  // namespace msf
