// exp and tanh by polynomials without branches, of one value or of each of a vector: exp within 2
// units of the last place. The library's functions take one value at a time; loops over these
// vectorise.
#pragma once

#include <bit>
#include <cstdint>

namespace msf {

namespace detail {
template <class V>
struct BitsOf {
  using Type = decltype(V{} < V{});
};
template <>
struct BitsOf<float> {
  using Type = std::int32_t;
};

// x, but not below or above these. NaN stays NaN. An instruction each, which GCC does not find.
template <class V>
[[gnu::always_inline]] inline V clamped(V x, float low, float high) {
  const V least = V{} + low, most = V{} + high;
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    asm("vmaxps %0, %1, %0" : "+v"(x) : "v"(least));
    asm("vminps %0, %1, %0" : "+v"(x) : "v"(most));
    return x;
  }
#endif
  x = x < least ? least : x;
  return x > most ? most : x;
}

}  // namespace detail

// exp after Cody and Waite: 2^k times a polynomial of the rest. NaN stays NaN.
template <class V>
[[gnu::always_inline]] inline V exponential(V x) {
  using Bits = typename detail::BitsOf<V>::Type;
  const V zero{}, y = detail::clamped(x, -87, 88);
  constexpr float whole = 12582912.0f;  // 1.5 * 2^23: no bits are left for fractions
  const V shifted = y * 1.44269504f + whole, k = shifted - whole;
  const V r = (y - k * 0.693359375f) + k * 2.12194440e-4f;
  V p = zero + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // k is in the lowest bits of `shifted`, and goes where the exponent is.
  return p * std::bit_cast<V>((std::bit_cast<Bits>(shifted) << 23) + (127 << 23));
}

// A quotient of polynomials fitted by us: within 3 units of the last place, and beyond +-8.5 (where
// tanh is 1 but for one unit) as there. NaN stays NaN.
template <class V>
[[gnu::always_inline]] inline V hyperbolic_tangent(V x) {
  const V zero{}, y = detail::clamped(x, -8.5f, 8.5f), s = y * y;
  V p = zero + 1.4268526e-8f;
  p = p * s + 2.1250629e-5f;
  p = p * s + 3.5340055e-3f;
  p = p * s + 1.3413230e-1f;
  p = p * s + 1.0f;
  V q = zero + 8.1448634e-7f;
  q = q * s + 3.3488272e-4f;
  q = q * s + 2.6022674e-2f;
  q = q * s + 4.6746553e-1f;
  q = q * s + 1.0f;
  return detail::clamped(y * p / q, -1, 1);  // rounded, it may be more than 1
}

}  // namespace msf
