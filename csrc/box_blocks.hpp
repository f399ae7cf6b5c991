// Boxes in blocks of 32 neighbours of like size, so that one box meets few of the others.
//
// Blocks are cut from the order of a Z curve through the boxes' centres, within classes of volume a
// factor of four apart. A block knows the hull of its boxes and the range of their volumes. Two
// boxes with an intersection over union above t overlap on more than t of either's side along each
// axis, and neither's volume is below t of the other's; a block where neither can be is skipped.
// Both tests err to the safe side, so the result is that of comparing all pairs.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

namespace msf {

// Order of 32-bit keys, equal ones in the order they come in: `order` by radix passes of 11 bits.
inline void sort_by_key(std::vector<std::uint32_t>& keys, std::vector<std::int32_t>& order) {
  const std::size_t n = order.size();
  std::vector<std::uint32_t> other_keys(n);
  std::vector<std::int32_t> other(n);
  for (int shift = 0; shift < 33; shift += 11) {
    std::array<std::uint32_t, 2049> start{};
    for (const std::uint32_t key : keys) ++start[((key >> shift) & 2047) + 1];
    if (std::find(start.begin(), start.end(), n) != start.end())
      continue;  // all have the same digit
    for (int digit = 0; digit < 2048; ++digit) start[digit + 1] += start[digit];
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t to = start[(keys[i] >> shift) & 2047]++;
      other_keys[to] = keys[i];
      other[to] = order[i];
    }
    keys.swap(other_keys);
    order.swap(other);
  }
}

template <class T, int dims>
struct BoxBlocks {
  static constexpr std::int64_t size = 32;

  using Vector [[gnu::vector_size(32)]] = T;
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Mask [[gnu::vector_size(32)]] = Integer;
  static constexpr std::int64_t lanes = 32 / sizeof(T);

  std::int64_t count = 0, blocks = 0;
  std::vector<std::int32_t> index;  // which member is at a place, -1 in the last block's rest
  std::array<std::vector<T>, dims> low, high;  // by place
  std::vector<T> volume;
  std::array<std::vector<T>, dims> hull_low, hull_high;  // by block
  std::vector<T> least, most;                            // volumes in a block

  static T volume_of(const T* box) {
    T v = box[dims] - box[0];
    for (int axis = 1; axis < dims; ++axis) v *= box[dims + axis] - box[axis];
    return v;
  }

  // Of the boxes that `members` lists.
  BoxBlocks(const T* boxes, const std::vector<std::int32_t>& members)
      : count(static_cast<std::int64_t>(members.size())), blocks((count + size - 1) / size) {
    index.resize(count);
    std::iota(index.begin(), index.end(), 0);
    if (blocks > 1) arrange(boxes, members);
    index.resize(blocks * size, -1);
    // Nothing meets the places that are left over: they are empty at infinity.
    constexpr T infinity = std::numeric_limits<T>::infinity();
    for (int axis = 0; axis < dims; ++axis) {
      low[axis].assign(blocks * size, infinity);
      high[axis].assign(blocks * size, -infinity);
      hull_low[axis].assign(padded(), infinity);
      hull_high[axis].assign(padded(), -infinity);
    }
    volume.assign(blocks * size, T(0));
    least.assign(padded(), infinity);
    most.assign(padded(), -infinity);
    for (std::int64_t place = 0; place < count; ++place) {
      const T* box = boxes + members[index[place]] * std::int64_t{2 * dims};
      const std::int64_t block = place / size;
      for (int axis = 0; axis < dims; ++axis) {
        low[axis][place] = box[axis];
        high[axis][place] = box[dims + axis];
        hull_low[axis][block] = std::min(hull_low[axis][block], box[axis]);  // NaN never enters
        hull_high[axis][block] = std::max(hull_high[axis][block], box[dims + axis]);
      }
      volume[place] = volume_of(box);
      least[block] = std::min(least[block], volume[place]);
      most[block] = std::max(most[block], volume[place]);
    }
  }

