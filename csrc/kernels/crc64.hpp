// Checksum of network messages.
#pragma once

#include <cstdint>

#include "array.hpp"

namespace msf {

// CRC-64 of ECMA-182 (polynomial 0x42F0E1EBA9EA3693, most significant bit first, nothing inverted)
// of the array's bytes; `crc` is that of the bytes before them, 0 at the start. `portable`: by
// tables, even where the CPU can multiply without carries; the result is the same.
std::uint64_t crc64(const Array& bytes, std::uint64_t crc, bool portable);

}  // namespace msf
