// Greedy non-maximum suppression.
//
// Boxes are numbered best first. Every pair is compared once: a block compares 64 boxes with 64
// others, a bit for each pair, and notes which of its boxes suppress any: few do. One block then
// goes through the boxes in order, 64 at a time: each thread settles those among themselves, then
// they gather whom the kept ones suppress. Everything stays on the device. The overlap is computed
// as on the CPU, in the boxes' own type and order of operations.
#pragma once
#include "device.cuh"

constexpr int group_size = 64;

template <class T, int dims>
__device__ __forceinline__ T volume_of(const T* box) {
  T volume = box[dims] - box[0];
  for (int axis = 1; axis < dims; ++axis) volume *= box[dims + axis] - box[axis];
  return volume;
}

// What two boxes share.
template <class T, int dims>
__device__ __forceinline__ T common_of(const T* box, const T* other) {
  T common = 1;
  for (int axis = 0; axis < dims; ++axis) {
    const T low = other[axis], from = box[axis], high = other[dims + axis], to = box[dims + axis];
    const T side = (high < to ? high : to) - (from < low ? low : from);
    common *= side > 0 ? side : T(0);
  }
  return common;
}

// Intersection over union, of boxes that share `common`.
template <class T, int dims>
__device__ __forceinline__ T overlap(const T* box, const T* other, T common) {
  const T all = volume_of<T, dims>(box) + volume_of<T, dims>(other) - common;
  return common / all;
}

// Whether the first box, the better one, suppresses the other.
template <class T, int dims>
__device__ __forceinline__ bool suppresses(const T* box, const T* other, double threshold) {
  const T common = common_of<T, dims>(box, other);
  if (common == 0 && threshold >= 0) return false;  // most: 0 or NaN, without a division
  return double(overlap<T, dims>(box, other, common)) > threshold;
}

// Whether score `a` comes before `b` that was given later: NaN first, equal ones as they were
// given.
template <class T>
__device__ __forceinline__ bool better(T a, T b) {
  return a > b || (a != a && b == b);
}

constexpr int ranked = 32;  // boxes of a block, one a lane

// `order`: numbers of the boxes, best first. The warps of a block share the scores to compare with.
template <class T>
__global__ void __launch_bounds__(256) rank_scores(const T* scores, int n, int64* order) {
  SHARED(int, before, [8][ranked]);
  const int lane = threadIdx.x % ranked, warp = threadIdx.x / ranked;
  const int i = int(blockIdx.x) * ranked + lane;
  const T mine = scores[min(i, n - 1)];
  int count = 0;
  for (int j = warp; j < n; j += 8) {
    const T other = scores[j];
    count += j < i ? !better(mine, other) : better(other, mine);
  }
  before[warp][lane] = count;
  __syncthreads();
  if (warp > 0 || i >= n) return;
  for (int k = 1; k < 8; ++k) count += before[k][lane];
  order[count] = i;
}

// Of boxes 64 r to 64 r + 63 and 64 w to 64 w + 63, in `order`: bit j of found[r][w][i] says that
// the i-th suppresses the j-th, which comes after it; bit i of busy[r][w] that it suppresses any,
// and only then is `found` written. Where w < r neither is. `groups` may be null; boxes of
// different groups do not meet. `dropped[w]` becomes 0.
template <class T, int dims>
__global__ void __launch_bounds__(group_size)
    find_overlaps(const T* boxes, const int64* groups, const int64* order, int n, double threshold,
                  uint64* found, unsigned* busy, uint64* dropped) {
  SHARED(T, others, [group_size * 2 * dims]);
  SHARED(int64, of, [group_size]);
  const int words = (n + group_size - 1) / group_size;
  const int word = int(blockIdx.x % unsigned(words)), row = int(blockIdx.x / unsigned(words));
  if (word < row) return;  // the whole block: nothing of it is read
  const int first = word * group_size, count = min(n - first, group_size), me = threadIdx.x;
  if (me < count) {
    const int64 other = order[first + me];
    for (int k = 0; k < 2 * dims; ++k) others[me * 2 * dims + k] = boxes[other * 2 * dims + k];
    of[me] = groups != nullptr ? groups[other] : 0;
  }
  __syncthreads();
  const int i = row * group_size + me;
  const int64 number = order[min(i, n - 1)];
  T box[2 * dims];
  for (int k = 0; k < 2 * dims; ++k) box[k] = boxes[number * 2 * dims + k];
  const int64 group = groups != nullptr ? groups[number] : 0;
  uint64 bits = 0;
  if (i < n)
    for (int j = word == row ? me + 1 : 0; j < count; ++j)
      if (of[j] == group && suppresses<T, dims>(box, others + j * 2 * dims, threshold))
        bits |= uint64(1) << j;
  const int64 block = int64(row) * words + word;
  if (bits != 0 || row == word) found[block * group_size + me] = bits;
  const unsigned some = __ballot_sync(all_lanes, bits != 0);
  if (me % 32 == 0) busy[block * 2 + me / 32] = some;
  if (row == word && me == 0) dropped[word] = 0;
}

