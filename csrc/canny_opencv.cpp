// Canny's edge detector on 8-bit images by OpenCV's definition: Sobel differences of the image as
// it is, their sum of absolute values or squares, maxima along one of four directions, all in
// integers.
//
// A tile is swept down; three rows of magnitudes are kept. The direction comes from comparing
// |dy| / |dx| with tan(22.5 deg) = 13573 / 2**15 and tan(67.5 deg) = 2 + tan(22.5 deg). As dx and
// 2**15 have no common factor with 13573, |dy| < |dx| * 13573 / 2**15 if and only if |dy| is at
// most the product rounded down, which fits 16 bits.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "edge_bits.hpp"
#include "kernels/canny.hpp"
#include "pack.hpp"
#include "parallel.hpp"
#include "scratch_pool.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

constexpr Index tile_columns = 1024, tile_rows = 64;
constexpr Index margin = 64;  // elements before a tile's first pixel in each row

// M: int16 for sums of absolute values, int32 for squares.
template <class M>
struct Rows {
  const M *up, *here, *down;  // magnitudes
  const M *dx, *dy;

  static constexpr Index lanes = register_bytes / sizeof(M);
  typedef M Lanes __attribute__((vector_size(register_bytes)));
  typedef std::int8_t Bytes __attribute__((vector_size(lanes)));
  static Lanes load(const M* from) {
    Lanes values;
    std::memcpy(&values, from, sizeof values);
    return values;
  }

  // x * 13573 / 2**15, rounded down.
  static Lanes times_tangent(const Lanes& x) {
    constexpr M tangent = 13573;
    if constexpr (sizeof(M) == 4) {
      return (x * tangent) >> 15;
    } else {
      Lanes twice = x + x;
#if defined(__AVX512BW__) && !defined(__clang__)
      return __builtin_ia32_pmulhw512_mask(twice, Lanes{} + tangent, Lanes{}, ~0u);
#elif defined(__AVX2__) && !defined(__AVX512BW__)
      return __builtin_ia32_pmulhw256(twice, Lanes{} + tangent);
#elif defined(__SSE2__) && !defined(__AVX2__)
      return __builtin_ia32_pmulhw128(twice, Lanes{} + tangent);
#else
      for (Index i = 0; i < lanes; ++i) twice[i] = twice[i] * int{tangent} >> 16;
      return twice;
#endif
    }
  }

  // Bytes other than 0 for the maxima among the pixels [j, j + lanes).
  void maxima(Index j, std::uint8_t* to) const {
    const Lanes x = load(dx + j), y = load(dy + j), m = load(here + j);
    const Lanes x_abs = x < 0 ? -x : x, y_abs = y < 0 ? -y : y;
    const Lanes flat = times_tangent(x_abs);
    const Lanes across = (m > load(here + j - 1)) & (m >= load(here + j + 1));
    const Lanes along = (m > load(up + j)) & (m >= load(down + j));
    const Lanes falling = (m > load(up + j - 1)) & (m > load(down + j + 1));
    const Lanes rising = (m > load(up + j + 1)) & (m > load(down + j - 1));
    const Lanes slanted = (x ^ y) < 0 ? rising : falling;
    const Lanes maximum = y_abs <= flat ? across : (y_abs - 2 * x_abs > flat ? along : slanted);
    const Bytes bytes = __builtin_convertvector(maximum, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
  }
};

template <class M>
class Plan final : public CannyPlan {
  static constexpr bool squares = sizeof(M) == 4;

 public:
  Plan(Index rows, Index columns)
      : rows_(rows),
        columns_(columns),
        pitch_(std::min(tile_columns, columns) + 3 * margin),
        bits_(rows, columns),
        pool_(9 * pitch_ * sizeof(M), num_threads()) {}

  void edges(const Array& image, const Array*, double low, double high,
             const MutableArray& out) override {
    const M weak = limit(low), strong = limit(high);
    const Index down = (rows_ + tile_rows - 1) / tile_rows;
    const Index across = (columns_ + tile_columns - 1) / tile_columns;
    parallel_tasks(down * across, [&](Index i) {
      const ScratchPool::Lease lease(pool_);
      sweep(image.as<std::uint8_t>(), reinterpret_cast<M*>(lease.memory()), i / across * tile_rows,
            i % across * tile_columns, weak, strong);
    });
    bits_.link(out.as<std::uint8_t>());
  }

  void magnitude(const Array&, const Array*, const MutableArray&) override {
    throw std::logic_error("canny: no magnitudes by OpenCV's definition");
  }

