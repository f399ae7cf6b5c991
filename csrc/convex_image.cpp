// The pixels inside the convex hull of a mask, row by row, in integers: a pixel on the hull's
// border is inside whatever the border's slope.
#include <algorithm>
#include <cstdint>

#include "convex_hull.hpp"
#include "kernels/regions.hpp"

namespace msf {
namespace {

// Quotient towards minus infinity.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

}  // namespace

void convex_image(const Array& mask, const MutableArray& out) {
  const std::int64_t rows = mask.shape[0], columns = mask.shape[1];
  Polygon ends;
  for (std::int64_t y = 0; y < rows; ++y) {
    const std::uint8_t* const row = mask.as<std::uint8_t>() + y * columns;
    const std::int64_t first = std::find(row, row + columns, 1) - row;
    if (first == columns) continue;
    std::int64_t last = columns - 1;
    while (!row[last]) --last;
    ends.push_back({2 * y, 2 * first});
    ends.push_back({2 * y, 2 * last});
  }
  const Polygon polygon = widened(hull(ends));
  for (std::int64_t y = 0; y < rows; ++y) {
    // Where the row's line enters and leaves, in pixels: rounded to those inside.
    std::int64_t first = columns, last = -1;
    for (std::size_t i = 0; i < polygon.size(); ++i) {
      const Point &a = polygon[i], &b = polygon[i + 1 < polygon.size() ? i + 1 : 0];
      const std::int64_t from = a.y - 2 * y, to = b.y - 2 * y;
      if ((from > 0 && to > 0) || (from < 0 && to < 0)) continue;
      if (from == to) {
        first = std::min(first, -floor_divide(-std::min(a.x, b.x), 2));
        last = std::max(last, floor_divide(std::max(a.x, b.x), 2));
        continue;
      }
      // x = (a.x to - b.x from) / (to - from), twice the column
      const std::int64_t sign = to > from ? 1 : -1;
      const std::int64_t over = sign * (a.x * to - b.x * from), under = sign * (to - from);
      first = std::min(first, -floor_divide(-over, 2 * under));
      last = std::max(last, floor_divide(over, 2 * under));
    }
    std::uint8_t* const row = out.as<std::uint8_t>() + y * columns;
    std::fill_n(row, columns, std::uint8_t{0});
    if (first <= last)
      std::fill(row + std::max<std::int64_t>(0, first), row + std::min(columns, last + 1), 1);
  }
}

}  // namespace msf
