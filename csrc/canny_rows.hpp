// The arithmetic of scikit-image's Canny on rows: smoothing, gradient, suppression.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "pack.hpp"

namespace msf::canny_rows {

using Index = std::int64_t;

// The lanes of a register of float64, as T.
template <class T>
using Lanes __attribute__((vector_size(register_bytes / 8 * sizeof(T)))) = T;

// The sums rounded to T.
template <class V, class T>
void store(const Pack<V>& sums, T* to) {
  if constexpr (std::is_same_v<V, T>) {
    sums.store(to);
  } else {
    constexpr Index size = register_bytes / 8;
    for (Index i = 0; i < Pack<V>::count; ++i) {
      const auto rounded = __builtin_convertvector(sums.part[i], Lanes<T>);
      std::memcpy(to + i * size, &rounded, sizeof rounded);
    }
  }
}

// Rounded to T and kept as it is.
template <class T, class V>
void round_to(Pack<V>& sums) {
  if constexpr (!std::is_same_v<T, V>)
    for (auto& part : sums.part)
      part = __builtin_convertvector(__builtin_convertvector(part, Lanes<T>),
                                     typename Pack<V>::Vector);
}

// Two rows of sums along the columns, rounded to T; in[0] is `radius` rows before the first of
// them. Rows may be accessed up to the next multiple of a pack.
template <class T, class V>
void smooth_columns(const V* const* in, const std::vector<V>& half, Index n, V* first, V* second) {
  using P = Pack<V>;
  const Index radius = static_cast<Index>(half.size()) - 1;
  const V* const* const centre = in + radius;
  for (Index j = 0; j < n; j += P::size) {
    P sum = P::scaled(P::load(centre[0] + j), half[0]);
    P next = P::scaled(P::load(centre[1] + j), half[0]);
    P before = P::load(centre[-radius] + j), after = P::load(centre[radius + 1] + j);
    for (Index t = radius; t > 0; --t) {
      // What is before the first row at distance t is before the second at t + 1.
      const P next_before = P::load(centre[1 - t] + j), sum_after = P::load(centre[t] + j);
      sum.template add_pair<false>(before, sum_after, half[t]);
      next.template add_pair<false>(next_before, after, half[t]);
      before = next_before;
      after = sum_after;
    }
    round_to<T>(sum);
    round_to<T>(next);
    sum.store(first + j);
    next.store(second + j);
  }
}

// Sums along a row, up to the next multiple of two packs.
template <class T, class V>
void smooth_row(const V* centre, const std::vector<V>& half, Index n, T* out) {
  using P = Pack<V>;
  const Index radius = static_cast<Index>(half.size()) - 1;
  for (Index j = 0; j < n; j += 2 * P::size) {
    const V* const at = centre + j;
    P sum = P::scaled(P::load(at), half[0]), next = P::scaled(P::load(at + P::size), half[0]);
    for (Index t = radius; t > 0; --t) {
      sum.template add_pair<false>(P::load(at - t), P::load(at + t), half[t]);
      next.template add_pair<false>(P::load(at + P::size - t), P::load(at + P::size + t), half[t]);
    }
    store(sum, out + j);
    store(next, out + j + P::size);
  }
}

// row /= divisor, correctly rounded. Next to 1 the residual of a first guess, which is exact with a
// fused multiplication and addition, corrects it (P. Markstein, "Computation of elementary
// functions on the IBM RISC System/6000 processor", IBM J. Res. Dev. 34, 1990); its condition, a
// guess one unit off at most, holds there. Numbers too small for an exact residual cannot be told
// from 0 in the magnitude.
template <class T>
void divide(T* __restrict row, Index n, T divisor) {
  if (divisor == 1) return;
#ifdef __FMA__
  if (std::is_same_v<T, double> && std::abs(divisor - 1) < 1e-14) {
    const T inverse = 1 / divisor;
    for (Index j = 0; j < n; ++j) {
      const T guess = row[j] * inverse;
      row[j] = std::fma(std::fma(-divisor, guess, row[j]), inverse, guess);
    }
    return;
  }
#endif
  for (Index j = 0; j < n; ++j) row[j] /= divisor;
}

// The least T that is at least `value`; NaN stays NaN, which nothing reaches.
template <class T>
T at_least(double value) {
  const T near = static_cast<T>(value);
  return near < value ? std::nextafter(near, std::numeric_limits<T>::infinity()) : near;
}

template <class V>
bool has_infinity(const V* row, Index n) {
  using Bits = std::conditional_t<sizeof(V) == 4, std::uint32_t, std::uint64_t>;
  constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<V>::infinity());
  Bits found = 0;
  for (Index j = 0; j < n; ++j) found |= (std::bit_cast<Bits>(row[j]) & exponent) == exponent;
  return found != 0;
}