 private:
  // Magnitudes above it count. Beyond what a magnitude can be it does not matter how far.
  static M limit(double threshold) {
    if (squares) {
      threshold = std::min(32767.0, threshold);
      if (threshold > 0) threshold *= threshold;
    }
    return static_cast<M>(std::clamp(std::floor(threshold), -1.0, squares ? 2e9 : 32767.0));
  }

  void sweep(const std::uint8_t* image, M* memory, Index y0, Index x0, M weak, M strong) {
    const Index y1 = std::min(rows_, y0 + tile_rows), x1 = std::min(columns_, x0 + tile_columns);
    const auto row = [&](Index i) { return memory + i * pitch_ + margin; };
    M* const m[3] = {row(0), row(1), row(2)};
    M* const dx[2] = {row(3), row(4)};
    M* const dy[2] = {row(5), row(6)};
    for (Index y = y0 - 1; y <= y1; ++y) {
      const Index slot = (y + 3) % 3;
      if (y < 0 || y >= rows_)
        std::fill_n(m[slot] - 1, x1 - x0 + 2, M{0});
      else
        differentiate(image, y, x0, x1, row(7), row(8), dx[y & 1], dy[y & 1], m[slot]);
      if (y > y0)
        suppress({m[(y + 1) % 3], m[(y + 2) % 3], m[slot], dx[(y - 1) & 1], dy[(y - 1) & 1]}, y - 1,
                 x0, x1, weak, strong);
      if (y % 16 == 0) poll();
    }
  }

  // Differences and magnitudes for the columns [x0 - 1, x1 + 1); outside the image magnitudes are
  // 0.
  void differentiate(const std::uint8_t* image, Index y, Index x0, Index x1, M* __restrict smooth,
                     M* __restrict step, M* __restrict dx, M* __restrict dy,
                     M* __restrict m) const {
    const auto pixels = [&](Index at) {
      return image + std::clamp<Index>(at, 0, rows_ - 1) * columns_ + x0;
    };
    const std::uint8_t *up = pixels(y - 1), *here = pixels(y), *down = pixels(y + 1);
    const Index from = std::max<Index>(-2, -x0), to = std::min(x1 + 2, columns_) - x0;
    for (Index j = from; j < to; ++j) {
      smooth[j] = static_cast<M>(up[j] + 2 * here[j] + down[j]);
      step[j] = static_cast<M>(down[j] - up[j]);
    }
    if (x0 == 0) smooth[-1] = smooth[0], step[-1] = step[0];
    if (to + x0 == columns_) smooth[to] = smooth[to - 1], step[to] = step[to - 1];
    const Index begin = x0 > 0 ? -1 : 0, end = std::min(x1 + 1, columns_) - x0;
    for (Index j = begin; j < end; ++j) {
      const M x = static_cast<M>(smooth[j + 1] - smooth[j - 1]);
      const M y = static_cast<M>(step[j - 1] + 2 * step[j] + step[j + 1]);
      dx[j] = x;
      dy[j] = y;
      m[j] = static_cast<M>(squares ? x * x + y * y : (x < 0 ? -x : x) + (y < 0 ? -y : y));
    }
    if (x0 == 0) m[-1] = 0;
    if (x1 == columns_) m[x1 - x0] = 0;
  }

  void suppress(const Rows<M>& rows, Index y, Index x0, Index x1, M low, M high) {
    Word* const weak = bits_.weak(y) + x0 / word_bits;
    Word* const strong = bits_.strong(y) + x0 / word_bits;
    const M* const m = rows.here;
    for (Index w = 0; w < words_for(x1 - x0); ++w) {
      const Index begin = w * word_bits, count = std::min(word_bits, x1 - x0 - begin);
      const Word candidates = pack_word([=](Index j) { return m[j] > low; }, begin, count);
      Word maxima = 0;
      if (candidates) {
        std::uint8_t bytes[word_bits];
        for (Index j = 0; j < word_bits; j += Rows<M>::lanes) rows.maxima(begin + j, bytes + j);
        maxima = nonzero_bits(bytes) & candidates;
      }
      weak[w] = maxima;
      strong[w] =
          maxima ? maxima & pack_word([=](Index j) { return m[j] > high; }, begin, count) : 0;
    }
  }

  const Index rows_, columns_, pitch_;
  EdgeBits bits_;
  ScratchPool pool_;
};

}  // namespace

std::unique_ptr<CannyPlan> canny_opencv_plan(std::int64_t rows, std::int64_t columns,
                                             bool squares) {
  if (squares) return std::make_unique<Plan<std::int32_t>>(rows, columns);
  return std::make_unique<Plan<std::int16_t>>(rows, columns);
}

}  // namespace msf
