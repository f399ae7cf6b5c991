// exp as a polynomial without branches, which loops vectorise: within 2 units of the last place,
// where the library's function takes one value at a time.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace msf {

// exp after Cody and Waite: 2^k times a polynomial of the rest. NaN stays NaN.
inline float exponential(float x) {
  const float y = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float k = std::floor(y * 1.44269504f + 0.5f);
  const float r = (y - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto power =
      std::bit_cast<float>(static_cast<std::int32_t>((k != k ? 0.0f : k) + 127.0f) << 23);
  return p * power;
}

}  // namespace msf
