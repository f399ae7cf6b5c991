// Pixels of a tile in order of value: their ranks in 256 classes, and the k-th of a class that a
// window holds. Used by local_median.cpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "array.hpp"

namespace msf::local {

// Unsigned integers of 32 or 64 bits in the order of the values of V; NaN is the largest, whatever
// its sign.
template <class V>
struct Key {
  using Bits = std::conditional_t<sizeof(V) <= 4, std::uint32_t, std::uint64_t>;
  using Narrow = std::conditional_t<
      sizeof(V) == 1, std::uint8_t,
      std::conditional_t<sizeof(V) == 2, std::uint16_t,
                         std::conditional_t<sizeof(V) == 4, std::uint32_t, std::uint64_t>>>;
  static constexpr Narrow sign = static_cast<Narrow>(Narrow{1} << (8 * sizeof(V) - 1));
  static constexpr Bits nan = std::numeric_limits<Bits>::max();
  static constexpr bool has_nan = is_float<V>;

  static Bits of(V value) {
    const Narrow bits = std::bit_cast<Narrow>(value);
    if constexpr (has_nan)
      return value != value ? nan : static_cast<Narrow>(bits & sign ? ~bits : bits | sign);
    else
      return std::is_signed_v<V> ? static_cast<Narrow>(bits ^ sign) : bits;
  }
  static double value(Bits key) {
    const Narrow bits = static_cast<Narrow>(key);
    if constexpr (has_nan) {
      if (key == nan) return std::numeric_limits<double>::quiet_NaN();
      return static_cast<double>(
          std::bit_cast<V>(static_cast<Narrow>(bits & sign ? bits & ~sign : ~bits)));
    } else {
      return static_cast<double>(
          std::bit_cast<V>(std::is_signed_v<V> ? static_cast<Narrow>(bits ^ sign) : bits));
    }
  }
};

template <class Bits>
struct Pixel {
  Bits key;
  std::uint32_t place;
};

// Rectangles of rows x columns pixels, one after the other, which lie in the same windows.
class RankedTile {
 public:
  using Index = std::int64_t;

  // Of pixels with keys; value(key) is the pixel's value. `nan_is_key`: the largest key is NaN.
  template <class Bits>
  RankedTile(Index rows, Index columns, std::vector<Pixel<Bits>> pixels, double (*value)(Bits),
             bool nan_is_key)
      : rows_(rows), columns_(columns), size_(static_cast<Index>(pixels.size())) {
    for (Index i = 0; i < size_; ++i) pixels[i].place = static_cast<std::uint32_t>(i);
    if (nan_is_key) count_nan(pixels);
    radix_sort(pixels);
    class_size_ = (size_ + 255) / 256;
    classes_.resize(size_);
    values_.resize(size_);
    // 16 more than there are pixels, in no window: select() reads 16 at a time.
    row_of_.assign(size_ + 16, std::numeric_limits<std::uint16_t>::max());
    column_of_.assign(size_ + 16, std::numeric_limits<std::uint16_t>::max());
    const auto width = static_cast<std::uint32_t>(columns);
    const auto area = static_cast<std::uint32_t>(rows * columns);
    for (Index rank = 0, left = class_size_, bin = 0; rank < size_; ++rank) {
      const std::uint32_t place = pixels[rank].place, in_slice = place % area;
      classes_[place] = static_cast<std::uint8_t>(bin);
      row_of_[rank] = static_cast<std::uint16_t>(in_slice / width);
      column_of_[rank] = static_cast<std::uint16_t>(in_slice % width);
      values_[rank] = value(pixels[rank].key);
      if (--left == 0) left = class_size_, ++bin;
    }
  }

  const std::uint8_t* classes(Index slice, Index y) const {
    return classes_.data() + (slice * rows_ + y) * columns_;
  }

