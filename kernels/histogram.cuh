// Counts of integer values, and of floats by bins.
//
// Few bins: each block counts in its own memory, so that few additions meet in global memory, and
// adds its counts to the others' at the end. Many bins (16-bit images): global memory at once.
//
// Images of a batch lie one after the other, n pixels each; the grid's second axis counts them, and
// each has its own counts and edges.
#pragma once
#include "device.cuh"

constexpr int few_bins = 4096;  // 16 KiB of a block's memory

// Adds the pixels' values, less `low`, to `bins` counts; all lie within.
template <class T>
__global__ void __launch_bounds__(256)
    count_few(const T* image, int64 n, int64 low, int bins, uint64* counts) {
  SHARED(unsigned, local, [few_bins]);
  image += blockIdx.y * n;
  counts += int64(blockIdx.y) * bins;
  for (int bin = threadIdx.x; bin < bins; bin += 256) local[bin] = 0;
  __syncthreads();
  for (int64 i = global_thread(); i < n; i += global_threads())
    atomicAdd(&local[int(uint64(image[i]) - uint64(low))], 1u);
  __syncthreads();
  for (int bin = threadIdx.x; bin < bins; bin += 256) {
    const unsigned count = local[bin];
    if (count > 0) atomicAdd(&counts[bin], uint64(count));
  }
}

template <class T>
__global__ void __launch_bounds__(256)
    count_many(const T* image, int64 n, int64 low, int64 bins, uint64* counts) {
  image += blockIdx.y * n;
  counts += blockIdx.y * bins;
  for (int64 i = global_thread(); i < n; i += global_threads())
    atomicAdd(&counts[uint64(image[i]) - uint64(low)], uint64(1));
}

// Bins between bins + 1 ascending `edges`, which are evenly spaced up to rounding: the lower edge
// belongs to a bin, and to the last one the upper edge too. All pixels lie within.
template <class F>
__global__ void __launch_bounds__(256)
    count_bins(const F* image, int64 n, const F* edges, int bins, uint64* counts) {
  SHARED(unsigned, local, [few_bins]);
  const bool few = bins <= few_bins;
  image += blockIdx.y * n;
  edges += int64(blockIdx.y) * (bins + 1);
  counts += int64(blockIdx.y) * bins;
  if (few)
    for (int bin = threadIdx.x; bin < bins; bin += 256) local[bin] = 0;
  __syncthreads();
  const F low = edges[0], per_unit = F(bins) / (edges[bins] - low);
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const F value = image[i];
    int bin = min(int((value - low) * per_unit), bins - 1);
    while (bin > 0 && value < edges[bin]) --bin;
    while (bin < bins - 1 && value >= edges[bin + 1]) ++bin;
    if (few)
      atomicAdd(&local[bin], 1u);
    else
      atomicAdd(&counts[bin], uint64(1));
  }
  __syncthreads();
  if (few)
    for (int bin = threadIdx.x; bin < bins; bin += 256) {
      const unsigned count = local[bin];
      if (count > 0) atomicAdd(&counts[bin], uint64(count));
    }
}
