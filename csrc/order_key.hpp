// Pixel values as unsigned integers of the same order.
//
// What depends only on the order of values (watershed, reconstruction, minima, component trees)
// compares, sorts and buckets such keys, so that it is compiled for four widths instead of twelve
// dtypes and float16 needs no conversion.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "array.hpp"

namespace msf {

// The unsigned integer as wide as T.
template <class T>
using OrderKey = std::conditional_t<
    sizeof(T) == 1, std::uint8_t,
    std::conditional_t<sizeof(T) == 2, std::uint16_t,
                       std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;

// Keys of equal values are equal (-0 is 0). NaN comes above +inf or, with its sign set, below -inf.
template <class T>
OrderKey<T> order_key(T value) {
  using U = OrderKey<T>;
  constexpr U sign = U{1} << (8 * sizeof(T) - 1);
  if constexpr (is_float<T>) {
    U bits = std::bit_cast<U>(value);
    if (bits == sign) bits = 0;
    return static_cast<U>(bits & sign ? ~bits : bits | sign);
  } else {
    return static_cast<U>(std::is_signed_v<T> ? static_cast<U>(value) ^ sign : value);
  }
}

}  // namespace msf
