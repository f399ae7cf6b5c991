// What the two morphological snakes share: the level set as bits, the alternating smoothers, and
// the bytes that show it.
#pragma once

#include <utility>

#include "kernels/morphological_snake.hpp"
#include "snake_smoothing.hpp"

namespace msf {

class SnakeState {
 public:
  SnakeState(const MutableArray& level_set, int smoothing)
      : bytes_(level_set.as<std::uint8_t>()),
        volume_(level_set.ndim == 3),
        smoothing_(smoothing),
        now(BitShape(level_set)),
        next(now.shape()),
        shown_(now.shape()) {
    now.pack(bytes_);
    shown_.pack(bytes_);
  }

  const BitShape& shape() const { return now.shape(); }
  bool volume() const { return volume_; }
  const std::uint8_t* bytes() const { return bytes_; }

  // Sup-inf after inf-sup the first time, the other order the next, and so on.
  void smooth() {
    for (int i = 0; i < smoothing_; ++i, dilate_first_ = !dilate_first_)
      for (const bool dilate : {dilate_first_, !dilate_first_}) {
        smooth_bits(now, dilate, volume_, next);
        now.swap(next);
      }
  }

  // Where a central difference of the level set is not 0, one-sided at the border of the image:
  // f(word, its bits) for those words of a row.
  template <class F>
  void each_edge_word(std::int64_t z, std::int64_t y, F&& f) const {
    const BitShape& s = shape();
    const Word* const row = now.row(z, y);
    const Word* const up = now.row(z, std::max<std::int64_t>(y - 1, 0));
    const Word* const down = now.row(z, std::min(y + 1, s.rows - 1));
    const Word* const above = now.row(std::max<std::int64_t>(z - 1, 0), y);
    const Word* const below = now.row(std::min(z + 1, s.planes - 1), y);
    const std::int64_t last = s.words - 1;
    const Word end = Word{1} << (s.columns - 1) % word_bits;
    for (std::int64_t w = 0; w <= last; ++w) {
      Word left = before(row + w), right = after(row + w);
      if (w == 0) left |= row[w] & 1;
      if (w == last) right |= row[w] & end;
      const Word edge = ((left ^ right) | (up[w] ^ down[w]) | (above[w] ^ below[w])) & s.valid(w);
      if (edge) f(w, edge);
    }
  }

  // Brings the bytes up to date; changed(flat index of a word's first pixel, its changed bits) for
  // every word that changed. Pieces run in parallel.
  template <class F>
  void show(F&& changed) {
    const BitShape& s = shape();
    s.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      for (std::int64_t y = first; y < last; ++y) {
        const Word* const to = now.row(z, y);
        Word* const from = shown_.row(z, y);
        for (std::int64_t w = 0; w < s.words; ++w) {
          const Word difference = to[w] ^ from[w];
          if (!difference) continue;
          from[w] = to[w];
          const std::int64_t at = s.pixel(z, y) + w * word_bits;
          const std::int64_t n = std::min<std::int64_t>(word_bits, s.columns - w * word_bits);
          expand_bits(to + w, n, bytes_ + at);
          changed(at, difference);
        }
      }
    });
  }

 private:
  std::uint8_t* bytes_;
  bool volume_, dilate_first_ = true;
  int smoothing_;

 public:
  BitVolume now, next;

 private:
  BitVolume shown_;
};

// f(k) for every set bit.
template <class F>
void each_bit(Word bits, F&& f) {
  for (; bits; bits &= bits - 1) f(std::countr_zero(bits));
}

}  // namespace msf
