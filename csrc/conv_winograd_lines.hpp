// Winograd's F(m, r) along one axis, of which conv_winograd_tiles.cpp makes those of two.
//
// Toom and Cook: n = m + r - 1 pixels and a filter are polynomials, whose values at n points are
// multiplied. Points are 0, 1, -1 (2, -2) (1/2, -1/2) and infinity. Rows of the input's matrix are
// the polynomials that vanish at all other points, with whole or short coefficients; their
// denominators are with the weights, in float64. What the opposite points share is added once.
#pragma once

#include "conv_lanes.hpp"

namespace msf {

template <int n>
[[gnu::always_inline]] inline void transform_pixels(const Lanes (&d)[n], Lanes (&t)[n]) {
  const auto opposite = [&](int i, Lanes even, Lanes odd) {
    t[i] = even + odd;
    t[i + 1] = even - odd;
  };
  if constexpr (n == 4) {
    t[0] = d[2] - d[0];
    opposite(1, d[2], d[1]);
    t[3] = d[3] - d[1];
  } else if constexpr (n == 6) {
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    opposite(1, d[4] - 4.0f * d[2], d[3] - 4.0f * d[1]);
    opposite(3, d[4] - d[2], 2.0f * (d[3] - d[1]));
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
  } else {
    t[0] = d[6] - d[0] + 5.25f * (d[2] - d[4]);
    opposite(1, d[6] - 4.25f * d[4] + d[2], d[5] - 4.25f * d[3] + d[1]);
    opposite(3, d[6] - 1.25f * d[4] + 0.25f * d[2], 2.0f * d[5] - 2.5f * d[3] + 0.5f * d[1]);
    opposite(5, d[6] - 5.0f * d[4] + 4.0f * d[2], 0.5f * d[5] - 2.5f * d[3] + 2.0f * d[1]);
    t[7] = d[7] - d[1] + 5.25f * (d[3] - d[5]);
  }
}

template <int m, int n>
[[gnu::always_inline]] inline void transform_sums(const Lanes (&t)[n], Lanes (&o)[m]) {
  constexpr int pairs = (n - 2) / 2;
  Lanes even[pairs], odd[pairs];
  for (int p = 0; p < pairs; ++p) {
    even[p] = t[2 * p + 1] + t[2 * p + 2];
    odd[p] = t[2 * p + 1] - t[2 * p + 2];
  }
  for (int i = 0; i < m; ++i) {
    const Lanes* const of = i % 2 ? odd : even;
    o[i] = of[0];
    if constexpr (pairs > 1) o[i] += static_cast<float>(1 << i) * of[1];
    if constexpr (pairs > 2) o[i] += 1 / static_cast<float>(1 << i) * of[2];
    if (i == 0) o[i] += t[0];
    if (i == m - 1) o[i] += t[n - 1];
  }
}

// The transpose of transform_sums: what each sum's gradient is for the products.
template <int m, int n>
[[gnu::always_inline]] inline void spread_sums(const Lanes (&o)[m], Lanes (&t)[n]) {
  constexpr int pairs = (n - 2) / 2;
  Lanes sums[2][3] = {};  // of even and of odd rows, at 1, 2 and 1/2
  for (int i = 0; i < m; ++i) {
    Lanes* const to = sums[i % 2];
    to[0] += o[i];
    if constexpr (pairs > 1) to[1] += static_cast<float>(1 << i) * o[i];
    if constexpr (pairs > 2) to[2] += 1 / static_cast<float>(1 << i) * o[i];
  }
  t[0] = o[0];
  t[n - 1] = o[m - 1];
  for (int p = 0; p < pairs; ++p) {
    t[2 * p + 1] = sums[0][p] + sums[1][p];
    t[2 * p + 2] = sums[0][p] - sums[1][p];
  }
}

inline constexpr double points[] = {0, 1, -1, 2, -2, 0.5, -0.5};

// Product of a point's distances from the n - 2 others.
constexpr double denominator(int n, int point) {
  double product = 1;
  for (int i = 0; i < n - 1; ++i)
    if (i != point) product *= points[point] - points[i];
  return product;
}

// Value of the polynomial with these coefficients at point i.
template <int n, int i, int r>
[[gnu::always_inline]] inline Lanes value_at(const Lanes (&g)[r]) {
  if constexpr (i == 0) {
    return g[0];
  } else if constexpr (i == n - 1) {
    return g[r - 1];
  } else {
    constexpr double at = points[i] < 0 ? -points[i] : points[i];
    Lanes sums[2] = {g[0], static_cast<float>(at) * g[1]};
    double power = at * at;
#pragma GCC unroll 5
    for (int k = 2; k < r; ++k, power *= at) sums[k % 2] += static_cast<float>(power) * g[k];
    return points[i] < 0 ? sums[0] - sums[1] : sums[0] + sums[1];
  }
}

// Values at all points, over their denominators.
template <int r, int n>
[[gnu::always_inline]] inline void transform_taps(const Lanes (&g)[r], Lanes (&t)[n]) {
  t[0] = static_cast<float>(1 / denominator(n, 0)) * g[0];
  t[n - 1] = g[r - 1];
#pragma GCC unroll 3
  for (int i = 1; i < n - 1; i += 2) {
    Lanes sums[2];
    double power = 1 / denominator(n, i);
#pragma GCC unroll 5
    for (int k = 0; k < r; ++k, power *= points[i])
      sums[k % 2] =
          k < 2 ? static_cast<float>(power) * g[k] : sums[k % 2] + static_cast<float>(power) * g[k];
    t[i] = sums[0] + sums[1];
    t[i + 1] = sums[0] - sums[1];
  }
}

// Its transpose: what each value's gradient is for the taps.
template <int r, int n>
[[gnu::always_inline]] inline void gather_taps(const Lanes (&t)[n], Lanes (&g)[r]) {
  for (int k = 0; k < r; ++k) g[k] = Lanes{};
  g[0] += static_cast<float>(1 / denominator(n, 0)) * t[0];
  g[r - 1] += t[n - 1];
#pragma GCC unroll 3
  for (int i = 1; i < n - 1; i += 2) {
    const Lanes sums[2] = {t[i] + t[i + 1], t[i] - t[i + 1]};
    double power = 1 / denominator(n, i);
#pragma GCC unroll 5
    for (int k = 0; k < r; ++k, power *= points[i]) g[k] += static_cast<float>(power) * sums[k % 2];
  }
}

}  // namespace msf
