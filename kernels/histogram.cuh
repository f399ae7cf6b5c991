// Counts of integer values, and of floats by bins.
//
// Few bins: each block counts in its own memory, so that few additions meet in global memory, and
// adds its counts to the others' at the end. Lanes that see the same value would wait for each
// other, as in the flat background of an image; where there is room for it, each lane has copies of
// the bins that it shares with few others, or none.
//
// Many bins (16-bit images): those near the block's first pixels in its own memory, as values of a
// scan lie close together; the others in global memory at once.
//
// Images of a batch lie one after the other, n pixels each; the grid's second axis counts them, and
// each has its own counts and edges.
#pragma once
#include "chunk.cuh"

constexpr int few_bins = 4096;  // 16 KiB of a block's memory
constexpr int near_bins = 8192;

// A block's own counts of at most `few_bins` bins: 2^shift copies, one after the other for each
// bin, so that lanes of different copies meet neither at an address nor in a bank.
struct Copies {
  unsigned* local;
  int bins, shift;

  __device__ __forceinline__ Copies(unsigned* memory, int count) : local(memory), bins(count) {
    for (shift = 5; bins << shift > few_bins;) --shift;
    for (int i = threadIdx.x; i < bins << shift; i += 256) local[i] = 0;
    __syncthreads();
  }
  __device__ __forceinline__ void add(int bin) const {
    atomicAdd(&local[(bin << shift) + (threadIdx.x & ((1 << shift) - 1))], 1u);
  }
  __device__ __forceinline__ void add_to(uint64* counts) const {
    __syncthreads();
    for (int bin = threadIdx.x; bin < bins; bin += 256) {
      unsigned count = 0;
      for (int k = 0; k < 1 << shift; ++k)  // each thread begins at another bank
        count += local[(bin << shift) + ((k + threadIdx.x) & ((1 << shift) - 1))];
      if (count > 0) atomicAdd(&counts[bin], uint64(count));
    }
  }
};

// Adds the pixels' values, less `low`, to `bins` counts; all lie within.
template <class T>
__global__ void __launch_bounds__(256)
    count_few(const T* image, int64 n, int64 low, int bins, uint64* counts) {
  SHARED(unsigned, local, [few_bins]);
  const Copies copies(local, bins);
  each_pixel(image + blockIdx.y * n, n,
             [&](T value) { copies.add(int(uint64(value) - uint64(low))); });
  copies.add_to(counts + int64(blockIdx.y) * bins);
}

template <class T>
__global__ void __launch_bounds__(256)
    count_many(const T* image, int64 n, int64 low, int64 bins, uint64* counts) {
  SHARED(unsigned, local, [near_bins]);
  SHARED(unsigned, first, [1]);
  image += blockIdx.y * n;
  counts += blockIdx.y * bins;
  for (int bin = threadIdx.x; bin < near_bins; bin += 256) local[bin] = 0;
  if (threadIdx.x == 0) *first = unsigned(bins);
  __syncthreads();
  const int64 begin = global_thread() * Chunk<T>::size;
  if (begin < n) atomicMin(first, unsigned(uint64(image[begin]) - uint64(low)));
  __syncthreads();
  // Noise goes below the least of some pixels.
  const int64 nearest = max(int64(*first) - near_bins / 8, int64(0));
  each_pixel(image, n, [&](T value) {
    const int64 bin = int64(uint64(value) - uint64(low)), place = bin - nearest;
    if (place >= 0 && place < near_bins)
      atomicAdd(&local[place], 1u);
    else
      atomicAdd(&counts[bin], uint64(1));
  });
  __syncthreads();
  for (int place = threadIdx.x; place < near_bins; place += 256)
    if (local[place] > 0) atomicAdd(&counts[nearest + place], uint64(local[place]));
}

// Bins between bins + 1 ascending `edges`, which are evenly spaced up to rounding: the lower edge
// belongs to a bin, and to the last one the upper edge too. All pixels lie within.
template <class F>
__global__ void __launch_bounds__(256)
    count_bins(const F* image, int64 n, const F* edges, int bins, uint64* counts) {
  SHARED(unsigned, local, [few_bins]);
  const bool few = bins <= few_bins;
  const Copies copies(local, few ? bins : 0);
  edges += int64(blockIdx.y) * (bins + 1);
  counts += int64(blockIdx.y) * bins;
  const F low = edges[0], per_unit = F(bins) / (edges[bins] - low);
  each_pixel(image + blockIdx.y * n, n, [&](F value) {
    const F place = (value - low) * per_unit;  // NaN or infinite where all edges are close to 0
    int bin = place < F(bins) ? int(place) : bins - 1;
    while (bin > 0 && value < edges[bin]) --bin;
    while (bin < bins - 1 && value >= edges[bin + 1]) ++bin;
    if (few)
      copies.add(bin);
    else
      atomicAdd(&counts[bin], uint64(1));
  });
  copies.add_to(counts);
}
