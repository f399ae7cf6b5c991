// Connected components of pixels with equal keys, and what of them is kept.
//
// A block of 256 threads merges 32 lines of 32 pixels in its own memory, then another launch merges
// along the blocks' borders. A warp has a line: whom a pixel touches comes from shuffles, runs of
// equal pixels from one ballot, and only the first pixels where two runs touch unite them, which
// leaves few atomics. A warp goes down four lines by itself before the block's warps meet: paths
// stay short that way (lines by warps after A. Hennequin, L. Lacassagne, L. Cabaret and Q. Meunier,
// "A new direct connected component labeling and analysis algorithms for GPUs", DASIP 2018).
//
// Then paths are shortened and roots counted by block, numbered in raster order (the running sum
// over blocks is made in between), and each pixel reads its root's number. parent[i] is -1 in the
// background.
#pragma once
#include "union_find.cuh"
#include "waves.cuh"

constexpr int per_thread = 4;  // pixels whose parents a thread loads at once
constexpr int lines = 32, strip = 4, line_pixels = 32, line_threads = 256;

// The pixels of a block: `deep` planes of `lines / deep` rows, each a line of 32 columns. Both are
// powers of 2: divisions would take longer than all else.
struct Lines {
  int planes, rows, columns, deep, shift;  // 1 << shift rows in a plane
  int plane, row, column;                  // of the first pixel

  __device__ __forceinline__ Lines(int planes, int rows, int columns, int deep)
      : planes(planes), rows(rows), columns(columns), deep(deep), shift(__ffs(lines / deep) - 1) {
    const unsigned across = (columns + line_pixels - 1) / line_pixels;
    const unsigned down = (rows + high() - 1) >> shift, strip_of = blockIdx.x / across;
    column = int(blockIdx.x - strip_of * across) * line_pixels;
    row = int(strip_of % down) << shift;
    plane = int(strip_of / down) * deep;
  }
  __device__ __forceinline__ int high() const { return 1 << shift; }
  __device__ __forceinline__ int z_of(int line) const { return line >> shift; }
  __device__ __forceinline__ int y_of(int line) const { return line & (high() - 1); }
  // Pixel `x` of a line.
  __device__ __forceinline__ bool has(int line, int x) const {
    return plane + z_of(line) < planes && row + y_of(line) < rows && column + x < columns;
  }
  template <class I>
  __device__ __forceinline__ I index(int line, int x) const {
    return (I(plane + z_of(line)) * rows + row + y_of(line)) * columns + column + x;
  }
  // Whether the image has the line so many planes and rows away, and whether the block has.
  __device__ __forceinline__ bool is_line(int line, int z, int y) const {
    return unsigned(plane + z_of(line) + z) < unsigned(planes) &&
           unsigned(row + y_of(line) + y) < unsigned(rows);
  }
  __device__ __forceinline__ bool is_near(int line, int z, int y) const {
    return unsigned(z_of(line) + z) < unsigned(deep) && unsigned(y_of(line) + y) < unsigned(high());
  }
};

// One line in the registers of a warp: each lane's key, and which lanes are no background.
template <class K>
struct Line {
  K key;
  unsigned inside;
};

// Which of three pixels of a line, around a lane's place, have the lane's key.
struct Touch {
  bool left, centre, right;

  template <class K>
  __device__ __forceinline__ Touch(const Line<K>& mine, const Line<K>& other) {
    const int x = threadIdx.x % 32;
    const K before = __shfl_up_sync(all_lanes, other.key, 1);
    const K after = __shfl_down_sync(all_lanes, other.key, 1);
    const bool inside = mine.inside >> x & 1;
    const unsigned there = other.inside;
    left = inside && (there << 1 >> x & 1) && before == mine.key;
    centre = inside && (there >> x & 1) && other.key == mine.key;
    right = inside && (there >> 1 >> x & 1) && after == mine.key;
  }
};

// Neighbours that come before a pixel in raster order, a bit each, by their numbers (waves.cuh):
// that of the one at x - 1 in the row so far away.
__device__ __forceinline__ int number_of(int z, int y) { return 9 * (z + 1) + 3 * (y + 1); }

