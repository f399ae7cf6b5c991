#include "snake_matrix.hpp"

#include <cmath>
#include <stdexcept>
#include <utility>

namespace msf {
namespace {

constexpr std::int64_t few = 12;  // points for which an inverse is as quick

void inverse2(std::array<double, 4>& m) {
  const double determinant = m[0] * m[3] - m[1] * m[2];
  if (determinant == 0 || !std::isfinite(determinant)) throw std::domain_error("singular");
  m = {m[3] / determinant, -m[1] / determinant, -m[2] / determinant, m[0] / determinant};
}

}  // namespace

SnakeMatrix::SnakeMatrix(std::int64_t points, const SnakeRule& rule)
    : n_(points), band_(points <= few ? 0 : points - 2) {
  const std::vector<Row> rows = rows_of(points, rule);
  band_ == 0 ? factorise_dense(rows) : factorise(rows);
}

// Second and fourth differences, and the step gamma on the diagonal. An end that is held or free
// has equations of its own: its second difference vanishes, and if free its third one, too.
std::vector<SnakeMatrix::Row> SnakeMatrix::rows_of(std::int64_t n, const SnakeRule& rule) {
  std::vector<Row> rows(n);
  const double a = rule.alpha, b = rule.beta;
  for (std::int64_t i = 0; i < n; ++i)
    rows[i] = {i - 2, {b, -a - 4 * b, 2 * a + 6 * b, -a - 4 * b, b}};
  if (rule.start == SnakeEnd::fixed) {
    rows[0] = {0, {}};
    rows[1] = {0, {1, -2, 1}};
  }
  if (rule.end == SnakeEnd::fixed) {
    rows[n - 1] = {n - 1, {}};
    rows[n - 2] = {n - 3, {1, -2, 1}};
  }
  if (rule.start == SnakeEnd::free) {
    rows[0] = {0, {1, -2, 1}};
    rows[1] = {0, {-1, 3, -3, 1}};
  }
  if (rule.end == SnakeEnd::free) {
    rows[n - 1] = {n - 3, {1, -2, 1}};
    rows[n - 2] = {n - 4, {-1, 3, -3, 1}};
  }
  for (std::int64_t i = 0; i < n; ++i) rows[i].weights[i - rows[i].first] += rule.gamma;
  return rows;
}

void SnakeMatrix::factorise_dense(const std::vector<Row>& rows) {
  const std::int64_t n = n_, width = 2 * n;
  std::vector<double> m(n * width, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    for (int k = 0; k < 5; ++k)
      m[i * width + ((rows[i].first + k) % n + n) % n] += rows[i].weights[k];
    m[i * width + n + i] = 1;
  }
  for (std::int64_t c = 0; c < n; ++c) {
    std::int64_t best = c;
    for (std::int64_t r = c + 1; r < n; ++r)
      if (std::abs(m[r * width + c]) > std::abs(m[best * width + c])) best = r;
    const double pivot = m[best * width + c];
    if (pivot == 0 || !std::isfinite(pivot)) throw std::domain_error("singular");
    for (std::int64_t k = 0; k < width; ++k) std::swap(m[c * width + k], m[best * width + k]);
    for (std::int64_t k = 0; k < width; ++k) m[c * width + k] /= pivot;
    for (std::int64_t r = 0; r < n; ++r) {
      const double factor = m[r * width + c];
      if (r == c || factor == 0) continue;
      for (std::int64_t k = 0; k < width; ++k) m[r * width + k] -= factor * m[c * width + k];
    }
  }
  dense_.resize(n * n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = 0; k < n; ++k) dense_[i * n + k] = m[i * width + n + k];
}

void SnakeMatrix::factorise(const std::vector<Row>& rows) {
  const std::int64_t n = n_, m = band_;
  // work[i] holds row i from column `i` on once the columns before are eliminated.
  std::vector<std::array<double, 7>> work(m + 2, {0, 0, 0, 0, 0, 0, 0});
  corner_.assign(m, {0, 0});
  border_.assign(m, {0, 0});
  schur_ = {0, 0, 0, 0};
  for (std::int64_t i = 0; i < n; ++i)
    for (int k = 0; k < 5; ++k) {
      const double weight = rows[i].weights[k];
      const std::int64_t c = ((rows[i].first + k) % n + n) % n;
      if (weight == 0) continue;
      if (i < m && c < m)
        work[i][c - i + 2] += weight;
      else if (i < m)
        corner_[i][c - m] += weight;
      else if (c < m)
        border_[c][i - m] += weight;
      else
        schur_[2 * (i - m) + c - m] += weight;
    }
  upper_.resize(m);
  lower_.resize(m);
  pivot_.assign(m, 0);
  // Two rows below can hold the column; each keeps its columns from i - 2 of its own.
  const auto entry = [&](std::int64_t row, std::int64_t column) -> double& {
    return work[row][column - row + 2];
  };
  for (std::int64_t c = 0; c < m; ++c) {
    const std::int64_t last = std::min(m - 1, c + 2), end = std::min(m - 1, c + 4);
    std::int64_t best = c;
    for (std::int64_t r = c + 1; r <= last; ++r)
      if (std::abs(entry(r, c)) > std::abs(entry(best, c))) best = r;
    // A row that comes up reaches at most c + 4, so that seven columns hold it wherever it is.
    if (best != c)
      for (std::int64_t k = c; k <= end; ++k) {
        const double kept = k - c + 2 < 7 ? entry(c, k) : 0;
        const double other = k - best + 2 < 7 ? entry(best, k) : 0;
        entry(c, k) = other;
        if (k - best + 2 < 7) entry(best, k) = kept;
      }
    pivot_[c] = static_cast<std::uint8_t>(best - c);
    const double pivot = entry(c, c);
    if (pivot == 0 || !std::isfinite(pivot)) throw std::domain_error("singular");
    for (std::int64_t r = c + 1; r <= last; ++r) {
      const double factor = entry(r, c) / pivot;
      lower_[c][r - c - 1] = factor;
      for (std::int64_t k = c; k <= end; ++k) entry(r, k) -= factor * entry(c, k);
    }
    upper_[c] = {1 / pivot, 0, 0, 0, 0};
    for (std::int64_t k = c + 1; k <= end; ++k) upper_[c][k - c] = entry(c, k);
  }
  solve_band(corner_);
  for (std::int64_t c = 0; c < m; ++c)
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j) schur_[2 * i + j] -= border_[c][i] * corner_[c][j];
  inverse2(schur_);
}