constexpr int keep_threads = 1024;

// Which boxes are kept, best first, and their number. One block: what counts is how long each group
// waits for memory, so what does not depend on the group before is fetched ahead of it.
__global__ void __launch_bounds__(keep_threads)
    keep_best(const uint64* found, const uint64* busy, const int64* order, int n, uint64* dropped,
              int64* kept, int* total) {
  // Of this group and the next, which saves a barrier.
  SHARED(uint64, among, [2][group_size]);  // whom each box suppresses
  SHARED(uint64, active, [2]);             // those that suppress any
  SHARED(uint64, before, [2]);             // those that are suppressed by earlier groups
  const int words = (n + group_size - 1) / group_size, me = threadIdx.x;
  if (me < group_size) among[0][me] = found[me];
  if (me == 0) active[0] = busy[0];
  if (me == 0) before[0] = 0;
  int count = 0;
  for (int word = 0; word < words; ++word) {
    const int64 row = int64(word) * words, next = row + words + word + 1;  // that on the diagonal
    const int first = word * group_size, now = word % 2;
    const bool last = word + 1 == words;
    const uint64 of_next = !last && me < group_size ? found[next * group_size + me] : 0;
    const uint64 next_active = !last && me == 0 ? busy[next] : 0;
    const int64 mine = me < group_size ? order[min(first + me, n - 1)] : 0;
    uint64 busy_here = word + 1 + me < words ? busy[row + word + 1 + me] : 0;
    __syncthreads();
    uint64 gone = before[now];
    for (uint64 left = active[now]; left != 0; left &= left - 1) {
      const int i = __ffsll(int64(left)) - 1;
      if (!(gone >> i & 1)) gone |= among[now][i];
    }
    const uint64 best = ~gone & (~uint64(0) >> max(first + group_size - n, 0));
    if (me < group_size && (best >> me & 1))
      kept[count + __popcll(best & ((uint64(1) << me) - 1))] = mine;
    count += __popcll(best);
    for (int other = word + 1 + me; other < words; other += keep_threads) {
      if (other > word + keep_threads) busy_here = busy[row + other];
      uint64 more = other == word + 1 ? dropped[other] : 0;
      for (uint64 left = busy_here & best; left != 0;) {
        uint64 some[4];  // on their way at once
#pragma unroll
        for (int k = 0; k < 4; ++k, left &= left - 1)
          some[k] = left ? found[(row + other) * group_size + __ffsll(int64(left)) - 1] : 0;
        more |= some[0] | some[1] | some[2] | some[3];
      }
      if (other == word + 1)
        before[1 - now] = more;
      else if (more != 0)
        dropped[other] |= more;
    }
    if (me < group_size) among[1 - now][me] = of_next;
    if (me == 0) active[1 - now] = next_active;
  }
  if (me == 0) *total = count;
}

constexpr int soft_threads = 512;

// Soft-NMS by one block: the best box left is picked (of equals the first), then the scores of
// those it overlaps are lowered: by 1 - IoU from the threshold on, or if `sigma` is not 0, all of
// them by exp(-IoU^2 / sigma). Until no score is above `least`. `scores` of boxes that are gone,
// and of those with NaN, are -infinity.
template <class T, int dims>
__global__ void __launch_bounds__(soft_threads)
    soften(const T* boxes, T* scores, int n, T threshold, T sigma, double least, T gone,
           int64* keep, T* lowered, int* count) {
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
      const T* const other = boxes + int64(i) * 2 * dims;
      const T shared = overlap<T, dims>(box, other, common_of<T, dims>(box, other));
      if (!(shared > 0) || (sigma == 0 && shared < threshold)) continue;
      scores[i] = score * (sigma == 0 ? 1 - shared : T(exp(-(shared * shared) / sigma)));
    }
  }
}
