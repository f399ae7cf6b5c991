// What every kernel's source starts from: numbers of known width, memory shared by a block, relaxed
// accesses. `__MSF_SHIM__` is set where tests run the kernels on the CPU (shim/shim.hpp).
//
// Rules of the kernels: 64-bit indices into images; `load_relaxed` and `store_relaxed` wherever
// another thread may use an atomic on the same place; products and sums in the order of the CPU's
// kernels, with contraction off where results must be equal (--fmad=false); no kernel prints,
// allocates or waits for another block.
#pragma once

#ifdef __MSF_SHIM__
#include "shim.hpp"
#else
// A macro, as only the compiler's own declaration places memory in the block:
// SHARED(float, tile, [8][32]) is `__shared__ float tile[8][32]`.
#define SHARED(type, name, extent) __shared__ type name extent
#define DYNAMIC_SHARED(type, name)                     \
  extern __shared__ unsigned char dynamic_shared_[];   \
  type* name = reinterpret_cast<type*>(dynamic_shared_)

template <class T> __device__ __forceinline__ T load_relaxed(const T* place) {
  return *static_cast<const volatile T*>(place);
}
template <class T> __device__ __forceinline__ void store_relaxed(T* place, T value) {
  *static_cast<volatile T*>(place) = value;
}
#endif

using uint8 = unsigned char;
using int64 = long long;
using uint64 = unsigned long long;

constexpr unsigned all_lanes = 0xffffffffu;

// Number of the calling thread among all of a one-dimensional launch, and their count.
__device__ __forceinline__ int64 global_thread() {
  return static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64 global_threads() {
  return static_cast<int64>(gridDim.x) * blockDim.x;
}
