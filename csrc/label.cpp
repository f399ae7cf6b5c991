// Connected components of an image: bits, union-find on runs, one pass that
// writes the labels.
#include "kernels/label.hpp"

#include <cmath>

#include "components.hpp"
#include "paint.hpp"

namespace msf {
namespace {

// What skimage compares: floats are cut to integers. NaN differs from all,
// itself included.
template <class T>
auto key(T value) {
  if constexpr (std::is_same_v<T, double>)
    return std::trunc(value);
  else if constexpr (is_float<T>)
    return std::trunc(static_cast<float>(value));
  else
    return value;
}

// Bit k: whether x[c + k] equals y[c + k - shift], up to `length`; c >= shift.
template <class T>
Word equal_word(const T* x, const T* y, std::int64_t c, std::int64_t length, int shift) {
  const auto equal = [=](std::int64_t i) { return key(x[i]) == key(y[i - shift]); };
  const auto whole = [=](std::int64_t i) {
    if constexpr (sizeof(T) == 1)
      return equal_bits(reinterpret_cast<const std::uint8_t*>(x + i),
                        reinterpret_cast<const std::uint8_t*>(y + i - shift));
    else
      return pack_word(equal, i);
  };
  const std::int64_t n = length - c;
  if (n >= 64) return whole(c);
  // As in pack_row: the last 64 pixels if there are as many, as a whole vector is faster.
  return length - shift >= 64 ? whole(length - 64) >> (64 - n) : pack_part(equal, c, n);
}

// Runs of equal pixels other than `background`; without one (null) only NaN is left out.
template <class T>
Runs label_runs(const T* image, const Grid& grid, const T* background) {
  using Key = decltype(key(T{}));
  const std::int64_t length = grid.length;
  const bool all = !background && !is_float<T>;
  const Key value = background ? key(*background) : std::numeric_limits<Key>::quiet_NaN();
  return Runs(grid.rows, length, true, [=](std::int64_t row, Word* inside, Word* starts) {
    const T* const x = image + row * length;
    if (all)
      fill_row(length, inside);
    else
      pack_row([=](std::int64_t c) { return (key(x[c]) != value) & (key(x[c]) == key(x[c])); },
               length, inside);
    Word before = 0;  // whether the pixel before is equal
    for (std::int64_t c = 0; c < length; c += 64, ++inside, ++starts) {
      // Bit k: whether pixel c + k + 1 equals pixel c + k.
      const Word equal = c + 1 < length ? equal_word(x + 1, x, c, length - 1, 0) : 0;
      *starts = *inside & ~(equal << 1 | before);
      before = equal >> 63;
    }
  });
}

// Pairs of touching runs of the same label. Straight: where either run starts
// and the pixels are equal. Diagonally: where both rows change at the same
// place and the pixels across it are equal.
//
// Compiled once: a call through `equal` compares 64 pixels.
class LabelPairs {
 public:
  static constexpr bool looks_at_all = true;  // comparing pixels costs more than bits

  template <class T>
  explicit LabelPairs(const T* image)
      : image_(reinterpret_cast<const char*>(image)),
        item_size_(sizeof(T)),
        equal_([](const char* x, const char* y, std::int64_t c, std::int64_t length, int shift) {
          return equal_word(reinterpret_cast<const T*>(x), reinterpret_cast<const T*>(y), c, length,
                            shift);
        }),
        equal_row_([](const char* x, const char* y, std::int64_t length, Word* places) {
          for (std::int64_t c = 0; c < length; c += 64, ++places)
            if (*places)
              *places &= equal_word(reinterpret_cast<const T*>(x), reinterpret_cast<const T*>(y), c,
                                    length, 0);
        }) {}

