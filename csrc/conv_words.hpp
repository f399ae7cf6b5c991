// Pairs of 16-bit integers in the lanes of a vector, their products added up in 32 bits, and the
// loop that Winograd spends its time in then.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "conv_lanes.hpp"

namespace msf {

typedef std::int16_t Ints16 __attribute__((vector_size(register_bytes / 2)));

// By every build's own instructions. They are spelt out, here and below: intrinsics would need the
// whole source compiled for CPUs that have them, and their header, read after precompiled ones,
// turns contraction off.
struct Words {
  static void add_products(IntLanes& sum, IntLanes x, IntLanes w) {
#if defined(__AVX2__)
    IntLanes products;
    asm("vpmaddwd %2, %1, %0" : "=v"(products) : "v"(x), "v"(w));
    sum += products;
#elif defined(__SSE2__)
    asm("pmaddwd %1, %0" : "+x"(x) : "x"(w));
    sum += x;
#else
    const auto low = [](std::int32_t pair) { return static_cast<std::int16_t>(pair & 0xffff); };
    for (std::int64_t i = 0; i < lanes; ++i)
      sum[i] += low(x[i]) * low(w[i]) + (x[i] >> 16) * (w[i] >> 16);
#endif
  }
};

#if defined(__AVX512F__)
// By one instruction of AVX-512 VNNI.
struct HardwareWords {
  static void add_products(IntLanes& sum, IntLanes x, IntLanes w) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
  }
};
#endif

// 1.5 * 2^23: added to what is small, no bits are left for fractions.
inline constexpr float no_fraction = 12582912.0f;

// Rounded to nearest even, what is below 2^15 in size: the lowest 16 bits.
inline IntLanes rounded_bits(Lanes v) { return std::bit_cast<IntLanes>(v + no_fraction); }
inline Ints16 rounded_words(Lanes v) { return __builtin_convertvector(rounded_bits(v), Ints16); }

// The 32 bits at `from` in all lanes.
inline IntLanes spread(const void* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof word);
  return word - IntLanes{};
}

inline IntLanes load_word_lanes(const void* from) {
  IntLanes v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// Adds the products of the next `length` values of each row, `depth` of them in a word, and of
// their weights, which it passes; `halves`: as of dot_panel.
template <class A, std::int64_t depth, int halves = 2, int count, class Value, class Weight,
          class Sums>
[[gnu::always_inline]] inline void add_run(const Value* const (&row)[count], std::int64_t length,
                                           const Weight*& weights, Sums (&sum)[count][2]) {
  for (std::int64_t k = 0; k < length; k += depth) {
    IntLanes w[halves];
    for (int h = 0; h < halves; ++h) w[h] = load_word_lanes(weights + h * depth * lanes);
    weights += depth * panel;
#pragma GCC unroll 12
    for (int r = 0; r < count; ++r) {
      const IntLanes x = spread(row[r] + k);
      for (int h = 0; h < halves; ++h) A::add_products(sum[r][h], x, w[h]);
    }
  }
}

// Operands of one scale, and where the scales of rows are after their addresses.
struct FixedRun {
  Run run;
  std::int64_t scale;
};

// dot_panel of integers, an even number of them: sums times the scales of rows and columns. The
// vectors beyond `halves` stay as they are.
template <class A, int count, int halves = 2>
[[gnu::noinline]] void dot_fixed(const std::int16_t* const* rows, const float* const* row_scales,
                                 const FixedRun& some, const std::int16_t* weights,
                                 const float* column_scales, float* to, bool accumulate) {
  IntLanes sum[count][2] = {};
  const std::int16_t* row[count];
  for (int r = 0; r < count; ++r) row[r] = rows[r] + some.run.offset;
  add_run<A, 2, halves>(row, some.run.length, weights, sum);
#pragma GCC unroll 12
  for (int r = 0; r < count; ++r, to += panel) {
    const float scale = row_scales[r][some.scale];
    for (int half = 0; half < halves; ++half) {
      Lanes found = rounded(__builtin_convertvector(sum[r][half], Lanes) *
                            (load_lanes(column_scales + half * lanes) * scale));
      if (accumulate) found += load_lanes(to + half * lanes);
      store_lanes(to + half * lanes, found);
    }
  }
}

}  // namespace msf
