// Connected components of pixels with equal keys, and what of them is kept.
//
// Blocks of 32 lines of 32 pixels are merged in the block's memory, then along their borders in
// global memory. A warp has a line: runs of equal pixels come from one ballot, and only the first
// pixel where two runs touch unites them, which leaves few atomics (the runs after A. Hennequin, L.
// Lacassagne, L. Cabaret and Q. Meunier, "A new direct connected component labeling and analysis
// algorithms for GPUs", DASIP 2018). Labels follow in three sweeps: roots are counted by block,
// numbered in raster order (the running sum over blocks is made in between), and each pixel reads
// its root's number. parent[i] is -1 in the background.
#pragma once
#include "union_find.cuh"

constexpr int per_thread = 4;  // pixels, where roots are counted
constexpr int lines = 32, line_pixels = 32, line_threads = 256, line_warps = line_threads / 32;

// The pixels of a block: `deep` planes of `lines / deep` rows, each a line of 32 columns.
struct Lines {
  int planes, rows, columns, deep;
  int plane, row, column;  // of the first pixel

  __device__ __forceinline__ Lines(int planes, int rows, int columns, int deep)
      : planes(planes), rows(rows), columns(columns), deep(deep) {
    const unsigned across = (columns + line_pixels - 1) / line_pixels;
    const unsigned down = (rows + high() - 1) / high(), tile = blockIdx.x;
    column = int(tile % across) * line_pixels;
    row = int(tile / across % down) * high();
    plane = int(tile / across / down) * deep;
  }
  __device__ __forceinline__ int high() const { return lines / deep; }
  __device__ __forceinline__ int plane_of(int line) const { return plane + line / high(); }
  __device__ __forceinline__ int row_of(int line) const { return row + line % high(); }
  __device__ __forceinline__ bool has(int line, int x) const {
    return plane_of(line) < planes && row_of(line) < rows && column + x < columns;
  }
  template <class I>
  __device__ __forceinline__ I index(int line, int x) const {
    return (I(plane_of(line)) * rows + row_of(line)) * columns + column + x;
  }
  // Whether a line has all its neighbours before it in the block, but for those at its ends.
  __device__ __forceinline__ bool is_inner(int line, int first, int reach) const {
    const int y = line % high();
    return y > 0 && (first > 0 || (line / high() > 0 && (reach == 1 || y + 1 < high())));
  }
};

// Calls `unite` for those of a pixel's neighbours before it in raster order that no nearer
// neighbour leads to. `same(z, y, x)`: whether the pixel so many steps away is in the image and has
// its key. Numbers `first` to `last` of the 13 neighbours; unrolled they spill registers.
template <class Same, class Unite>
__device__ __forceinline__ void unite_before(int first, int last, int reach, const Same& same,
                                             const Unite& unite) {
#pragma unroll 1
  for (int number = first; number < last; ++number) {
    const int z = number / 9 - 1, y = number / 3 % 3 - 1, x = number % 3 - 1;
    const int along = (z != 0) + (y != 0) + (x != 0);
    if (along > reach || !same(z, y, x)) continue;
    if (along > 1 &&
        ((z != 0 && same(0, y, x)) || (y != 0 && same(z, 0, x)) || (x != 0 && same(z, y, 0))))
      continue;
    if (x == 0 && same(0, 0, -1) && same(z, y, -1)) continue;  // runs that touch before
    unite(z, y, x);
  }
}

