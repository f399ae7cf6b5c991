// Connected components of pixels with equal keys, and what of them is kept.
//
// Tiles of 8 by 32 pixels are merged in the block's memory, then along their borders and between
// planes in global memory. Labels follow in three sweeps: roots are counted by block, numbered in
// raster order (the running sum over blocks is made in between), and each pixel reads its root's
// number. parent[i] is -1 in the background.
#pragma once
#include "tile.cuh"
#include "union_find.cuh"

constexpr int per_thread = 4;  // pixels, where roots are counted

// Unites equal pixels within each tile of a plane. Keys equal to `zero` are background if
// `has_zero`. `reach`: along how many axes a neighbour may differ.
template <class K, class I>
__global__ void __launch_bounds__(tile_size)
    merge_tiles(const K* keys, K zero, int has_zero, I* parent, int rows, int columns, int reach) {
  SHARED(K, key, [tile_size]);
  SHARED(int, local, [tile_size]);
  const Pixel pixel(rows, columns);
  const int me = threadIdx.x, x = me % tile_columns, y = me / tile_columns;
  const K mine = pixel.exists ? keys[pixel.index] : zero;
  const bool inside = pixel.exists && !(has_zero && mine == zero);
  key[me] = mine;
  local[me] = inside ? me : -1;
  __syncthreads();
  const auto same = [&](int other) {
    return load_relaxed(local + other) >= 0 && key[other] == mine;
  };
  if (inside) {
    const bool left = x > 0 && same(me - 1), above = y > 0 && same(me - tile_columns);
    if (left) unite(local, me, me - 1);
    if (above) unite(local, me, me - tile_columns);
    if (reach > 1 && y > 0 && !above) {  // else the pixel above is connected with its neighbours
      if (x > 0 && !left && same(me - tile_columns - 1)) unite(local, me, me - tile_columns - 1);
      if (x + 1 < tile_columns && !same(me + 1) && same(me - tile_columns + 1))
        unite(local, me, me - tile_columns + 1);
    }
  }
  __syncthreads();
  if (!pixel.exists) return;
  const int root = inside ? find_root(local, me) : 0;
  const int down = root / tile_columns - y, right = root % tile_columns - x;
  parent[pixel.index] = inside ? I(pixel.index + int64(down) * columns + right) : I(-1);
}

// Unites equal pixels across the borders of tiles and between planes; `first` is 9 where planes
// are apart, else 0.
template <class K, class I>
__global__ void __launch_bounds__(tile_size, 5)  // without the 5, 32 registers and spills
    merge_borders(const K* keys, I* parent, int rows, int columns, int reach, int first) {
  const Pixel pixel(rows, columns);
  if (!pixel.exists || load_relaxed(parent + pixel.index) < 0) return;
  const K mine = keys[pixel.index];
  const int64 to_plane = int64(rows) * columns;
  // A key equal to that of a pixel inside is inside as well.
  const auto same = [&](int z, int y, int x) {
    return keys[pixel.index + z * to_plane + int64(y) * columns + x] == mine;
  };
  // The 13 neighbours that come before a voxel in raster order. Unrolled they spill registers.
#pragma unroll 1
  for (int number = first; number < 13; ++number) {
    const int z = number / 9 - 1, y = number / 3 % 3 - 1, x = number % 3 - 1;
    const int along = (z != 0) + (y != 0) + (x != 0);
    if (along > reach || (z != 0 && pixel.plane == 0)) continue;
    const int row = pixel.row + y, column = pixel.column + x;
    if (row < 0 || row >= rows || column < 0 || column >= columns) continue;
    if (z == 0 && row / tile_rows == pixel.row / tile_rows &&
        column / tile_columns == pixel.column / tile_columns)
      continue;  // done in the tile
    if (!same(z, y, x)) continue;
    // Nothing to do where a path of nearer neighbours leads there.
    if (along > 1 && ((z != 0 && same(0, y, x)) || (y != 0 && same(z, 0, x)) ||
                      (x != 0 && same(z, y, 0))))
      continue;
    if (along == 1 && z != 0 && pixel.column > 0 && same(0, 0, -1) && same(-1, 0, -1)) continue;
    unite(parent, I(pixel.index), I(pixel.index + z * to_plane + int64(y) * columns + x));
  }
}

// How many roots each block's pixels hold.
template <class I>
__global__ void __launch_bounds__(256) count_roots(const I* parent, int64 n, I* counts) {
  int count = 0;
  for (int k = 0; k < per_thread; ++k) {
    const int64 i = (int64(blockIdx.x) * per_thread + k) * 256 + threadIdx.x;
    count += __syncthreads_count(i < n && parent[i] == i);
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

// Labels the roots 1, 2, ... in raster order; `counts` has become the running sum.
template <class I, class L>
__global__ void __launch_bounds__(256)
    number_roots(const I* parent, int64 n, const I* counts, L* labels) {
  SHARED(int, by_warp, [8]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int64 before = blockIdx.x > 0 ? counts[blockIdx.x - 1] : 0;
  for (int k = 0; k < per_thread; ++k) {
    const int64 i = (int64(blockIdx.x) * per_thread + k) * 256 + threadIdx.x;
    const bool root = i < n && parent[i] == i;
    const unsigned roots = __ballot_sync(all_lanes, root);
    if (lane == 0) by_warp[warp] = __popc(roots);
    __syncthreads();
    int rank = __popc(roots & ((1u << lane) - 1)), all = 0;
    for (int w = 0; w < 8; ++w) {
      if (w < warp) rank += by_warp[w];
      all += by_warp[w];
    }
    if (root) labels[i] = L(before + rank + 1);
    before += all;
    __syncthreads();
  }
}

// Gives every pixel that is no root its root's label.
template <class I, class L>
__global__ void __launch_bounds__(256) write_labels(const I* parent, int64 n, L* labels) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const I up = parent[i];
    if (up < 0)
      labels[i] = 0;
    else if (up != i)
      labels[i] = labels[find_root(parent, up)];
  }
}

// Marks the roots of the pixels at `places`; `count` of them. `marks` has a byte a pixel.
template <class I>
__global__ void __launch_bounds__(256)
    mark_at(const I* parent, const int64* places, int count, uint8* marks) {
  const int k = int(global_thread());
  if (k >= count || parent[places[k]] < 0) return;
  store_relaxed(marks + find_root(parent, I(places[k])), uint8(1));
}

// Marks the roots of the pixels that `chosen` has.
template <class I>
__global__ void __launch_bounds__(256)
    mark_chosen(const I* parent, const uint8* chosen, int64 n, uint8* marks) {
  for (int64 i = global_thread(); i < n; i += global_threads())
    if (chosen[i] && parent[i] >= 0) store_relaxed(marks + find_root(parent, I(i)), uint8(1));
}

// The pixels whose root is marked.
template <class I>
__global__ void __launch_bounds__(256)
    keep_marked(const I* parent, const uint8* marks, int64 n, uint8* mask) {
  for (int64 i = global_thread(); i < n; i += global_threads())
    mask[i] = parent[i] >= 0 && marks[find_root(parent, I(i))];
}
