// Vectors of the build's width, and the one loop that all convolutions spend their time in.
//
// Sources that include this are compiled with contraction: networks have a tolerance.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "bfloat16.hpp"
#include "conv_parts.hpp"
#include "convolution.hpp"
#include "exponential.hpp"
#include "pack.hpp"

namespace msf {

using Lanes = Floats;
using IntLanes = Ints;
inline constexpr std::int64_t lanes = floats_in_register;
// Channels that are worth a vector of their own.
inline constexpr std::int64_t least_vector = lanes / 2;
// Output channels computed together, for `dot_rows` pixels: as many sums as registers hold beside
// their operands (12 of 16; 24 of AVX-512's 32).
inline constexpr std::int64_t panel = 2 * lanes;
inline constexpr int dot_rows = register_bytes == 64 ? 12 : 6;

// Vectors of panel `p` that hold some of the output channels.
inline int vectors_of(std::int64_t p, std::int64_t out_channels) {
  return out_channels - p * panel <= lanes ? 1 : 2;
}

// f<n>() with the least n of dot_rows, two thirds and one third of them that is not below `left`.
template <class F>
auto for_rows(std::int64_t left, F&& f) {
  constexpr int third = dot_rows / 3;
  return left > 2 * third ? f.template operator()<dot_rows>()
         : left > third   ? f.template operator()<2 * third>()
                          : f.template operator()<third>();
}

inline Lanes load_lanes(const float* from) { return load_floats(from); }
inline void store_lanes(float* to, Lanes v) { store_floats(to, v); }

// Copies n < `most` values in pieces of a power of two, which take an instruction each.
template <std::int64_t most = lanes, class T>
void copy_few(const T* from, T* to, std::int64_t n) {
  if constexpr (constexpr std::int64_t piece = most / 2; piece > 0) {
    const bool whole = n & piece;
    if (whole) std::memcpy(to, from, piece * sizeof(T));
    copy_few<piece>(from + whole * piece, to + whole * piece, n);
  }
}

// load_floats and store_floats of `n` values, zeros after them; of a whole vector if `n` is that
// much or more.
template <class T>
Lanes load_some(const T* from, std::int64_t n) {
  if (n >= lanes) return load_floats(from);
  T some[lanes] = {};
  copy_few(from, some, n);
  return load_floats(some);
}
template <class T>
void store_some(T* to, Lanes v, std::int64_t n) {
  if (n >= lanes) return store_floats(to, v);
  T some[lanes];
  store_floats(some, v);
  copy_few(some, to, n);
}

// As they are, or rounded to bfloat16: one value, a vector of up to n, n side by side.
template <class To>
struct Packing {
  static constexpr To zero{};
  To operator()(float v) const { return static_cast<To>(v); }
  void store(To* to, Lanes v, std::int64_t n) const { store_some(to, v, n); }
  template <class From>
  void pack(const From* from, std::int64_t n, To* to) const {
    if constexpr (std::is_same_v<To, BFloat16> && std::is_same_v<From, BFloat16>)
      std::copy_n(from, n, to);
    else
      for (std::int64_t i = 0; i < n; i += lanes) store(to + i, load_some(from + i, n - i), n - i);
  }
};

// A product that is rounded before it is added to anything, whatever the compiler makes of the
// rest.
inline Lanes rounded(Lanes v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#endif
  return v;
}

template <class F>
Lanes each_lane(Lanes v, F&& f) {
  float each[lanes];  // unlike a vector's elements, a loop over these can be vectorised
  store_lanes(each, v);
  for (float& x : each) x = f(x);
  return load_lanes(each);
}

// NaN stays NaN.
[[gnu::always_inline]] inline Lanes activated(Lanes v, Activation activation, float slope) {
  const Lanes zero{};
  switch (activation) {
    case Activation::relu:
      return v < zero ? zero : v;
    case Activation::leaky_relu:
      return v < zero ? v * slope : v;
    case Activation::elu:
      return each_lane(v, [&](float x) { return x < 0 ? slope * std::expm1(x) : x; });
    case Activation::sigmoid:
      return 1.0f / (1.0f + exponential(-v));
    case Activation::tanh:
      return slope * hyperbolic_tangent(v);
    default:
      return v;
  }
}

// f<activation>(), so that a loop over `activated` knows which.
template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::relu:
      return f.template operator()<Activation::relu>();
    case Activation::leaky_relu:
      return f.template operator()<Activation::leaky_relu>();
    case Activation::elu:
      return f.template operator()<Activation::elu>();
    case Activation::sigmoid:
      return f.template operator()<Activation::sigmoid>();
    case Activation::tanh:
      return f.template operator()<Activation::tanh>();
    default:
      return f.template operator()<Activation::none>();
  }
}