// Unites equal pixels within each block. Keys equal to `zero` are background if `has_zero`.
// `reach`: along how many axes a neighbour may differ. `first` is 9 where planes are apart, else 0.
template <class K, class I>
__global__ void __launch_bounds__(line_threads)
    merge_lines(const K* keys, K zero, int has_zero, I* parent, int planes, int rows, int columns,
                int deep, int reach, int first) {
  SHARED(K, key, [lines * line_pixels]);
  SHARED(int, local, [lines * line_pixels]);
  const Lines block(planes, rows, columns, deep);
  const int warp = threadIdx.x / 32, x = threadIdx.x % 32;
  for (int line = warp; line < lines; line += line_warps) {
    const bool exists = block.has(line, x);
    const K mine = exists ? keys[block.index<int64>(line, x)] : zero;
    const bool inside = exists && !(has_zero && mine == zero);
    const unsigned all = __ballot_sync(all_lanes, inside);
    const K left = __shfl_up_sync(all_lanes, mine, 1);
    const bool goes_on = x > 0 && (all >> (x - 1) & 1) && left == mine;
    const unsigned begins = __ballot_sync(all_lanes, inside && !goes_on);
    const int me = line * line_pixels + x;
    key[me] = mine;
    local[me] = inside ? line * line_pixels + 31 - __clz(int(begins & (~0u >> (31 - x)))) : -1;
  }
  __syncthreads();
  const int high = block.high();
  for (int line = warp; line < lines; line += line_warps) {
    const int me = line * line_pixels + x;
    if (load_relaxed(local + me) < 0) continue;
    const auto same = [&](int z, int y, int dx) {
      if (line / high + z < 0 || unsigned(line % high + y) >= unsigned(high) ||
          unsigned(x + dx) >= unsigned(line_pixels))
        return false;
      const int other = me + (z * high + y) * line_pixels + dx;
      return key[other] == key[me] && load_relaxed(local + other) >= 0;
    };
    unite_before(first, 12, reach, same, [&](int z, int y, int dx) {
      unite(local, me, me + (z * high + y) * line_pixels + dx);
    });
  }
  __syncthreads();
  for (int line = warp; line < lines; line += line_warps) {
    if (!block.has(line, x)) continue;
    const int me = line * line_pixels + x, up = load_relaxed(local + me);
    const int root = up < 0 ? 0 : find_root(local, up);
    parent[block.index<int64>(line, x)] =
        up < 0 ? I(-1) : block.index<I>(root / line_pixels, root % line_pixels);
  }
}

// Unites equal pixels across the borders of blocks.
template <class K, class I>
__global__ void __launch_bounds__(line_threads, 5)  // without the 5, 32 registers and spills
    merge_borders(const K* keys, I* parent, int planes, int rows, int columns, int deep, int reach,
                  int first) {
  const Lines block(planes, rows, columns, deep);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, high = block.high();
  // Lines at the border first, a warp each; then the ends of the others, by two warps.
  for (int turn = 0; turn <= lines / line_warps; ++turn) {
    const bool ends = turn == lines / line_warps;
    if (ends && warp > (reach > 1)) break;
    const int line = ends ? lane : turn * line_warps + warp;
    const int at = !ends ? lane : warp == 0 ? 0 : line_pixels - 1;
    if (block.is_inner(line, first, reach) != ends || !block.has(line, at)) continue;
    const int64 me = block.index<int64>(line, at);
    if (load_relaxed(parent + me) < 0) continue;
    const K mine = keys[me];
    const int plane = block.plane_of(line), row = block.row_of(line), column = block.column + at;
    const auto step = [&](int z, int y, int x) { return (int64(z) * rows + y) * columns + x; };
    // A key equal to that of a pixel inside is inside as well.
    const auto same = [&](int z, int y, int x) {
      return plane + z >= 0 && unsigned(row + y) < unsigned(rows) &&
             unsigned(column + x) < unsigned(columns) && keys[me + step(z, y, x)] == mine;
    };
    unite_before(first, 13, reach, same, [&](int z, int y, int x) {
      const bool in_block = line / high + z >= 0 && unsigned(line % high + y) < unsigned(high) &&
                            unsigned(at + x) < unsigned(line_pixels);
      if (!in_block) unite<true>(parent, I(me), I(me + step(z, y, x)));
    });
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

// Marks the roots of the pixels that `chosen` has. Of pixels in a row with one parent the first
// does: thousands of stores to the place of a large set would wait for one another.
template <class I>
__global__ void __launch_bounds__(256)
    mark_chosen(const I* parent, const uint8* chosen, int64 n, uint8* marks) {
  for (int64 i = global_thread(); i < n; i += global_threads()) {
    const I up = parent[i];
    if (!chosen[i] || up < 0 || (i > 0 && chosen[i - 1] && parent[i - 1] == up)) continue;
    uint8* const mark = marks + find_root(parent, up);
    if (!load_relaxed(mark)) store_relaxed(mark, uint8(1));
  }
}

// The pixels whose root is marked.
template <class I>
__global__ void __launch_bounds__(256)
    keep_marked(const I* parent, const uint8* marks, int64 n, uint8* mask) {
  for (int64 i = global_thread(); i < n; i += global_threads())
    mask[i] = parent[i] >= 0 && marks[find_root(parent, I(i))];
}
