// Spline coefficients of an image: one tridiagonal system along each axis, solved by elimination
// without pivots (the matrix is diagonally dominant but for two rows, whose pivots are positive).
#include "spline.hpp"

#include <vector>

#include "kernels/active_contour.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Factors of the matrix of spline values at the points.
struct Elimination {
  std::vector<double> below, inverse, above;

  explicit Elimination(std::int64_t n) : below(n, 0), inverse(n, 1), above(n, 0) {
    const QuadraticSpline spline(n);
    for (std::int64_t i = 1; i < n - 1; ++i) {  // the ends are values themselves
      const auto w = spline.at(static_cast<double>(i));
      const auto weight = [&](std::int64_t k) {
        const std::int64_t at = k - w.first;
        return at >= 0 && at < 3 ? w.value[at] : 0.0;
      };
      below[i] = weight(i - 1);
      inverse[i] = 1 / (weight(i) - below[i] * above[i - 1]);
      above[i] = weight(i + 1) * inverse[i];
    }
  }
};

}  // namespace

void spline_coefficients(const MutableArray& image) {
  const std::int64_t rows = image.shape[0], columns = image.shape[1];
  double* const v = image.as<double>();
  const Elimination across(columns), down(rows);
  parallel_for(rows, std::max<std::int64_t>(1, (1 << 14) / columns),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t y = begin; y < end; ++y) {
                   double* const row = v + y * columns;
                   for (std::int64_t x = 1; x < columns; ++x)
                     row[x] = (row[x] - across.below[x] * row[x - 1]) * across.inverse[x];
                   for (std::int64_t x = columns - 1; x-- > 0;)
                     row[x] -= across.above[x] * row[x + 1];
                 }
               });
  parallel_for(columns, 64, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin;
    for (std::int64_t y = 1; y < rows; ++y) {
      double* const __restrict row = v + y * columns + begin;
      const double* const __restrict before = row - columns;
      for (std::int64_t x = 0; x < n; ++x)
        row[x] = (row[x] - down.below[y] * before[x]) * down.inverse[y];
    }
    for (std::int64_t y = rows - 1; y-- > 0;) {
      double* const __restrict row = v + y * columns + begin;
      const double* const __restrict after = row + columns;
      for (std::int64_t x = 0; x < n; ++x) row[x] -= down.above[y] * after[x];
    }
  });
}

}  // namespace msf