// to[r] = sums over all runs of row r times the packed weights, a panel of them for each element
// of the runs; added to what is there if `accumulate`. Rows of the result are to_stride apart. Of a
// panel's vectors the first alone if there is one of `halves`; the other becomes 0.
template <int count = dot_rows, int halves = 2>
[[gnu::noinline]] void dot_panel(const float* const* rows, const Run* runs, std::int64_t run_count,
                                 const float* weights, float* to, std::int64_t to_stride,
                                 bool accumulate = false) {
  Lanes sum[count][2] = {};
  if (accumulate) {
#pragma GCC unroll 12
    for (int r = 0; r < count; ++r)
      for (int h = 0; h < halves; ++h) sum[r][h] = load_lanes(to + r * to_stride + h * lanes);
  }
  for (std::int64_t i = 0; i < run_count; ++i) {
    const float* row[count];
    for (int r = 0; r < count; ++r) row[r] = rows[r] + runs[i].offset;
    const std::int64_t length = runs[i].length;
    for (std::int64_t k = 0; k < length; ++k) {
      Lanes w[halves];
      for (int h = 0; h < halves; ++h) w[h] = load_lanes(weights + h * lanes);
      weights += panel;
#pragma GCC unroll 12
      for (int r = 0; r < count; ++r) {
        const float x = row[r][k];
        for (int h = 0; h < halves; ++h) sum[r][h] += x * w[h];
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < count; ++r) {
    store_lanes(to + r * to_stride, sum[r][0]);
    store_lanes(to + r * to_stride + lanes, sum[r][1]);
  }
}

namespace detail {
template <int... i>
void interleave(Lanes a, Lanes b, Lanes& low, Lanes& high, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i), half = n / 2;
  low = __builtin_shufflevector(a, b, (i / 2 + (i % 2) * n)...);
  high = __builtin_shufflevector(a, b, (half + i / 2 + (i % 2) * n)...);
}
}  // namespace detail

// Rows become columns.
inline void transpose_lanes(Lanes (&v)[lanes]) {
  constexpr auto order = std::make_integer_sequence<int, static_cast<int>(lanes)>{};
  constexpr int half = lanes / 2;
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
    Lanes w[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      detail::interleave(v[i], v[i + half], w[2 * i], w[2 * i + 1], order);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) v[i] = w[i];
  }
}

// `lanes` channels, side by side, of n >= lanes pixels become rows.
template <class From, class To>
void turn_channels(const From* from, std::int64_t pixel_stride, std::int64_t n, To* to,
                   std::int64_t channel_stride) {
  for (std::int64_t begin = 0; begin < n; begin += lanes) {
    const std::int64_t x = std::min(begin, n - lanes);  // the last step may repeat some
    Lanes v[lanes];
    for (std::int64_t i = 0; i < lanes; ++i) v[i] = load_floats(from + (x + i) * pixel_stride);
    transpose_lanes(v);
    for (std::int64_t i = 0; i < lanes; ++i) store_floats(to + i * channel_stride + x, v[i]);
  }
}

}  // namespace msf
