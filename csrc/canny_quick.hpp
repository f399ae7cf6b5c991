// Canny's decisions from float32 arithmetic, where they are certain.
//
// What scikit-image computes in float64 (or in float64 rounded to float32 after each step) is
// computed in float32, twice as many pixels at once, with a bound on how far the two may be apart.
// A pixel whose magnitude is farther than that from a threshold, and from what it is compared with,
// is decided; the others, one in thousands, are computed again as the peer does. The idea is that
// of adaptive predicates: J. R. Shewchuk, "Adaptive precision floating-point arithmetic and fast
// robust geometric predicates", Discrete Comput. Geom. 18 (1997) 305-363.
//
// Bounds are sums of the first-order terms of each rounding, in units of u = 2**-24 times S, the
// greatest absolute value of a pixel once a constant is subtracted from all, which changes no
// difference.
#pragma once

#include "bitmask.hpp"
#include "canny_sweep.hpp"

namespace msf::canny {

// How far float32 values may be from the peer's.
struct Bounds {
  float step;        // each of the two differences
  float magnitude;   // their magnitude
  float comparison;  // the difference of two magnitudes, one of them interpolated
  float slope;       // more of that: times the interpolated ones' difference over the larger step

  // smooth: of the smoothed values; extent: of the values that enter.
  Bounds(double smooth, double extent) {
    const double unit = 0x1p-24 * extent;
    // Eight smoothed values with weights of 8 in total; sums of at most 2 to 8 times S: five
    // roundings here, five of the peer's if it computes in float32.
    const double steps = 8 * smooth + 56 * unit;
    // Roundings of squares, their sum and the root: 3 u each way; a magnitude is below 8 * 1.42 S.
    const double lengths = 1.4143 * steps + 70 * unit;
    step = static_cast<float>(1.001 * steps);
    magnitude = static_cast<float>(1.001 * lengths + 1e-18);  // squares may underflow
    // Interpolation has no more error than what it lies between, next to that of its weight: the
    // quotient's rounding, both ways, and those of products and sums.
    comparison = static_cast<float>(2.1 * lengths + 160 * unit + 1e-18);
    slope = static_cast<float>(2.1 * steps);
  }
};

// Of a smoothing by these weights: error of a value over u * S.
inline double smoothing_error(const std::vector<double>& half) {
  // Of each weight, each pair's sum, each product, and of each partial sum of the products.
  double partial = half[0], error = 3 + partial;
  for (std::size_t t = half.size() - 1; t > 0; --t) error += partial += 2 * half[t];
  return error;
}

// Float32 twin of canny_rows::Suppression.
struct QuickSuppression {
  static constexpr Index lanes = floats_in_register;
  using Value = Floats;
  using Mask = Ints;

  const float *up, *here, *down;  // magnitudes
  const float *rows, *columns;    // gradient along the axes

  float low, high;  // limits of the magnitude

  // One bit a pixel. Neither maximum nor doubtful: certainly no edge.
  struct Decision {
    unsigned maximum, strong, doubtful;
  };

  static Value load(const float* from) { return load_floats(from); }
  static unsigned bits(const Mask& mask) {
#if defined(__AVX512DQ__)
    return __builtin_ia32_cvtd2mask512((Mask)mask);
#elif defined(__AVX__)
    return __builtin_ia32_movmskps256((Value)mask);
#elif defined(__SSE2__)
    return __builtin_ia32_movmskps((Value)mask);
#else
    unsigned result = 0;
    for (Index i = 0; i < lanes; ++i) result |= (mask[i] & 1) << i;
    return result;
#endif
  }
  static Value absolute(const Value& v) { return (Value)((Mask)v & 0x7fffffff); }

  // Magnitudes of at least `least` among the pixels [j, j + 64), which may lie beyond the row.
  Word reaching(Index j, float least) const {
    Word found = 0;
    for (Index i = 0; i < word_bits; i += lanes)
      found |= Word{bits(load(here + j + i) >= least)} << i;
    return found;
  }

  // For the pixels [j, j + lanes), whose magnitudes are far above the bounds.
  [[gnu::always_inline]] Decision decide(Index j, const Bounds& bounds) const {
    const Value i_diff = load(rows + j), j_diff = load(columns + j);
    const Value i_abs = absolute(i_diff), j_abs = absolute(j_diff);
    const Mask same = ((Mask)i_diff ^ (Mask)j_diff) >= 0, steep = i_abs > j_abs;
    const Value large = steep ? i_abs : j_abs, small = steep ? j_abs : i_abs;
    const Value inverse = 1 / large, w = small * inverse;
    const Value row_up = load(up + j), row_down = load(down + j), centre = load(here + j);
    const Value corner_after = same ? load(down + j + 1) : load(up + j + 1);
    const Value corner_before = same ? load(up + j - 1) : load(down + j - 1);
    const Value side_after = steep ? (same ? row_down : row_up) : load(here + j + 1);
    const Value side_before = steep ? (same ? row_up : row_down) : load(here + j - 1);
    const Value turn_after = corner_after - side_after, turn_before = corner_before - side_before;
    const Value after = side_after + turn_after * w - centre;
    const Value before = side_before + turn_before * w - centre;
    const Value slope = bounds.slope * inverse;
    const Value error_after = absolute(turn_after) * slope + bounds.comparison;
    const Value error_before = absolute(turn_before) * slope + bounds.comparison;
    // Where the peer may compare with other neighbours: next to an axis or a diagonal.
    const Value turn = 2.1f * bounds.step + Value{};
    const Mask ambiguous = (small <= turn) | (large - small <= turn);
    const Mask near =
        (centre - low <= bounds.magnitude) | (absolute(centre - high) <= bounds.magnitude);
    const Mask maximum = (after <= -error_after) & (before <= -error_before);
    const Mask other = (after > error_after) | (before > error_before);
    const Mask doubtful = (~other | ambiguous) & (~maximum | ambiguous | near);
    return {bits(maximum & ~doubtful), bits(centre >= high), bits(doubtful)};
  }
};

}  // namespace msf::canny
