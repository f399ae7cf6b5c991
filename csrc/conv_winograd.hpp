// The transforms of Winograd's F(m x m, r x r), for conv_winograd.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "array.hpp"

namespace msf {

// In fixed point: what V's integers stay within, and what the norm of a tile's at one place does,
// over fixed_run channels. That of the weights' is 2^31 over it at most, so that by Cauchy and
// Schwarz no sum of products leaves its integer.
inline constexpr float most_fixed = 32766, most_fixed_norm = 60000;
inline constexpr std::int64_t fixed_run = 128;  // channels of V of one scale

// Of n points: whether values at point i are larger than at others, by a factor of two or so.
constexpr int gain_bit(int n, int i) { return n == 4 || i == 3 || i == 4 ? 0 : 1; }

// Pixels of float32 or bfloat16 in a box, of which so many vectors of channels lie together.
struct PixelRows {
  const void* data;
  DType dtype;
  std::int64_t first;  // values before the box's first pixel, if it were there
  std::int64_t vectors, by_pixel, by_row, by_plane;
  // What is there, along planes, rows and columns of the box: around it are zeros.
  std::array<std::int64_t, 3> begin, end;

  // From a row of a plane on.
  PixelRows from(std::int64_t plane, std::int64_t row) const {
    PixelRows rows = *this;
    rows.first += plane * by_plane + row * by_row;
    rows.begin[1] -= row;
    rows.end[1] = plane >= begin[0] && plane < end[0] ? end[1] - row : rows.begin[1];
    return rows;
  }
};

struct WinogradTransform {
  int m, r;  // outputs of a tile along an axis; taps
  // A row of tiles of the input, m pixels apart: one vector of channels of each pixel, a panel
  // apart, `width` of them in a row. Place p of a tile goes to `to + p * by_place`, tiles are
  // by_tile apart. strip: n() * width vectors.
  void (*input)(const float* rows, std::int64_t width, std::int64_t tiles, float* strip, float* to,
                std::int64_t by_tile, std::int64_t by_place);
  // The same for the channels of all maps, one's after another's, in integers: what a tile's are
  // multiples of goes to `scales`, by_scale apart, but for gain(place). scratch: n() * (width +
  // n()) times the vectors of all maps.
  void (*input_fixed)(std::span<const PixelRows> maps, std::int64_t width, std::int64_t tiles,
                      float* scratch, std::int16_t* to, std::int64_t by_tile, std::int64_t by_place,
                      float* scales, std::int64_t by_scale);
  // A row of tiles of sums, a panel for each, places by_place apart, back into rows of pixels;
  // `vectors` of a panel's two.
  void (*output)(const float* from, std::int64_t by_place, std::int64_t tiles, int vectors,
                 float* to, std::int64_t width);
  // `count` filters of r x r taps, a panel of each tap for the output channels, transformed.
  void (*filters)(const float* from, std::int64_t count, float* to, std::int64_t by_place);
  // The same of an even number of filters of integers, as pairs of filters for each output channel:
  // integers again, once multiplied by `by`, a panel of floats for each place, and not by `share`.
  void (*filters_fixed)(const std::int16_t* from, std::int64_t count, const float* by,
                        std::int16_t* to, std::int64_t by_place);
  // Transposes, for gradients. A row of tiles of the output's, m x m pixels each, to places, as
  // `input` does; and `count` transformed filters to r x r taps, from the order of `filters` to it.
  void (*spread)(const float* rows, std::int64_t width, std::int64_t tiles, float* strip, float* to,
                 std::int64_t by_tile, std::int64_t by_place);
  void (*gather)(const float* from, std::int64_t count, float* to, std::int64_t by_place);
  std::array<float, 8> shares;  // what filters are multiplied by at each point of an axis

  float share(int place) const {
    return shares[static_cast<std::size_t>(place / n())] *
           shares[static_cast<std::size_t>(place % n())];
  }
  int n() const { return m + r - 1; }
  int places() const { return n() * n(); }
  // How much larger than the others the values of a place are, roughly.
  float gain(int place) const {
    return static_cast<float>(1 << (gain_bit(n(), place / n()) + gain_bit(n(), place % n())));
  }
};

// (m, r): (2, 3), (4, 3), (6, 3), (2, 5) or (4, 5).
const WinogradTransform& winograd_transform(int m, int r);

}  // namespace msf
