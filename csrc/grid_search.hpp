// Augmenting paths by two search trees, one from the source and one from the sink, that outlive the
// paths: Boykov and Kolmogorov (2004), IEEE PAMI 26(9):1124-1137.
//
// Deviations: how trees lie in memory (grid_trees.hpp); a search keeps to a range of nodes, so that
// parts of the grid are solved on their own, in cache, before they are joined (Liu and Sun 2010,
// "Parallel graph-cuts by adaptive bottom-up merging", CVPR); where paths turn out long, flow goes
// along straight lines first (grid_sweeps.hpp); a search whose orphans have to walk too far is
// finished by grid_levels.hpp.
//
// Which search wins, in ms of one thread (AMD EPYC 7003, int32; marks and planting included): this
// one, grid_levels.hpp from the start, this one finished by that after 192 steps per node.
//
//   terminals everywhere (benchmarks/bench_maxflow.py)
//     brain 1.1 M, 6-connected, smoothness 1 / 10              14 / 21    54 / 41        =
//     retina 2 M, 4-connected, smoothness 10, without sweeps      361       571        =
//   few seeds, contrast weights
//     photograph 512^2, 4- / 8-connected                    139 / 346  446 / 487       =
//     brain 1.1 M, 6-connected                                     95        37        =
//     brain 0.25 M, 26-connected                                 1998      2818     1874
//   uniform random capacities
//     40^3, 6-connected, a cube in a frame                         18        49        =
//     40^3, 6- / 26-connected, face to face               2675 / 7872  771 / 1852  1236 / 2334
//     512^2, 4-connected, side to side                          10679      6243     6823
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "grid_flow.hpp"
#include "grid_levels.hpp"
#include "grid_trees.hpp"
#include "parallel.hpp"

namespace msf {

class GridSearch {
 public:
  using Node = GridBlocks::Node;
  struct OutOfTime {};  // thrown by run() after 2^32 paths: plant again

  virtual ~GridSearch() = default;
  virtual std::uint32_t time() const = 0;
  virtual bool idle() const = 0;
  virtual bool broken() const = 0;  // stopped where the trees are not to be used again

  // Puts the nodes that are marked for it in the queue.
  virtual void start() = 0;
  // Puts the nodes on both sides of the border before `layer` in the queue.
  virtual void join(std::int64_t layer) = 0;
  // Augments until no path is left. May throw between two paths.
  virtual void run() = 0;
  // Makes a node of grown trees a root of one or of none, its excess having changed; settle() must
  // follow. Kohli and Torr (2007), "Dynamic graph cuts for efficient inference in Markov random
  // fields", PAMI 29(12).
  virtual void change(Node v, std::uint8_t now) = 0;
  virtual void settle() = 0;
};

template <class Mask>
class GridSearchOf final : public GridSearch, GridTrees<Mask> {
  using Trees = GridTrees<Mask>;
  using Trees::begin_, Trees::blocks_, Trees::s_, Trees::size_;
  using Trees::bit, Trees::code, Trees::each, Trees::inside, Trees::set_code, Trees::side;

 public:
  using typename Trees::Node;

  // Keeps to a range of nodes. time: at least all stamps there.
  GridSearchOf(const GridRange<Mask>& range, std::uint32_t time,
               std::unique_ptr<GridFlow<Mask>> flow)
      : Trees(range), range_(range), flow_(std::move(flow)), time_(time) {}

  std::uint32_t time() const override { return time_; }
  bool idle() const override { return next_ == active_.size() && later_.empty(); }
  bool broken() const override { return broken_; }

  void start() override {
    const Node end = begin_ + size_;
    for (Node v = begin_; v < end; v += 8) {  // blocks are of 64
      std::uint64_t eight;
      std::memcpy(&eight, s_.tree + v, 8);
      if (!(eight & 0x0101010101010101u * tree_queued)) continue;
      for (Node w = v; w < v + 8; ++w)
        if (s_.tree[w] & tree_queued) later_.push_back(w);
    }
  }

