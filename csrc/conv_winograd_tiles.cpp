// Transforms of Winograd's F(m x m, r x r); see conv_winograd.hpp. Along columns, then along rows.
#include "conv_winograd.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "conv_lanes.hpp"
#include "conv_winograd_lines.hpp"
#include "conv_words.hpp"

namespace msf {

namespace {

// f<0>() to f<n - 1>().
template <int n, class F>
[[gnu::always_inline]] inline void for_each_index(F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (f.template operator()<i>(), ...);
  }(std::make_integer_sequence<int, n>{});
}

template <int n>
void load_strided(const float* from, std::int64_t step, Lanes (&v)[n]) {
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) v[i] = load_lanes(from + i * step);
}

template <int n>
void store_strided(const Lanes (&v)[n], float* to, std::int64_t step) {
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) store_lanes(to + i * step, v[i]);
}

// Columns first, for a whole row of tiles.
template <int m, int from_tile, int n, class F>
[[gnu::always_inline]] inline void to_places(F&& transform, const float* rows, std::int64_t width,
                                             std::int64_t tiles, float* strip, float* to,
                                             std::int64_t by_tile, std::int64_t by_place) {
  Lanes d[from_tile], t[n];
  for (std::int64_t x = 0; x < width; ++x) {
    load_strided(rows + x * panel, width * panel, d);
    transform(d, t);
    store_strided(t, strip + x * lanes, width * lanes);
  }
  for (std::int64_t tile = 0; tile < tiles; ++tile, to += by_tile)
    for (int y = 0; y < n; ++y) {
      load_strided(strip + (y * width + tile * m) * lanes, lanes, d);
      transform(d, t);
      store_strided(t, to + y * n * by_place, by_place);
    }
}

// Tiles overlap.
template <int m, int n>
void input(const float* rows, std::int64_t width, std::int64_t tiles, float* strip, float* to,
           std::int64_t by_tile, std::int64_t by_place) {
  to_places<m, n, n>([](auto& d, auto& t) { transform_pixels(d, t); }, rows, width, tiles, strip,
                     to, by_tile, by_place);
}

template <int m, int n>
void spread(const float* rows, std::int64_t width, std::int64_t tiles, float* strip, float* to,
            std::int64_t by_tile, std::int64_t by_place) {
  to_places<m, m, n>([](auto& d, auto& t) { spread_sums(d, t); }, rows, width, tiles, strip, to,
                     by_tile, by_place);
}

inline IntLanes larger(IntLanes a, IntLanes b) { return a > b ? a : b; }

template <class T, int n>
void transform_columns(const PixelRows& of, std::int64_t width, float* strip) {
  const auto columns = [&](std::int64_t begin, std::int64_t end, auto&& there) {
    for (std::int64_t x = begin; x < end; ++x)
      for (std::int64_t v = 0; v < of.vectors; ++v) {
        Lanes d[n], t[n];
#pragma GCC unroll 8
        for (int y = 0; y < n; ++y)
          d[y] = there(y) ? load_floats(static_cast<const T*>(of.data) + of.first + y * of.by_row +
                                        x * of.by_pixel + v * lanes)
                          : Lanes{};
        transform_pixels(d, t);
        store_strided(t, strip + (v * n * width + x) * lanes, width * lanes);
      }
  };
  const std::int64_t left = std::clamp<std::int64_t>(of.begin[2], 0, width);
  const std::int64_t right = std::clamp<std::int64_t>(of.end[2], left, width);
  const auto nowhere = [](int) { return false; };
  columns(0, left, nowhere);
  if (of.begin[1] <= 0 && of.end[1] >= n)
    columns(left, right, [](int) { return true; });
  else
    columns(left, right, [&](int y) { return y >= of.begin[1] && y < of.end[1]; });
  columns(right, width, nowhere);
}

inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }

// An upper bound of the norms of a tile's values at its places, given the largest sums of squares
// in each lane of the places of either gain.
inline float norm_of(const Lanes (&squares)[3]) {
  const Lanes any = larger(squares[0], larger(squares[1] * 0.25f, squares[2] * 0.0625f));
  float sum = 0;
  for (std::int64_t i = 0; i < lanes; ++i) sum += any[i];
  return std::sqrt(sum);
}

