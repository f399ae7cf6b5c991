// A mask of two or three dimensions as bits with a border of zeros: one word after each row, one
// row around each plane, one plane at each end. A neighbour's word is always there, at a fixed
// offset, so that word-parallel operators run over whole planes without a test. An image is a
// volume of one plane.
#pragma once

#include <stdexcept>
#include <vector>

#include "bitmask.hpp"
#include "parallel.hpp"

namespace msf {

struct BitShape {
  std::int64_t planes, rows, columns, words;

  explicit BitShape(const Array& image)
      : planes(image.ndim == 3 ? image.shape[0] : 1),
        rows(image.ndim >= 2 ? image.shape[image.ndim - 2] : 1),
        columns(image.shape[image.ndim - 1]),
        words(words_for(columns)) {
    if (image.ndim != 2 && image.ndim != 3) throw std::invalid_argument("two or three dimensions");
  }
  std::int64_t stride() const { return words + 1; }                    // words from row to row
  std::int64_t plane_stride() const { return (rows + 2) * stride(); }  // from plane to plane
  std::int64_t pixels() const { return planes * rows * columns; }
  // Offset of the first word of a row, counted from the first bordered plane.
  std::int64_t row(std::int64_t z, std::int64_t y) const {
    return 1 + (z + 1) * plane_stride() + (y + 1) * stride();
  }
  std::int64_t total() const { return 2 + (planes + 2) * plane_stride(); }
  // The bits of a word that are pixels.
  Word valid(std::int64_t word) const {
    const std::int64_t left = columns - word * word_bits;
    return left >= word_bits ? ~Word{0} : (Word{1} << left) - 1;
  }
  // Flat index of the first pixel of a row.
  std::int64_t pixel(std::int64_t z, std::int64_t y) const { return (z * rows + y) * columns; }

  // body(z, first row, last row) for pieces of planes, each of a few thousand words.
  template <class F>
  void each_piece(F&& body) const {
    if (pixels() == 0) return;
    const std::int64_t most = std::max<std::int64_t>(1, (1 << 12) / stride());
    const std::int64_t pieces = (rows + most - 1) / most;
    parallel_tasks(planes * pieces, [&](std::int64_t task) {
      const std::int64_t z = task / pieces, y = task % pieces * most;
      body(z, y, std::min(rows, y + most));
    });
  }
};

class BitVolume {
 public:
  explicit BitVolume(const BitShape& shape) : shape_(shape), words_(shape.total(), 0) {}

  const BitShape& shape() const { return shape_; }
  Word* row(std::int64_t z, std::int64_t y) { return words_.data() + shape_.row(z, y); }
  const Word* row(std::int64_t z, std::int64_t y) const { return words_.data() + shape_.row(z, y); }
  // The word at an offset that `BitShape::row` counts.
  const Word* at(std::int64_t offset) const { return words_.data() + offset; }
  void swap(BitVolume& other) { words_.swap(other.words_); }

  // Bits of bytes that are 0 or not.
  void pack(const std::uint8_t* bytes) {
    shape_.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      for (std::int64_t y = first; y < last; ++y)
        pack_row(bytes + shape_.pixel(z, y), shape_.columns, row(z, y));
    });
  }

 private:
  BitShape shape_;
  std::vector<Word> words_;
};

// The word of the pixels one column before (after) those of *p.
inline Word before(const Word* p) { return p[0] << 1 | p[-1] >> 63; }
inline Word after(const Word* p) { return p[0] >> 1 | p[1] << 63; }

}  // namespace msf
