// One bit per pixel: rows of 64-pixel words, bit i of word w is pixel 64 w + i. Unused bits of the
// last word are 0.
//
// A head of 8.7 million voxels is 1.1 MB of bits, which stays in a core's cache, and whole runs of
// pixels move in one instruction.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "array.hpp"

namespace msf {

using Word = std::uint64_t;
inline constexpr std::int64_t word_bits = 64;

inline std::int64_t words_for(std::int64_t pixels) { return (pixels + word_bits - 1) / word_bits; }

// As many bytes as a register holds.
template <int size>
struct ByteVector {
  typedef char Type __attribute__((vector_size(size)));
  static Type load(const std::uint8_t* from) {
    Type bytes;
    std::memcpy(&bytes, from, size);
    return bytes;
  }
};

// Bit k is set when a[k] == b[k]. The instructions go by the names that GCC and Clang give them, as
// <immintrin.h> takes a second to read, for each source that works on bits.
inline Word equal_bits(const std::uint8_t* a, const std::uint8_t* b) {
#if defined(__AVX512BW__)
  using Bytes = ByteVector<64>;
  return __builtin_ia32_cmpb512_mask(Bytes::load(a), Bytes::load(b), 0, ~Word{0});
#elif defined(__AVX2__)
  using Bytes = ByteVector<32>;
  Word bits = 0;
  for (int at = 0; at < word_bits; at += 32) {
    const auto equal = (Bytes::Type)(Bytes::load(a + at) == Bytes::load(b + at));
    bits |= static_cast<Word>(static_cast<std::uint32_t>(__builtin_ia32_pmovmskb256(equal))) << at;
  }
  return bits;
#elif defined(__SSE2__)
  using Bytes = ByteVector<16>;
  Word bits = 0;
  for (int at = 0; at < word_bits; at += 16) {
    const auto equal = (Bytes::Type)(Bytes::load(a + at) == Bytes::load(b + at));
    bits |= static_cast<Word>(__builtin_ia32_pmovmskb128(equal)) << at;
  }
  return bits;
#else
  Word bits = 0;
  for (int k = 0; k < word_bits; ++k) bits |= static_cast<Word>(a[k] == b[k]) << k;
  return bits;
#endif
}

// Bit k is set when byte k is not zero.
inline Word nonzero_bits(const std::uint8_t* bytes) {
  alignas(64) static constexpr std::uint8_t zeros[word_bits] = {};
  return ~equal_bits(bytes, zeros);
}

// Bit k is set when test(begin + k) holds, k < 64. A loop over bytes first, which the compiler
// vectorises for any pixel type.
template <class Test>
Word pack_word(const Test& test, std::int64_t begin) {
  std::uint8_t bytes[64];
  for (int k = 0; k < 64; ++k) bytes[k] = test(begin + k);
  return nonzero_bits(bytes);
}

// The same for k < count only.
template <class Test>
Word pack_part(const Test& test, std::int64_t begin, std::int64_t count) {
  Word bits = 0;
  for (std::int64_t k = 0; k < count; ++k) bits |= static_cast<Word>(test(begin + k)) << k;
  return bits;
}

template <class Test>
Word pack_word(const Test& test, std::int64_t begin, std::int64_t count) {
  return count == 64 ? pack_word(test, begin) : pack_part(test, begin, count);
}

// Bits of a row of n pixels. The last word is taken from the row's last 64 pixels and shifted.
template <class Test>
void pack_row(const Test& test, std::int64_t n, Word* bits) {
  if (n < 64) {
    if (n > 0) *bits = pack_part(test, 0, n);
    return;
  }
  for (std::int64_t begin = 0; begin < n; begin += 64) {
    const std::int64_t from = std::min(begin, n - 64);
    *bits++ = pack_word(test, from) >> (begin - from);
  }
}

// The same for bytes that are not zero, without the detour.
inline void pack_row(const std::uint8_t* row, std::int64_t n, Word* bits) {
  const std::int64_t full = n / 64, rest = n % 64;
  for (std::int64_t w = 0; w < full; ++w) bits[w] = nonzero_bits(row + 64 * w);
  if (rest && full) bits[full] = nonzero_bits(row + n - 64) >> (64 - rest);
  if (rest && !full) {
    std::uint8_t bytes[64] = {};
    std::memcpy(bytes, row, n);
    bits[0] = nonzero_bits(bytes);
  }
}

// The same where every pixel has its bit.
inline void fill_row(std::int64_t n, Word* bits) {
  std::fill_n(bits, n / 64, ~Word{0});
  if (n % 64) bits[n / 64] = (Word{1} << n % 64) - 1;
}

// The value as an integer of the same order, so that float16 needs no conversion; -0 comes right
// below +0, NaN above inf or below -inf.
inline std::int16_t signed_key(float16 value) {
  const auto bits = std::bit_cast<std::int16_t>(value);
  return static_cast<std::int16_t>(bits ^ ((bits >> 15) & 0x7fff));
}

// What pixels of type T are compared as, and the limits in that type.
template <class T>
struct Interval {
  T lower, upper;
  Interval(DType, T low, T high) : lower(low), upper(high) {}
  bool operator()(T value) const { return (value >= lower) & (value <= upper); }
};

template <class T>
  requires std::is_unsigned_v<T>
struct Interval<T> {
  T flip, lower, upper;
  Interval(DType dtype, T low, T high)
      : flip(sign_bit<T>(dtype)),
        lower(static_cast<T>(low ^ flip)),
        upper(static_cast<T>(high ^ flip)) {}
  bool operator()(T value) const {
    const T key = static_cast<T>(value ^ flip);
    return (key >= lower) & (key <= upper);
  }
};

template <>
struct Interval<float16> {
  std::int16_t lower, upper;
  Interval(DType, float16 low, float16 high)  // both zeros are one number
      : lower(low == float16(0) ? -1 : signed_key(low)),
        upper(high == float16(0) ? 0 : signed_key(high)) {}
  bool operator()(float16 value) const {
    const std::int16_t key = signed_key(value);
    return (key >= lower) & (key <= upper);
  }
};

// Eight bytes of 0 or 1 for each value of eight bits.
struct ByteTable {
  std::uint64_t bytes[256];
  constexpr ByteTable() : bytes{} {
    for (unsigned value = 0; value < 256; ++value)
      for (unsigned i = 0; i < 8; ++i)
        bytes[value] |= static_cast<std::uint64_t>(value >> i & 1) << (8 * i);
  }
};
inline constexpr ByteTable byte_table{};

// bytes = 0 or 1 for each of n bits.
inline void expand_bits(const Word* __restrict bits, std::int64_t n,
                        std::uint8_t* __restrict bytes) {
  for (; n >= word_bits; n -= word_bits, bytes += word_bits) {
    const Word word = *bits++;
    for (int i = 0; i < 8; ++i)
      std::memcpy(bytes + 8 * i, &byte_table.bytes[word >> (8 * i) & 0xff], 8);
  }
  for (std::int64_t i = 0; i < n; ++i) bytes[i] = *bits >> i & 1;
}

// Calls f(begin, end) for every run of ones among n bits, in order.
template <class F>
void for_each_run(const Word* bits, std::int64_t n, F&& f) {
  const std::int64_t words = words_for(n);
  std::int64_t begin = -1;
  for (std::int64_t w = 0; w < words; ++w) {
    const std::int64_t base = w * word_bits;
    Word word = bits[w];
    if (begin >= 0) {  // a run that reached the end of the word before
      if (word == ~Word{0}) continue;
      const int ones = std::countr_one(word);
      f(begin, base + ones);
      begin = -1;
      word &= word + 1;  // clears the lowest ones
    }
    while (word != 0) {
      const int first = std::countr_zero(word);
      const int ones = std::countr_one(word >> first);
      if (first + ones == word_bits) {
        begin = base + first;
        break;
      }
      f(base + first, base + first + ones);
      word &= word + (Word{1} << first);
    }
  }
  if (begin >= 0) f(begin, n);
}

// Every run of `mask` that holds a bit of `seeds` (seeds within mask), within one word.
inline Word fill_up(Word seeds, Word mask) {
  return (mask & ~(mask + seeds)) | seeds;  // the carry runs to the end of each seeded run
}

inline Word fill_down(Word seeds, Word mask) {
  if ((seeds >> 1 & mask & ~seeds) == 0) return seeds;
  for (int step = 1; step < word_bits; step *= 2) {  // Kogge-Stone: reach doubles each step
    seeds |= mask & (seeds >> step);
    mask &= mask >> step;
  }
  return seeds;
}

}  // namespace msf
