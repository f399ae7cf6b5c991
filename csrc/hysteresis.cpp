// Hysteresis thresholding without an image of labels: pixels above the low threshold become runs,
// pixels above the high one bits beside them; components with such a bit are kept.
//
// J. Canny, "A computational approach to edge detection", IEEE Trans. Pattern Anal. Mach. Intell. 8
// (1986) 679-698, section VIII.
#include "hysteresis.hpp"
#include "kernels/hysteresis.hpp"
#include "paint.hpp"

namespace msf {

void keep_strong(const Components& components, const Word* strong, const MutableArray& mask) {
  const Runs& runs = components.runs();
  const std::int64_t words = runs.words();
  std::vector<std::uint8_t> keep(components.count() + 1);
  components.visit_labels([&](auto&& component_of) {
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 18) / (runs.length() + 1));
    parallel_for(runs.rows(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const Word *bits = runs.inside(row), *high = strong + row * words;
        std::int64_t run = runs.first(row) - 1;
        Word before = 0;
        for (std::int64_t w = 0; w < words; ++w) {
          const Word starts = rises(bits[w], before);
          // The first strong pixel of a run in this word, and of a stretch of strong pixels.
          for (Word s = high[w] & (starts | ~(high[w] << 1)); s; s &= s - 1) {
            const std::int64_t component =
                component_of(run + std::popcount(starts & (s ^ (s - 1))));
            std::atomic_ref<std::uint8_t>(keep[component]).store(1, std::memory_order_relaxed);
          }
          run += std::popcount(starts);
          before = bits[w] >> 63;
        }
      }
    });
    paint<std::uint8_t>(runs, mask.as<std::uint8_t>(), 0, false,
                        [&](std::int64_t run) { return keep[component_of(run)]; });
  });
}

void hysteresis(const Array& image, const Array& bounds, int connectivity,
                const MutableArray& mask) {
  const Grid grid(image);
  const std::int64_t words = (grid.length + 63) / 64;
  const std::unique_ptr<Word[]> strong(new Word[grid.rows * words]);
  const Components components = visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
    const auto key = [dtype = image.dtype](T value) {
      if constexpr (is_float<T>)
        return value;
      else
        return static_cast<T>(value ^ sign_bit<T>(dtype));
    };
    const T low = key(bounds.as<T>()[0]), high = key(bounds.as<T>()[1]);
    Runs runs(grid.rows, grid.length, false, [&](std::int64_t row, Word* inside, Word*) {
      const auto pack_above = [&, x = image.as<T>() + row * grid.length](T bound, Word* bits) {
        pack_row([=](std::int64_t c) { return key(x[c]) >= bound; }, grid.length, bits);
      };
      pack_above(low, inside);
      pack_above(high, strong.get() + row * words);
    });
    return Components(std::move(runs), grid, connectivity);
  });
  keep_strong(components, strong.get(), mask);
}

}  // namespace msf
