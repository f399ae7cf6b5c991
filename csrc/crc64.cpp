// CRC-64 of ECMA-182: the remainder of a message, a polynomial over GF(2) whose first bit has the
// highest power, times x^64, modulo P.
//
// On x86-64 with PCLMULQDQ (asked at run time: the baseline build may not assume it): V. Gopal,
// E. Ozturk et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"
// (Intel, 2009). A register of 128 bits is a stretch h x^64 + l of the message; moved n bits ahead
// it is congruent to h (x^(n+64) mod P) + l (x^n mod P), two products of 127 bits, to which the
// stretch that lies there is added. Four registers fold 64 bytes a step, which hides the latency;
// then they fold into one. The paper's reduction to 64 bits is left out: the tables do the last
// 16 bytes and what is left.
//
// Elsewhere: M. Kounavis, F. Berry, "Novel Table Lookup-Based Algorithms for High-Performance CRC
// Generation", IEEE Trans. Computers 57, 2008 (slicing), 16 bytes a step from 16 tables of 2 KB.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/crc64.hpp"
#include "parallel.hpp"

#if defined(__x86_64__)
#include <tmmintrin.h>
#include <wmmintrin.h>
#endif

namespace msf {
namespace {

constexpr std::uint64_t polynomial = 0x42F0E1EBA9EA3693;  // without x^64

constexpr std::uint64_t times_x(std::uint64_t r) { return (r << 1) ^ ((r >> 63) ? polynomial : 0); }

// tables[k][b]: the remainder of byte b followed by k bytes of 0.
using Tables = std::array<std::array<std::uint64_t, 256>, 16>;

constexpr Tables make_tables() {
  Tables tables{};
  for (unsigned b = 0; b < 256; ++b) {
    std::uint64_t r = std::uint64_t{b} << 56;
    for (int bit = 0; bit < 8; ++bit) r = times_x(r);
    tables[0][b] = r;
  }
  for (unsigned k = 1; k < 16; ++k) {
    for (unsigned b = 0; b < 256; ++b) {
      const std::uint64_t r = tables[k - 1][b];
      tables[k][b] = tables[0][r >> 56] ^ (r << 8);
    }
  }
  return tables;
}

constexpr Tables tables = make_tables();

std::uint64_t big_endian(const std::uint8_t* p) {
  std::uint64_t value;
  std::memcpy(&value, p, 8);
  if constexpr (std::endian::native == std::endian::little) value = __builtin_bswap64(value);
  return value;
}

std::uint64_t by_tables(const std::uint8_t* p, std::int64_t n, std::uint64_t crc) {
  for (; n >= 16; p += 16, n -= 16) {
    const std::uint64_t high = big_endian(p) ^ crc, low = big_endian(p + 8);
    crc = 0;
    for (int k = 0; k < 8; ++k) {
      crc ^= tables[8 + k][(high >> (8 * k)) & 255] ^ tables[k][(low >> (8 * k)) & 255];
    }
  }
  for (; n > 0; ++p, --n) crc = tables[0][(crc >> 56) ^ *p] ^ (crc << 8);
  return crc;
}

#if defined(__x86_64__)

constexpr std::uint64_t power_of_x(int n) {  // modulo P
  std::uint64_t r = 1;
  while (n-- > 0) r = times_x(r);
  return r;
}

// The 16 bytes at p as a register: the first byte is its most significant.
[[gnu::target("pclmul,ssse3"), gnu::always_inline]] inline __m128i load(const std::uint8_t* p) {
  const __m128i reverse = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), reverse);
}

// `stretch` moved ahead; by: x^(n+64) mod P above x^n mod P.
[[gnu::target("pclmul,ssse3"), gnu::always_inline]] inline __m128i moved(__m128i stretch,
                                                                         __m128i by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(stretch, by, 0x11),
                       _mm_clmulepi64_si128(stretch, by, 0x00));
}

// n >= 64
[[gnu::target("pclmul,ssse3")]] std::uint64_t by_products(const std::uint8_t* p, std::int64_t n,
                                                          std::uint64_t crc) {
  constexpr std::uint64_t x128 = power_of_x(128), x192 = power_of_x(192);
  constexpr std::uint64_t x512 = power_of_x(512), x576 = power_of_x(576);
  const __m128i ahead_128 = _mm_set_epi64x(static_cast<long long>(x192), x128);
  const __m128i ahead_512 = _mm_set_epi64x(static_cast<long long>(x576), x512);
  __m128i a = _mm_xor_si128(load(p), _mm_set_epi64x(static_cast<long long>(crc), 0));
  __m128i b = load(p + 16), c = load(p + 32), d = load(p + 48);
  for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
    a = _mm_xor_si128(moved(a, ahead_512), load(p));
    b = _mm_xor_si128(moved(b, ahead_512), load(p + 16));
    c = _mm_xor_si128(moved(c, ahead_512), load(p + 32));
    d = _mm_xor_si128(moved(d, ahead_512), load(p + 48));
  }
  b = _mm_xor_si128(moved(a, ahead_128), b);
  c = _mm_xor_si128(moved(b, ahead_128), c);
  d = _mm_xor_si128(moved(c, ahead_128), d);
  for (; n >= 16; p += 16, n -= 16) d = _mm_xor_si128(moved(d, ahead_128), load(p));

  std::array<std::uint64_t, 2> last;
  std::memcpy(last.data(), &d, 16);
  std::array<std::uint8_t, 16> bytes;
  for (int i = 0; i < 16; ++i) bytes[i] = last[i < 8] >> (56 - 8 * (i & 7));
  return by_tables(p, n, by_tables(bytes.data(), 16, 0));
}

const bool has_products = [] {
  __builtin_cpu_init();
  return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("ssse3");
}();

#endif

std::uint64_t crc64(const std::uint8_t* p, std::int64_t n, std::uint64_t crc,
                    [[maybe_unused]] bool portable) {
#if defined(__x86_64__)
  if (has_products && !portable && n >= 64) return by_products(p, n, crc);
#endif
  return by_tables(p, n, crc);
}

}  // namespace

std::uint64_t crc64(const Array& bytes, std::uint64_t crc, bool portable) {
  constexpr std::int64_t piece = std::int64_t{8} << 20;  // some milliseconds, by tables
  const auto* p = bytes.as<std::uint8_t>();
  for (std::int64_t n = bytes.size(); n > 0; p += piece, n -= piece) {
    poll();
    crc = crc64(p, std::min(n, piece), crc, portable);
  }
  return crc;
}

}  // namespace msf
