#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"

namespace msf {

// A flat footprint as a short program on planes of rows; medseg_fast/_footprint.py writes it.
//
// The pixels that a block of the result needs, borders included, are loaded plane by plane into
// buffer 0, whose first pixel is at offset `low` of the block's first pixel. Each step then sets
// to[p] = extreme over its shifts of from[p + shift] (shifts are not negative, in (y, x)); a step
// may work in place, but never writes buffer 0. A pixel of the result is the extreme over `rows`
// of buffer[p + (z, y, x)]. `lead` is the offset along the axes before the last three.
struct FlatFootprint {
  struct Step {
    int from, to;
    std::vector<std::pair<std::int64_t, std::int64_t>> shifts;
  };
  struct Row {
    int buffer;
    std::int64_t z, y, x;
  };
  std::vector<std::int64_t> lead;
  std::array<std::int64_t, 3> low, span;
  int buffers;
  std::vector<Step> steps;
  std::vector<Row> rows;
};

// What becomes of the minimum and the maximum over the footprint. Differences of the gradients
// are clipped to the dtype, those of the top-hats wrap as in NumPy; of bools they are xor.
enum class Extremes : std::uint8_t {
  minimum,
  maximum,
  range,               // maximum - minimum
  base_minus_minimum,  // clipped
  maximum_minus_base,  // clipped
  base_minus_maximum,  // wraps
  minimum_minus_base,  // wraps
};

// `shape` is the image's with at least three axes; the footprint is the union of `parts` (exactly
// one for `range`). Positions outside count as `border` says; as cval[0], an array of the image's
// dtype, if constant. `base`, of the image's shape and dtype, is for the differences with it. NaN
// in the footprint gives NaN. `out` may be neither the image nor share memory with it.
void extremes(const Array& image, const std::vector<std::int64_t>& shape,
              const std::vector<FlatFootprint>& parts, BorderMode border, const Array& cval,
              Extremes kind, const Array* base, const MutableArray& out);

// The same on bits: out is whether all pixels of the footprint are true; with `any`, whether one
// is. Rows of a part have x = 0. `border` says what pixels outside are.
void binary_extremes(const Array& mask, const std::vector<std::int64_t>& shape,
                     const std::vector<FlatFootprint>& parts, bool any, bool border,
                     const MutableArray& out);

}  // namespace msf
