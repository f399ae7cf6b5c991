// Pixels within an interval.
//
// A thread takes 16 bytes of the image at a time and writes their mask as one word, so that a
// mask's byte a pixel still fills whole sectors. NaN is in no interval.
#pragma once
#include "chunk.cuh"

template <class T>
__device__ __forceinline__ bool inside(T value, T low, T high) {
  return value >= low && value <= high;
}

// `mask` is aligned to 16 bytes: it is an allocation of its own. `n` pixels.
template <class T>
__global__ void __launch_bounds__(256)
    in_range(const T* image, T low, T high, uint8* mask, int64 n) {
  constexpr int size = Chunk<T>::size;
  struct alignas(size) Word {
    uint8 byte[size];
  };
  const bool wide = aligned(image);
  const int64 chunks = n / size;
  for (int64 i = global_thread(); i < chunks; i += global_threads()) {
    const Chunk<T> pixels = chunk(image, i, wide);
    Word word;
#pragma unroll
    for (int k = 0; k < size; ++k) word.byte[k] = inside(pixels.value[k], low, high);
    reinterpret_cast<Word*>(mask)[i] = word;
  }
  const int64 rest = size * chunks + global_thread();
  if (rest < n) mask[rest] = inside(image[rest], low, high);
}
