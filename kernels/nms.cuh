// Greedy non-maximum suppression of boxes that are sorted, best first.
//
// Every pair of boxes is compared once: a block compares 64 boxes with 64 others, a bit for each
// pair. One block then goes through the boxes in order, 64 at a time: a thread settles those among
// themselves, then all threads gather whom the kept ones suppress. Everything stays on the device.
// The overlap is computed as on the CPU, in the boxes' own type and order of operations.
#pragma once
#include "device.cuh"

constexpr int group_size = 64;

template <class T, int dims> __device__ __forceinline__ T volume_of(const T* box) {
  T volume = box[dims] - box[0];
  for (int axis = 1; axis < dims; ++axis) volume *= box[dims + axis] - box[axis];
  return volume;
}

// Intersection over union.
template <class T, int dims>
__device__ __forceinline__ T overlap(const T* box, const T* other) {
  T common = 1;
  for (int axis = 0; axis < dims; ++axis) {
    const T low = other[axis], from = box[axis], high = other[dims + axis], to = box[dims + axis];
    const T side = (high < to ? high : to) - (from < low ? low : from);
    common *= side > 0 ? side : T(0);
  }
  const T all = volume_of<T, dims>(box) + volume_of<T, dims>(other) - common;
  return common / all;
}

// Whether the first box, the better one, suppresses the other.
template <class T, int dims>
__device__ __forceinline__ bool suppresses(const T* box, const T* other, double threshold) {
  return double(overlap<T, dims>(box, other)) > threshold;
}

// Bit j of found[i][w]: box i suppresses box 64 w + j, which comes after it. `groups` may be null;
// boxes of different groups do not meet.
template <class T, int dims>
__global__ void __launch_bounds__(group_size)
    find_overlaps(const T* boxes, const int64* groups, int n, double threshold, uint64* found) {
  SHARED(T, others, [group_size * 2 * dims]);
  SHARED(int64, of, [group_size]);
  const int words = (n + group_size - 1) / group_size;
  const int word = int(blockIdx.x % unsigned(words)), row = int(blockIdx.x / unsigned(words));
  if (word < row) return;  // the whole block: nothing of it is read
  const int first = word * group_size, count = min(n - first, group_size), me = threadIdx.x;
  if (me < count) {
    for (int k = 0; k < 2 * dims; ++k)
      others[me * 2 * dims + k] = boxes[int64(first + me) * 2 * dims + k];
    of[me] = groups != nullptr ? groups[first + me] : 0;
  }
  __syncthreads();
  const int i = row * group_size + me;
  if (i >= n) return;
  T box[2 * dims];
  for (int k = 0; k < 2 * dims; ++k) box[k] = boxes[int64(i) * 2 * dims + k];
  const int64 group = groups != nullptr ? groups[i] : 0;
  uint64 bits = 0;
  for (int j = word == row ? me + 1 : 0; j < count; ++j)
    if (of[j] == group && suppresses<T, dims>(box, others + j * 2 * dims, threshold))
      bits |= uint64(1) << j;
  found[int64(i) * words + word] = bits;
}

// Which boxes are kept. One block; `dropped` has a word for 64 boxes and is 0 at first.
__global__ void __launch_bounds__(256)
    keep_best(const uint64* found, int n, uint64* dropped, uint8* kept) {
  SHARED(uint64, among, [group_size]);
  SHARED(uint64, alive, [1]);
  const int words = (n + group_size - 1) / group_size;
  for (int word = 0; word < words; ++word) {
    const int first = word * group_size, count = min(n - first, group_size), me = threadIdx.x;
    if (me < count) among[me] = found[int64(first + me) * words + word];
    __syncthreads();
    if (me == 0) {
      uint64 gone = dropped[word], best = 0;
      for (int i = 0; i < count; ++i)
        if (!(gone >> i & 1)) {
          best |= uint64(1) << i;
          gone |= among[i];
        }
      alive[0] = best;
    }
    __syncthreads();
    const uint64 best = alive[0];
    if (me < count) kept[first + me] = best >> me & 1;
    for (int later = word + 1 + me; later < words; later += 256) {
      uint64 gone = 0;
      for (uint64 left = best; left != 0; left &= left - 1)
        gone |= found[int64(first + __ffsll(int64(left)) - 1) * words + later];
      dropped[later] |= gone;
    }
    __syncthreads();
  }
}

constexpr int soft_threads = 512;

// Soft-NMS by one block: the best box left is picked (of equals the first), then the scores of those
// it overlaps are lowered: by 1 - IoU from the threshold on, or if `sigma` is not 0, all of them by
// exp(-IoU^2 / sigma). Until no score is above `least`. `scores` of boxes that are gone, and of those
// with NaN, are -infinity.
template <class T, int dims>
__global__ void __launch_bounds__(soft_threads)
    soften(const T* boxes, T* scores, int n, T threshold, T sigma, double least, T gone, int64* keep,
           T* lowered, int* count) {
  SHARED(T, value, [soft_threads]);
  SHARED(int, place, [soft_threads]);
  const int me = threadIdx.x;
  for (int picked = 0;; ++picked) {
    T best = gone;
    int at = n;
    for (int i = me; i < n; i += soft_threads)
      if (scores[i] > best) {
        best = scores[i];
        at = i;
      }
    value[me] = best;
    place[me] = at;
    for (int half = soft_threads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (me >= half) continue;
      const T other = value[me + half];
      if (other > value[me] || (other == value[me] && place[me + half] < place[me])) {
        value[me] = other;
        place[me] = place[me + half];
      }
    }
    __syncthreads();
    best = value[0];
    at = place[0];
    __syncthreads();
    if (at == n || !(double(best) > least)) {
      if (me == 0) *count = picked;
      return;
    }
    if (me == 0) {
      keep[picked] = at;
      lowered[picked] = best;
    }
    T box[2 * dims];
    for (int k = 0; k < 2 * dims; ++k) box[k] = boxes[int64(at) * 2 * dims + k];
    for (int i = me; i < n; i += soft_threads) {
      const T score = scores[i];
      if (i == at) scores[i] = gone;
      if (i == at || score == gone) continue;
      const T shared = overlap<T, dims>(box, boxes + int64(i) * 2 * dims);
      if (!(shared > 0) || (sigma == 0 && shared < threshold)) continue;
      scores[i] = score * (sigma == 0 ? 1 - shared : T(exp(-(shared * shared) / sigma)));
    }
  }
}
