// What separable.cpp does with an image, whatever the type it computes in: which axes, which
// streams of values between them, and which tiles.
#pragma once

#include <functional>
#include <vector>

#include "kernels/separable.hpp"
#include "local.hpp"

namespace msf::separable {

using local::Index;

// One axis of the image as the filter sees it.
struct Axis {
  Index extent, radius;
  const Taps *smooth, *derive;  // no derivative: null
  std::vector<Index> source;    // where an extended position is read; -1: outside
};

// Values that enter an axis: none of their axes derived (term -1), or axis `term`.
struct Pass {
  std::size_t from, to;  // stream before and after the axis
  bool derive;
};

struct Plan {
  Plan(const Array& image, const Separable& filter);

  std::vector<Axis> axes;
  std::vector<std::vector<int>> streams;  // before each axis, and after the last: terms
  std::vector<std::vector<Pass>> passes;  // of each axis
  std::vector<std::size_t> result;        // the streams of the terms, in their order
  Index step = 1;                         // elements of one step along the last axis
  const Separable& filter;

  int ndim() const { return static_cast<int>(axes.size()); }
  Index stride(int k) const {
    Index n = step;
    for (int i = k + 1; i < ndim(); ++i) n *= axes[i].extent;
    return n;
  }
  bool empty() const { return stride(0) * axes[0].extent == 0; }
  // Positions of axis k, of so many bytes each, that are filtered before the next axis is.
  Index block_step(int k, Index bytes) const;
};

// A tile's ranges along the first two axes; the second axis is read in [low, high).
struct Tile {
  Index begin[2], end[2], low, high;
};

// body(tile) in parallel over the tiles of a result whose numbers have `item` bytes.
void for_tiles(const Plan& plan, Index item, const std::function<void(const Tile&)>& body);

}  // namespace msf::separable
