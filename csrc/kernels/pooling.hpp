#pragma once

#include <array>
#include <cstdint>

#include "array.hpp"

namespace msf {

// Windows along one axis: window o covers inputs o * stride - padding + k * dilation, k < kernel.
struct Windows {
  std::int64_t kernel = 1, stride = 1, padding = 0, dilation = 1;
};

// values (planes, depth, rows, columns) = the largest value in each window of `input` (same axes;
// float32 or float64), NaN if there is one; indices (int64) = where it is in its plane's volume:
// the first of equals, the last NaN. Every window holds an input.
void max_pool(const Array& input, const std::array<Windows, 3>& windows, const MutableArray& values,
              const MutableArray& indices);

// output (planes, m) = zeros, but values (planes, rows, columns; any type) at indices (as values;
// int64); of equal indices the last counts. Quick where m is a multiple of rows and every row of
// values stays in its share of m. Throws std::invalid_argument where an index is not below m.
void max_unpool(const Array& values, const Array& indices, const MutableArray& output);

}  // namespace msf
