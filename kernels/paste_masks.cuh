// Masks of instances resized to their boxes, each in an image of its own: bilinear, pixels' centres
// at + 0.5, in the order of operations of the CPU's kernel (csrc/paste_masks.cpp).
#pragma once
#include "tile.cuh"

// The two source pixels of an output pixel and the second one's weight.
template <class T> struct Between {
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

// `boxes`: first and last pixels (x0, y0, x1, y1) of the padded masks, last ones included. Either
// `values` or `mask` (those of at least `threshold`) is written, the other is null.
template <class T>
__global__ void __launch_bounds__(tile_size)
    paste(const T* masks, const int64* boxes, int mask_rows, int mask_columns, int padding,
          int rows, int columns, T threshold, T* values, uint8* mask) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int64* const box = boxes + 4 * int64(pixel.plane);
  const T* const from = masks + int64(pixel.plane) * mask_rows * mask_columns;
  const int x = pixel.column, y = pixel.row;
  T value = 0;
  const bool inside = x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
  if (inside) {
    const Between<T> down(y - box[1], mask_rows + 2 * padding, box[3] - box[1] + 1);
    const Between<T> across(x - box[0], mask_columns + 2 * padding, box[2] - box[0] + 1);
    const auto at = [&](int row, int column) {
      row -= padding;
      column -= padding;
      const bool real = row >= 0 && row < mask_rows && column >= 0 && column < mask_columns;
      return real ? from[int64(row) * mask_columns + column] : T(0);
    };
    const auto line = [&](int row) {
      return (1 - across.above) * at(row, across.low) + across.above * at(row, across.high);
    };
    value = (1 - down.above) * line(down.low) + down.above * line(down.high);
  }
  if (values != nullptr)
    values[pixel.index] = value;
  else
    mask[pixel.index] = inside && value >= threshold;
}
