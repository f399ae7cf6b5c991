// What spreads from pixel to neighbour until nothing changes, tile by tile.
//
// A launch visits the tiles that are awake: a block works on its tile until it is at rest, then
// wakes the tiles around if it changed anything. The host launches again while a tile is awake, so
// work follows the front instead of the image (as in G. Teodoro et al., "Efficient irregular
// wavefront propagation algorithms on hybrid CPU-GPU machines", Parallel Computing 39 (2013), with
// tiles in place of their queues).
#pragma once
#include "tile.cuh"

// One of the 27 places around a pixel, number 13 the pixel itself; from 9 to 17 in its own plane.
struct Place {
  int z, y, x;

  __device__ __forceinline__ explicit Place(int number)
      : z(number / 9 - 1), y(number / 3 % 3 - 1), x(number % 3 - 1) {}

  // Whether it is a neighbour inside the image. `reach`: along how many axes it may differ.
  __device__ __forceinline__ bool is_neighbour(const Pixel& pixel, int planes, int rows,
                                               int columns, int reach) const {
    const int along = (z != 0) + (y != 0) + (x != 0);
    return along > 0 && along <= reach && unsigned(pixel.plane + z) < unsigned(planes) &&
           unsigned(pixel.row + y) < unsigned(rows) &&
           unsigned(pixel.column + x) < unsigned(columns);
  }
  __device__ __forceinline__ bool is_in_tile() const {
    const int me = threadIdx.x;
    return z == 0 && unsigned(me / tile_columns + y) < unsigned(tile_rows) &&
           unsigned(me % tile_columns + x) < unsigned(tile_columns);
  }
  __device__ __forceinline__ int64 step(int rows, int columns) const {
    return (int64(z) * rows + y) * columns + x;
  }
  __device__ __forceinline__ int step_in_tile() const { return y * tile_columns + x; }
};

// Number of the tile so many tiles from the block's; -1 beyond those of the launch.
__device__ __forceinline__ int tile_beside(const Place& to, int rows, int columns) {
  const unsigned across = (columns + tile_columns - 1) / tile_columns;
  const unsigned down = (rows + tile_rows - 1) / tile_rows, tiles = across * down;
  const unsigned tile = blockIdx.x % tiles, planes = gridDim.x / tiles;
  const unsigned z = blockIdx.x / tiles + to.z;  // beyond 0 it is very large
  const unsigned y = tile / across + to.y, x = tile % across + to.x;
  return z < planes && y < down && x < across ? int(z * tiles + y * across + x) : -1;
}

// The tiles that are awake in a launch and those that it wakes, one byte each; `stirred` is set if
// there are any of the latter. All threads of a block call the functions.
struct Waves {
  uint8 *awake, *next;
  int* stirred;

  __device__ __forceinline__ bool has_this_tile() const {
    const bool yes = load_relaxed(awake + blockIdx.x) != 0;
    __syncthreads();
    if (threadIdx.x == 0) store_relaxed(awake + blockIdx.x, uint8(0));  // it will be `next`
    return yes;
  }

  // Wakes the tiles that a change of this thread's pixel may concern: those at its side of the
  // tile, in planes before and behind too. This tile is at rest.
  __device__ __forceinline__ void wake_around(bool changed, int rows, int columns) const {
    if (!__syncthreads_or(changed)) return;
    const int row = threadIdx.x / tile_columns, column = threadIdx.x % tile_columns;
    const bool up = __syncthreads_or(changed && row == 0);
    const bool left = __syncthreads_or(changed && column == 0);
    const bool low = __syncthreads_or(changed && row == tile_rows - 1);
    const bool right = __syncthreads_or(changed && column == tile_columns - 1);
    if (threadIdx.x >= 27 || threadIdx.x == 13) return;
    const Place to(threadIdx.x);
    if ((to.y < 0 && !up) || (to.y > 0 && !low) || (to.x < 0 && !left) || (to.x > 0 && !right))
      return;
    const int tile = tile_beside(to, rows, columns);
    if (tile < 0) return;
    store_relaxed(next + tile, uint8(1));
    store_relaxed(stirred, 1);
  }
};
