// The state of a flow on a grid, and what the two searches for augmenting paths share: one tree of
// nodes from the source and one from the sink, and a path from a root over both to a root.
//
// Nodes lie in blocks (grid_blocks.hpp); a parent is a direction, one byte with the tree; which
// arcs have capacity left is kept as one bit an arc at both of its ends, so that trees grow and
// orphans look for parents without touching capacities; a search keeps to a range of nodes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "grid_blocks.hpp"
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
class GridTrees {
 public:
  using State = GridState<Cap, Mask>;
  using Node = GridBlocks::Node;
  using Sum = std::conditional_t<std::is_integral_v<Cap>, std::int64_t, double>;

 protected:
  // Keeps to nodes [begin, end). Adds to `flow`.
  GridTrees(State& state, std::int64_t begin, std::int64_t end, Sum& flow)
      : s_(state),
        blocks_(state.blocks),
        begin_(static_cast<Node>(begin)),
        size_(static_cast<Node>(end - begin)),
        flow_(flow) {}

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

  // Moves what it can from the root of v over v -> w to the root of w; disown(node, tree) for each
  // node whose arc from its parent, or terminal, that fills. Returns how many arcs it took.
  template <class Disown>
  std::size_t send(Node v, int d, Node w, Disown&& disown) {
    path_.clear();
    Cap f = s_.arc(d, v);
    Node x = v;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      f = std::min(f, s_.arc(p ^ 1, u));
      path_.push_back({u, x, p ^ 1});
      x = u;
    }
    const Node source = x;
    const std::size_t above = path_.size();
    f = std::min(f, s_.excess[source]);
    x = w;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      f = std::min(f, s_.arc(p, x));
      path_.push_back({x, u, p});
      x = u;
    }
    const Node sink = x;
    f = std::min(f, static_cast<Cap>(-s_.excess[sink]));

    flow_ += f;
    push({v, w, d}, f);
    for (std::size_t i = 0; i < above; ++i)
      if (push(path_[i], f)) disown(path_[i].to, tree_source);
    if (!((s_.excess[source] -= f) > 0)) disown(source, tree_source);
    for (std::size_t i = above; i < path_.size(); ++i)
      if (push(path_[i], f)) disown(path_[i].from, tree_sink);
    if (!((s_.excess[sink] += f) < 0)) disown(sink, tree_sink);
    return path_.size() + 1;
  }

  State& s_;
  const GridBlocks& blocks_;
  Node begin_, size_;
  Sum& flow_;

 private:
  struct Arc {
    Node from, to;
    int direction;
  };

  // Moves f over an arc; true if that took all of it.
  bool push(const Arc& arc, Cap f) {
    const auto [v, w, d] = arc;
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

  // Nodes of a path found one after the other are pushed over without waiting for the next.
  std::vector<Arc> path_;
};

}  // namespace msf