  void join(std::int64_t layer) override {
    const std::int64_t n = blocks_.layer_nodes();
    for (int across = 0; across < 2; ++across) {
      Mask crossing = 0;
      for (int d = 0; d < blocks_.directions(); ++d)
        if (blocks_.offset(d)[blocks_.layer_axis()] == (across ? -1 : 1))
          crossing |= static_cast<Mask>(Mask{1} << d);
      for (std::int64_t i = 0; i < n; ++i) {
        if (!blocks_.at_side(i % GridBlocks::block, 1 - across)) continue;
        const Node v = static_cast<Node>((layer - 1 + across) * n + i);
        if (meets_other(v, (side(v) == tree_source ? s_.out[v] : s_.in[v]) & crossing)) activate(v);
      }
    }
  }

  void run() override {
    Ticker tick(1 << 6);  // a path may be long
    walked_ = pushed_ = 0;
    swept_ = false;
    while (!idle()) {
      if (next_ == active_.size()) {
        active_.clear();
        std::swap(active_, later_);
        next_ = 0;
      }
      while (next_ < active_.size()) {
        tick();
        const Node v = active_[next_++];
        s_.tree[v] &= static_cast<std::uint8_t>(~tree_queued);
        if (side(v) != 0) grow(v, side(v));
        if (pushed_ > size_ / 2 && !swept_) sweep();
        if (walked_ > farthest_walk * size_) return run_by_levels();
      }
    }
  }

  void change(Node v, std::uint8_t now) override {
    const std::uint8_t old = side(v);
    if (now == 0) {
      if (old != 0 && code(v) == tree_root) disown(v, old);
      return;
    }
    if (old != now) {
      if (old != 0) leave(v, old);
      s_.tree[v] = static_cast<std::uint8_t>(now | (s_.tree[v] & tree_queued));
      activate(v);
    }
    set_code(v, tree_root);
    s_.distance[v] = 0;
    s_.stamp[v] = time_;
  }
  void settle() override {
    ++time_;
    adopt(tree_source);
    adopt(tree_sink);
  }

 private:
  // Steps per node. With 64 the 26-connected brain above takes 2548 ms; with 512 the planes 1630.
  static constexpr std::uint64_t farthest_walk = 192;

  // Paths are long. If that is because regions, not few pixels, are joined to one terminal, what
  // can go straight goes at once, and trees are planted anew. On the retina above this search then
  // takes 208 ms and not 362; where there are few roots, it would lose a quarter.
  [[gnu::noinline]] void sweep() {
    swept_ = true;
    if (size_ - flow_->excesses() > size_ / 4 * 3) return;
    active_.clear();
    later_.clear();
    next_ = 0;
    broken_ = true;
    flow_->sweep();
    flow_->plant();
    std::fill_n(s_.stamp + begin_, size_, ++time_);
    Ticker tick;
    for (Node v = begin_; v < begin_ + size_; ++v) {
      tick();
      if (meets_other(v, side(v) == tree_source ? s_.out[v] : s_.in[v])) activate(v);
    }
    broken_ = false;
  }

  // Its trees are as good as those of this search once it has ended.
  [[gnu::noinline]] void run_by_levels() {
    active_ = {};
    later_ = {};
    next_ = 0;
    broken_ = true;
    GridLevels<Mask>(range_, *flow_).run();
    std::fill_n(s_.stamp + begin_, size_, time_);
    broken_ = false;
  }

  bool meets_other(Node v, Mask arcs) const {
    const std::uint8_t own = side(v);
    if (own == 0) return false;
    bool meets = false;
    each(v, arcs, [&](int, Node w) { meets |= side(w) != own; });
    return meets;
  }

  void activate(Node v) {
    if (s_.tree[v] & tree_queued) return;
    s_.tree[v] |= tree_queued;
    later_.push_back(v);
  }

  void grow(Node v, const std::uint8_t tree) {
    const bool source = tree == tree_source;
    const Mask* const arcs = source ? s_.out : s_.in;
    for (Mask m = arcs[v]; m;) {
      const int d = std::countr_zero(m);
      const Node w = blocks_.neighbour(v, d);
      m &= static_cast<Mask>(m - 1);
      if (!inside(w)) continue;
      const std::uint8_t there = s_.tree[w];
      if ((there & tree_side) == 0) {
        attach(tree, w, d ^ 1, v);
        activate(w);
      } else if ((there & tree_side) != tree) {
        source ? augment(v, d, w) : augment(w, d ^ 1, v);
        if (side(v) != tree) return;
        m = arcs[v] & static_cast<Mask>(~Mask{0} << d);  // this arc may have capacity left
      } else if (s_.stamp[w] <= s_.stamp[v] && s_.distance[w] > s_.distance[v] + 1) {
        attach(tree, w, d ^ 1, v);  // a shorter way to a root
      }
    }
  }