template <class Unite>
__device__ __forceinline__ void for_each(unsigned neighbours, const Unite& unite) {
  for (; neighbours != 0; neighbours &= neighbours - 1) {
    const Place to(__ffs(int(neighbours)) - 1);
    unite(to.z, to.y, to.x);
  }
}

// Which of the three pixels of another line must be united with the lane's, as no nearer neighbour
// leads to them: bits 0 to 2. `own`: the lane's line. The lines are apart along so many axes; if
// two, the lines between them are `behind` and `beside`.
__device__ __forceinline__ unsigned to_unite(const Touch& own, const Touch& to, int along,
                                             int reach, const Touch& behind, const Touch& beside) {
  if (along > reach) return 0;
  const bool two = along > 1, diagonals = along < reach && !to.centre;
  const bool left = two && (behind.left || beside.left);
  const bool centre = two && (behind.centre || beside.centre);
  const bool right = two && (behind.right || beside.right);
  return (diagonals && to.left && !own.left && !left ? 1u : 0) |
         (to.centre && !(own.left && to.left) && !centre ? 2u : 0) |  // where runs meet first
         (diagonals && to.right && !own.right && !right ? 4u : 0);
}

// The neighbours that a lane of a line must be united with: within the block, but for lines of one
// strip, or if `far` in other blocks above and behind. `get(z, y)` is a line so far away.
template <bool far, class Get>
__device__ __forceinline__ unsigned links_before(const Lines& block, int line, int reach,
                                                 const Get& get) {
  const auto wanted = [&](int z, int y) {
    return block.is_line(line, z, y) && block.is_near(line, z, y) != far;
  };
  const bool up = wanted(0, -1) && (far || line % strip == 0);
  const bool back = block.deep > 1 && (wanted(-1, 0) || wanted(-1, -1) || wanted(-1, 1));
  if (!up && !back) return 0;
  const auto mine = get(0, 0);
  const Touch own(mine, mine);
  unsigned links = 0;
  if (up) links = to_unite(own, Touch(mine, get(0, -1)), 1, reach, own, own) << number_of(0, -1);
  if (!back) return links;
  const Touch behind(mine, get(-1, 0));
  if (wanted(-1, 0)) links |= to_unite(own, behind, 1, reach, own, own) << number_of(-1, 0);
#pragma unroll 1
  for (int y = -1; y <= 1; y += 2) {
    if (!wanted(-1, y)) continue;
    const Touch beside(mine, get(0, y)), to(mine, get(-1, y));
    links |= to_unite(own, to, 2, reach, behind, beside) << number_of(-1, y);
  }
  return links;
}

// Unites equal pixels within each block. Keys equal to `zero` are background if `has_zero`.
// `reach`: along how many axes a neighbour may differ.
template <class K, class I>
__global__ void __launch_bounds__(line_threads, 4)
    merge_lines(const K* keys, K zero, int has_zero, I* parent, int planes, int rows, int columns,
                int deep, int reach) {
  SHARED(K, key, [lines * line_pixels]);
  SHARED(unsigned, inside, [lines]);
  SHARED(int, local, [lines * line_pixels]);
  const Lines block(planes, rows, columns, deep);
  const int first = int(threadIdx.x) / 32 * strip, x = threadIdx.x % 32;
#pragma unroll  // all at once, so that their latencies overlap
  for (int line = first; line < first + strip; ++line)
    key[line * line_pixels + x] = block.has(line, x) ? keys[block.index<int64>(line, x)] : zero;
  Line<K> above{zero, 0};
#pragma unroll 1
  for (int line = first; line < first + strip; ++line) {
    const int me = line * line_pixels + x;
    const bool exists = block.has(line, x);
    const K mine = key[me];
    const bool is_inside = exists && !(has_zero && mine == zero);
    const Line<K> here{mine, __ballot_sync(all_lanes, is_inside)};
    const Touch own(here, here);
    const unsigned begins = __ballot_sync(all_lanes, is_inside && !own.left);
    if (x == 0) inside[line] = here.inside;
    store_relaxed(local + me,
                  is_inside ? me - x + 31 - __clz(int(begins & (all_lanes >> (31 - x)))) : -1);
    if (line > first) {
      const Touch up(here, above);
      __syncwarp();
      const unsigned links = to_unite(own, up, 1, reach, own, own) << number_of(0, -1);
      for_each(links, [&](int, int, int dx) { unite(local, me, me - line_pixels + dx); });
      __syncwarp();
      if (is_inside) store_relaxed(local + me, find_root(local, me));
    }
    above = here;
  }
  __syncthreads();
#pragma unroll 1
  for (int line = first; line < first + strip; ++line) {
    const int me = line * line_pixels + x;
    const auto get = [&](int z, int y) {
      const int other = line + (z << block.shift) + y;
      return block.is_near(line, z, y) ? Line<K>{key[other * line_pixels + x], inside[other]}
                                       : Line<K>{zero, 0};
    };
    for_each(links_before<false>(block, line, reach, get), [&](int z, int y, int dx) {
      unite(local, me, me + ((z << block.shift) + y) * line_pixels + dx);
    });
  }
  __syncthreads();
  for (int line = first; line < first + strip; ++line) {
    if (!block.has(line, x)) continue;
    const int me = line * line_pixels + x, up = load_relaxed(local + me);
    const int root = up < 0 ? 0 : find_root(local, up);
    parent[block.index<int64>(line, x)] =
        up < 0 ? I(-1) : block.index<I>(root / line_pixels, root % line_pixels);
  }
}