  template <bool diagonal, class F>
  void for_each(const Runs& runs, std::int64_t row_a, std::int64_t row_b, const Known& known,
                F&& f) const {
    const std::int64_t length = runs.length();
    const Word *a = runs.inside(row_a), *b = runs.inside(row_b);
    const Word *starts_a = runs.starts(row_a), *starts_b = runs.starts(row_b);
    const char *x = row(runs, row_a), *y = row(runs, row_b);
    std::int64_t run_a = runs.first(row_a) - 1, run_b = runs.first(row_b) - 1;
    Word before_a = 0, before_b = 0, known_before = 0;
    for (std::int64_t w = 0; w < runs.words(); ++w) {
      const Word sa = starts_a[w], sb = starts_b[w];
      Word pairs = a[w] & b[w] & (sa | sb) & ~known.straight[w], down = 0, up = 0;
      if (known.touching)
        pairs &= known.touching[w];
      else if (pairs)
        pairs &= equal_(x, y, 64 * w, length, 0);
      if constexpr (diagonal) {
        const Word left_a = a[w] << 1 | before_a, left_b = b[w] << 1 | before_b;
        const Word joined = known.diagonal[w];
        down = sa & left_b & (sb | ~b[w]) & ~joined;
        up = sb & left_a & (sa | ~a[w]) & ~(joined << 1 | known_before);
        known_before = joined >> 63;
        if (down | up) {
          down &= equal_step(x, y, 64 * w, length);
          up &= equal_step(y, x, 64 * w, length);
          // Two pairs at one place; otherwise there is one, as both rows change there.
          for (Word both = down & up; both; both &= both - 1) {
            const Word up_to = both ^ (both - 1);
            f(run_a + std::popcount(sa & (up_to >> 1)), run_b + std::popcount(sb & up_to));
          }
          pairs |= down | up;
          up &= ~down;
        }
      }
      // One loop for all, as where it ends is hard to predict.
      for (; pairs; pairs &= pairs - 1) {
        const Word up_to = pairs ^ (pairs - 1), at = pairs & -pairs;
        f(run_a + std::popcount(sa & (up_to >> ((up & at) != 0))),
          run_b + std::popcount(sb & (up_to >> ((down & at) != 0))));
      }
      run_a += std::popcount(sa);
      run_b += std::popcount(sb);
      before_a = a[w] >> 63;
      before_b = b[w] >> 63;
    }
  }

  void straight(const Runs& runs, std::int64_t row_a, std::int64_t row_b, Word* touching) const {
    for (std::int64_t w = 0; w < runs.words(); ++w)
      touching[w] = runs.inside(row_a)[w] & runs.inside(row_b)[w];
    equal_row_(row(runs, row_a), row(runs, row_b), runs.length(), touching);
  }

 private:
  const char* row(const Runs& runs, std::int64_t row) const {
    return image_ + row * runs.length() * item_size_;
  }

  // As `equal_` with a shift of one; the bit of y[-1] is 0.
  Word equal_step(const char* x, const char* y, std::int64_t c, std::int64_t length) const {
    if (c > 0) return equal_(x, y, c, length, 1);
    return equal_(x + item_size_, y + item_size_, 0, length - 1, 1) << 1;
  }

  const char* image_;
  std::int64_t item_size_;
  Word (*equal_)(const char*, const char*, std::int64_t, std::int64_t, int);  // equal_word
  void (*equal_row_)(const char*, const char*, std::int64_t, Word*);
};

template <class T>
void write_pixels(const Components& components, const MutableArray& labels, bool blank) {
  T* const out = labels.as<T>();
  if (const std::int32_t* const table = components.narrow_table()) {
    paint_labels(components.runs(), table, out, blank);
  } else {
    components.visit_labels(
        [&](auto&& component_of) { paint<T>(components.runs(), out, T{0}, blank, component_of); });
  }
}

}  // namespace

std::shared_ptr<const Components> label_components(const Array& image, const Array* background,
                                                   int connectivity, bool wide) {
  const Grid grid(image);
  if (image.dtype == DType::boolean) {
    const auto* pixels = image.as<std::uint8_t>();
    const bool inverted = background && *background->as<std::uint8_t>();
    Runs runs(grid.rows, grid.length, false, [&](std::int64_t row, Word* inside, Word*) {
      const std::uint8_t* x = pixels + row * grid.length;
      if (inverted)
        pack_row([=](std::int64_t c) { return x[c] == 0; }, grid.length, inside);
      else
        pack_row(x, grid.length, inside);
    });
    return std::make_shared<Components>(std::move(runs), grid, connectivity, wide);
  }
  return visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
    const T* const pixels = image.as<T>();
    return std::make_shared<const Components>(
        label_runs(pixels, grid, background ? background->as<T>() : nullptr), grid, connectivity,
        wide, LabelPairs(pixels));
  });
}

std::int64_t count_components(const Components& components) { return components.count(); }

void write_labels(const Components& components, const MutableArray& labels, bool blank) {
  visit_bits(labels.dtype, [&]<class T>(Type<T>) { write_pixels<T>(components, labels, blank); });
}

}  // namespace msf
