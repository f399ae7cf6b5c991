// Values back to where their pooling found them.
//
// Several values may have one place; the last of them counts. So that this does not depend on which
// thread is last, values first claim their places by an atomic maximum of their numbers, then each
// place takes the value that won it.
#pragma once
#include "device.cuh"

// `values` of each plane claim one of its `places` by their numbers from 1 on; `winners` are 0 at
// first. Indices outside the plane claim nothing. The grid's second axis goes along planes:
// dividing by a plane's size would take longer than the memory does.
template <class Index>
__global__ void __launch_bounds__(256)
    claim(const Index* indices, int planes, int values, int places, int* winners) {
  for (int plane = int(blockIdx.y); plane < planes; plane += int(gridDim.y))
    for (int64 i = global_thread(); i < values; i += global_threads()) {
      const int64 place = indices[int64(plane) * values + i];
      if (place >= 0 && place < places)
        atomicMax(winners + int64(plane) * places + place, int(i) + 1);
    }
}

// T: unsigned, as wide as a value.
template <class T>
__global__ void __launch_bounds__(256)
    take_claimed(const T* from, const int* winners, int planes, int values, int places, T* to) {
  for (int plane = int(blockIdx.y); plane < planes; plane += int(gridDim.y))
    for (int64 i = global_thread(); i < places; i += global_threads()) {
      const int64 at = int64(plane) * places + i;
      const int winner = winners[at];
      to[at] = winner == 0 ? T(0) : from[int64(plane) * values + winner - 1];
    }
}
