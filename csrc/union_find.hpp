// Disjoint sets of runs, in one table: parent[x] <= x, and a root is its own parent.
//
// Links always go from the larger root to the smaller, so the root of a set is its first run in
// raster order whatever the order of the unions; numbering the roots in order of index then gives
// raster numbering, and the result does not depend on the number of threads.
//
// `unite` is Rem's algorithm with splicing: it climbs both paths at once, always from the larger
// parent, and shortens them on the way. It was the fastest of 53 variants in Patwary, Blair and
// Manne, "Experiments on Union-Find Algorithms for the Disjoint-Set Data Structure", SEA 2010.
// `unite_shared` may run on several threads over the same sets: find with path halving and one
// compare-and-swap a link (Anderson and Woll, STOC 1991; Jayanti and Tarjan, PODC 2016).
#pragma once

#include <atomic>
#include <utility>

namespace msf {

template <class Index>
void unite(Index* parent, Index x, Index y) {
  while (parent[x] != parent[y]) {
    if (parent[x] < parent[y]) std::swap(x, y);
    const Index above = parent[x];
    parent[x] = parent[y];
    if (above == x) return;
    x = above;
  }
}

template <class Index>
Index load_shared(Index* parent, Index x) {
  return std::atomic_ref<Index>(parent[x]).load(std::memory_order_relaxed);
}

template <class Index>
void store_shared(Index* parent, Index x, Index value) {
  std::atomic_ref<Index>(parent[x]).store(value, std::memory_order_relaxed);
}

template <class Index>
Index find_shared(Index* parent, Index x) {
  for (;;) {
    const Index up = load_shared(parent, x);
    const Index top = load_shared(parent, up);
    if (up == top) return up;
    store_shared(parent, x,
                 top);  // x is no root, and never becomes one again: any ancestor will do
    x = top;
  }
}

template <class Index>
void unite_shared(Index* parent, Index x, Index y) {
  for (;;) {
    x = find_shared(parent, x);
    y = find_shared(parent, y);
    if (x == y) return;
    if (x < y) std::swap(x, y);
    Index expected = x;
    if (std::atomic_ref<Index>(parent[x]).compare_exchange_weak(expected, y,
                                                                std::memory_order_relaxed))
      return;
  }
}

}  // namespace msf
