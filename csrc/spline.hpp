// The quadratic spline through values at 0, 1, ... n - 1: knots half way between the points, but
// none beside the ends (de Boor's choice, and FITPACK's, which makes as many coefficients as there
// are points). Beyond the ends the value at the end counts.
#pragma once

#include <algorithm>
#include <cstdint>

namespace msf {

class QuadraticSpline {
 public:
  explicit QuadraticSpline(std::int64_t n) : n_(n) {}

  // The coefficients that count at x are first, first + 1, first + 2.
  struct Weights {
    std::int64_t first;
    double value[3], slope[3];
  };
  Weights at(double x) const {
    x = std::clamp(x, 0.0, static_cast<double>(n_ - 1));
    const std::int64_t i =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(x + 0.5) - 1, 0, n_ - 3);
    const double t1 = knot(i + 1), t2 = knot(i + 2), t3 = knot(i + 3), t4 = knot(i + 4);
    const double a = (t3 - x) / (t3 - t2), b = (x - t2) / (t3 - t2);
    return {i,
            {(t3 - x) / (t3 - t1) * a, (x - t1) / (t3 - t1) * a + (t4 - x) / (t4 - t2) * b,
             (x - t2) / (t4 - t2) * b},
            {-2 / (t3 - t1) * a, 2 / (t3 - t1) * a - 2 / (t4 - t2) * b, 2 / (t4 - t2) * b}};
  }

 private:
  double knot(std::int64_t i) const {
    return i < 3 ? 0 : i >= n_ ? static_cast<double>(n_ - 1) : static_cast<double>(i) - 1.5;
  }
  std::int64_t n_;
};

}  // namespace msf
