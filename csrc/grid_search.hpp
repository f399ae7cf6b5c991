// Augmenting paths by two search trees, one from the source and one from the sink, that outlive the
// paths: Boykov and Kolmogorov (2004), IEEE PAMI 26(9):1124-1137.
//
// Deviations: nodes lie in blocks (grid_blocks.hpp); a parent is a direction, one byte with the
// tree; which arcs have capacity left is kept as one bit an arc at both of its ends, so that trees
// grow and orphans look for parents without touching capacities; a search keeps to a range of
// nodes, so that parts of the grid are solved on their own, in cache, before they are joined (Liu
// and Sun 2010, "Parallel graph-cuts by adaptive bottom-up merging", CVPR).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "grid_blocks.hpp"
#include "parallel.hpp"
#include "zeroed.hpp"

namespace msf {

// The flow so far and the trees. Bit d of out[v]: the arc from v in direction d has capacity left;
// of in[v]: the arc from the neighbour in direction d to v has.
template <class Cap, class Mask>
struct GridState {
  using Node = GridBlocks::Node;

  explicit GridState(const GridBlocks& grid)
      : blocks(grid), memory(static_cast<std::size_t>(grid.nodes()) * node_bytes(grid)) {
    const std::int64_t n = blocks.nodes();
    residual = reinterpret_cast<Cap*>(memory.data());
    excess = residual + n * blocks.directions();
    distance = reinterpret_cast<std::uint32_t*>(excess + n);
    stamp = distance + n;
    out = reinterpret_cast<Mask*>(stamp + n);
    in = out + n;
    tree = reinterpret_cast<std::uint8_t*>(in + n);
  }
  GridState(const GridState& other) : GridState(other.blocks) {
    std::memcpy(memory.data(), other.memory.data(), memory.size());
  }

  static std::size_t node_bytes(const GridBlocks& blocks) {
    return sizeof(Cap) * (blocks.directions() + 1) + 2 * sizeof(Mask) + 9;
  }

  Cap& arc(int direction, Node v) { return residual[direction * blocks.nodes() + v]; }

  GridBlocks blocks;
  Zeroed memory;
  Cap* residual;            // by direction
  Cap* excess;              // capacity left from the source; negative: to the sink
  std::uint32_t* distance;  // from the root, as known at the time `stamp`
  std::uint32_t* stamp;
  Mask *out, *in;
  std::uint8_t* tree;  // side, `queued`, and the direction of the parent
};

inline constexpr std::uint8_t tree_side = 0xC0, tree_source = 0x40, tree_sink = 0x80;
inline constexpr std::uint8_t tree_queued = 0x20;  // waits in the queue
inline constexpr std::uint8_t tree_code = 0x1F, tree_root = 28, tree_orphan = 29;

template <class Cap, class Mask>
class GridSearch {
 public:
  using State = GridState<Cap, Mask>;
  using Node = GridBlocks::Node;
  using Sum = std::conditional_t<std::is_integral_v<Cap>, std::int64_t, double>;

  struct OutOfTime {};  // thrown by run() after 2^32 paths: plant again

  // Keeps to nodes [begin, end). time: at least all stamps there. Adds to `flow`.
  GridSearch(State& state, std::int64_t begin, std::int64_t end, std::uint32_t time, Sum& flow)
      : s_(state),
        blocks_(state.blocks),
        begin_(static_cast<Node>(begin)),
        size_(static_cast<Node>(end - begin)),
        time_(time),
        flow_(flow) {}

  std::uint32_t time() const { return time_; }
  bool idle() const { return next_ == active_.size() && later_.empty(); }

  // Puts the nodes that are marked for it in the queue.
  [[gnu::noinline]] void start() {
    const Node end = begin_ + size_;
    for (Node v = begin_; v < end; v += 8) {  // blocks are of 64
      std::uint64_t eight;
      std::memcpy(&eight, s_.tree + v, 8);
      if (!(eight & 0x0101010101010101u * tree_queued)) continue;
      for (Node w = v; w < v + 8; ++w)
        if (s_.tree[w] & tree_queued) later_.push_back(w);
    }
  }

