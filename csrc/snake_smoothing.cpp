#include "snake_smoothing.hpp"

namespace msf {
namespace {

struct Dilate {  // then erode: the infimum over lines or planes of suprema along them
  static Word along(Word a, Word b) { return a | b; }
  static Word over(Word a, Word b) { return a & b; }
};
struct Erode {
  static Word along(Word a, Word b) { return a & b; }
  static Word over(Word a, Word b) { return a | b; }
};

template <class Op>
Word along(Word a, Word b, Word c) {
  return Op::along(Op::along(a, b), c);
}

// The four lines of three pixels through each pixel.
template <class Op>
void lines(const Word* __restrict p, std::int64_t row, std::int64_t n, Word* __restrict out) {
  for (std::int64_t i = 0; i < n; ++i) {
    const Word* const at = p + i;
    const Word *const up = at - row, *const down = at + row;
    const Word flat = along<Op>(before(at), *at, after(at));
    const Word upright = along<Op>(*up, *at, *down);
    const Word falling = along<Op>(before(up), *at, after(down));
    const Word rising = along<Op>(after(up), *at, before(down));
    out[i] = Op::over(Op::over(flat, upright), Op::over(falling, rising));
  }
}

// The nine planes of three by three voxels through each voxel: three along the axes, six oblique.
// An oblique plane joins three rows, of which the first is shifted one way and the last the other.
template <class Op>
void planes(const Word* __restrict p, std::int64_t row, std::int64_t plane, std::int64_t n,
            Word* __restrict out) {
  const auto join = [&](std::int64_t i, std::int64_t step) {  // rows one step to either side
    return along<Op>(p[i - step], p[i], p[i + step]);
  };
  const auto back = [&](Word word, Word previous) { return word << 1 | previous >> 63; };
  const auto forth = [&](Word word, Word next) { return word >> 1 | next << 63; };
  for (std::int64_t i = 0; i < n; ++i) {
    const auto oblique = [&](std::int64_t side, std::int64_t across, Word& one, Word& other) {
      // `side` steps to the rows that are shifted, `across` along the plane.
      const std::int64_t first = i - side, last = i + side;
      const Word a = join(first, across), middle = join(i, across), b = join(last, across);
      const Word a_back = back(a, join(first - 1, across)),
                 a_forth = forth(a, join(first + 1, across));
      const Word b_back = back(b, join(last - 1, across)),
                 b_forth = forth(b, join(last + 1, across));
      one = along<Op>(a_back, middle, b_forth);
      other = along<Op>(a_forth, middle, b_back);
      return along<Op>(a, middle, b);
    };
    const auto wide = [&](std::int64_t step) {  // three rows, each with its neighbours in the row
      const Word rows = join(i, step);
      return along<Op>(back(rows, join(i - 1, step)), rows, forth(rows, join(i + 1, step)));
    };
    Word p3, p4, p5, p6;
    const Word p0 = oblique(row, plane, p3, p4);
    oblique(plane, row, p5, p6);
    const Word a = Op::over(p0, Op::over(wide(plane), wide(row)));
    const Word b = Op::over(wide(plane + row), wide(plane - row));
    out[i] = Op::over(Op::over(a, b), Op::over(Op::over(p3, p4), Op::over(p5, p6)));
  }
}

}  // namespace

void smooth_bits(const BitVolume& in, bool dilate, bool volume, BitVolume& out) {
  const BitShape& shape = in.shape();
  shape.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
    const std::int64_t row = shape.stride(), n = (last - first) * row;
    const Word* const from = in.row(z, first);
    Word* const to = out.row(z, first);
    if (volume)
      (dilate ? planes<Dilate> : planes<Erode>)(from, row, shape.plane_stride(), n, to);
    else
      (dilate ? lines<Dilate> : lines<Erode>)(from, row, n, to);
    for (std::int64_t y = first; y < last; ++y) {  // the border stays 0
      Word* const words = out.row(z, y);
      words[shape.words - 1] &= shape.valid(shape.words - 1);
      words[shape.words] = 0;
    }
  });
}

}  // namespace msf