// The same from the values, of which the largest has a square too large or too small for a float.
template <int n>
float norm_of(const float* values, std::int64_t vectors, float largest) {
  const float size = std::ldexp(1.0f, std::ilogb(largest));
  Lanes squares[3] = {};
  for (int i = 0; i < n * n; ++i) {
    Lanes sum{};
    for (std::int64_t v = 0; v < vectors; ++v) {
      const Lanes value = load_lanes(values + (i * vectors + v) * lanes) * (1 / size);
      sum += value * value;
    }
    Lanes& most = squares[gain_bit(n, i / n) + gain_bit(n, i % n)];
    most = larger(sum, most);
  }
  return norm_of(squares) * size;
}

template <int m, int n>
void input_fixed(std::span<const PixelRows> maps, std::int64_t width, std::int64_t tiles,
                 float* scratch, std::int16_t* to, std::int64_t by_tile, std::int64_t by_place,
                 float* scales, std::int64_t by_scale) {
  std::int64_t vectors = 0;
  for (const PixelRows& rows : maps) {
    float* const columns = scratch + vectors * n * width * lanes;
    if (rows.dtype == DType::bfloat16)
      transform_columns<BFloat16, n>(rows, width, columns);
    else
      transform_columns<float, n>(rows, width, columns);
    vectors += rows.vectors;
  }
  float *const strip = scratch, *const values = strip + vectors * n * width * lanes;
  Lanes d[n], t[n];
  for (std::int64_t tile = 0; tile < tiles; ++tile, to += by_tile, scales += by_scale) {
    // Sizes as bits, which are in order, with NaN and infinity above all.
    IntLanes sizes[3] = {};
    Lanes squares[3] = {};
#pragma GCC unroll 8
    for (int y = 0; y < n; ++y) {
      Lanes sums[n] = {};
      for (std::int64_t v = 0; v < vectors; ++v) {
        load_strided(strip + ((v * n + y) * width + tile * m) * lanes, lanes, d);
        transform_pixels(d, t);
        store_strided(t, values + (y * n * vectors + v) * lanes, vectors * lanes);
#pragma GCC unroll 8
        for (int x = 0; x < n; ++x) {
          IntLanes& size = sizes[gain_bit(n, y) + gain_bit(n, x)];
          size = larger(size, std::bit_cast<IntLanes>(t[x]) & 0x7fffffff);
          sums[x] += t[x] * t[x];
        }
      }
#pragma GCC unroll 8
      for (int x = 0; x < n; ++x) {
        Lanes& most = squares[gain_bit(n, y) + gain_bit(n, x)];
        most = larger(sums[x], most);
      }
    }
    const auto share = [&](int i, float part) {
      return std::bit_cast<IntLanes>(std::bit_cast<Lanes>(sizes[i]) * part);
    };
    const IntLanes every = larger(sizes[0], larger(share(1, 0.5f), share(2, 0.25f)));
    std::int32_t bits = 0;
    for (std::int64_t i = 0; i < lanes; ++i) bits = std::max(bits, every[i]);
    const auto largest = std::bit_cast<float>(bits);
    const bool some = largest > 1e-30f && std::isfinite(largest);
    const bool squared = largest > 1e-12f && largest < 1e12f;
    const float norm = squared ? norm_of(squares) : some ? norm_of<n>(values, vectors, largest) : 0;
    const float scale = std::max(largest / most_fixed, norm / most_fixed_norm);
    *scales = std::isfinite(largest) ? scale : std::nanf("");
    const float inverse = some ? 1 / scale : 0.0f;
    for (int y = 0; y < n; ++y)
      for (int x = 0; x < n; ++x) {
        const float by = inverse / static_cast<float>(1 << (gain_bit(n, y) + gain_bit(n, x)));
        const float* const from = values + (y * n + x) * vectors * lanes;
        std::int16_t* const place = to + (y * n + x) * by_place;
        for (std::int64_t v = 0; v < vectors; ++v) {
          const Ints16 words = rounded_words(load_lanes(from + v * lanes) * by);
          std::memcpy(place + v * lanes, &words, sizeof words);
        }
      }
  }
}

