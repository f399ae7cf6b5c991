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
