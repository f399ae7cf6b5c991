// Regional minima: plateaus without a lower neighbour.
//
// The plateaus are components of equal values (components.cuh), known by their first pixel.
#pragma once
#include "union_find.cuh"
#include "waves.cuh"

// Marks the plateaus, by their first pixel, that have a lower neighbour: they are no minima.
template <class I>
__global__ void __launch_bounds__(tile_size)
    mark_no_minima(const unsigned* values, const I* parent, int planes, int rows, int columns,
                   int reach, int first, uint8* marks) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const unsigned mine = values[pixel.index];
  bool lower = false;
#pragma unroll 1
  for (int number = first; number < 27 - first; ++number) {
    const Place place(number);
    if (place.is_neighbour(pixel, planes, rows, columns, reach))
      lower |= values[pixel.index + place.step(rows, columns)] < mine;
  }
  if (!lower) return;
  // Looked at first: thousands of stores to the place of a large plateau would wait for one
  // another.
  uint8* const mark = marks + find_root(parent, I(pixel.index));
  if (!load_relaxed(mark)) store_relaxed(mark, uint8(1));
}
