// Neighbours given by a list of steps, in any number of dimensions, and which of them have their
// bit set in a bitmap over the flat indices of the image.
//
// A footprint may be of any shape and off its centre. A neighbour is the flat index plus a fixed
// offset, and the bits of neighbours that follow each other along a row are read together: those of
// the 26 neighbours of a voxel take 9 reads. Where steps may leave the image, coordinates tell
// which of the bits count.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "array.hpp"
#include "bitmask.hpp"

namespace msf {

class Footprint {
 public:
  // steps: image.ndim coordinates each. Those that leave the image from every voxel
  // are dropped.
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
    find_edge();
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

  // Whether some step leaves the image from v: a bit for each row, which all stay in the cache, and
  // how far v lies from the row's ends.
  bool at_edge(std::int64_t v) const {
    const std::int64_t row = row_of(v), column = v - row * length_;
    return static_cast<std::uint64_t>(column - low_) >= inner_ ||
           (edge_rows_[row >> 6] >> (row & 63) & 1);
  }

  // How far a neighbour's flat index is at most from its voxel's.
  std::int64_t reach() const { return reach_; }

  // Neighbours at `offset` + i for the bits i of `pattern`; their bits go to `place` + i.
  struct Cell {
    std::int64_t offset;
    Word pattern;
    int place;
  };
  // Neighbours whose bits fit a word: bit i stands for the one at offsets[i]. Cells of one
  // neighbour come first.
  struct Block {
    int singles = 0, rows = 0;
    Cell cells[word_bits];
    std::int64_t offsets[word_bits];

    // The bits of v's neighbours; singles, rows: their numbers, if known when compiling.
    template <int known_singles = -1, int known_rows = -1>
    Word gather(const Word* bits, std::int64_t v) const {
      const int first_row = known_singles < 0 ? singles : known_singles;
      const int end = first_row + (known_rows < 0 ? rows : known_rows);
      Word found = 0;
      for (int i = 0; i < first_row; ++i) {
        const std::int64_t w = v + cells[i].offset;
        found |= (bits[w >> 6] >> (w & 63) & 1) << cells[i].place;
      }
      for (int i = first_row; i < end; ++i) {
        const std::int64_t w = v + cells[i].offset;
        const Word* const word = bits + (w >> 6);
        const int shift = static_cast<int>(w & 63);
        const Word run = word[0] >> shift | word[1] << 1 << (63 - shift);
        found |= (run & cells[i].pattern) << cells[i].place;
      }
      return found;
    }
  };
  const std::vector<Block>& blocks() const { return blocks_; }

  // The bits of a block that stand for neighbours of v inside the image.
  [[gnu::noinline]] Word inside(std::size_t block, std::int64_t v) const {
    std::int64_t at[max_dims];
    coordinates(v, at);
    Word valid = 0;
    for (std::int64_t i = 0; i < count(); ++i)
      if (blocks_of_[i] == block && inside(i, at)) valid |= Word{1} << places_[i];
    return valid;
  }

  // The bits of a block's neighbours of v. The bitmap must reach `reach()` bits beyond the image on
  // both sides.
  template <int known_singles = -1, int known_rows = -1>
  Word gather(std::size_t block, const Word* bits, std::int64_t v) const {
    Word found = blocks_[block].template gather<known_singles, known_rows>(bits, v);
    if (found && at_edge(v)) [[unlikely]]
      found &= inside(block, v);
    return found;
  }

  // f(w) for every neighbour w of v whose bit is set, until f returns false.
  template <class F>
  void each_set(const Word* bits, std::int64_t v, F&& f) const {
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      Word found = gather(b, bits, v);
      for (; found; found &= found - 1)
        if (!f(v + blocks_[b].offsets[std::countr_zero(found)])) return;
    }
  }

 private:
  void add(const std::int64_t* step) {
    std::int64_t flat = 0;
    for (int axis = 0; axis < ndim_; ++axis) {
      if (std::abs(step[axis]) >= extents_[axis]) return;
      flat += step[axis] * strides_[axis];
    }
    if (flat == 0 && std::all_of(step, step + ndim_, [](auto s) { return s == 0; })) return;
    offsets_.push_back(flat);
    reach_ = std::max(reach_, std::abs(flat));
    for (int axis = 0; axis < ndim_; ++axis) {
      steps_.push_back(step[axis]);
      before_[axis] = std::max(before_[axis], -step[axis]);
      after_[axis] = std::max(after_[axis], step[axis]);
    }
  }

