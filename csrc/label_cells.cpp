// Cells between voxels counted by label and code, in one pass: nearly all cells lie inside one
// label, which is seen eight bytes at a time, and only the others are looked at corner by corner.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/surface_cells.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// One row of cells, between the rows of voxels before and after it; those outside are all 0.
template <class T, int n>
void count_row(const T* const (&row)[n], std::int64_t columns, std::uint64_t labels,
               std::int64_t* counts) {
  constexpr std::int64_t word = 8 / sizeof(T);
  constexpr std::uint64_t ones = ~std::uint64_t{0} / (~std::uint64_t{0} >> (64 - 8 * sizeof(T)));
  const auto alike = [&](std::int64_t x, T value) {
    std::uint64_t differ = 0;
    for (const T* r : row) {
      std::uint64_t bits;
      std::memcpy(&bits, r + x, 8);
      differ |= bits ^ ones * value;
    }
    return differ == 0;
  };
  T corners[2 * n] = {};  // (row, column before or after)
  bool uniform = true;    // the column before
  for (std::int64_t x = 0; x <= columns; ++x) {
    if (uniform && sizeof(T) < 8)
      while (x + word <= columns && alike(x, corners[0])) x += word;
    bool same = uniform;
    const T before = corners[0];
    uniform = true;
    for (int r = 0; r < n; ++r) {
      corners[2 * r + 1] = x < columns ? row[r][x] : T{0};
      uniform &= corners[2 * r + 1] == corners[1];
    }
    same &= uniform && before == corners[1];
    if (!same)
      for (int k = 0; k < 2 * n; ++k) {
        const T value = corners[k];
        if (value == 0 || value >= labels) continue;
        int code = 0, first = 2 * n;
        for (int c = 2 * n - 1; c >= 0; --c)
          if (corners[c] == value) code |= 1 << c, first = c;
        if (first == k) ++counts[value * (1 << 2 * n) + code];
      }
    for (int r = 0; r < n; ++r) corners[2 * r] = corners[2 * r + 1];
  }
}

template <class T, int n>
void count_cells(const T* image, std::int64_t planes, std::int64_t rows, std::int64_t columns,
                 std::uint64_t labels, std::int64_t begin, std::int64_t end, std::int64_t* counts) {
  const std::vector<T> nothing(columns + 8);
  const T* row[n];
  Ticker tick(16);
  for (std::int64_t i = begin; i < end; ++i, tick()) {
    for (int r = 0; r < n; ++r) {
      const std::int64_t z = n == 2 ? 0 : i / (rows + 1) - 1 + r / 2;
      const std::int64_t y = i % (rows + 1) - 1 + r % 2;
      const bool inside = z >= 0 && z < planes && y >= 0 && y < rows;
      row[r] = inside ? image + (z * rows + y) * columns : nothing.data();
    }
    count_row<T, n>(row, columns, labels, counts);
  }
}

}  // namespace

void label_cells(const Array& labels, const MutableArray& counts) {
  const bool flat = labels.ndim == 2;
  const std::int64_t planes = flat ? 1 : labels.shape[0];
  const std::int64_t rows = labels.shape[labels.ndim - 2];
  const std::int64_t columns = labels.shape[labels.ndim - 1], size = counts.size();
  const std::int64_t out_rows = (flat ? 1 : planes + 1) * (rows + 1);
  std::int64_t* const total = counts.as<std::int64_t>();
  std::fill_n(total, size, 0);
  // A slab counts for itself; its counters take no more than 8 times the voxels it reads.
  const Slabs slabs(out_rows, std::max<std::int64_t>(64, size / (columns + 1)));
  std::vector<std::int64_t> own((slabs.count - 1) * size);
  visit_bits(labels.dtype, [&]<class T>(Type<T>) {
    slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
      const auto count = flat ? count_cells<T, 2> : count_cells<T, 4>;
      count(labels.as<T>(), planes, rows, columns, counts.shape[0], begin, end,
            slab ? own.data() + (slab - 1) * size : total);
    });
  });
  for (std::int64_t slab = 1; slab < slabs.count; ++slab)
    for (std::int64_t i = 0; i < size; ++i) total[i] += own[(slab - 1) * size + i];
}

}  // namespace msf
