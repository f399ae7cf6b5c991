// Maximum flow on grids by pushing excess towards the sink (A. Goldberg and R. Tarjan, "A new
// approach to the maximum-flow problem", Journal of the ACM 35 (1988)).
//
// All pixels with excess push at once, each to neighbours one step nearer to the sink, and are
// lifted where that leaves some (a pulse): first everyone writes what it sends, then everyone takes
// what it was sent. So no atomics are needed, and every sum has one order: floats too are the same
// on every run. A pixel that is lifted while it is sent something may rise two steps at most, as
// what was sent can go back. Heights are distances to the sink, found anew after some pulses by a
// search backwards from the sink (B. Cherkassky and A. Goldberg, "On implementing the push-relabel
// method for the maximum flow problem", Algorithmica 19 (1997)); excess that can no longer reach
// the sink stays where it is. That is half of a maximum flow, but all of the minimum cut: the
// pixels that the last search reaches are the smallest sink's side.
//
// Capacities that are left, and what is sent, have one plane a direction; `places` are the
// directions' numbers (waves.cuh), ascending, so that direction d is opposite to the d-th from the
// end.
#pragma once
#include "waves.cuh"

constexpr int far_away = 1 << 30;  // no way to the sink

// The grid and its neighbourhood.
struct Grid {
  int planes, rows, columns, directions;
  const int* places;

  __device__ __forceinline__ int64 size() const { return int64(planes) * rows * columns; }
  __device__ __forceinline__ bool has(const Pixel& pixel, const Place& to) const {
    return unsigned(pixel.plane + to.z) < unsigned(planes) &&
           unsigned(pixel.row + to.y) < unsigned(rows) &&
           unsigned(pixel.column + to.x) < unsigned(columns);
  }
  // Number of the tile that a neighbour lies in.
  __device__ __forceinline__ unsigned tile_of(const Pixel& pixel, const Place& to) const {
    const unsigned across = (columns + tile_columns - 1) / tile_columns;
    const unsigned down = (rows + tile_rows - 1) / tile_rows;
    const unsigned y = unsigned(pixel.row + to.y) / tile_rows;
    const unsigned x = unsigned(pixel.column + to.x) / tile_columns;
    return (unsigned(pixel.plane + to.z) * down + y) * across + x;
  }
};

// Distances to the sink in the tiles that are awake; far_away before the first launch.
template <class C>
__global__ void __launch_bounds__(tile_size)
    spread_heights(const C* left, const C* to_sink, const int* places, int directions, int* heights,
                   int planes, int rows, int columns, uint8* awake, uint8* next, int* stirred) {
  SHARED(int, tile, [tile_size]);
  const Waves waves{awake, next, stirred};
  if (!waves.has_this_tile()) return;
  const Grid grid{planes, rows, columns, directions, places};
  const Pixel pixel(rows, columns);
  const int me = threadIdx.x;
  const int before = pixel.exists ? load_relaxed(heights + pixel.index) : 0;
  int beyond = pixel.exists && to_sink[pixel.index] > 0 ? 0 : far_away;  // least height next to it
  unsigned near = 0;                                                     // ways within the tile
#pragma unroll 1
  for (int d = 0; d < directions; ++d) {
    const int number = places[d];
    const Place to(number);
    if (!pixel.exists || !grid.has(pixel, to) || !(left[d * grid.size() + pixel.index] > 0))
      continue;
    if (to.is_in_tile())
      near |= 1u << number;
    else
      beyond = min(beyond, load_relaxed(heights + pixel.index + to.step(rows, columns)));
  }
  int mine = before;
  tile[me] = mine;
  __syncthreads();
  bool changed;
  do {
    int least = beyond;
    for (unsigned ways = near; ways != 0; ways &= ways - 1)
      least = min(least, load_relaxed(tile + me + Place(__ffs(int(ways)) - 1).step_in_tile()));
    changed = least + 1 < mine;
    if (changed) {
      mine = least + 1;
      store_relaxed(tile + me, mine);
    }
  } while (__syncthreads_or(changed));
  if (mine != before) store_relaxed(heights + pixel.index, mine);
  waves.wake_around(mine != before, rows, columns);
}

