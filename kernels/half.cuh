// Half precision as storage: kernels load it to float, compute there and round once on storing.
#pragma once
#include "device.cuh"

struct Half {
  unsigned short bits;
};

#ifdef __MSF_SHIM__
inline float half_to_float(unsigned short bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 0    ? std::ldexp(float(fraction), -24)
                     : exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                                      : std::ldexp(float(fraction | 1024), exponent - 25);
  return bits >> 15 ? -size : size;
}
inline unsigned short float_to_half(float value) {
  const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
  const float size = std::fabs(value);
  if (size != size) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // The unit in the last place: 2^-24 where numbers are denormal. nearbyint goes to even.
  const int exponent = size < 6.103515625e-05f ? -14 : std::ilogb(size);
  const float units = std::nearbyint(std::ldexp(size, 10 - exponent));
  return static_cast<unsigned short>(sign + ((exponent + 14) << 10) + int(units));
}
#else
__device__ __forceinline__ float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ __forceinline__ unsigned short float_to_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

// The type that values of T are computed in, and the way there and back.
template <class T> struct Computed {
  using type = T;
};
template <> struct Computed<Half> {
  using type = float;
};
__device__ __forceinline__ float loaded(Half value) { return half_to_float(value.bits); }
__device__ __forceinline__ float loaded(float value) { return value; }
__device__ __forceinline__ double loaded(double value) { return value; }
__device__ __forceinline__ void stored(Half* place, float value) {
  place->bits = float_to_half(value);
}
__device__ __forceinline__ void stored(float* place, float value) { *place = value; }
__device__ __forceinline__ void stored(double* place, double value) { *place = value; }

// a * b + c, rounded once: what networks may contract, where other kernels may not.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }
