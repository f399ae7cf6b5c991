// An image as its order-preserving keys, for kernels that only compare values.
//
// Integers are read in place: their key is the stored bits with the sign bit and, for the reversed
// order, all bits flipped. Floats are converted once, to as many bytes per pixel.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "array.hpp"
#include "order_key.hpp"
#include "parallel.hpp"

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
  KeyImage(const Array& image, bool reversed, const std::uint8_t* inside = nullptr)
      : data_(image.data), width_(item_size(image.dtype)) {
    visit(image.dtype, [&]<class T>(Type<T>) {
      using U = OrderKey<T>;
      const U order = reversed ? static_cast<U>(~U{0}) : U{0};
      if (!is_float<T> && !inside) {
        flip_ = static_cast<U>(order_key(T{0}) ^ order);
        return;
      }
      const std::int64_t n = image.size();
      owned_.reset(new std::uint64_t[(n * sizeof(U) + 7) / 8]);
      data_ = owned_.get();
      U* const keys = reinterpret_cast<U*>(owned_.get());
      const T* const values = image.as<T>();
      std::atomic<bool> nan{false};
      parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
        bool seen = false;
        for (std::int64_t i = begin; i < end; ++i) {
          const bool bad = values[i] != values[i];
          const U key = static_cast<U>(order_key(values[i]) ^ order);
          keys[i] = bad ? static_cast<U>(~U{0}) : key;
          seen |= bad;
        }
        if (inside)
          for (std::int64_t i = begin; i < end; ++i)
            keys[i] = inside[i] ? keys[i] : static_cast<U>(~U{0});
        if (seen) nan.store(true, std::memory_order_relaxed);
      });
      has_nan_ = nan;
    });
  }

  // Gives NaN the highest key among the other pixels (of an image without a mask).
  void lower_nan(const Array& image) {
    visit(image.dtype, [&]<class T>(Type<T>) {
      if constexpr (is_float<T>) {
        auto* const keys = reinterpret_cast<OrderKey<T>*>(owned_.get());
        const T* const values = image.as<T>();
        OrderKey<T> most = 0;
        for (std::int64_t i = 0, n = image.size(); i < n; ++i)
          if (values[i] == values[i]) most = std::max(most, keys[i]);
        for (std::int64_t i = 0, n = image.size(); i < n; ++i)
          if (values[i] != values[i]) keys[i] = most;
      }
    });
  }

  // Keys of one byte become keys of two, for kernels whose scratch of that width holds more.
  void widen(std::int64_t n) {
    if (width_ != 1) return;
    const Keys<std::uint8_t> narrow = keys<std::uint8_t>();
    std::unique_ptr<std::uint64_t[]> wide(new std::uint64_t[(2 * n + 7) / 8]);
    auto* const keys = reinterpret_cast<std::uint16_t*>(wide.get());
    parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) keys[i] = narrow[i];
    });
    owned_ = std::move(wide);
    data_ = owned_.get();
    width_ = 2;
    flip_ = 0;
  }

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
inline std::unique_ptr<std::uint8_t[]> without_nan(const Array& image, const std::uint8_t* inside) {
  const std::int64_t n = image.size();
  std::unique_ptr<std::uint8_t[]> kept(new std::uint8_t[n]);
  visit(image.dtype, [&]<class T>(Type<T>) {
    const T* const values = image.as<T>();
    parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        kept[i] = values[i] == values[i] && (!inside || inside[i]);
    });
  });
  return kept;
}

}  // namespace msf