  void gather() {
    constexpr std::int64_t widest = 32;
    std::vector<std::int64_t> order(count());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](auto a, auto b) { return offsets_[a] < offsets_[b]; });
    blocks_of_.resize(count());
    places_.resize(count());
    int place = word_bits;
    for (std::size_t i = 0; i < order.size();) {
      Cell cell{offsets_[order[i]], 0, place};
      std::size_t next = i;
      for (; next < order.size() && offsets_[order[next]] - cell.offset < widest; ++next)
        cell.pattern |= Word{1} << (offsets_[order[next]] - cell.offset);
      const int width = std::bit_width(cell.pattern);
      if (cell.place + width > word_bits) {
        blocks_.emplace_back();
        cell.place = place = 0;
      }
      Block& block = blocks_.back();
      for (; i < next; ++i) {
        blocks_of_[order[i]] = blocks_.size() - 1;
        places_[order[i]] = place + static_cast<int>(offsets_[order[i]] - cell.offset);
        block.offsets[places_[order[i]]] = offsets_[order[i]];
      }
      Cell* const end = block.cells + block.singles + block.rows;
      *end = cell;
      if (width == 1)
        std::swap(*end, block.cells[block.singles++]);
      else
        ++block.rows;
      place += width;
    }
  }

  std::int64_t row_of(std::int64_t v) const {
    if (inverse_ == 0) return v / length_;
    return static_cast<std::int64_t>(static_cast<unsigned __int128>(v) * inverse_ >> 63);
  }

  void find_edge() {
    if (count() == 0 || strides_[0] * extents_[0] == 0) return;
    length_ = extents_.back();
    low_ = std::min(before_.back(), length_);
    inner_ = std::max(low_, length_ - after_.back()) - low_;
    const std::int64_t rows = strides_[0] * extents_[0] / length_;
    edge_rows_.resize(words_for(rows));
    mark_rows(0, 0);
    // v * inverse is v / length with an error of less than v * length / 2^63 of 1 / length.
    constexpr std::uint64_t one = std::uint64_t{1} << 63;
    const auto length = static_cast<std::uint64_t>(length_);
    if (static_cast<std::uint64_t>(rows) < one / length / length) inverse_ = one / length + 1;
  }

  // Rows from which a step along another axis leaves the image.
  void mark_rows(int axis, std::int64_t first) {
    if (axis == ndim_ - 1) return;
    const std::int64_t extent = extents_[axis], stride = strides_[axis] / length_;
    const std::int64_t low = std::min(before_[axis], extent);
    const std::int64_t high = std::max(low, extent - after_[axis]);
    Word* const bits = edge_rows_.data();
    set(bits, first, first + low * stride);
    set(bits, first + high * stride, first + extent * stride);
    for (std::int64_t i = low; i < high; ++i) mark_rows(axis + 1, first + i * stride);
  }

  static void set(Word* bits, std::int64_t begin, std::int64_t end) {
    for (; begin < end && begin % word_bits; ++begin) bits[begin >> 6] |= Word{1} << (begin & 63);
    for (; begin + word_bits <= end; begin += word_bits) bits[begin >> 6] = ~Word{0};
    for (; begin < end; ++begin) bits[begin >> 6] |= Word{1} << (begin & 63);
  }

  int ndim_;
  std::vector<std::int64_t> extents_, strides_;
  std::vector<std::int64_t> before_, after_;  // how far steps go, by axis
  std::vector<std::int64_t> offsets_, steps_;
  std::int64_t reach_ = 0;
  std::vector<int> axes_;
  std::vector<Block> blocks_;
  std::vector<std::size_t> blocks_of_;  // by step: its block
  std::vector<int> places_;             // and its bit there
  std::int64_t length_ = 1, low_ = 0;   // of rows; the first column that is no edge
  std::uint64_t inner_ = 0;             // columns that are no edge
  std::uint64_t inverse_ = 0;           // of the length, 63 bits behind the point; 0: division
  std::vector<Word> edge_rows_;
};

}  // namespace msf