// Unites equal pixels across the borders of blocks: those of lines first, then at their ends.
template <class K, class I>
__global__ void __launch_bounds__(line_threads, 4)  // without the 4, 48 registers and spills
    merge_borders(const K* keys, K zero, int has_zero, I* parent, int planes, int rows, int columns,
                  int deep, int reach) {
  const Lines block(planes, rows, columns, deep);
  const int warp = threadIdx.x / 32, x = threadIdx.x % 32;
  for (int line = warp; line < lines; line += line_threads / 32) {
    if (!block.has(line, 0)) continue;
    const int64 me = block.index<int64>(line, x);
    const auto get = [&](int z, int y) {
      const bool exists = block.column + x < columns && block.is_line(line, z, y);
      const K other = exists ? keys[me + (int64(z) * rows + y) * columns] : zero;
      const bool is_inside = exists && !(has_zero && other == zero);
      return Line<K>{other, __ballot_sync(all_lanes, is_inside)};
    };
    for_each(links_before<true>(block, line, reach, get), [&](int z, int y, int dx) {
      unite<true>(parent, I(me), I(me + (int64(z) * rows + y) * columns + dx));
    });
  }
  // The first warp has the lines' first pixels, the second their last; no warp meets from here on.
  const int line = x, at = warp == 0 ? 0 : line_pixels - 1, dx = warp == 0 ? -1 : 1;
  if (warp > (reach > 1) || !block.has(line, at) ||
      unsigned(block.column + at + dx) >= unsigned(columns))
    return;
  const int64 me = block.index<int64>(line, at);
  if (load_relaxed(parent + me) < 0) return;
  const K mine = keys[me];
  const auto same = [&](int z, int y, int x) {
    return block.is_line(line, z, y) && keys[me + (int64(z) * rows + y) * columns + x] == mine;
  };
#pragma unroll 1
  for (int z = deep > 1 ? -1 : 0; z <= 0; ++z)
#pragma unroll 1
    for (int y = -1; y <= (z < 0 ? 1 : 0); ++y) {
      const int along = (z != 0) + (y != 0) + 1;
      if (along > reach || (z == 0 && y == 0 && dx > 0) || !same(z, y, dx)) continue;
      // Nothing to do where nearer neighbours lead there.
      if ((y != 0 && same(z, 0, dx)) || (z != 0 && same(0, y, dx)) || (along > 1 && same(z, y, 0)))
        continue;
      unite<true>(parent, I(me), I(me + (int64(z) * rows + y) * columns + dx));
    }
}

// Calls `use(k, i)` for the pixels of a thread in kernels whose blocks have 4 times 256.
template <class Use>
__device__ __forceinline__ void for_pixels(int64 n, const Use& use) {
#pragma unroll
  for (int k = 0; k < per_thread; ++k) {
    const int64 i = (int64(blockIdx.x) * per_thread + k) * 256 + threadIdx.x;
    if (i < n) use(k, i);
  }
}

// The parents of a thread's pixels, loaded at once; -1 beyond the image.
template <class I>
struct Parents {
  I up[per_thread];

