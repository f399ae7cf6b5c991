// What the stencil kernels share: reading rows of an image of any dtype as float32 or float64, with
// scikit-image's scaling of integers applied on the way, and the pieces a result is cut into.
#pragma once

#include <vector>

#include "array.hpp"
#include "local.hpp"

namespace msf::stencil {

using local::Index;

// Asks for the cache lines of `bytes` from `at` on.
inline void prefetch(const void* at, Index bytes) {
  for (Index b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(at) + b);
}

// Pixels as numbers of type T (float or double).
template <class T>
class Source {
 public:
  Source(const Array& image, double scale)
      : image_(image),
        scale_(static_cast<T>(scale)),
        item_(item_size(image.dtype)),
        direct_(image.dtype == (sizeof(T) == 4 ? DType::float32 : DType::float64) && scale == 1) {}

  // n pixels from flat index `position` on, copied to `to`.
  void load(Index position, Index n, T* to) const;
  // The same where they are if they need no conversion, else in `buffer`.
  const T* row(Index position, Index n, T* buffer) const {
    if (direct_) return image_.as<T>() + position;
    load(position, n, buffer);
    return buffer;
  }
  void prefetch(Index position, Index n) const {
    stencil::prefetch(image_.as<char>() + position * item_, n * item_);
  }

 private:
  const Array& image_;
  T scale_;
  Index item_;  // bytes of a pixel
  bool direct_;
};

// The last three axes of an image; shorter shapes get leading axes of length 1, longer ones have
// their first axes merged.
struct Box {
  Index planes = 1, rows = 1, columns = 1;
  explicit Box(const Array& image) {
    const int n = image.ndim;
    if (n > 0) columns = image.shape[n - 1];
    if (n > 1) rows = image.shape[n - 2];
    for (int k = 0; k < n - 2; ++k) planes *= image.shape[k];
  }
  Index at(Index plane, Index row) const { return (plane * rows + row) * columns; }
};

// A task's part of a box: planes, rows, columns.
struct Block {
  Index begin[3], end[3];
};

// body(block) in parallel over the blocks of a box. Blocks are as long along the planes as leaves
// every thread a few; rows and columns are cut so that `live` planes and rows of `item` bytes per
// pixel (what one step reads and keeps) stay in the caches. `whole_rows`: columns are not cut.
template <class F>
void for_blocks(const Box& box, Index live, Index item, bool whole_rows, F&& body) {
  if (box.planes * box.rows * box.columns == 0) return;
  const auto pieces = [](Index n, Index size) { return (n + size - 1) / size; };
  constexpr Index row_bytes = 16384;        // of a row in the L1 cache
  constexpr Index block_bytes = 200 << 10;  // of all live rows, in the L2 cache
  const Index cuts_x = whole_rows ? 1 : pieces(box.columns, row_bytes / item);
  const Index columns = pieces(box.columns, cuts_x);
  Index rows = box.rows, planes = box.planes;
  if (box.planes > 1)
    rows = std::min(rows, std::max<Index>(block_bytes / (live * item * columns), 8));
  const Index wanted = 4 * num_threads();
  const auto cuts = [&] { return cuts_x * pieces(box.rows, rows) * pieces(box.planes, planes); };
  // At least 8 planes or 16 rows of every column: their halo is read twice.
  while (cuts() < wanted && planes > 16) planes = (planes + 1) / 2;
  while (cuts() < wanted && rows > 32) rows = (rows + 1) / 2;
  const Index down = pieces(box.rows, rows), deep = pieces(box.planes, planes);
  parallel_tasks(cuts_x * down * deep, [&](Index i) {
    const Index x = i % cuts_x, y = i / cuts_x % down, z = i / (cuts_x * down);
    body(Block{{z * planes, y * rows, x * columns},
               {std::min(box.planes, (z + 1) * planes), std::min(box.rows, (y + 1) * rows),
                std::min(box.columns, (x + 1) * columns)}});
  });
}

}  // namespace msf::stencil
