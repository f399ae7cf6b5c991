// An image as its order-preserving keys, for kernels that only compare values.
//
// Integers are read in place: their key is the stored bits with the sign bit and, for the reversed
// order, all bits flipped. Floats are converted once, to as many bytes per pixel.
#pragma once

#include <cstdint>
#include <memory>

#include "array.hpp"
#include "order_key.hpp"

namespace msf {

// Keys of type U: key of pixel i is data[i] ^ flip.
template <class U>
struct Keys {
  const U* data;
  U flip;
  U operator[](std::int64_t i) const { return static_cast<U>(data[i] ^ flip); }
};

class KeyImage {
 public:
  // reversed: the highest value gets the lowest key. inside: null, or a byte per pixel; pixels
  // where it is 0, and NaN, get the highest key there is.
  KeyImage(const Array& image, bool reversed, const std::uint8_t* inside = nullptr);

  // Gives NaN the highest key among the other pixels (of an image without a mask).
  void lower_nan(const Array& image);

  // Keys of one byte become keys of two, for kernels whose scratch of that width holds more.
  void widen(std::int64_t n);

  bool has_nan() const { return has_nan_; }

  // f(Keys<U>) with the unsigned integer as wide as the image's elements.
  template <class F>
  decltype(auto) visit_keys(F&& f) const {
    switch (width_) {
      case 1:
        return f(keys<std::uint8_t>());
      case 2:
        return f(keys<std::uint16_t>());
      case 4:
        return f(keys<std::uint32_t>());
      default:
        return f(keys<std::uint64_t>());
    }
  }

 private:
  template <class U>
  Keys<U> keys() const {
    return {static_cast<const U*>(data_), static_cast<U>(flip_)};
  }

  const void* data_;
  std::int64_t width_;
  std::uint64_t flip_ = 0;
  bool has_nan_ = false;
  std::unique_ptr<std::uint64_t[]> owned_;
};

// `inside` (null: everywhere) without the NaN pixels of a float image.
std::unique_ptr<std::uint8_t[]> without_nan(const Array& image, const std::uint8_t* inside);

}  // namespace msf