  // Blocks whose hull and volumes may meet a box at an intersection over union above `threshold`
  // (at least 0): f(block).
  template <class F>
  void for_each_near(const T* box, T volume_of_box, double threshold, F&& f) const {
    constexpr std::int64_t group = 32;
    constexpr T epsilon = std::numeric_limits<T>::epsilon();
    const T slack = static_cast<T>(threshold * (1 - 1e-4));  // volumes are rounded
    constexpr T tiny = std::numeric_limits<T>::min();        // below, volumes lose their digits
    const T needed = volume_of_box * slack - tiny, room = volume_of_box + tiny;
    std::array<T, dims> from, to;  // what a box must reach beyond
    for (int axis = 0; axis < dims; ++axis) {
      const T a = box[axis], b = box[dims + axis];
      const T side = (b - a) * slack, rounding = 4 * epsilon * (std::abs(a) + std::abs(b));
      from[axis] = a + side - rounding;
      to[axis] = b - side + rounding;
    }
    for (std::int64_t first = 0; first < blocks; first += group) {
      Mask meets[group / lanes];
      Mask any{};
      for (std::int64_t i = 0; i < group / lanes; ++i) {
        const std::int64_t at = first + i * lanes;
        // Not above, instead of at most: a volume of -inf times a slack of 0 is NaN.
        Mask near = (load(most, at) >= needed) & ~(load(least, at) * slack > room);
        for (int axis = 0; axis < dims; ++axis)
          near &=
              (load(hull_low[axis], at) <= to[axis]) & (load(hull_high[axis], at) >= from[axis]);
        meets[i] = near;
        any |= near;
      }
      if (!any_of(any)) continue;
      for (std::int64_t i = 0; i < group; ++i)
        if (meets[i / lanes][i % lanes]) f(first + i);
    }
  }

  static Vector load(const std::vector<T>& from, std::int64_t at) {
    Vector v;
    std::memcpy(&v, from.data() + at, sizeof v);
    return v;
  }
  static bool any_of(const Mask& mask) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), &mask, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) != 0;
  }

 private:
  std::int64_t padded() const { return (blocks + 31) / 32 * 32; }

  void arrange(const T* boxes, const std::vector<std::int32_t>& members) {
    std::array<T, dims> least_centre, scale;
    for (int axis = 0; axis < dims; ++axis) {
      T from = std::numeric_limits<T>::max(), to = std::numeric_limits<T>::lowest();
      for (const std::int32_t i : members) {
        const T c = centre(boxes + i * std::int64_t{2 * dims}, axis);
        if (std::isfinite(c)) from = std::min(from, c), to = std::max(to, c);
      }
      least_centre[axis] = from;
      scale[axis] = to > from ? T(cells - 1) / (to - from) : T(0);
    }
    std::vector<std::uint32_t> keys;
    keys.reserve(index.size());
    for (const std::int32_t i : members) {
      const T* box = boxes + i * std::int64_t{2 * dims};
      std::uint32_t key = 0;
      for (int axis = 0; axis < dims; ++axis) {
        const T cell = (centre(box, axis) - least_centre[axis]) * scale[axis];
        // The comparison is false for NaN.
        const std::uint32_t c =
            cell > 0 ? static_cast<std::uint32_t>(std::min(cell, T(cells - 1))) : 0;
        for (int bit = 0; bit < bits; ++bit) key |= ((c >> bit) & 1) << (bit * dims + axis);
      }
      keys.push_back(key | level(volume_of(box)) << (bits * dims));
    }
    sort_by_key(keys, index);
  }

  static constexpr int bits = dims == 2 ? 8 : 6;
  static constexpr int cells = 1 << bits;

  static T centre(const T* box, int axis) { return box[axis] / 2 + box[dims + axis] / 2; }
  // Factor of four of a volume, within 32 of them around one.
  static std::uint32_t level(T volume) {
    if (!(volume > 0)) return 0;
    const int exponent = std::isfinite(volume) ? std::ilogb(volume) : 63;
    return static_cast<std::uint32_t>(std::clamp(exponent / 2 + 8, 0, 31));
  }
};

}  // namespace msf