template <int m, int n>
void output(const float* from, std::int64_t by_place, std::int64_t tiles, int vectors, float* to,
            std::int64_t width) {
  for (std::int64_t i = 0; i < 2 * tiles; i += 3 - vectors) {  // halves of panels
    const float* const tile = from + i * lanes;
    float* const pixels = to + i / 2 * m * panel + i % 2 * lanes;
    Lanes columns[m][n], t[n], o[m];
    for (int x = 0; x < n; ++x) {
      load_strided(tile + x * by_place, n * by_place, t);
      transform_sums(t, o);
      for (int y = 0; y < m; ++y) columns[y][x] = o[y];
    }
    for (int y = 0; y < m; ++y) {
      transform_sums(columns[y], o);
      store_strided(o, pixels + y * width * panel, panel);
    }
  }
}

template <int r, int n>
void filters(const float* from, std::int64_t count, float* to, std::int64_t by_place) {
  for (std::int64_t i = 0; i < 2 * count; ++i) {  // halves of panels
    const float* const taps = from + i / 2 * r * r * panel + i % 2 * lanes;
    Lanes rows[n][r], g[r], t[n];
    for (int x = 0; x < r; ++x) {
      load_strided(taps + x * panel, r * panel, g);
      transform_taps(g, t);
      for (int y = 0; y < n; ++y) rows[y][x] = t[y];
    }
    for (int y = 0; y < n; ++y) {
      transform_taps(rows[y], t);
      store_strided(t, to + y * n * by_place + i * lanes, by_place);
    }
  }
}

// A vector of two filters for each place, row by row of places: their taps are all that registers
// have to hold.
template <int r, int n>
void filters_fixed(const std::int16_t* from, std::int64_t count, const float* by, std::int16_t* to,
                   std::int64_t by_place) {
  for (std::int64_t i = 0; i < count; ++i) {  // halves of panels, of two filters
    const std::int64_t half = i % 2 * lanes;
    Lanes taps[2][r][r];  // columns of two filters
#pragma GCC unroll 50
    for (int t = 0; t < 2 * r * r; ++t)
      taps[t / (r * r)][t % r][t / r % r] =
          load_floats(from + (i / 2 * 2 * r * r + t) * panel + half);
    for_each_index<n>([&]<int y>() {
      Lanes rows[2][r];
#pragma GCC unroll 10
      for (int t = 0; t < 2 * r; ++t) rows[t / r][t % r] = value_at<n, y>(taps[t / r][t % r]);
      for_each_index<n>([&]<int x>() {
        const int place = y * n + x;
        const Lanes factor = load_lanes(by + place * panel + half);
        const IntLanes low = rounded_bits(value_at<n, x>(rows[0]) * factor),
                       high = rounded_bits(value_at<n, x>(rows[1]) * factor),
                       pair = (low & 0xffff) | (high << 16);
        std::memcpy(to + place * by_place + i * 2 * lanes, &pair, sizeof pair);
      });
    });
  }
}

template <int r, int n>
void gather(const float* from, std::int64_t count, float* to, std::int64_t by_place) {
  for (std::int64_t i = 0; i < 2 * count; ++i) {  // halves of panels
    float* const taps = to + i / 2 * r * r * panel + i % 2 * lanes;
    Lanes columns[r][n], t[n], g[r];
    for (int x = 0; x < n; ++x) {
      load_strided(from + x * by_place + i * lanes, n * by_place, t);
      gather_taps(t, g);
      for (int y = 0; y < r; ++y) columns[y][x] = g[y];
    }
    for (int y = 0; y < r; ++y) {
      gather_taps(columns[y], g);
      store_strided(g, taps + y * r * panel, panel);
    }
  }
}

template <int n>
constexpr std::array<float, 8> shares() {
  std::array<float, 8> of{};
  for (int i = 0; i < n; ++i)
    of[static_cast<std::size_t>(i)] = i == n - 1 ? 1 : static_cast<float>(1 / denominator(n, i));
  return of;
}

template <int m, int r>
constexpr WinogradTransform made() {
  constexpr int n = m + r - 1;
  return {m,
          r,
          &input<m, n>,
          &input_fixed<m, n>,
          &output<m, n>,
          &filters<r, n>,
          &filters_fixed<r, n>,
          &spread<m, n>,
          &gather<r, n>,
          shares<n>()};
}

}  // namespace

const WinogradTransform& winograd_transform(int m, int r) {
  static constexpr WinogradTransform all[] = {made<2, 3>(), made<4, 3>(), made<2, 5>(),
                                              made<4, 5>(), made<6, 3>()};
  for (const WinogradTransform& each : all)
    if (each.m == m && each.r == r) return each;
  throw std::logic_error("convolution: no such Winograd transform");
}

}  // namespace msf
