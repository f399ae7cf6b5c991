// Neighbours given by a list of steps, in any number of dimensions, and which of them have their
// bit set in a bitmap over the flat indices of the image.
//
// A footprint may be of any shape and off its centre. Away from the image's edge a neighbour is the
// flat index plus a fixed offset, and the bits of neighbours that follow each other along a row are
// read together: the 26 neighbours of a voxel take 9 reads instead of 26. Within reach of the edge
// each step's coordinates are checked. Bitmaps have one word more than the image needs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "array.hpp"
#include "bitmask.hpp"

namespace msf {

class Footprint {
 public:
  // steps: image.ndim coordinates each. Those that leave the image from everywhere are dropped.
  Footprint(const Array& image, const std::vector<std::int64_t>& steps)
      : ndim_(image.ndim),
        extents_(image.shape.begin(), image.shape.begin() + image.ndim),
        strides_(image.ndim, 1),
        before_(image.ndim, 0),
        after_(image.ndim, 0) {
    for (int axis = ndim_ - 1; axis > 0; --axis)
      strides_[axis - 1] = strides_[axis] * extents_[axis];
    for (std::size_t i = 0; i + ndim_ <= steps.size(); i += ndim_) add(steps.data() + i);
    for (int axis = 0; axis < ndim_; ++axis)  // an axis that no step follows cannot be left
      if (before_[axis] || after_[axis]) axes_.push_back(axis);
    gather();
  }

  std::int64_t count() const { return static_cast<std::int64_t>(offsets_.size()); }
  std::int64_t offset(std::int64_t i) const { return offsets_[i]; }
  const std::int64_t* step(std::int64_t i) const { return steps_.data() + i * ndim_; }

  // Whether step i stays inside the image from the voxel with these coordinates.
  bool inside(std::int64_t i, const std::int64_t* at) const {
    const std::int64_t* s = step(i);
    for (const int axis : axes_)
      if (static_cast<std::uint64_t>(at[axis] + s[axis]) >=
          static_cast<std::uint64_t>(extents_[axis]))
        return false;
    return true;
  }

  void coordinates(std::int64_t v, std::int64_t* at) const {
    for (int axis = ndim_; axis-- > 0;) {
      const std::int64_t extent = extents_[axis];
      const std::int64_t next =  // twice as fast as the 64-bit division where it is enough
          v >> 32 ? v / extent : static_cast<std::uint32_t>(v) / static_cast<std::uint64_t>(extent);
      at[axis] = v - next * extent;
      v = next;
    }
  }

  // Sets the bit of every voxel from which some step leaves the image.
  void mark_edge(Word* bits) const { mark_edge(bits, 0, 0); }

  // f(w) for every neighbour w of v whose bit is set, until f returns false; edge: some step may
  // leave the image from v.
  template <class F>
  void each_set(const Word* bits, std::int64_t v, bool edge, F&& f) const {
    if (edge) [[unlikely]] {
      std::int64_t at[max_dims];
      coordinates(v, at);
      for (std::int64_t i = 0; i < count(); ++i) {
        if (!inside(i, at)) continue;
        const std::int64_t w = v + offsets_[i];
        if ((bits[w >> 6] >> (w & 63) & 1) && !f(w)) return;
      }
      return;
    }
    for (const Block& block : blocks_) {
      Word found = 0;
      for (const Cell& cell : block.singles) {
        const std::int64_t w = v + cell.offset;
        found |= (bits[w >> 6] >> (w & 63) & 1) << cell.place;
      }
      for (const Cell& cell : block.rows) {
        const std::int64_t w = v + cell.offset;
        const Word* const word = bits + (w >> 6);
        const int shift = static_cast<int>(w & 63);
        found |= ((word[0] >> shift | word[1] << 1 << (63 - shift)) & cell.pattern) << cell.place;
      }
      for (; found; found &= found - 1)
        if (!f(v + block.offsets[std::countr_zero(found)])) return;
    }
  }

  // f(offset) for one neighbour of each row: where a cache line may be missing.
  template <class F>
  void each_row(F&& f) const {
    for (const std::int64_t offset : row_offsets_) f(offset);
  }

 private:
  // Neighbours at `offset` + i for the bits i of `pattern`; their bits go to `place` + i.
  struct Cell {
    std::int64_t offset;
    Word pattern;
    int place;
  };
  struct Block {  // neighbours whose bits fit a word
    std::vector<Cell> singles, rows;
    std::int64_t offsets[word_bits];
  };

  void add(const std::int64_t* step) {
    std::int64_t flat = 0;
    for (int axis = 0; axis < ndim_; ++axis) {
      if (std::abs(step[axis]) >= extents_[axis]) return;
      flat += step[axis] * strides_[axis];
    }
    if (flat == 0 && std::all_of(step, step + ndim_, [](auto s) { return s == 0; })) return;
    offsets_.push_back(flat);
    for (int axis = 0; axis < ndim_; ++axis) {
      steps_.push_back(step[axis]);
      before_[axis] = std::max(before_[axis], -step[axis]);
      after_[axis] = std::max(after_[axis], step[axis]);
    }
  }

  void gather() {
    constexpr std::int64_t widest = 32;
    std::vector<std::int64_t> sorted = offsets_;
    std::sort(sorted.begin(), sorted.end());
    int place = word_bits;
    for (std::size_t i = 0; i < sorted.size();) {
      Cell cell{sorted[i], 0, place};
      std::size_t next = i;
      while (next < sorted.size() && sorted[next] - sorted[i] < widest)
        cell.pattern |= Word{1} << (sorted[next++] - sorted[i]);
      const int width = std::bit_width(cell.pattern);
      if (cell.place + width > word_bits) {
        blocks_.emplace_back();
        cell.place = place = 0;
      }
      Block& block = blocks_.back();
      for (int bit = 0; bit < width; ++bit) block.offsets[place + bit] = cell.offset + bit;
      (width == 1 ? block.singles : block.rows).push_back(cell);
      row_offsets_.push_back(cell.offset);
      place += width;
      i = next;
    }
  }

  void mark_edge(Word* bits, int axis, std::int64_t first) const {
    const std::int64_t extent = extents_[axis], stride = strides_[axis];
    const std::int64_t low = std::min(before_[axis], extent);
    const std::int64_t high = std::max(low, extent - after_[axis]);
    set(bits, first, first + low * stride);
    set(bits, first + high * stride, first + extent * stride);
    if (axis + 1 < ndim_)
      for (std::int64_t i = low; i < high; ++i) mark_edge(bits, axis + 1, first + i * stride);
  }

  static void set(Word* bits, std::int64_t begin, std::int64_t end) {
    for (; begin < end && begin % word_bits; ++begin) bits[begin >> 6] |= Word{1} << (begin & 63);
    for (; begin + word_bits <= end; begin += word_bits) bits[begin >> 6] = ~Word{0};
    for (; begin < end; ++begin) bits[begin >> 6] |= Word{1} << (begin & 63);
  }

  int ndim_;
  std::vector<std::int64_t> extents_, strides_;
  std::vector<std::int64_t> before_, after_;  // how far steps go, by axis
  std::vector<std::int64_t> offsets_, steps_, row_offsets_;
  std::vector<int> axes_;
  std::vector<Block> blocks_;
};

}  // namespace msf
