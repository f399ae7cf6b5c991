// Tiles of AMX: eight registers of 16 rows of 64 bytes, and the products of two of them.
//
// `Tiles` is the instructions, `EmulatedTiles` the same in plain C++: so that loops over tiles are
// tested where a CPU has none. Both hold every tile at its full size.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "bfloat16.hpp"

namespace msf {

inline constexpr std::int64_t tile_rows = 16;     // pixels of a left factor
inline constexpr std::int64_t tile_columns = 16;  // of a right one
inline constexpr std::int64_t tile_bytes = 64;    // of a row

// Words of two bfloat16, or of four bytes: those of a row of the left factor, without a sign if
// they are integers, are multiplied by the words of a column of the right one, and added up.
struct EmulatedTiles {
  alignas(64) std::uint32_t tile[8][16][16];

  template <int t>
  void zero() {
    std::memset(tile[t], 0, sizeof tile[t]);
  }
  template <int t>
  void load(const void* from, std::int64_t row_bytes) {
    for (int r = 0; r < 16; ++r)
      std::memcpy(tile[t][r], static_cast<const std::byte*>(from) + r * row_bytes, 64);
  }
  template <int t>
  void store(void* to, std::int64_t row_bytes) {
    for (int r = 0; r < 16; ++r)
      std::memcpy(static_cast<std::byte*>(to) + r * row_bytes, tile[t][r], 64);
  }
  template <class Input, int c, int a, int b>
  void multiply() {
    for (int r = 0; r < 16; ++r)
      for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 16; ++n)
          add_products<Input>(tile[c][r][n], tile[a][r][k], tile[b][k][n]);
  }

 private:
  template <class Input>
  static void add_products(std::uint32_t& sum, std::uint32_t x, std::uint32_t w) {
    if constexpr (std::is_same_v<Input, BFloat16>) {
      const auto low = [](std::uint32_t pair) { return std::bit_cast<float>(pair << 16); };
      const auto high = [](std::uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000); };
      auto found = std::bit_cast<float>(sum);
      found += low(x) * low(w);
      found += high(x) * high(w);
      sum = std::bit_cast<std::uint32_t>(found);
    } else {
      for (int shift = 0; shift < 32; shift += 8)
        sum += static_cast<std::uint32_t>(static_cast<std::uint8_t>(x >> shift) *
                                          static_cast<std::int8_t>(w >> shift));
    }
  }
};

#if defined(__x86_64__) && defined(__linux__)
// Each thread's registers, in use from construction to destruction. Instructions are spelt out as
// intrinsics would need the whole source compiled for AMX.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    asm volatile("ldtilecfg %0" ::"m"(configuration));
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int t>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  template <int t>
  void load(const void* from, std::int64_t row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int t>
  void store(void* to, std::int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(t) : "memory");
  }
  template <class Input, int c, int a, int b>
  void multiply() {
    if constexpr (std::is_same_v<Input, BFloat16>)
      asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
    else
      asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};
#else
using Tiles = EmulatedTiles;
#endif

}  // namespace msf
