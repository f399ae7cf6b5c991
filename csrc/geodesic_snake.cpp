// Morphological geodesic active contours (Marquez-Neila, Baumela and Alvarez 2014): a balloon that
// dilates or erodes by a block of three pixels where the image is flat, then pixels beside the
// contour fall in where the slope of the edge map and that of the level set agree, out where they
// oppose, then a smoother. On bits, see snake_state.hpp; only pixels beside the contour read the
// edge map. Slopes and their products round as NumPy's do. Extra memory: 5 / 8 bytes per pixel.
#include "snake_state.hpp"

namespace msf {
namespace {

// Difference as np.gradient takes it: central, one-sided at the ends.
struct Step {
  std::int64_t back, forth;  // in elements, 0 at an end of the axis
  Step(std::int64_t at, std::int64_t n, std::int64_t stride)
      : back(at > 0 ? stride : 0), forth(at < n - 1 ? stride : 0) {}
  bool one_sided() const { return back == 0 || forth == 0; }
};

template <class T>
class GeodesicSnake final : public MorphologicalSnake {
 public:
  GeodesicSnake(const Array& edge_map, const Array* open, const MutableArray& level_set,
                int smoothing, int balloon)
      : edge_map_(edge_map.as<T>()),
        balloon_(balloon),
        state_(level_set, smoothing),
        open_(balloon ? state_.shape() : BitShape(Array{nullptr, DType::boolean, 2, {}})) {
    if (balloon_) open_.pack(open->as<std::uint8_t>());
  }

  void iterate(std::int64_t iterations) override {
    for (; iterations > 0; --iterations) {
      poll();
      if (balloon_) inflate();
      attach();
      state_.smooth();
    }
    state_.show([](std::int64_t, Word) {});
  }

 private:
  void inflate() {
    const BitShape& shape = state_.shape();
    const bool grow = balloon_ > 0;
    shape.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      std::vector<Word> joined(shape.words + 2, 0);
      Word* const rows = joined.data() + 1;
      for (std::int64_t y = first; y < last; ++y) {
        const Word* const centre = state_.now.row(z, y);
        std::copy_n(centre, shape.words, rows);
        for (std::int64_t dz = state_.volume() ? -1 : 0; dz <= (state_.volume() ? 1 : 0); ++dz)
          for (std::int64_t dy = -1; dy <= 1; ++dy) {
            const Word* const other = centre + dz * shape.plane_stride() + dy * shape.stride();
            for (std::int64_t w = 0; w < shape.words; ++w)
              rows[w] = grow ? rows[w] | other[w] : rows[w] & other[w];
          }
        const Word* const open = open_.row(z, y);
        Word* const to = state_.next.row(z, y);
        for (std::int64_t w = 0; w < shape.words; ++w) {
          const Word left = before(rows + w), right = after(rows + w);
          const Word moved = grow ? left | rows[w] | right : left & rows[w] & right;
          to[w] = (moved & open[w]) | (centre[w] & ~open[w]);
        }
      }
    });
    state_.now.swap(state_.next);
  }

  void attach() {
    const BitShape& shape = state_.shape();
    const std::int64_t plane = shape.rows * shape.columns;
    shape.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      const Step planes(z, shape.planes, plane);
      for (std::int64_t y = first; y < last; ++y) {
        const Step rows(y, shape.rows, shape.columns);
        const Word* const now = state_.now.row(z, y);
        Word* const to = state_.next.row(z, y);
        std::copy_n(now, shape.words, to);
        const T* const row = edge_map_ + shape.pixel(z, y);
        const auto offset = [](const Step& step, std::int64_t words) {
          return std::pair{step.back ? -words : 0, step.forth ? words : 0};
        };
        const auto [above, below] = offset(planes, shape.plane_stride());
        const auto [up, down] = offset(rows, shape.stride());
        state_.each_edge_word(
            z, y,
            [&, above = above, below = below, up = up, down = down](std::int64_t w, Word edge) {
              Word in = 0, out = 0;
              each_bit(edge, [&](int k) {
                const std::int64_t x = w * word_bits + k;
                const auto bit = [&](std::int64_t words) {
                  return static_cast<int>(now[w + words] >> k & 1);
                };
                T force = 0;
                if (state_.volume()) add(force, row + x, planes, bit(below) - bit(above));
                add(force, row + x, rows, bit(down) - bit(up));
                const Step columns(x, shape.columns, 1);
                const auto at = [&](std::int64_t c) {
                  return static_cast<int>(now[c / word_bits] >> c % word_bits & 1);
                };
                add(force, row + x, columns, at(x + columns.forth) - at(x - columns.back));
                in |= static_cast<Word>(force > T(0)) << k;
                out |= static_cast<Word>(force < T(0)) << k;
              });
              to[w] = (to[w] | in) & ~out;
            });
      }
    });
    state_.now.swap(state_.next);
  }

  // force += slope of the edge map * slope of the level set, the product in float64.
  static void add(T& force, const T* at, const Step& step, int difference) {
    if (difference == 0) return;
    T slope = static_cast<T>(at[step.forth] - at[-step.back]);
    double rise = difference;
    if (!step.one_sided()) {
      slope = static_cast<T>(slope / T(2));
      rise /= 2;
    }
    force = static_cast<T>(static_cast<double>(force) + static_cast<double>(slope) * rise);
  }

  const T* edge_map_;
  int balloon_;
  SnakeState state_;
  BitVolume open_;
};

}  // namespace

std::unique_ptr<MorphologicalSnake> geodesic_snake(const Array& edge_map, const Array* open,
                                                   const MutableArray& level_set, int smoothing,
                                                   int balloon) {
  const auto make = [&]<class T>(Type<T>) -> std::unique_ptr<MorphologicalSnake> {
    return std::make_unique<GeodesicSnake<T>>(edge_map, open, level_set, smoothing, balloon);
  };
  switch (edge_map.dtype) {
    case DType::float16:
      return make(Type<float16>{});
    case DType::float32:
      return make(Type<float>{});
    case DType::float64:
      return make(Type<double>{});
    default:
      throw std::invalid_argument("geodesic_snake: edge map must be float");
  }
}

}  // namespace msf
