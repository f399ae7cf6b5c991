// What the watersheds share: labels of any width, keys of any dtype, the bitmaps they start from.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>

#include "array.hpp"
#include "bitmask.hpp"
#include "footprint.hpp"
#include "order_key.hpp"
#include "parallel.hpp"
#include "zeroed.hpp"

namespace msf {

// Labels of 1 to 8 bytes by one compiled loop: the switch always goes the same way.
class Labels {
 public:
  explicit Labels(const MutableArray& labels)
      : data_(labels.as<std::uint8_t>()),
        shift_(std::countr_zero(static_cast<std::uint64_t>(item_size(labels.dtype)))) {}

  std::uint64_t operator[](std::int64_t v) const {
    switch (shift_) {
      case 0:
        return data_[v];
      case 1:
        return as<std::uint16_t>()[v];
      case 2:
        return as<std::uint32_t>()[v];
      default:
        return as<std::uint64_t>()[v];
    }
  }
  void set(std::int64_t v, std::uint64_t label) {
    switch (shift_) {
      case 0:
        data_[v] = static_cast<std::uint8_t>(label);
        break;
      case 1:
        as<std::uint16_t>()[v] = static_cast<std::uint16_t>(label);
        break;
      case 2:
        as<std::uint32_t>()[v] = static_cast<std::uint32_t>(label);
        break;
      default:
        as<std::uint64_t>()[v] = label;
    }
  }
  // f(data) with a pointer to unsigned integers of the labels' width.
  template <class F>
  decltype(auto) visit(F&& f) const {
    switch (shift_) {
      case 0:
        return f(data_);
      case 1:
        return f(as<std::uint16_t>());
      case 2:
        return f(as<std::uint32_t>());
      default:
        return f(as<std::uint64_t>());
    }
  }
  const void* address(std::int64_t v) const { return data_ + (v << shift_); }

  // Bit k tells whether the labels of begin + k and begin + k + offset differ, k < 64; what lies
  // outside the `pixels` does not count.
  Word differ(std::int64_t begin, std::int64_t offset, std::int64_t pixels) const {
    const std::int64_t first = std::clamp<std::int64_t>(-(begin + offset), 0, word_bits);
    const std::int64_t last = std::clamp<std::int64_t>(
        pixels - begin - std::max<std::int64_t>(offset, 0), first, word_bits);
    std::uint8_t bytes[word_bits] = {};
    visit([&]<class T>(const T* label) {
      const T *const a = label + begin, *const b = a + offset;
      for (std::int64_t k = first; k < last; ++k) bytes[k] = a[k] != b[k];
    });
    return nonzero_bits(bytes);
  }

 private:
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  std::uint8_t* data_;
  int shift_;
};

// order_key of the pixels of every dtype as wide as Key.
template <class Key>
class PixelKeys {
 public:
  explicit PixelKeys(const Array& image) : data_(image.as<Key>()), dtype_(image.dtype) {
    visit(dtype_, [&]<class T>(Type<T>) {
      kind_ = is_float<T> ? Kind::floating : std::is_signed_v<T> ? Kind::signed_ : Kind::unsigned_;
    });
  }

  Key operator[](std::int64_t v) const {
    constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);
    const Key bits = data_[v];
    if (kind_ == Kind::unsigned_) return bits;
    if (kind_ == Kind::signed_) return bits ^ sign;
    if constexpr (sizeof(Key) > 1) {
      using Float = std::conditional_t<sizeof(Key) == 2, float16,
                                       std::conditional_t<sizeof(Key) == 4, float, double>>;
      return order_key(std::bit_cast<Float>(bits));
    }
    return bits;
  }
  const void* address(std::int64_t v) const { return data_ + v; }

 private:
  enum class Kind : std::uint8_t { unsigned_, signed_, floating };
  const Key* data_;
  DType dtype_;
  Kind kind_ = Kind::unsigned_;
};

// One bit per voxel, and zeros for `margin` more on both sides.
class Bitmap {
 public:
  Bitmap(std::int64_t voxels, std::int64_t margin)
      : memory_(sizeof(Word) * (words_for(voxels) + 2 * (words_for(margin) + 1))),
        words_(reinterpret_cast<Word*>(memory_.data()) + words_for(margin) + 1) {}
  bool operator[](std::int64_t v) const { return words_[v >> 6] >> (v & 63) & 1; }
  void set(std::int64_t v) { words_[v >> 6] |= Word{1} << (v & 63); }
  void clear(std::int64_t v) { words_[v >> 6] &= ~(Word{1} << (v & 63)); }
  Word* words() { return words_; }
  const Word* words() const { return words_; }

 private:
  Zeroed memory_;
  Word* words_;
};

// Gives the labels their start, the `given` markers (which may be the labels themselves) without
// those that no basin may take, outside the mask or NaN, and finds the voxels that basins may take
// and those that are markers. With `keys`, the labels of what basins may take are its keys, for
// which they must be wide enough.
void set_up(const Array& image, const std::optional<Array>& mask, const Array& given, bool keys,
            const MutableArray& labels, Bitmap& free, Bitmap& markers);

// f(v) in raster order for the markers next to a free voxel and, if `labels` are given, for those
// next to a marker of another label. Some others may come too, because a step that leaves the image
// along a row enters the next row here.
template <class F>
void for_each_front_marker(const Footprint& footprint, const Bitmap& free, const Bitmap& markers,
                           const Labels* labels, std::int64_t pixels, F&& f) {
  const std::int64_t words = words_for(pixels);
  Ticker tick(1 << 10);
  const auto run_of = [](const Bitmap& bits, std::int64_t first) {
    const std::int64_t shift = first & 63;
    const Word* const word = bits.words() + (first >> 6);
    return word[0] >> shift | word[1] << 1 << (63 - shift);
  };
  for (std::int64_t i = 0; i < words; ++i) {
    tick();
    const std::int64_t begin = i * word_bits;
    const Word marked = markers.words()[i];
    if (!marked) continue;
    Word near = 0;
    for (std::int64_t n = 0; n < footprint.count() && (marked & ~near); ++n)
      near |= run_of(free, begin + footprint.offset(n));
    for (std::int64_t n = 0; labels && n < footprint.count() && (marked & ~near); ++n) {
      const Word both = marked & run_of(markers, begin + footprint.offset(n));
      if (both & ~near) near |= both & labels->differ(begin, footprint.offset(n), pixels);
    }
    for (Word front = marked & near; front; front &= front - 1) f(begin + std::countr_zero(front));
  }
}

}  // namespace msf
