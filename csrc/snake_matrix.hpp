// The matrix of a snake's inner forces, factorised: rows of five numbers around the diagonal, which
// wrap around in a closed snake. All but the last two points form a band, solved by elimination
// with partial pivoting; the last two, which carry the corners, follow from their 2 by 2 Schur
// complement. O(points) for each solution, where an inverse takes O(points^2).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/active_contour.hpp"

namespace msf {

class SnakeMatrix {
 public:
  using Pair = std::array<double, 2>;  // of two right-hand sides, solved at once

  SnakeMatrix(std::int64_t points, const SnakeRule& rule);
  void solve(std::vector<Pair>& b) const;

 private:
  struct Row {
    std::int64_t first;  // column of the first weight, may be negative: counts from the end
    std::array<double, 5> weights;
  };
  static std::vector<Row> rows_of(std::int64_t n, const SnakeRule& rule);
  void factorise_dense(const std::vector<Row>& rows);
  void factorise(const std::vector<Row>& rows);
  template <class V>
  void solve_band(std::vector<V>& b) const;

  std::int64_t n_, band_;      // points; those of the band, 0 where all is dense
  std::vector<double> dense_;  // the inverse, of few points
  std::vector<std::array<double, 5>> upper_;
  std::vector<std::array<double, 2>> lower_;
  std::vector<std::uint8_t> pivot_;            // rows below that came up
  std::vector<Pair> corner_;                   // band^-1 * the columns of the last two points
  std::vector<std::array<double, 2>> border_;  // rows of the last two points, by column
  std::array<double, 4> schur_;                // inverse of the complement
};

}  // namespace msf
