// Masks of instances resized to their boxes, each in an image of its own: bilinear, pixels' centres
// at + 0.5, in the order of operations of the CPU's kernel (csrc/paste_masks.cpp).
#pragma once
#include "tile.cuh"

// The two source pixels of an output pixel and the second one's weight.
template <class T>
struct Between {
  int low, high;
  T above;

  __device__ __forceinline__ Between(int64 to, int source, int64 size) {
    low = high = int(to);
    above = 0;
    if (source == size) return;
    const T ratio = T(source) / T(size);
    const T position = max(ratio * (T(to) + T(0.5)) - T(0.5), T(0));
    low = int(min(int64(position), int64(source - 1)));
    high = min(low + 1, source - 1);
    above = min(max(position - T(low), T(0)), T(1));
  }
};

constexpr int paste_rows = 8 * tile_rows;  // of a block

// The pixels of the box around a padded mask, `scale` times as large as that of the mask: first and
// last along x and y, which is included. None of a box that is not finite.
template <class B>
struct Region {
  int64 first[2], last[2];

  __device__ __forceinline__ Region(const B* box, B scale) {
    B low[2], high[2];
    bool finite = true;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const B half = (box[2 + k] - box[k]) * B(0.5) * scale,
              centre = (box[2 + k] + box[k]) * B(0.5);
      low[k] = centre - half;
      high[k] = centre + half;
      finite &= low[k] - low[k] == 0 && high[k] - high[k] == 0;
    }
    const B most = B(int64(1) << 40);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      first[k] = finite ? int64(min(max(low[k], -most), most)) : 0;
      last[k] = finite ? int64(min(max(high[k], -most), most)) : -1;
    }
  }
};

// `boxes`: (x0, y0, x1, y1). Either `values` or `mask` (those of at least `threshold`) is written,
// the other is null. Most pixels lie outside: a thread writes several of one column, so that these
// cost little but their memory.
template <class T, class B>
__global__ void __launch_bounds__(tile_size)
    paste(const T* masks, const B* boxes, B scale, int mask_rows, int mask_columns, int padding,
          int rows, int columns, T threshold, T* values, uint8* mask) {
  const unsigned across_tiles = (columns + tile_columns - 1) / tile_columns;
  const unsigned tiles = across_tiles * ((rows + paste_rows - 1) / paste_rows);
  const unsigned tile = blockIdx.x % tiles, plane = blockIdx.x / tiles;
  const int x = int(tile % across_tiles) * tile_columns + int(threadIdx.x) % tile_columns;
  const int first = int(tile / across_tiles) * paste_rows, end = min(first + paste_rows, rows);
  const int mine = first + int(threadIdx.x) / tile_columns;
  if (x >= columns) return;
  const auto put = [&](int y, bool inside, T value) {
    const int64 at = (int64(plane) * rows + y) * columns + x;
    if (values != nullptr)
      values[at] = value;
    else
      mask[at] = inside && value >= threshold;
  };
  const Region<B> box(boxes + 4 * int64(plane), scale);
  const int top = int(min(max(box.first[1], int64(first)), int64(end)));
  const int below = int(max(min(box.last[1] + 1, int64(end)), int64(first)));
  if (x < box.first[0] || x > box.last[0] || top >= below) {
    for (int y = mine; y < end; y += tile_rows) put(y, false, 0);
    return;
  }
  const T* const from = masks + int64(plane) * mask_rows * mask_columns;
  const Between<T> across(x - box.first[0], mask_columns + 2 * padding,
                          box.last[0] - box.first[0] + 1);
  const auto at = [&](int row, int column) {
    row -= padding;
    column -= padding;
    const bool real = row >= 0 && row < mask_rows && column >= 0 && column < mask_columns;
    return real ? from[int64(row) * mask_columns + column] : T(0);
  };
  const auto line = [&](int row) {
    return (1 - across.above) * at(row, across.low) + across.above * at(row, across.high);
  };
  for (int y = mine; y < end; y += tile_rows) {
    const bool inside = y >= top && y < below;
    T value = 0;
    if (inside) {
      const Between<T> down(y - box.first[1], mask_rows + 2 * padding,
                            box.last[1] - box.first[1] + 1);
      value = (1 - down.above) * line(down.low) + down.above * line(down.high);
    }
    put(y, inside, value);
  }
}
