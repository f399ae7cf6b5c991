// The upper half of a float32, as storage: converted where it is read and written.
#pragma once

#include <bit>
#include <cstdint>

namespace msf {

struct BFloat16 {
  std::uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) {  // to nearest, ties to even
    const auto word = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    bits = static_cast<std::uint16_t>(value != value ? 0x7fc0 : rounded);
  }
  operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

}  // namespace msf