  // Value of the k-th (from 0) pixel of a class among those in the window that starts at (y, x).
  double select(Index bin, Index k, Index y, Index x, Index height, Index width) const {
    using Half = std::uint16_t __attribute__((vector_size(32)));
    using Bytes = std::int8_t __attribute__((vector_size(16)));
    const auto y0 = static_cast<std::uint16_t>(y), x0 = static_cast<std::uint16_t>(x);
    const auto h = static_cast<std::uint16_t>(height), w = static_cast<std::uint16_t>(width);
    for (Index rank = bin * class_size_;; rank += 16) {
      Half rows, columns;
      std::memcpy(&rows, row_of_.data() + rank, sizeof rows);
      std::memcpy(&columns, column_of_.data() + rank, sizeof columns);
      const auto inside = (rows - y0 < h) & (columns - x0 < w);
      const Bytes flags = -__builtin_convertvector(inside, Bytes);
      std::uint64_t half[2];
      std::memcpy(half, &flags, sizeof half);
      for (const std::uint64_t ones : half) {
        const Index count = std::popcount(ones);
        if (k < count) {
          std::uint64_t rest = ones;
          for (; k > 0; --k) rest &= rest - 1;
          return values_[rank + std::countr_zero(rest) / 8];
        }
        k -= count;
        rank += 8;
      }
      rank -= 16;
    }
  }

  // NaN for every window of row y that holds one.
  void spread_nan(Index y, Index height, Index width, std::vector<double>& level) const {
    if (nan_above_.empty()) return;
    const Index pitch = columns_ + 1;
    const std::uint32_t* const top = nan_above_.data() + y * pitch;
    const std::uint32_t* const bottom = top + height * pitch;
    for (Index x = 0; x < static_cast<Index>(level.size()); ++x)
      if (bottom[x + width] - bottom[x] - top[x + width] + top[x])
        level[x] = std::numeric_limits<double>::quiet_NaN();
  }

 private:
  // Least significant byte first; a byte that all pixels share is skipped.
  template <class Bits>
  void radix_sort(std::vector<Pixel<Bits>>& pixels) const {
    constexpr int bytes = sizeof(Bits);
    std::vector<std::uint32_t> counts(bytes * 256);
    for (const Pixel<Bits>& p : pixels)
      for (int i = 0; i < bytes; ++i) ++counts[i * 256 + (p.key >> (8 * i) & 255)];
    std::vector<Pixel<Bits>> other(size_);
    for (int i = 0; i < bytes; ++i) {
      std::uint32_t* const count = counts.data() + i * 256;
      if (size_ == 0 || count[pixels[0].key >> (8 * i) & 255] == size_) continue;
      for (std::uint32_t digit = 0, sum = 0; digit < 256; ++digit) {
        const std::uint32_t n = count[digit];
        count[digit] = sum;
        sum += n;
      }
      for (const Pixel<Bits>& p : pixels) other[count[p.key >> (8 * i) & 255]++] = p;
      pixels.swap(other);
    }
  }

  // Summed area table of NaN pixels, all slices together; empty when there is none.
  template <class Bits>
  void count_nan(const std::vector<Pixel<Bits>>& pixels) {
    const auto is_nan = [](const Pixel<Bits>& p) {
      return p.key == std::numeric_limits<Bits>::max();
    };
    if (std::none_of(pixels.begin(), pixels.end(), is_nan)) return;
    const Index pitch = columns_ + 1;
    nan_above_.assign((rows_ + 1) * pitch, 0);
    for (Index i = 0; i < size_; ++i)
      if (is_nan(pixels[i])) ++nan_above_[(i / columns_ % rows_ + 1) * pitch + i % columns_ + 1];
    for (Index y = 1; y <= rows_; ++y)
      for (Index x = 1; x <= columns_; ++x)
        nan_above_[y * pitch + x] += nan_above_[y * pitch + x - 1] +
                                     nan_above_[(y - 1) * pitch + x] -
                                     nan_above_[(y - 1) * pitch + x - 1];
  }

  Index rows_, columns_, size_, class_size_ = 1;
  std::vector<double> values_;  // by rank
  std::vector<std::uint8_t> classes_;
  std::vector<std::uint16_t> row_of_, column_of_;
  std::vector<std::uint32_t> nan_above_;
};

}  // namespace msf::local
