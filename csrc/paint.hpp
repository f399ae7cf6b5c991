// Writes one value per run over an image, in one streaming pass.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runs.hpp"

namespace msf {

// out[begin, end) = value. Writes whole vectors, so up to 32 bytes past `end` as long as they lie
// before `safe`: in noise most runs are shorter than a vector, and one store without a loop costs a
// fraction of a loop that exits at an unpredictable point.
template <class T>
inline void fill_forward(T* out, std::int64_t begin, std::int64_t end, std::int64_t safe, T value) {
  constexpr std::int64_t step = 32 / sizeof(T);
  if (end + step > safe) {
    for (; begin < end; ++begin) out[begin] = value;
    return;
  }
  for (; begin < end; begin += step)
    for (std::int64_t k = 0; k < step; ++k) out[begin + k] = value;
}

// out = value(run) on runs and gap between them; out has the shape of the image. `blank`: out holds
// gap everywhere already (fresh zero pages), so that long gaps need not be touched.
template <class T, class Value>
void paint(const Runs& runs, T* out, T gap, bool blank, Value&& value) {
  constexpr std::int64_t step = 32 / sizeof(T);
  const std::int64_t length = runs.length();
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(length, 1));
  parallel_for(runs.rows(), grain, [&](std::int64_t first_row, std::int64_t end_row) {
    for (std::int64_t row = first_row; row < end_row; ++row) {
      // What runs past the end of a segment is overwritten by the next one; within the task also
      // across rows, as they come in order.
      const std::int64_t safe = (end_row - row) * length;
      T* const target = out + row * length;
      if (blank && runs.empty(row) && (row == first_row || runs.empty(row - 1))) continue;
      runs.for_each<true>(row, [&](std::int64_t begin, std::int64_t end, std::int64_t run) {
        if (run < 0 && blank) end = std::min(end, begin + step);  // what the last run overran
        fill_forward(target, begin, end, safe, run < 0 ? gap : static_cast<T>(value(run)));
      });
    }
  });
}

}  // namespace msf
