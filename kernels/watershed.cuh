// Watershed from markers: to the label what a queue gives that is ordered by (level, time of
// entry).
//
// A pixel leaves the queue at its level, the least that water must rise to on its way from a
// marker: max(value, least level of a neighbour). Of one level, those leave first that a lower
// level let in, then those let in by these, and so on: a pixel's generation. So keys (level,
// generation) are the shortest paths of a relaxation, which any number of threads may do in any
// order:
//
//   key = least neighbour's level < value ? (value, 0) : least neighbour's key + one generation
//
// A pixel belongs to the neighbour that left first. Of neighbours with equal keys, that is the one
// which was let in first, hence whose own neighbour left first, and so on back to the markers,
// which enter before all others of their level, in raster order. All steps back to generation 0
// compare equal, so a pixel keeps a link: to the generation 0 it came from, or if it is of
// generation 0, to the neighbour that let it in; comparing follows two links a level. Neighbours
// that came from one pixel have one label, and their order is of no account (csrc/watershed.cpp,
// point 2).
//
// After F. Meyer, "Topographic distance and watershed lines", Signal Processing 38 (1994), for the
// order; that it can be had by relaxation and links is our own.
#pragma once
#include "waves.cuh"

enum State : uint8 { outside, open, marker };

constexpr uint64 unreached = ~uint64(0);  // a key: the level above, the generation below

// Keys, links and states before the flood. A marker is linked to itself; -1: not yet known.
template <class I>
__global__ void __launch_bounds__(256)
    begin_flood(const unsigned* values, const uint8* state, int64 n, uint64* keys, I* links) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const bool starts = state[i] == marker;
    keys[i] = starts ? uint64(values[i]) << 32 : unreached;
    links[i] = starts ? I(i) : I(-1);
  }
}

// Relaxes the keys of the tiles that are awake.
__global__ void __launch_bounds__(tile_size)
    spread_keys(const unsigned* values, const uint8* state, uint64* keys, int planes, int rows,
                int columns, int reach, int first, uint8* awake, uint8* next, int* stirred) {
  SHARED(uint64, tile, [tile_size]);
  const Waves waves{awake, next, stirred};
  if (!waves.has_this_tile()) return;
  const Pixel pixel(rows, columns);
  const int me = threadIdx.x;
  const bool free = pixel.exists && state[pixel.index] == open;
  const uint64 value = free ? values[pixel.index] : 0;
  const uint64 before = pixel.exists ? load_relaxed(keys + pixel.index) : unreached;
  uint64 mine = before, beyond = unreached;  // the least key of neighbours in other tiles
  unsigned near = 0;                         // neighbours in this tile, a bit each
#pragma unroll 1
  for (int number = first; number < 27 - first; ++number) {
    const Place place(number);
    if (!free || !place.is_neighbour(pixel, planes, rows, columns, reach)) continue;
    if (place.is_in_tile())
      near |= 1u << number;
    else
      beyond = min(beyond, load_relaxed(keys + pixel.index + place.step(rows, columns)));
  }
  tile[me] = mine;
  __syncthreads();
  bool changed;
  do {
    uint64 least = beyond;
    for (unsigned left = near; left != 0; left &= left - 1)
      least = min(least, load_relaxed(tile + me + Place(__ffs(int(left)) - 1).step_in_tile()));
    const uint64 key = least == unreached ? least : least >> 32 < value ? value << 32 : least + 1;
    changed = key < mine;
    if (changed) {
      mine = key;
      store_relaxed(tile + me, key);
    }
  } while (__syncthreads_or(changed));
  if (mine != before) store_relaxed(keys + pixel.index, mine);
  waves.wake_around(mine != before, rows, columns);
}

// Whether pixel a left the queue before b; their keys are equal and their links known.
template <class I>
struct Order {
  const uint64* keys;
  const I* links;

  // The pixel of generation 0 that it came from.
  __device__ __forceinline__ I start(I at) const {
    return unsigned(keys[at]) == 0 ? at : load_relaxed(links + at);
  }
  __device__ __forceinline__ bool before(I a, I b) const {
    for (;;) {
      a = start(a);
      b = start(b);
      if (a == b) return false;
      const I from_a = load_relaxed(links + a), from_b = load_relaxed(links + b);
      if (from_a == a || from_b == b) return from_a == a && (from_b != b || a < b);
      if (from_a == from_b) return false;
      const uint64 key_a = keys[from_a], key_b = keys[from_b];
      if (key_a != key_b) return key_a < key_b;
      a = from_a;
      b = from_b;
    }
  }
};

