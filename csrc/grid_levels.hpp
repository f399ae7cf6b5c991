// Augmenting paths by two search trees that are trees of shortest paths: incremental breadth-first
// search, Goldberg, Hed, Kaplan, Tarjan and Werneck (2011), "Maximum flows by incremental
// breadth-first search", ESA, 457-468.
//
// A node's distance is its level, one more than its parent's; trees grow by whole levels. An orphan
// takes a parent one level down, or goes up to one level more than the lowest node that leads to
// it, its children becoming orphans. Orphans are taken level by level, so that who is below has
// found its place. Time O(n^2 m) whatever the capacities.
//
// Deviations: how trees lie in memory (grid_trees.hpp); no current arcs, as a bit mask names the
// few arcs there are; the tree with the smaller front grows.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "grid_flow.hpp"
#include "grid_trees.hpp"
#include "parallel.hpp"

namespace msf {

template <class Mask>
class GridLevels : GridTrees<Mask> {
  using Trees = GridTrees<Mask>;
  using Trees::begin_, Trees::blocks_, Trees::s_, Trees::size_;
  using Trees::code, Trees::each, Trees::inside, Trees::set_code, Trees::side;

 public:
  using typename Trees::Node;

  // Plants trees anew in a range of nodes.
  GridLevels(const GridRange<Mask>& range, GridFlow<Mask>& flow) : Trees(range), flow_(flow) {
    flow_.plant();
    for (const std::uint8_t tree : {tree_source, tree_sink})
      front(tree).reserve(std::count(s_.tree + range.begin, s_.tree + range.end, tree | tree_root));
    Ticker tick;
    for (Node v = begin_; v < begin_ + size_; ++v) {
      tick();
      if (side(v) != 0) front(side(v)).push_back(v);
    }
  }

  // Augments until no path is left. May throw between two paths.
  void run() {
    Ticker tick(1 << 6);
    for (;;) {
      const std::size_t nodes[2] = {fronts_[0].size(), fronts_[1].size()};
      if (nodes[0] == 0 && nodes[1] == 0) return;
      const bool sink = nodes[0] == 0 || (nodes[1] != 0 && nodes[1] < nodes[0]);
      growing_ = sink ? tree_sink : tree_source;
      now_.clear();
      std::swap(now_, front(growing_));
      for (std::size_t i = 0; i < now_.size(); ++i) {  // grows while it is scanned
        tick();
        if (on_level(now_[i])) grow(now_[i]);
      }
      ++level(growing_);
    }
  }

 private:
  std::vector<Node>& front(std::uint8_t tree) { return fronts_[tree == tree_sink]; }
  std::uint32_t& level(std::uint8_t tree) { return levels_[tree == tree_sink]; }
  bool on_level(Node v) { return side(v) == growing_ && s_.distance[v] == level(growing_); }

  void grow(Node v) {
    const std::uint8_t tree = growing_;
    const bool source = tree == tree_source;
    const Mask* const arcs = source ? s_.out : s_.in;
    for (Mask m = arcs[v]; m;) {
      const int d = std::countr_zero(m);
      const Node w = blocks_.neighbour(v, d);
      m &= static_cast<Mask>(m - 1);
      if (!inside(w)) continue;
      if (side(w) == 0) {
        s_.tree[w] = static_cast<std::uint8_t>(tree | (d ^ 1));
        s_.distance[w] = level(tree) + 1;
        front(tree).push_back(w);
      } else if (side(w) != tree) {
        source ? augment(v, d, w) : augment(w, d ^ 1, v);
        if (!on_level(v)) return;
        m = arcs[v] & static_cast<Mask>(~Mask{0} << d);  // this arc may have capacity left
      }
    }
  }

  void augment(Node v, int d, Node w) {
    flow_.send(v, d, w, filled_);
    for (int tree : {0, 1}) {
      for (const Node x : filled_[tree]) orphans_[tree].add(x, s_.distance[x]);
      filled_[tree].clear();
    }
    adopt(tree_source);
    adopt(tree_sink);
  }

  struct Orphans {  // by level, those of one tree
    std::vector<std::vector<Node>> at;
    std::size_t least = 0, count = 0;

    void add(Node v, std::uint32_t level) {
      if (level >= at.size()) at.resize(level + 1);
      at[level].push_back(v);
      least = std::min<std::size_t>(least, level);
      ++count;
    }
  };
  Orphans& orphans(std::uint8_t tree) { return orphans_[tree == tree_sink]; }
  void disown(Node v, std::uint8_t tree) {
    set_code(v, tree_orphan);
    orphans(tree).add(v, s_.distance[v]);
  }

  [[gnu::noinline]] void adopt(const std::uint8_t tree) {
    Orphans& waiting = orphans(tree);
    for (std::size_t l = waiting.least; waiting.count; ++l) {
      for (std::size_t i = 0; i < waiting.at[l].size(); ++i) {
        --waiting.count;
        place(waiting.at[l][i], static_cast<std::uint32_t>(l), tree);
      }
      waiting.at[l].clear();
    }
    waiting.least = waiting.at.size();
  }

  static constexpr std::uint32_t nowhere = ~std::uint32_t{0} - 1;

  // Finds an orphan a parent, or another level to look for one, or lets it go.
  void place(Node v, const std::uint32_t own, const std::uint8_t tree) {
    const bool source = tree == tree_source;
    std::uint32_t lowest = nowhere;
    int to_parent = tree_orphan;
    for (Mask m = source ? s_.in[v] : s_.out[v]; m; m &= static_cast<Mask>(m - 1)) {
      const int d = std::countr_zero(m);
      const Node u = blocks_.neighbour(v, d);
      if (!inside(u) || side(u) != tree) continue;
      const bool orphan = code(u) == tree_orphan;
      if (s_.distance[u] < lowest || (s_.distance[u] == lowest && !orphan)) {
        lowest = s_.distance[u];
        to_parent = orphan ? tree_orphan : d;
        if (lowest + 1 == own && !orphan) return set_code(v, d);
      }
    }
    each(v, source ? s_.out[v] : s_.in[v], [&](int d, Node c) {
      if (s_.tree[c] == (tree | (d ^ 1))) disown(c, tree);
    });
    const std::uint32_t top = level(tree) + (tree == growing_);
    if (lowest + 1 > top) {
      s_.tree[v] = 0;
      return;
    }
    s_.distance[v] = lowest + 1;
    if (on_level(v))
      now_.push_back(v);
    else if (lowest + 1 == top)
      front(tree).push_back(v);
    if (lowest == own && to_parent != tree_orphan)  // on this level nobody becomes an orphan now
      set_code(v, to_parent);
    else
      orphans(tree).add(v, lowest + 1);
  }

  GridFlow<Mask>& flow_;
  std::vector<Node> filled_[2];        // by a path, of either tree
  std::vector<Node> now_, fronts_[2];  // who is being scanned; the highest levels
  std::uint32_t levels_[2]{0, 0};      // the highest, of either tree
  std::uint8_t growing_ = 0;
  Orphans orphans_[2];
};

}  // namespace msf
