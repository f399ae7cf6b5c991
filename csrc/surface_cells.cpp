// The corners of the cells between voxels, as codes that tables of surfaces are indexed by.
#include "kernels/surface_cells.hpp"

#include <algorithm>
#include <vector>

#include "parallel.hpp"

namespace msf {

void surface_cells(const Array& mask, const MutableArray& codes) {
  const bool flat = mask.ndim == 2;
  const std::int64_t planes = flat ? 1 : mask.shape[0];
  const std::int64_t rows = mask.shape[mask.ndim - 2], columns = mask.shape[mask.ndim - 1];
  const std::int64_t out_rows = (flat ? 1 : planes + 1) * (rows + 1);
  const std::uint8_t* const inside = mask.as<std::uint8_t>();
  parallel_for(out_rows, std::max<std::int64_t>(1, (1 << 16) / (columns + 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 std::vector<std::uint8_t> row(columns + 2);  // both ends stay 0
                 for (std::int64_t i = begin; i < end; ++i) {
                   std::uint8_t* const code = codes.as<std::uint8_t>() + i * (columns + 1);
                   std::fill_n(code, columns + 1, std::uint8_t{0});
                   for (int corner = flat ? 2 : 0; corner < 4;
                        ++corner) {  // of the row before (0) or after (1)
                     const std::int64_t z = flat ? 0 : i / (rows + 1) - 1 + corner / 2;
                     const std::int64_t y = i % (rows + 1) - 1 + corner % 2;
                     if (z < 0 || z >= planes || y < 0 || y >= rows) continue;
                     std::copy_n(inside + (z * rows + y) * columns, columns, row.begin() + 1);
                     const int shift = 2 * (flat ? corner - 2 : corner);
                     for (std::int64_t x = 0; x <= columns; ++x)
                       code[x] |= static_cast<std::uint8_t>((row[x] | row[x + 1] << 1) << shift);
                   }
                 }
               });
}

}  // namespace msf
