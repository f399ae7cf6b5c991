// Values back to where their pooling found them.
//
// Several values may have one place; the last of them counts. So that this does not depend on which
// thread is last, values first claim their places by an atomic maximum of their numbers, then each
// place takes the value that won it.
#pragma once
#include "device.cuh"

// `values` of each plane claim one of its `places`; `winners` are -1 at first. Indices outside the
// plane claim nothing.
__global__ void __launch_bounds__(256)
    claim(const int64* indices, int64 n, unsigned values, int64 places, int* winners) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const int64 plane = i / values, place = indices[i];
    if (place >= 0 && place < places)
      atomicMax(winners + plane * places + place, int(i - plane * values));
  }
}

// T: unsigned, as wide as a value.
template <class T>
__global__ void __launch_bounds__(256)
    take_claimed(const T* from, const int* winners, int64 n, unsigned values, int64 places, T* to) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const int winner = winners[i];
    to[i] = winner < 0 ? T(0) : from[i / places * values + winner];
  }
}