// Gives labels to pixels whose first neighbours have theirs; markers have them from the start.
template <class I, class L>
__global__ void __launch_bounds__(tile_size, 4)  // without the 4, 32 registers and spills
    spread_labels(const uint64* keys, I* links, L* labels, int planes, int rows, int columns,
                  int reach, int first, uint8* awake, uint8* next, int* stirred) {
  const Waves waves{awake, next, stirred};
  if (!waves.has_this_tile()) return;
  const Pixel pixel(rows, columns);
  const int64 me = pixel.index;
  const Order<I> order{keys, links};
  bool waits = pixel.exists && keys[me] != unreached && load_relaxed(links + me) < 0;
  if (!__syncthreads_or(waits)) return;  // most tiles that are woken late have long been done
  uint64 least = unreached;
  unsigned nearest = 0;  // the neighbours with the least key, a bit each
#pragma unroll 1
  for (int number = first; number < 27 - first; ++number) {
    const Place place(number);
    if (!waits || !place.is_neighbour(pixel, planes, rows, columns, reach)) continue;
    const uint64 key = keys[me + place.step(rows, columns)];
    if (key < least) nearest = 0;
    least = min(least, key);
    if (key == least) nearest |= 1u << number;
  }
  bool settled = false, progress;
  do {
    progress = waits;
    for (unsigned left = waits ? nearest : 0; left != 0; left &= left - 1) {
      const int64 step = Place(__ffs(int(left)) - 1).step(rows, columns);
      progress = progress && load_relaxed(links + me + step) >= 0;
    }
    if (progress) {
      __threadfence();  // what led to those links is seen from here on
      I best = I(me + Place(__ffs(int(nearest)) - 1).step(rows, columns));
      for (unsigned left = nearest & (nearest - 1); left != 0; left &= left - 1) {
        const I other = I(me + Place(__ffs(int(left)) - 1).step(rows, columns));
        if (order.before(other, best)) best = other;
      }
      store_relaxed(labels + me, load_relaxed(labels + best));
      const bool starts = unsigned(keys[me]) == 0;
      const I link = starts ? best : order.start(best);
      __threadfence();
      store_relaxed(links + me, link);
      waits = false;
      settled = true;
    }
  } while (__syncthreads_or(progress));
  waves.wake_around(settled, rows, columns);
}

// Which pixels become line, once keys, links and labels are known: those next to one that left
// before with another label and is no line itself. A pixel of a line lets its neighbours in as
// others do, so their order is that of the flood without lines. Markers have their labels from the
// start: one that has yet to leave counts as well, and one that leaves next to another label keeps
// its own, but no longer counts. Neighbours whose order the links leave open have one label, and do
// not matter.
enum Outcome : uint8 { undecided, labelled, line };

template <class I, class L>
__global__ void __launch_bounds__(tile_size, 4)
    decide_lines(const uint8* state, const uint64* keys, const I* links, const L* labels,
                 uint8* outcome, int planes, int rows, int columns, int reach, int first,
                 uint8* awake, uint8* next, int* stirred) {
  const Waves waves{awake, next, stirred};
  if (!waves.has_this_tile()) return;
  const Pixel pixel(rows, columns);
  const int64 me = pixel.index;
  const Order<I> order{keys, links};
  bool waits = pixel.exists && keys[me] != unreached && load_relaxed(outcome + me) == undecided;
  if (!__syncthreads_or(waits)) return;
  bool beside_marker = false;  // of another label, which leaves later
  unsigned rivals = 0;         // neighbours of another label that left before, a bit each
#pragma unroll 1
  for (int number = first; number < 27 - first; ++number) {
    const Place place(number);
    if (!waits || !place.is_neighbour(pixel, planes, rows, columns, reach)) continue;
    const int64 other = me + place.step(rows, columns);
    if (keys[other] == unreached || labels[other] == labels[me]) continue;
    const bool before =
        keys[other] != keys[me] ? keys[other] < keys[me] : order.before(I(other), I(me));
    if (before)
      rivals |= 1u << number;
    else
      beside_marker |= state[other] == marker;
  }
  bool settled = false, progress;
  do {
    bool ends = beside_marker, open_ones = false;
    for (unsigned left = waits && !ends ? rivals : 0; left != 0; left &= left - 1) {
      const int64 step = Place(__ffs(int(left)) - 1).step(rows, columns);
      const uint8 theirs = load_relaxed(outcome + me + step);
      ends = ends || theirs == labelled;
      open_ones = open_ones || theirs == undecided;
    }
    progress = waits && (ends || !open_ones);
    if (progress) {
      store_relaxed(outcome + me, uint8(ends ? line : labelled));
      waits = false;
      settled = true;
    }
  } while (__syncthreads_or(progress));
  waves.wake_around(settled, rows, columns);
}