// Marks the tiles that have excess to push.
template <class C>
__global__ void __launch_bounds__(tile_size)
    find_active(const C* excess, const int* heights, int rows, int columns, uint8* active,
                int* busy) {
  const Pixel pixel(rows, columns);
  const bool pushes = pixel.exists && excess[pixel.index] > 0 && heights[pixel.index] < far_away;
  const int any = __syncthreads_or(pushes);
  if (threadIdx.x != 0) return;
  active[blockIdx.x] = uint8(any != 0);
  if (any) store_relaxed(busy, 1);
}

// First half of a pulse. `lifted`: heights after it. Tiles that send anything get its number.
template <class C>
__global__ void __launch_bounds__(tile_size)
    push(C* left, C* to_sink, C* excess, const int* heights, const int* places, int directions,
         int planes, int rows, int columns, const uint8* active, C* sent, int* lifted, int* pulses,
         int pulse) {
  if (!active[blockIdx.x]) return;
  if (threadIdx.x == 0) pulses[blockIdx.x] = pulse;
  const Grid grid{planes, rows, columns, directions, places};
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const int64 me = pixel.index, size = grid.size();
  const int height = heights[me];
  C rest = excess[me];
  const bool pushes = rest > 0 && height < far_away;
  int lowest = far_away;  // where anything that is left could go
  if (pushes && height == 1) {
    const C drained = min(rest, to_sink[me]);
    to_sink[me] -= drained;
    rest -= drained;
  }
#pragma unroll 1
  for (int d = 0; d < directions; ++d) {
    C amount = 0;
    const Place to(places[d]);
    if (pushes && grid.has(pixel, to)) {
      const int other = heights[me + to.step(rows, columns)];
      const C room = left[d * size + me];
      if (rest > 0 && room > 0 && other + 1 == height) {
        amount = min(rest, room);
        rest -= amount;
        left[d * size + me] = room - amount;
      }
      if (room - amount > 0) lowest = min(lowest, other);
    }
    sent[d * size + me] = amount;
  }
  if (pushes) excess[me] = rest;
  lifted[me] = pushes && rest > 0 ? min(lowest + 1, int(far_away)) : height;
}

// Second half: takes what was sent here, lifts, and marks tiles with excess.
template <class C>
__global__ void __launch_bounds__(tile_size)
    receive(C* left, C* excess, int* heights, const int* places, int directions, int planes,
            int rows, int columns, uint8* active, const C* sent, const int* lifted,
            const int* pulses, int pulse) {
  const Grid grid{planes, rows, columns, directions, places};
  const Pixel pixel(rows, columns);
  // Most tiles are at rest: neither this one nor one around it has sent anything.
  const int beside = threadIdx.x < 27 ? tile_beside(Place(threadIdx.x), rows, columns) : -1;
  if (!__syncthreads_or(beside >= 0 && pulses[beside] == pulse)) return;
  const int64 me = pixel.index, size = grid.size();
  C sum = 0;
  bool got = false;
#pragma unroll 1
  for (int d = 0; d < directions; ++d) {
    const Place from(places[d]);
    if (!pixel.exists || !grid.has(pixel, from) || pulses[grid.tile_of(pixel, from)] != pulse)
      continue;
    const C amount = sent[(directions - 1 - d) * size + me + from.step(rows, columns)];
    if (!(amount > 0)) continue;
    left[d * size + me] += amount;
    sum += amount;
    got = true;
  }
  const bool pushed = pulses[blockIdx.x] == pulse;
  bool goes_on = false;
  if (pixel.exists && (pushed || got)) {
    const int before = heights[me];
    int height = pushed ? lifted[me] : before;
    if (got) height = min(height, before + 2);
    if (height != before) heights[me] = height;
    const C all = excess[me] + sum;
    if (got) excess[me] = all;
    goes_on = all > 0 && height < far_away;
  }
  const int any = __syncthreads_or(goes_on);
  if (threadIdx.x == 0) active[blockIdx.x] = uint8(any != 0);
}
