// What the local thresholds share: windows over images of any number of axes whose border is
// handled by index tables (the image is never padded), and the step from a row of thresholds to
// the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "array.hpp"
#include "kernels/local_threshold.hpp"
#include "parallel.hpp"

namespace msf::local {

using Index = std::int64_t;

// Image position of every position of an axis extended by `radius` on both sides; -1: outside.
std::vector<Index> extended_axis(Index n, Index radius, BorderMode border);

// The axes of an image, at least two (shorter shapes get leading axes of length 1), and the window.
struct Window {
  std::vector<Index> shape, block;
  std::vector<std::vector<Index>> source;  // per axis, see extended_axis
  BorderMode border;
  double cval;

  Window(const Array& image, const std::vector<Index>& block, BorderMode border, double cval);

  int ndim() const { return static_cast<int>(shape.size()); }
  Index stride(int axis) const {  // elements of one step along the axis
    Index n = 1;
    for (int k = axis + 1; k < ndim(); ++k) n *= shape[k];
    return n;
  }
  Index volume() const {
    Index n = 1;
    for (const Index b : block) n *= b;
    return n;
  }
  bool empty() const { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }
  // Whether positions outside the image count, with a value other than 0.
  bool has_cval() const { return border == BorderMode::constant && cval != 0; }
};

// A task's part of the result: ranges of the first two axes. `low` and `high` bound the positions
// of axis 1 that its windows reach, so scratch arrays hold only these.
struct Tile {
  Index begin[2], end[2], low, high;
};

// body(tile) over the tiles of the result, in parallel, each at most `rows` x `columns` positions
// of the first two axes.
void for_tiles(const Window& w, Index rows, Index columns,
               const std::function<void(const Tile&)>& body);

// Extended positions [begin, begin + count) of a row, of which `row` holds the positions from
// `first` on; outside gets `fill`.
template <class S, class D>
void extend_row(const Window& w, int axis, const S* __restrict row, Index first, Index begin,
                Index count, D fill, D* __restrict out) {
  const Index radius = w.block[axis] / 2;
  const Index from = std::clamp<Index>(radius - begin, 0, count);
  const Index to = std::clamp<Index>(radius + w.shape[axis] - begin, from, count);
  const auto border = [&](Index e) {
    const Index at = w.source[axis][begin + e];
    out[e] = at < 0 ? fill : static_cast<D>(row[at - first]);
  };
  for (Index e = 0; e < from; ++e) border(e);
  const S* __restrict inside = row + (begin - radius - first);
  for (Index e = from; e < to; ++e) out[e] = static_cast<D>(inside[e]);
  for (Index e = to; e < count; ++e) border(e);
}

// Pixels of any dtype as float64.
void to_double(DType dtype, const void* row, Index n, double* out);

// Where thresholds go: an image of them, or at once the mask image > threshold. Scikit-image's
// arithmetic: float32 for float16 and float32 images, else float64.
class Result {
 public:
  Result(const Array& image, double offset, const MutableArray& out)
      : image_(image), out_(out), offset_(offset) {}

  bool is_mask() const { return out_.dtype == DType::boolean; }
  double offset() const { return offset_; }
  std::uint8_t* mask() const { return out_.as<std::uint8_t>(); }

  // The n pixels from `position` on have these local means (or whatever the offset is taken from).
  void store(const double* level, Index position, Index n) const;

 private:
  const Array& image_;
  const MutableArray& out_;
  double offset_;
};

}  // namespace msf::local
