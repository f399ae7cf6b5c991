// The state of a flow on a grid, and what the two searches for augmenting paths share: one tree of
// nodes from the source and one from the sink.
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

// The trees, whatever the type of the capacities. Bit d of out[v]: the arc from v in direction d
// has capacity left; of in[v]: the arc from the neighbour in direction d to v has.
template <class Mask>
struct GridForest {
  std::uint32_t* distance;  // from the root, as known at the time `stamp`
  std::uint32_t* stamp;
  Mask *out, *in;
  std::uint8_t* tree;  // side, `queued`, and the direction of the parent
};

// The flow so far and the trees.
template <class Cap>
struct GridState {
  using Node = GridBlocks::Node;
  using Sum = std::conditional_t<std::is_integral_v<Cap>, std::int64_t, double>;

  explicit GridState(const GridBlocks& grid)
      : blocks(grid), memory(static_cast<std::size_t>(grid.nodes()) * node_bytes(grid)) {
    residual = reinterpret_cast<Cap*>(memory.data());
    excess = residual + blocks.nodes() * blocks.directions();
  }
  GridState(const GridState& other) : GridState(other.blocks) {
    std::memcpy(memory.data(), other.memory.data(), memory.size());
  }

  // 64 bits are rare: a mask of more bits than needed costs them less than a build of their own.
  static bool narrow(const GridBlocks& blocks) {
    return sizeof(Cap) == 4 && blocks.directions() <= 8;
  }
  static std::size_t node_bytes(const GridBlocks& blocks) {
    const std::size_t mask = narrow(blocks) ? sizeof(std::uint8_t) : sizeof(std::uint32_t);
    return sizeof(Cap) * (blocks.directions() + 1) + 2 * mask + 9;
  }

  // f(trees), with the masks' type.
  template <class F>
  auto with_trees(F&& f) const {
    if constexpr (sizeof(Cap) == 4)
      if (narrow(blocks)) return f(trees<std::uint8_t>());
    return f(trees<std::uint32_t>());
  }
  std::uint8_t* sides() const {
    return with_trees([](const auto& trees) { return trees.tree; });
  }

  Cap& arc(int direction, Node v) { return residual[direction * blocks.nodes() + v]; }

  GridBlocks blocks;
  Zeroed memory;
  Cap* residual;  // by direction
  Cap* excess;    // capacity left from the source; negative: to the sink

 private:
  template <class Mask>
  GridForest<Mask> trees() const {
    const std::int64_t n = blocks.nodes();
    GridForest<Mask> trees;
    trees.distance = reinterpret_cast<std::uint32_t*>(excess + n);
    trees.stamp = trees.distance + n;
    trees.out = reinterpret_cast<Mask*>(trees.stamp + n);
    trees.in = trees.out + n;
    trees.tree = reinterpret_cast<std::uint8_t*>(trees.in + n);
    return trees;
  }
};

inline constexpr std::uint8_t tree_side = 0xC0, tree_source = 0x40, tree_sink = 0x80;
inline constexpr std::uint8_t tree_queued = 0x20;  // waits in the queue
inline constexpr std::uint8_t tree_code = 0x1F, tree_root = 28, tree_orphan = 29;

// The nodes [begin, end).
template <class Mask>
struct GridRange {
  const GridBlocks& blocks;
  GridForest<Mask> trees;
  std::int64_t begin, end;
};

template <class Mask>
class GridTrees {
 public:
  using Node = GridBlocks::Node;

 protected:
  explicit GridTrees(const GridRange<Mask>& range)
      : s_(range.trees),
        blocks_(range.blocks),
        begin_(static_cast<Node>(range.begin)),
        size_(static_cast<Node>(range.end - range.begin)) {}

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

  const GridForest<Mask> s_;
  const GridBlocks& blocks_;
  const Node begin_, size_;
};

}  // namespace msf
