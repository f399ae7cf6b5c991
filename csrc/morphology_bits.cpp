// Erosion and dilation of masks: the programs of morphology.cpp on 64 pixels a word.
//
// A dilation is the erosion of the complement, so that only "and" is compiled. Ones are shifted
// into place when a row is loaded and by the steps of the program; the rows that a pixel of the
// result joins are aligned.
#include <algorithm>

#include "bitmask.hpp"
#include "kernels/morphology.hpp"
#include "morphology.hpp"
#include "morphology_combine.hpp"

namespace msf::morphology {
namespace {

// 64 bits from bit `part` of the first of two words on.
inline Word joined(const Word* from, int part) {
  return from[0] >> part | (from[1] << 1) << (word_bits - 1 - part);
}

// In place is fine: words are read before they are written.
template <int N>
void and_some(const Word* from, Word* to, Index n, const Index* shifts) {
  const Word* in[N];
  int part[N];
  for (int k = 0; k < N; ++k) {
    in[k] = from + (shifts[k] >> 6);
    part[k] = static_cast<int>(shifts[k] & 63);
  }
#pragma GCC ivdep
  for (Index i = 0; i < n; ++i) {
    Word word = joined(in[0] + i, part[0]);
    for (int k = 1; k < N; ++k) word &= joined(in[k] + i, part[k]);
    to[i] = word;
  }
}

void along(const void* from, void* to, Index n, const Index* shifts, int count) {
  const Word* const in = static_cast<const Word*>(from);
  Word* const out = static_cast<Word*>(to);
  switch (count) {
    case 1:
      return and_some<1>(in, out, n, shifts);
    case 2:
      return and_some<2>(in, out, n, shifts);
    case 3:
      return and_some<3>(in, out, n, shifts);
    default:
      return and_some<4>(in, out, n, shifts);
  }
}

class MaskRows : public Rows {
 public:
  MaskRows(const Array& mask, Index columns, bool any, bool border, const MutableArray& out)
      : mask_(mask.as<std::uint8_t>()),
        out_(out.as<std::uint8_t>()),
        columns_(columns),
        flip_(any ? ~Word{0} : 0),
        outside_(border != any ? ~Word{0} : 0) {}

  void load(Index row, Index first, Index n, void* cells) const override {
    Word* const to = static_cast<Word*>(cells);
    const Index words = words_for(n);
    const Index from = row < 0 ? n : std::clamp<Index>(-first, 0, n);
    const Index end = row < 0 ? n : std::clamp<Index>(columns_ - first, from, n);
    if (from >= end) {
      std::fill_n(to, words, outside_);
      return;
    }
    std::fill_n(to, words, Word{0});
    pack(mask_ + row * columns_ + first + from, from, end, to);
    if (outside_ == 0) return;
    fill(to, 0, from);
    fill(to, end, words * word_bits);
  }

  void store(const void* const* extremes, Index row, Index first, Index n, bool begun, bool,
             void* scratch) const override {
    const Word* const found = static_cast<const Word*>(extremes[0]);
    Word* const words = static_cast<Word*>(scratch);
    std::uint8_t* const out = out_ + row * columns_ + first;
    const Index count = words_for(n);
    for (Index w = 0; w < count; ++w) words[w] = found[w] ^ flip_;
    if (begun) {
      Word* const before = words + count;
      std::fill_n(before, count, Word{0});
      pack(out, 0, n, before);  // flipped
      for (Index w = 0; w < count; ++w) words[w] = (found[w] & before[w]) ^ flip_;
    }
    expand_bits(words, n, out);
  }

 private:
  // Bits [from, end) of `to`, now 0, become the flipped pixels.
  void pack(const std::uint8_t* pixels, Index from, Index end, Word* to) const {
    const int part = static_cast<int>(from & 63);
    to += from >> 6;
    Index left = end - from;
    for (; left > 0; left -= word_bits, pixels += word_bits, ++to) {
      Word word = 0;
      if (left >= word_bits) {
        word = nonzero_bits(pixels) ^ flip_;
      } else {
        std::uint8_t last[word_bits] = {};
        std::copy_n(pixels, left, last);
        word = (nonzero_bits(last) ^ flip_) & ~(~Word{0} << left);
      }
      to[0] |= word << part;
      if (part + std::min<Index>(left, word_bits) > word_bits) to[1] |= word >> (word_bits - part);
    }
  }

  static void fill(Word* to, Index begin, Index end) {
    for (; begin < end && (begin & 63) != 0; ++begin) to[begin >> 6] |= Word{1} << (begin & 63);
    for (; end - begin >= word_bits; begin += word_bits) to[begin >> 6] = ~Word{0};
    for (; begin < end; ++begin) to[begin >> 6] |= Word{1} << (begin & 63);
  }

  const std::uint8_t* mask_;
  std::uint8_t* out_;
  Index columns_;
  Word flip_, outside_;
};

}  // namespace
}  // namespace msf::morphology

namespace msf {

void binary_extremes(const Array& mask, const std::vector<std::int64_t>& shape,
                     const std::vector<FlatFootprint>& parts, bool any, bool border,
                     const MutableArray& out) {
  using namespace morphology;
  const MaskRows rows(mask, shape.back(), any, border, out);
  run(shape, parts, BorderMode::constant, {{sizeof(Word), word_bits, combine<Common<Word>>, along}},
      rows);
}

}  // namespace msf