template <class V>
void SnakeMatrix::solve_band(std::vector<V>& b) const {
  const std::int64_t m = band_;
  for (std::int64_t c = 0; c < m; ++c) {
    if (pivot_[c]) std::swap(b[c], b[c + pivot_[c]]);
    for (int i = 0; i < 2; ++i) {
      if (c + 1 < m) b[c + 1][i] -= lower_[c][0] * b[c][i];
      if (c + 2 < m) b[c + 2][i] -= lower_[c][1] * b[c][i];
    }
  }
  for (std::int64_t c = m; c-- > 0;)
    for (int i = 0; i < 2; ++i) {
      double sum = b[c][i];
      for (std::int64_t k = 4; k >= 1; --k)
        if (c + k < m) sum -= upper_[c][k] * b[c + k][i];
      b[c][i] = sum * upper_[c][0];
    }
}

void SnakeMatrix::solve(std::vector<Pair>& b) const {
  if (band_ == 0) {
    std::vector<Pair> x(n_, {0, 0});
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t k = 0; k < n_; ++k)
        for (int j = 0; j < 2; ++j) x[i][j] += dense_[i * n_ + k] * b[k][j];
    b = x;
    return;
  }
  const std::int64_t m = band_;
  solve_band(b);
  for (int j = 0; j < 2; ++j) {
    double first = b[m][j], second = b[m + 1][j];
    for (std::int64_t c = 0; c < m; ++c) {
      first -= border_[c][0] * b[c][j];
      second -= border_[c][1] * b[c][j];
    }
    b[m][j] = schur_[0] * first + schur_[1] * second;
    b[m + 1][j] = schur_[2] * first + schur_[3] * second;
    for (std::int64_t c = 0; c < m; ++c)
      b[c][j] -= corner_[c][0] * b[m][j] + corner_[c][1] * b[m + 1][j];
  }
}

}  // namespace msf