// to = max(from, least) - offset; returns the greatest absolute value, of numbers. Bytes are at
// least 0, and not compared with `least`. In place, too.
template <class S>
float shift(const S* from, Index n, float offset, float least, float* to) {
  constexpr Index floats = floats_in_register;
  constexpr bool bytes = sizeof(S) == 1;
  Ints most{};  // bits of numbers that are not negative have their order
  const auto piece = [&](const S* in, float* out) {
    Floats value = load_floats(in);
    if constexpr (!bytes) value = value < least ? least : value;
    value -= offset;
    std::memcpy(out, &value, sizeof value);
    const Ints bits = (Ints)value & 0x7fffffff;
    most = bits > most ? bits : most;
  };
  Index j = 0;
  for (; j + floats <= n; j += floats) piece(from + j, to + j);
  if (j < n) {
    S rest[floats];
    for (Index i = 0; i < floats; ++i) rest[i] = from[j + std::min(i, n - 1 - j)];
    piece(rest, to + j);
  }
  std::int32_t greatest = 0;
  for (Index i = 0; i < floats; ++i) greatest = std::max(greatest, most[i]);
  return std::bit_cast<float>(greatest);
}

// Sobel differences along both axes and their magnitude, from three smoothed rows. Weights 1, 2, 1
// of differences that are rounded to T; the sum is a Sum.
template <class Sum, bool scaled, class T>
void gradient(const T* __restrict up, const T* __restrict here, const T* __restrict down, Index n,
              const T* per_step, T* __restrict rows, T* __restrict columns, T* __restrict m) {
  const T per_row = per_step[0], per_column = per_step[1];
  for (Index j = 0; j < n; ++j) {
    const T left = down[j - 1] - up[j - 1], centre = down[j] - up[j],
            right = down[j + 1] - up[j + 1];
    const T above = up[j + 1] - up[j - 1], middle = here[j + 1] - here[j - 1],
            below = down[j + 1] - down[j - 1];
    T dy = static_cast<T>(Sum{centre} * 2 + (Sum{left} + Sum{right}));
    T dx = static_cast<T>(Sum{middle} * 2 + (Sum{above} + Sum{below}));
    if constexpr (scaled) dy *= per_row, dx *= per_column;
    rows[j] = dy;
    columns[j] = dx;
    m[j] = std::sqrt(dy * dy + dx * dx);
  }
}

// Non-maximum suppression: are the magnitudes interpolated before and after a pixel along its
// gradient both at most its own?
template <class T>
struct Suppression {
  // In float64 lanes: the sums are.
  static constexpr Index lanes = register_bytes / 8;
  typedef T Value __attribute__((vector_size(lanes * sizeof(T))));
  typedef double Wide __attribute__((vector_size(register_bytes)));
  typedef std::int64_t WideMask __attribute__((vector_size(register_bytes)));

  const T *up, *here, *down;  // magnitudes
  const T *rows, *columns;    // gradient along the axes
  T per_row, per_column;      // from the gradient to steps along the axes

  static Value load(const T* from) {
    Value value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static Wide wide(const Value& value) { return __builtin_convertvector(value, Wide); }

  static unsigned bits(const WideMask& mask) {
#if defined(__AVX512DQ__)
    typedef long long Signs __attribute__((vector_size(64)));
    return __builtin_ia32_cvtq2mask512((Signs)mask);
#elif defined(__AVX__)
    return __builtin_ia32_movmskpd256((Wide)mask);
#elif defined(__SSE2__)
    return __builtin_ia32_movmskpd((Wide)mask);
#else
    unsigned result = 0;
    for (Index i = 0; i < lanes; ++i) result |= (mask[i] & 1) << i;
    return result;
#endif
  }

  // For the pixels [j, j + lanes), one bit each.
  unsigned maxima(Index j) const {
    const Value i_diff = load(rows + j) * per_row, j_diff = load(columns + j) * per_column;
    const Value i_abs = i_diff < 0 ? -i_diff : i_diff, j_abs = j_diff < 0 ? -j_diff : j_diff;
    // Whether both directions have the same sign, or either none.
    const auto same = ((i_diff >= 0) & (j_diff >= 0)) | ((i_diff <= 0) & (j_diff <= 0));
    const auto steep = (i_abs > j_abs) | (~same & (i_abs == j_abs));
    const Value w = (steep ? j_abs : i_abs) / (steep ? i_abs : j_abs);
    const Value corner_after = same ? load(down + j + 1) : load(up + j + 1);
    const Value corner_before = same ? load(up + j - 1) : load(down + j - 1);
    const Value row_up = load(up + j), row_down = load(down + j);
    const Value side_after = steep ? (same ? row_down : row_up) : load(here + j + 1);
    const Value side_before = steep ? (same ? row_up : row_down) : load(here + j - 1);
    const Wide rest = 1.0 - wide(w), centre = wide(load(here + j));
    const WideMask after = wide(corner_after * w) + wide(side_after) * rest <= centre;
    const WideMask before = wide(corner_before * w) + wide(side_before) * rest <= centre;
    return bits(after & before);
  }
};

}  // namespace msf::canny_rows
