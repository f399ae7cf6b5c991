// Disjoint sets of pixels, merged by many threads at once.
//
// parent[i] <= i, and a set's root is its smallest pixel, whatever the order of the merges: a root
// is only ever hung below a smaller one, by an atomic minimum. So labels can be numbered in raster
// order of each component's first pixel, as on the CPU, without a search.
//
// After V. Oliveira and R. Lotufo, "A study on connected components labeling algorithms using
// GPUs", SIBGRAPI 2010, and J. Jaiganesh and M. Burtscher, "A high-performance connected components
// implementation for GPUs", HPDC 2018, whose intermediate pointer jumping keeps paths short in
// global memory.
#pragma once
#include "device.cuh"

template <class I>
__device__ __forceinline__ I find_root(const I* parent, I node) {
  for (;;) {
    const I next = load_relaxed(parent + node);
    if (next == node) return node;
    node = next;
  }
}

// Hangs every node on the way below its grandparent. A node that has a parent never becomes a root
// again, so a store that comes late still names one of its ancestors.
template <class I>
__device__ __forceinline__ I find_root_and_shorten(I* parent, I node) {
  I up = load_relaxed(parent + node);
  if (up == node) return node;
  for (;;) {
    const I next = load_relaxed(parent + up);
    if (next == up) return up;
    store_relaxed(parent + node, next);
    node = up;
    up = next;
  }
}

// Joins two sets; `far`: in global memory, where short paths pay.
template <bool far = false, class I>
__device__ __forceinline__ void unite(I* parent, I a, I b) {
  for (;;) {
    a = far ? find_root_and_shorten(parent, a) : find_root(parent, a);
    b = far ? find_root_and_shorten(parent, b) : find_root(parent, b);
    if (a == b) return;
    const I high = max(a, b), low = min(a, b);
    const I before = atomicMin(parent + high, low);
    if (before == high) return;  // it was a root still
    a = before;                  // else its old parent must join as well
    b = low;
  }
}
