#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// Turns the values of a float64 image, 3 by 3 at least, into the coefficients of the biquadratic
// spline through them.
void spline_coefficients(const MutableArray& image);

enum class SnakeEnd : std::uint8_t { periodic, fixed, free };

struct SnakeRule {
  double alpha, beta, gamma, max_px_move;
  std::int64_t max_num_iter;
  double convergence;
  SnakeEnd start, end;
};

// Moves a snake (float64, (2, points): columns, then rows) down the potential that the coefficients
// describe. Returns the number of iterations. Four points at least.
std::int64_t active_contour(const Array& coefficients, const SnakeRule& rule,
                            const MutableArray& snake);

}  // namespace msf
