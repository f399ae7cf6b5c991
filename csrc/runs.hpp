// An image's runs as bits: which pixels are inside, and which of them start a run.
//
// Rows (along the last axis) are padded to whole 64-bit words. A binary image needs one bit per
// pixel: a run starts where a bit is set and the one before is not. An image of several labels
// needs a second one, as runs of different labels may touch. A run's number is the count of starts
// before it in raster order; within a row it is the row's first number plus a population count, so
// neither the ends of runs nor their numbers are stored, and noise costs no more than a solid body.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include "array.hpp"
#include "bitmask.hpp"
#include "parallel.hpp"

namespace msf {

// Set where a bit is and the one before it is not; `before` is the last bit of the word before.
inline Word rises(Word bits, Word before) { return bits & ~(bits << 1 | before); }
inline Word falls(Word bits, Word before) { return ~bits & (bits << 1 | before); }

class Runs {
 public:
  // `fill(row, inside, starts)` writes a row's words; starts is null unless several_labels.
  template <class Fill>
  Runs(std::int64_t rows, std::int64_t length, bool several_labels, Fill&& fill)
      : rows_(rows),
        length_(length),
        words_((length + 63) / 64),
        inside_(new Word[rows * words_]),
        starts_(several_labels ? new Word[rows * words_] : nullptr),
        first_(rows + 1) {
    const std::int64_t grain =
        std::max<std::int64_t>(1, (1 << 18) / std::max<std::int64_t>(length, 1));
    parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        fill(row, inside_.get() + row * words_, starts_ ? starts_.get() + row * words_ : nullptr);
        first_[row + 1] = count_row(row);
      }
    });
    for (std::int64_t row = 0; row < rows; ++row) first_[row + 1] += first_[row];
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t length() const { return length_; }
  std::int64_t words() const { return words_; }                       // of a row
  std::int64_t size() const { return first_.back(); }                 // number of runs
  std::int64_t first(std::int64_t row) const { return first_[row]; }  // number of its first run
  bool empty(std::int64_t row) const { return first_[row] == first_[row + 1]; }
  bool several_labels() const { return starts_ != nullptr; }
  const Word* inside(std::int64_t row) const { return inside_.get() + row * words_; }
  const Word* starts(std::int64_t row) const {  // null for a binary image
    return starts_ ? starts_.get() + row * words_ : nullptr;
  }

  // f(first pixel, inside, starts, number of the last run that starts before) for the words of a
  // row.
  template <class F>
  void for_each_word(std::int64_t row, F&& f) const {
    const Word *bits = inside(row), *starts = this->starts(row);
    std::int64_t run = first_[row] - 1;
    Word before = 0;
    for (std::int64_t w = 0; w < words_; ++w) {
      const Word start = starts ? starts[w] : rises(bits[w], before);
      f(64 * w, bits[w], start, run);
      run += std::popcount(start);
      before = bits[w] >> 63;
    }
  }

  // f(begin, end, run) for every run of a row; with gaps also for what lies between, run = -1.
  template <bool gaps, class F>
  void for_each(std::int64_t row, F&& f) const {
    const Word *bits = inside(row), *starts = this->starts(row);
    std::int64_t begin = 0, run = -1, next = first_[row];
    Word before = 0;
    for (std::int64_t w = 0; w < words_; ++w) {
      const Word start = starts ? starts[w] : rises(bits[w], before);
      for (Word edges = start | falls(bits[w], before); edges; edges &= edges - 1) {
        const int k = std::countr_zero(edges);
        const std::int64_t edge = 64 * w + k;
        if (edge > begin && (gaps || run >= 0)) f(begin, edge, run);
        begin = edge;
        const bool is_start = start >> k & 1;
        run = is_start ? next : -1;
        next += is_start;
      }
      before = bits[w] >> 63;
    }
    if (length_ > begin && (gaps || run >= 0)) f(begin, length_, run);
  }

 private:
  std::int64_t count_row(std::int64_t row) const {
    const Word *bits = inside(row), *starts = this->starts(row);
    std::int64_t count = 0;
    Word before = 0;
    for (std::int64_t w = 0; w < words_; ++w) {
      count += std::popcount(starts ? starts[w] : rises(bits[w], before));
      before = bits[w] >> 63;
    }
    return count;
  }

  std::int64_t rows_, length_, words_;
  std::unique_ptr<Word[]> inside_, starts_;
  std::vector<std::int64_t> first_;
};

}  // namespace msf
