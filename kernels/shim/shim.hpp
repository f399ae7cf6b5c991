// CUDA C++ on the CPU, for tests: `device.cuh` includes this in place of what nvcc and NVRTC know
// by themselves, and a kernel's source then compiles with g++ and runs unchanged.
//
// Every CUDA thread is a fiber (engine.cpp). Threads of several blocks take turns on one thread of
// the operating system, so a schedule is a function of its seed, and a failure can be repeated. A
// thread may lose its turn at barriers and before each atomic or relaxed access: whatever a kernel
// does between two of them is seen as a whole, which real hardware does not promise, so the data
// race is looked for with the thread sanitizer as well. Not covered: grid-wide barriers, textures,
// tensor cores, half precision, the order in which the device's memory shows writes, and time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
using dim3 = uint3;

// Of the thread whose turn it is.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace shim {

constexpr unsigned warp_size = 32;

// A place where another thread may get the turn.
void point();
// Waits for all threads of the block; returns how many of them gave true.
int barrier(bool given);
// Waits for the lanes in `mask`, each bringing a value; `all` receives the values by lane. Returns
// the mask without the lanes that a last, narrower warp lacks.
unsigned exchange(unsigned mask, std::uint64_t value, std::uint64_t all[warp_size]);
// Number of the calling thread in its warp.
unsigned lane();
// Memory of the calling thread's block: the same for all its threads, at first full of garbage.
void* shared(int key, std::size_t bytes);
void* dynamic_shared();

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T from_lane(unsigned mask, T value, int source) {
  std::uint64_t all[warp_size];
  exchange(mask, to_bits(value), all);
  return from_bits<T>(all[source & (warp_size - 1)]);
}

// Replaces *place by change(*place) in one step; returns what it was.
template <class T, class Change>
T update(T* place, Change change) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  static_assert(sizeof(T) == sizeof(Bits));
  point();
  auto* bits = reinterpret_cast<Bits*>(place);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    const T old = from_bits<T>(before);
    const auto after = static_cast<Bits>(to_bits<T>(change(old)));
    if (__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
      return old;
  }
}

}  // namespace shim

using std::max;
using std::min;

inline void __syncthreads() { shim::barrier(false); }
inline int __syncthreads_count(int given) { return shim::barrier(given != 0); }
inline int __syncthreads_or(int given) { return shim::barrier(given != 0) > 0; }
inline int __syncthreads_and(int given) { return shim::barrier(given == 0) == 0; }

inline unsigned __ballot_sync(unsigned mask, int given) {
  std::uint64_t all[shim::warp_size];
  const unsigned present = shim::exchange(mask, given != 0, all);
  unsigned ballot = 0;
  for (unsigned i = 0; i < shim::warp_size; ++i)
    if ((present >> i & 1) != 0 && all[i] != 0) ballot |= 1u << i;
  return ballot;
}
inline int __any_sync(unsigned mask, int given) { return __ballot_sync(mask, given) != 0; }
inline int __all_sync(unsigned mask, int given) { return __ballot_sync(mask, !given) == 0; }
inline void __syncwarp(unsigned mask = ~0u) { __ballot_sync(mask, 0); }

// A lane without a source within its `width` lanes keeps its value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int start = static_cast<int>(shim::lane()) & ~(width - 1);
  return shim::from_lane(mask, value, start + (source & (width - 1)));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = static_cast<int>(shim::lane()), source = lane + static_cast<int>(by);
  return shim::from_lane(mask, value, (lane ^ source) < width ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = static_cast<int>(shim::lane()), inside = lane & (width - 1);
  const bool has = inside >= static_cast<int>(by);
  return shim::from_lane(mask, value, has ? lane - static_cast<int>(by) : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int = 32) {
  return shim::from_lane(mask, value, static_cast<int>(shim::lane()) ^ bits);
}

template <class T, class U>
T atomicAdd(T* place, U value) {
  return shim::update(place, [=](T old) { return static_cast<T>(old + value); });
}
template <class T, class U>
T atomicMin(T* place, U value) {
  return shim::update(place, [=](T old) { return std::min(old, static_cast<T>(value)); });
}
template <class T, class U>
T atomicMax(T* place, U value) {
  return shim::update(place, [=](T old) { return std::max(old, static_cast<T>(value)); });
}
template <class T, class U>
T atomicOr(T* place, U value) {
  return shim::update(place, [=](T old) { return static_cast<T>(old | value); });
}
template <class T, class U>
T atomicAnd(T* place, U value) {
  return shim::update(place, [=](T old) { return static_cast<T>(old & value); });
}
template <class T, class U>
T atomicExch(T* place, U value) {
  return shim::update(place, [=](T) { return static_cast<T>(value); });
}
template <class T, class U, class V>
T atomicCAS(T* place, U expected, V value) {
  return shim::update(
      place, [=](T old) { return old == static_cast<T>(expected) ? static_cast<T>(value) : old; });
}
inline void __threadfence() {
#ifndef __SANITIZE_THREAD__  // which knows no fences, and sees relaxed accesses as no race
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
  shim::point();
}
inline void __threadfence_block() { __threadfence(); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
inline int __clz(int bits) { return bits != 0 ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }

// The compiler must not contract these into one rounding: tests compile with contraction off.
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }

// What `device.cuh` gives the kernels; the device's own versions are there.
#define SHARED(type, name, extent)                                                          \
  auto& name = *static_cast<std::remove_reference_t<decltype(*(type(*) extent) nullptr)>*>( \
      shim::shared(__COUNTER__, sizeof(type extent)))
#define DYNAMIC_SHARED(type, name) auto* name = static_cast<type*>(shim::dynamic_shared())

template <class T>
T load_relaxed(const T* place) {
  shim::point();
  return __atomic_load_n(place, __ATOMIC_RELAXED);
}
template <class T>
void store_relaxed(T* place, T value) {
  shim::point();
  __atomic_store_n(place, value, __ATOMIC_RELAXED);
}

// The arguments of a launch as cuLaunchKernel takes them, and what they are: one letter (p pointer,
// i integer, u unsigned, f float) and the size in bytes, for a pointer those of what it points to.
namespace shim {

const char* launch(dim3 grid, dim3 block, std::size_t dynamic, void (*body)(void*), void* self);

template <class T>
void describe(char*& text) {
  using Value = std::remove_cv_t<std::remove_pointer_t<T>>;
  if (std::is_pointer_v<T>) *text++ = 'p';
  *text++ = std::is_floating_point_v<Value> ? 'f' : std::is_signed_v<Value> ? 'i' : 'u';
  *text++ = static_cast<char>('0' + sizeof(Value));
  *text++ = ' ';
}

template <class... A>
const char* signature(void (*)(A...)) {
  static char text[4 * sizeof...(A) + 1];
  char* end = text;
  (describe<A>(end), ...);
  *end = 0;
  return text;
}

template <class... A>
const char* start(void (*kernel)(A...), const unsigned* grid, const unsigned* block,
                  std::size_t dynamic, void** values) {
  auto body = [&] {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      kernel(*static_cast<std::remove_cv_t<A>*>(values[i])...);
    }(std::index_sequence_for<A...>{});
  };
  return launch(
      {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, dynamic,
      [](void* self) { (*static_cast<decltype(body)*>(self))(); }, &body);
}

}  // namespace shim
