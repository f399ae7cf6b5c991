// Winograd's F(m, r) along one axis, of which conv_winograd_tiles.cpp makes those of two.
//
// Toom and Cook: n = m + r - 1 pixels and a filter are polynomials, whose values at n points are
// multiplied: 0, infinity, and pairs of opposite ones, whose common parts are added once. Rows of
// the input's matrix are the polynomials that vanish at all other points, with short coefficients;
// their denominators are with the weights, in float64. Of six points, 5/8 and 3/2 have half the
// error of the usual 1 and 2, in float32 and in fixed point; of eight, no pairs were found that
// are better than 1, 2 and 1/2.
#pragma once

#include "conv_lanes.hpp"

namespace msf {

// Of the points that are neither 0 nor infinity, one of each pair of opposite ones.
template <int n>
inline constexpr double distances[3] = {1, 2, 0.5};
template <>
inline constexpr double distances<6>[3] = {0.625, 1.5};

constexpr double point(int n, int i) {
  if (i == 0) return 0;
  const int pair = (i - 1) / 2;
  const double away = n == 6 ? distances<6>[pair] : distances<8>[pair];
  return i % 2 ? away : -away;
}

constexpr double power(double of, int exponent) {
  double product = 1;
  for (int i = 0; i < exponent; ++i) product *= of;
  return product;
}

template <int n>
[[gnu::always_inline]] inline void transform_pixels(const Lanes (&d)[n], Lanes (&t)[n]) {
  const auto opposite = [&](int i, Lanes even, Lanes odd, float by = 1) {
    t[i] = even + by * odd;
    t[i + 1] = even - by * odd;
  };
  if constexpr (n == 4) {
    t[0] = d[2] - d[0];
    opposite(1, d[2], d[1]);
    t[3] = d[3] - d[1];
  } else if constexpr (n == 6) {
    t[0] = 0.87890625f * d[0] - 2.640625f * d[2] + d[4];
    opposite(1, d[4] - 2.25f * d[2], d[3] - 2.25f * d[1], 0.625f);
    opposite(3, d[4] - 0.390625f * d[2], d[3] - 0.390625f * d[1], 1.5f);
    t[5] = 0.87890625f * d[1] - 2.640625f * d[3] + d[5];
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
    const Lanes first = static_cast<float>(power(distances<n>[0], i)) * of[0];
    o[i] = i == 0 ? t[0] + first : i == m - 1 ? t[n - 1] + first : first;
#pragma GCC unroll 2
    for (int p = 1; p < pairs; ++p) o[i] += static_cast<float>(power(distances<n>[p], i)) * of[p];
  }
}

// The transpose of transform_sums: what each sum's gradient is for the products.
template <int m, int n>
[[gnu::always_inline]] inline void spread_sums(const Lanes (&o)[m], Lanes (&t)[n]) {
  constexpr int pairs = (n - 2) / 2;
  Lanes sums[2][pairs] = {};  // of even and of odd rows
#pragma GCC unroll 6
  for (int i = 0; i < m; ++i)
#pragma GCC unroll 3
    for (int p = 0; p < pairs; ++p)
      sums[i % 2][p] += static_cast<float>(power(distances<n>[p], i)) * o[i];
  t[0] = o[0];
  t[n - 1] = o[m - 1];
  for (int p = 0; p < pairs; ++p) {
    t[2 * p + 1] = sums[0][p] + sums[1][p];
    t[2 * p + 2] = sums[0][p] - sums[1][p];
  }
}

// Product of a point's distances from the n - 2 others.
constexpr double denominator(int n, int at) {
  double product = 1;
  for (int i = 0; i < n - 1; ++i)
    if (i != at) product *= point(n, at) - point(n, i);
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
    constexpr double at = distances<n>[(i - 1) / 2];
    Lanes sums[2] = {g[0], static_cast<float>(at) * g[1]};
#pragma GCC unroll 5
    for (int k = 2; k < r; ++k) sums[k % 2] += static_cast<float>(power(at, k)) * g[k];
    return i % 2 ? sums[0] + sums[1] : sums[0] - sums[1];
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
#pragma GCC unroll 5
    for (int k = 0; k < r; ++k) {
      const Lanes value = static_cast<float>(power(point(n, i), k) / denominator(n, i)) * g[k];
      sums[k % 2] = k < 2 ? value : sums[k % 2] + value;
    }
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
#pragma GCC unroll 5
    for (int k = 0; k < r; ++k)
      g[k] += static_cast<float>(power(point(n, i), k) / denominator(n, i)) * sums[k % 2];
  }
}

}  // namespace msf
