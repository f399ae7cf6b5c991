// Kernels with one defect each, chosen by `bug`: what the tests' gates must find.
#pragma once
#include "device.cuh"

enum Bug { none, missing_barrier, plain_update, lost_update, out_of_bounds, shared_out_of_bounds,
           early_exit, deadlock };

// Reverses 64 numbers through the block's memory.
template <int bug> __global__ void __launch_bounds__(64) reverse(const int* from, int* to) {
  SHARED(int, tile, [64]);
  const int i = threadIdx.x;
  if (bug == early_exit && i == 63) {
    to[0] = from[63];
    return;
  }
  tile[i + (bug == shared_out_of_bounds)] = from[i];
  if (bug != missing_barrier) __syncthreads();
  to[i + (bug == out_of_bounds)] = tile[63 - i];
}

// Counts the numbers above 0 of all blocks.
template <int bug> __global__ void __launch_bounds__(64) count(const int* from, int* total, int n) {
  const int i = blockIdx.x * 64 + threadIdx.x;
  if (bug == deadlock && threadIdx.x == 0) __ballot_sync(all_lanes, 1);
  if (i >= n || from[i] <= 0) return;
  if (bug == plain_update)
    *total += 1;
  else if (bug == lost_update)
    store_relaxed(total, load_relaxed(total) + 1);
  else
    atomicAdd(total, 1);
}

// The block's maximum by every form of barrier and warp operation that kernels use.
__global__ void __launch_bounds__(96) collectives(const int* from, int* results) {
  const int value = from[threadIdx.x], i = threadIdx.x;
  int most = value;
  for (int by = 16; by > 0; by /= 2) most = max(most, __shfl_xor_sync(all_lanes, most, by));
  int sum = value;
  for (int by = 1; by < 32; by *= 2) {
    const int below = __shfl_up_sync(all_lanes, sum, by);
    if (i % 32 >= by) sum += below;
  }
  results[i] = most;
  results[96 + i] = sum;
  results[192 + i] = __shfl_down_sync(all_lanes, value, 3);
  results[288 + i] = __popc(__ballot_sync(all_lanes, value & 1));
  results[384 + i] = __syncthreads_count(value & 1);
  results[480 + i] = __syncthreads_or(value == 95) * 2 + __syncthreads_and(value >= 0);
  results[576 + i] = __shfl_sync(all_lanes, value, 7);
}