  __device__ __forceinline__ Parents(const I* parent, int64 n) {
#pragma unroll
    for (int k = 0; k < per_thread; ++k) up[k] = -1;
    for_pixels(n, [&](int k, int64 i) { up[k] = load_relaxed(parent + i); });
  }
};

// Hangs the parents of pixels below their roots; how many roots each block's pixels hold.
template <class I>
__global__ void __launch_bounds__(256) settle_roots(I* parent, int64 n, I* counts) {
  SHARED(int, by_warp, [8]);
  const Parents<I> parents(parent, n);
  int count = 0;
#pragma unroll
  for (int k = 0; k < per_thread; ++k) {
    const int64 i = (int64(blockIdx.x) * per_thread + k) * 256 + threadIdx.x;
    const I up = parents.up[k];
    // Of pixels side by side with one parent the first goes, for all.
    const I before = __shfl_up_sync(all_lanes, up, 1);
    if (up >= 0 && up != i && (threadIdx.x % 32 == 0 || before != up)) {
      const I root = find_root_and_shorten(parent, up);
      if (root != up) store_relaxed(parent + up, root);
    }
    count += __popc(__ballot_sync(all_lanes, up == i));
  }
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 8; ++w) count += by_warp[w];
  counts[blockIdx.x] = count;
}

// Labels the roots 1, 2, ... in raster order; `counts` has become the running sum.
template <class I, class L>
__global__ void __launch_bounds__(256)
    number_roots(const I* parent, int64 n, const I* counts, L* labels) {
  SHARED(int, by_warp, [32]);  // four rounds of 8 warps, in raster order
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Parents<I> parents(parent, n);
  const int64 begin = int64(blockIdx.x) * per_thread * 256 + threadIdx.x;
  unsigned roots[per_thread];
#pragma unroll
  for (int k = 0; k < per_thread; ++k) {
    roots[k] = __ballot_sync(all_lanes, parents.up[k] == begin + k * 256);
    if (lane == 0) by_warp[k * 8 + warp] = __popc(roots[k]);
  }
  __syncthreads();
  if (warp == 0) {
    int sum = by_warp[lane];
    const int mine = sum;
    for (int by = 1; by < 32; by *= 2) {
      const int below = __shfl_up_sync(all_lanes, sum, by);
      if (lane >= by) sum += below;
    }
    by_warp[lane] = sum - mine;
  }
  __syncthreads();
  const int64 before = blockIdx.x > 0 ? counts[blockIdx.x - 1] : 0;
  for_pixels(n, [&](int k, int64 i) {
    if (roots[k] >> lane & 1)
      labels[i] = L(before + by_warp[k * 8 + warp] + __popc(roots[k] & ((1u << lane) - 1)) + 1);
  });
}

// Gives every pixel that is no root its root's label.
template <class I, class L>
__global__ void __launch_bounds__(256) write_labels(const I* parent, int64 n, L* labels) {
  const Parents<I> parents(parent, n);
  for_pixels(n, [&](int k, int64 i) {
    const I up = parents.up[k];
    if (up < 0)
      labels[i] = 0;
    else if (up != i)
      labels[i] = labels[find_root(parent, up)];
  });
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
  const Parents<I> parents(parent, n);
  bool is_chosen[per_thread] = {};
  for_pixels(n, [&](int k, int64 i) { is_chosen[k] = chosen[i]; });
#pragma unroll
  for (int k = 0; k < per_thread; ++k) {
    const I up = is_chosen[k] ? parents.up[k] : I(-1);
    const I before = __shfl_up_sync(all_lanes, up, 1);
    if (up < 0 || (threadIdx.x % 32 > 0 && before == up)) continue;
    uint8* const mark = marks + find_root(parent, up);
    if (!load_relaxed(mark)) store_relaxed(mark, uint8(1));
  }
}

// The pixels whose root is marked.
template <class I>
__global__ void __launch_bounds__(256)
    keep_marked(const I* parent, const uint8* marks, int64 n, uint8* mask) {
  const Parents<I> parents(parent, n);
  for_pixels(n, [&](int k, int64 i) {
    mask[i] = parents.up[k] >= 0 && marks[find_root(parent, parents.up[k])];
  });
}
