// Sixteen bytes of an array at once: the widest access of a thread, and few of them to wait for.
#pragma once
#include "device.cuh"

template <class T>
struct alignas(16) Chunk {
  static constexpr int size = 16 / sizeof(T);
  T value[size];
};

// Whether all chunks of an array lie as wide accesses want them. A view may begin anywhere.
__device__ __forceinline__ bool aligned(const void* array) {
  return reinterpret_cast<uint64>(array) % 16 == 0;
}

template <class T>
__device__ __forceinline__ Chunk<T> chunk(const T* array, int64 i, bool wide) {
  if (wide) return reinterpret_cast<const Chunk<T>*>(array)[i];
  Chunk<T> read;
#pragma unroll
  for (int k = 0; k < Chunk<T>::size; ++k) read.value[k] = array[i * Chunk<T>::size + k];
  return read;
}

// `visit` for all pixels, each by some thread of the grid's first axis.
template <class T, class Visit>
__device__ __forceinline__ void each_pixel(const T* image, int64 n, Visit visit) {
  constexpr int size = Chunk<T>::size;
  const bool wide = aligned(image);
  const int64 chunks = n / size;
  for (int64 i = global_thread(); i < chunks; i += global_threads()) {
    const Chunk<T> pixels = chunk(image, i, wide);
#pragma unroll
    for (int k = 0; k < size; ++k) visit(pixels.value[k]);
  }
  const int64 rest = size * chunks + global_thread();
  if (rest < n) visit(image[rest]);
}
