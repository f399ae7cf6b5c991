// Weak and strong edge pixels of a 2D image as bits, and the hysteresis that joins them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bitmask.hpp"

namespace msf {

// All memory is allocated by the constructor: two bits a pixel and, in virtual memory that only
// runs of edge pixels touch, 2.5 bytes a pixel.
class EdgeBits {
 public:
  EdgeBits(std::int64_t rows, std::int64_t columns);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t words() const { return words_; }  // of a row
  Word* weak(std::int64_t row) { return weak_.get() + row * words_; }
  Word* strong(std::int64_t row) { return strong_.get() + row * words_; }

  // out (0 or 1) = weak pixels that 8-connected weak ones lead to a strong one, which are weak,
  // too.
  void link(std::uint8_t* out);

  // What BinaryPairs asks for.
  const Word* inside(std::int64_t row) const { return weak_.get() + row * words_; }
  std::int64_t first(std::int64_t row) const { return first_[row]; }

 private:
  template <class Index>
  void link(Index* parent, std::uint8_t* out);
  template <class Index>
  void join(Index* parent);
  template <class Index>
  void keep_strong(Index* parent);

  std::int64_t rows_, columns_, words_;
  std::unique_ptr<Word[]> weak_, strong_;
  std::vector<Word> none_;
  std::vector<std::int64_t> first_;       // number of a row's first run
  std::unique_ptr<std::byte[]> parent_;   // of runs; 32 bits as long as they can number them
  std::unique_ptr<std::uint8_t[]> keep_;  // by root
};

}  // namespace msf