  // Puts the nodes on both sides of the border before `layer` in the queue.
  [[gnu::noinline]] void join(std::int64_t layer) {
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

  // Augments until no path is left. May throw between two paths.
  [[gnu::noinline]] void run() {
    Ticker tick(1 << 6);  // a path may be long
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
      }
    }
  }

  // Changes the excess of a node of grown trees; settle() must follow. Kohli and Torr (2007),
  // "Dynamic graph cuts for efficient inference in Markov random fields", PAMI 29(12).
  [[gnu::noinline]] void change(Node v, Cap excess) {
    s_.excess[v] = excess;
    const std::uint8_t old = side(v);
    if (excess == 0) {
      if (old != 0 && code(v) == tree_root) disown(v, old);
      return;
    }
    const std::uint8_t now = excess > 0 ? tree_source : tree_sink;
    if (old != now) {
      if (old != 0) leave(v, old);
      s_.tree[v] = static_cast<std::uint8_t>(now | (s_.tree[v] & tree_queued));
      activate(v);
    }
    set_code(v, tree_root);
    s_.distance[v] = 0;
    s_.stamp[v] = time_;
  }
  [[gnu::noinline]] void settle() {
    ++time_;
    adopt(tree_source);
    adopt(tree_sink);
  }

 private:
  std::uint8_t side(Node v) const { return s_.tree[v] & tree_side; }
  int code(Node v) const { return s_.tree[v] & tree_code; }
  void set_code(Node v, int code) {
    s_.tree[v] = static_cast<std::uint8_t>((s_.tree[v] & ~tree_code) | code);
  }
  bool inside(Node v) const { return v - begin_ < size_; }
  static Mask bit(int direction) { return static_cast<Mask>(Mask{1} << direction); }

  // f(direction, neighbour) for each set bit.
  template <class F>
  void each(Node v, Mask arcs, F&& f) const {
    for (; arcs; arcs &= static_cast<Mask>(arcs - 1)) {
      const int d = std::countr_zero(arcs);
      const Node w = blocks_.neighbour(v, d);
      if (inside(w)) f(d, w);
    }
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

  // Moves f over the arc v -> w; true if that took all of it.
  bool push(int d, Node v, Node w, Cap f) {
    Cap& forth = s_.arc(d, v);
    Cap& back = s_.arc(d ^ 1, w);
    forth -= f;
    back += f;
    s_.out[w] |= bit(d ^ 1);
    s_.in[v] |= bit(d);
    if (forth > 0) return false;
    s_.out[v] &= static_cast<Mask>(~bit(d));
    s_.in[w] &= static_cast<Mask>(~bit(d ^ 1));
    return true;
  }

  // From the root of v over v -> w to the root of w.
  void augment(Node v, int d, Node w) {
    if (time_ == ~std::uint32_t{0}) throw OutOfTime{};
    Cap f = s_.arc(d, v);
    Node x = v;
    for (int p; (p = code(x)) != tree_root;) {
      x = blocks_.neighbour(x, p);
      f = std::min(f, s_.arc(p ^ 1, x));
    }
    f = std::min(f, s_.excess[x]);
    x = w;
    for (int p; (p = code(x)) != tree_root;) {
      f = std::min(f, s_.arc(p, x));
      x = blocks_.neighbour(x, p);
    }
    f = std::min(f, static_cast<Cap>(-s_.excess[x]));

    ++time_;
    flow_ += f;
    push(d, v, w, f);
    x = v;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      if (push(p ^ 1, u, x, f)) disown(x, tree_source);
      x = u;
    }
    if (!((s_.excess[x] -= f) > 0)) disown(x, tree_source);
    x = w;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      if (push(p, x, u, f)) disown(x, tree_sink);
      x = u;
    }
    if (!((s_.excess[x] += f) < 0)) disown(x, tree_sink);
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

  State& s_;
  const GridBlocks& blocks_;
  Node begin_, size_;
  std::uint32_t time_;
  Sum& flow_;
  std::vector<Node> active_, later_;  // the queue: what is being scanned, what comes after
  std::size_t next_ = 0;
  std::vector<Node> orphans_[2];
};

}  // namespace msf
