// Snakes (Kass, Witkin and Terzopoulos 1988): inner forces implicitly, by a factorised matrix of
// five diagonals (snake_matrix.hpp); the image's force explicitly, from a biquadratic spline
// (spline.hpp). Steps, bounds and the test for convergence are scikit-image's.
#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.hpp"
#include "snake_matrix.hpp"
#include "spline.hpp"

namespace msf {
namespace {

// tanh from exp(2 |x|) - 1, the same on every machine: 2^k (e^r - 1) + (2^k - 1), |r| < 0.35.
double bounded(double x) {
  const double t = std::min(2 * std::abs(x), 45.0);
  const double k = std::nearbyint(t * 1.4426950408889634);
  const double r = (t - k * 0.6931471803691238) - k * 1.9082149292705877e-10;
  double series = 0;
  for (int n = 16; n >= 2; --n) series = (series + 1) * r / n;
  series = (series + 1) * r;
  const double power = std::ldexp(1.0, static_cast<int>(k));
  const double grown = power * series + (power - 1);
  return std::copysign(grown / (grown + 2), x);
}

using Pair = SnakeMatrix::Pair;  // column, row

// Slope of the potential.
Pair force(const double* c, std::int64_t columns, const QuadraticSpline& across,
           const QuadraticSpline& down, const Pair& at) {
  const auto x = across.at(at[0]), y = down.at(at[1]);
  const double* const from = c + y.first * columns + x.first;
  double along_x = 0, along_y = 0;
  for (int j = 0; j < 3; ++j) {
    double value = 0, slope = 0;
    for (int i = 0; i < 3; ++i) {
      value += x.value[i] * from[j * columns + i];
      slope += x.slope[i] * from[j * columns + i];
    }
    along_x += y.value[j] * slope;
    along_y += y.slope[j] * value;
  }
  return {along_x, along_y};
}

}  // namespace

std::int64_t active_contour(const Array& coefficients, const SnakeRule& rule,
                            const MutableArray& snake) {
  constexpr std::int64_t order = 10;  // configurations that a new one is compared with
  const std::int64_t n = snake.shape[1], columns = coefficients.shape[1];
  const double* const c = coefficients.as<double>();
  const QuadraticSpline across(columns), down(coefficients.shape[0]);
  const SnakeMatrix matrix(n, rule);
  double* const out = snake.as<double>();
  std::vector<Pair> at(n), next(n);
  for (std::int64_t i = 0; i < n; ++i) at[i] = {out[i], out[n + i]};
  std::vector<std::vector<Pair>> before(order, at);

  const auto scale_end = [&](std::int64_t i, SnakeEnd end, Pair& f) {
    const double by = end == SnakeEnd::fixed ? 0 : end == SnakeEnd::free ? 2 : 1;
    if (i >= 0) f = {f[0] * by, f[1] * by};
  };
  std::int64_t iteration = 0;
  for (; iteration < rule.max_num_iter; ++iteration) {
    poll();
    for (std::int64_t i = 0; i < n; ++i) {
      Pair f = force(c, columns, across, down, at[i]);
      if (i == 0) scale_end(i, rule.start, f);
      if (i == n - 1) scale_end(i, rule.end, f);
      next[i] = {rule.gamma * at[i][0] + f[0], rule.gamma * at[i][1] + f[1]};
    }
    matrix.solve(next);
    for (std::int64_t i = 0; i < n; ++i) {
      if ((i == 0 && rule.start == SnakeEnd::fixed) || (i == n - 1 && rule.end == SnakeEnd::fixed))
        continue;
      for (int j = 0; j < 2; ++j) at[i][j] += rule.max_px_move * bounded(next[i][j] - at[i][j]);
    }
    const std::int64_t turn = iteration % (order + 1);
    if (turn < order) {
      before[turn] = at;
      continue;
    }
    double least = std::numeric_limits<double>::infinity();
    for (const auto& old : before) {
      double most = 0;
      for (std::int64_t i = 0; i < n; ++i)
        most = std::max(most, std::abs(old[i][0] - at[i][0]) + std::abs(old[i][1] - at[i][1]));
      least = std::min(least, most);
    }
    if (least < rule.convergence) {
      ++iteration;
      break;
    }
  }
  for (std::int64_t i = 0; i < n; ++i) out[i] = at[i][0], out[n + i] = at[i][1];
  return iteration;
}

}  // namespace msf
