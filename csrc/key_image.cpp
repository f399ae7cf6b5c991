#include "key_image.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "parallel.hpp"

namespace msf {

KeyImage::KeyImage(const Array& image, bool reversed, const std::uint8_t* inside)
    : data_(image.data), width_(item_size(image.dtype)) {
  visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
    using U = OrderKey<T>;
    const U order = reversed ? static_cast<U>(~U{0}) : U{0};
    const U flip = is_float<T> ? order : static_cast<U>(order ^ sign_bit<U>(image.dtype));
    if (!is_float<T> && !inside) {
      flip_ = flip;
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
        const U key = static_cast<U>(order_key(values[i]) ^ flip);
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

void KeyImage::lower_nan(const Array& image) {
  visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
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

void KeyImage::widen(std::int64_t n) {
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

std::unique_ptr<std::uint8_t[]> without_nan(const Array& image, const std::uint8_t* inside) {
  const std::int64_t n = image.size();
  std::unique_ptr<std::uint8_t[]> kept(new std::uint8_t[n]);
  visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
    const T* const values = image.as<T>();
    parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        kept[i] = values[i] == values[i] && (!inside || inside[i]);
    });
  });
  return kept;
}

}  // namespace msf
