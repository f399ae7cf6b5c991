// Pixels within an interval.
//
// Each thread takes four neighbours at a time and writes them as one word, so that a warp's writes
// fill whole sectors even though a mask has one byte a pixel. NaN is in no interval.
#pragma once
#include "device.cuh"

template <class T> __device__ __forceinline__ bool inside(T value, T low, T high) {
  return value >= low && value <= high;
}

// `mask` is aligned to 4 bytes: it is an allocation of its own. `n` pixels.
template <class T>
__global__ void __launch_bounds__(256)
    in_range(const T* image, T low, T high, uint8* mask, int64 n) {
  const int64 words = n / 4;
  for (int64 i = global_thread(); i < words; i += global_threads()) {
    unsigned word = 0;
    for (int k = 0; k < 4; ++k) word |= unsigned(inside(image[4 * i + k], low, high)) << 8 * k;
    reinterpret_cast<unsigned*>(mask)[i] = word;
  }
  const int64 rest = 4 * words + global_thread();
  if (rest < n) mask[rest] = inside(image[rest], low, high);
}