  void attach(std::uint8_t tree, Node w, int to_parent, Node parent) {
    s_.tree[w] = static_cast<std::uint8_t>(tree | (s_.tree[w] & tree_queued) | to_parent);
    s_.distance[w] = s_.distance[parent] + 1;
    s_.stamp[w] = s_.stamp[parent];
  }

  // From the root of v over v -> w to the root of w.
  void augment(Node v, int d, Node w) {
    if (time_ == ~std::uint32_t{0}) throw OutOfTime{};
    ++time_;
    pushed_ += flow_->send(v, d, w, orphans_);
    // The nearest to the root first: the others then find it connected.
    for (auto& orphans : orphans_) std::reverse(orphans.begin(), orphans.end());
    adopt(tree_source);
    adopt(tree_sink);
  }

  void disown(Node v, std::uint8_t tree) {
    set_code(v, tree_orphan);
    orphans_[tree == tree_sink].push_back(v);
  }
  void disown_children(Node v, const std::uint8_t tree) {
    each(v, tree == tree_source ? s_.out[v] : s_.in[v], [&](int d, Node c) {
      if ((s_.tree[c] & ~tree_queued) == (tree | (d ^ 1))) disown(c, tree);
    });
  }

  // Tells the rest of the tree that v is no longer in it: what has capacity to v could grow there.
  [[gnu::noinline]] void leave(Node v, const std::uint8_t tree) {
    each(v, tree == tree_source ? s_.in[v] : s_.out[v], [&](int, Node u) {
      if (side(u) == tree) activate(u);
    });
    disown_children(v, tree);
  }

  static constexpr std::uint32_t unconnected = ~std::uint32_t{0};

  // How many steps lead from u to a root; marks the way with that and the time.
  std::uint32_t distance_to_root(Node u) {
    std::uint32_t steps = 0;
    Node y = u;
    while (s_.stamp[y] != time_) {
      const int p = code(y);
      ++walked_;
      if (p == tree_orphan) return unconnected;
      if (p == tree_root) {
        s_.stamp[y] = time_;
        s_.distance[y] = 0;
        break;
      }
      y = blocks_.neighbour(y, p);
      ++steps;
    }
    steps += s_.distance[y];
    std::uint32_t left = steps;
    for (y = u; s_.stamp[y] != time_; y = blocks_.neighbour(y, code(y))) {
      s_.stamp[y] = time_;
      s_.distance[y] = left--;
    }
    return steps;
  }

  [[gnu::noinline]] void adopt(const std::uint8_t tree) {
    const bool source = tree == tree_source;
    auto& orphans = orphans_[!source];
    for (std::size_t i = 0; i < orphans.size(); ++i) {
      const Node x = orphans[i];
      if ((s_.tree[x] & ~tree_queued) != (tree | tree_orphan)) continue;  // changed since
      const Mask parents = source ? s_.in[x] : s_.out[x];
      std::uint32_t least = unconnected;
      int to_parent = 0;
      each(x, parents, [&](int d, Node u) {
        if (side(u) != tree || code(u) == tree_orphan) return;
        const std::uint32_t distance = distance_to_root(u);
        if (distance < least) least = distance, to_parent = d;
      });
      if (least != unconnected) {
        set_code(x, to_parent);
        s_.stamp[x] = time_;
        s_.distance[x] = least + 1;
        continue;
      }
      leave(x, tree);
      s_.tree[x] &= tree_queued;
    }
    orphans.clear();
  }

  const GridRange<Mask> range_;
  const std::unique_ptr<GridFlow<Mask>> flow_;
  std::uint32_t time_;
  std::uint64_t walked_ = 0;  // by orphans that look for a root, since run() began
  std::uint64_t pushed_ = 0;  // arcs of paths since then
  bool swept_ = false, broken_ = false;
  std::vector<Node> active_, later_;  // the queue: what is being scanned, what comes after
  std::size_t next_ = 0;
  std::vector<Node> orphans_[2];
};

}  // namespace msf
