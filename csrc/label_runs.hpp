// Runs of equal labels along the last axis, with the indices of their line along the others.
#pragma once

#include <algorithm>
#include <vector>

#include "array.hpp"
#include "parallel.hpp"

namespace msf {

// f(label, line, begin, end, index) for every run of a label below `labels` and not 0 in the lines
// [first, last); `index` are the line's indices along the axes but the last.
template <class F>
void for_each_label_run(const Array& image, std::uint64_t labels, std::int64_t first,
                        std::int64_t last, F&& f) {
  if (first >= last) return;
  const int outer = image.ndim - 1;
  const std::int64_t columns = image.shape[outer];
  std::vector<std::int64_t> index(outer);
  for (std::int64_t rest = first, axis = outer; axis-- > 0; rest /= image.shape[axis])
    index[axis] = rest % image.shape[axis];
  visit_bits(image.dtype, [&]<class T>(Type<T>) {
    Ticker tick(64);
    for (std::int64_t line = first; line < last; ++line, tick()) {
      const T* const row = image.as<T>() + line * columns;
      for (std::int64_t x = 0, start = 0; x < columns; start = x) {
        const T label = row[start];
        while (++x < columns && row[x] == label) {
        }
        if (label != 0 && label < labels) f(std::int64_t(label), line, start, x, index);
      }
      for (int axis = outer; axis-- > 0;) {
        if (++index[axis] < image.shape[axis]) break;
        index[axis] = 0;
      }
    }
  });
}

inline std::int64_t lines_of(const Array& image) {
  const std::int64_t columns = image.shape[image.ndim - 1];
  return columns ? image.size() / columns : 0;
}

// Slabs of lines, few enough that counters of `bytes` for each take at most a byte per voxel.
inline Slabs label_slabs(const Array& image, std::int64_t bytes) {
  const std::int64_t columns = std::max<std::int64_t>(1, image.shape[image.ndim - 1]);
  return Slabs(lines_of(image), (std::max<std::int64_t>(1 << 16, bytes) + columns - 1) / columns);
}

}  // namespace msf
