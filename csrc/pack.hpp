// 64 bytes in registers of the width that the build has: wider vectors would live in memory.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "bfloat16.hpp"

namespace msf {

#if defined(__AVX512F__)
inline constexpr std::int64_t register_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::int64_t register_bytes = 32;
#else
inline constexpr std::int64_t register_bytes = 16;
#endif

// The width is a parameter so that objects of two widths may be linked together.
template <class T, std::int64_t width = register_bytes>
struct Pack {
  typedef T Vector __attribute__((vector_size(width)));
  static constexpr std::int64_t size = 64 / sizeof(T), count = 64 / width;
  Vector part[count];

  static Pack load(const T* from) {
    Pack p;
    for (std::int64_t i = 0; i < count; ++i)
      std::memcpy(&p.part[i], from + i * (size / count), sizeof(Vector));
    return p;
  }
  void store(T* to) const {
    for (std::int64_t i = 0; i < count; ++i)
      std::memcpy(to + i * (size / count), &part[i], sizeof(Vector));
  }
  static Pack scaled(const Pack& p, T weight) {
    Pack r;
    for (std::int64_t i = 0; i < count; ++i) r.part[i] = p.part[i] * weight;
    return r;
  }
  // += weight * (after + before), odd: weight * (after - before)
  template <bool odd>
  void add_pair(const Pack& before, const Pack& after, T weight) {
    for (std::int64_t i = 0; i < count; ++i)
      part[i] += (odd ? after.part[i] - before.part[i] : after.part[i] + before.part[i]) * weight;
  }
};

// A register of float32 from as many values.
typedef float Floats __attribute__((vector_size(register_bytes)));
typedef std::int32_t Ints __attribute__((vector_size(register_bytes)));
inline constexpr std::int64_t floats_in_register = register_bytes / sizeof(float);

inline Floats load_floats(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
inline Floats load_floats(const std::uint8_t* from) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  typedef char Bytes __attribute__((vector_size(16)));
  typedef std::int64_t Pair __attribute__((vector_size(16)));
  std::int64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  const auto wide = __builtin_ia32_pmovzxbd256((Bytes)Pair{bytes, 0});
  return __builtin_convertvector((Ints)wide, Floats);
#else
  typedef std::uint8_t Bytes __attribute__((vector_size(floats_in_register)));
  typedef std::uint16_t Words __attribute__((vector_size(2 * floats_in_register)));
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  // GCC widens by one step at a time.
  const Words words = __builtin_convertvector(bytes, Words);
  return __builtin_convertvector(__builtin_convertvector(words, Ints), Floats);
#endif
}
inline Floats load_floats(const std::int16_t* from) {
  typedef std::int16_t Words __attribute__((vector_size(2 * floats_in_register)));
  Words words;
  std::memcpy(&words, from, sizeof words);
  return __builtin_convertvector(__builtin_convertvector(words, Ints), Floats);
}

// The same of bfloat16, and back.
typedef std::uint32_t FloatBits __attribute__((vector_size(register_bytes)));
typedef std::uint16_t HalfBits __attribute__((vector_size(register_bytes / 2)));

inline Floats load_floats(const BFloat16* from) {
  HalfBits bits;
  std::memcpy(&bits, from, sizeof bits);
  return std::bit_cast<Floats>(__builtin_convertvector(bits, FloatBits) << 16);
}
inline void store_floats(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }
inline void store_floats(BFloat16* to, Floats v) {  // as BFloat16(float) rounds
  const auto word = std::bit_cast<FloatBits>(v);
  const FloatBits rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16, nan = 0x7fc0 - FloatBits{};
  const auto bits = __builtin_convertvector(v != v ? nan : rounded, HalfBits);
  std::memcpy(to, &bits, sizeof bits);
}

}  // namespace msf
