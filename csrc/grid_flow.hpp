// What the searches for augmenting paths ask of the capacities, so that only this is compiled for
// each of their types: sending flow along a path, which nodes have an excess, which arcs are open.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "grid_sweeps.hpp"
#include "grid_trees.hpp"
#include "parallel.hpp"

namespace msf {

template <class Mask>
class GridFlow {
 public:
  using Node = GridBlocks::Node;

  virtual ~GridFlow() = default;

  // Moves what it can from the root of v over v -> w to the root of w. Each node whose arc from its
  // parent, or terminal, that fills becomes an orphan, at the end of those of its tree (source,
  // sink). Returns how many arcs it took.
  virtual std::size_t send(Node v, int d, Node w, std::vector<Node> (&orphans)[2]) = 0;
  // Flow along straight lines (grid_sweeps.hpp).
  virtual void sweep() = 0;
  // Makes trees of roots: of all nodes with an excess, and of no others.
  virtual void plant() = 0;
  // How many nodes have an excess.
  virtual std::int64_t excesses() const = 0;

  // For the marks. Side of each node of a row from `base` on.
  virtual void sides(std::int64_t base, std::uint8_t* side) const = 0;
  // The bits of arcs that have capacity.
  virtual void mark_out(std::int64_t begin, std::int64_t end) const = 0;
};

template <class Cap, class Mask>
class GridFlowOf final : public GridFlow<Mask>, GridTrees<Mask> {
  using Trees = GridTrees<Mask>;
  using Trees::begin_, Trees::blocks_, Trees::s_, Trees::size_;
  using Trees::bit, Trees::code, Trees::set_code;

 public:
  using typename Trees::Node;
  using State = GridState<Cap>;
  using Sum = typename State::Sum;

  // Keeps to a range of nodes. Adds to `flow`.
  GridFlowOf(const GridRange<Mask>& range, State& state, Sum& flow)
      : Trees(range), range_(range), state_(state), flow_(flow) {}

  std::size_t send(Node v, int d, Node w, std::vector<Node> (&orphans)[2]) override {
    path_.clear();
    Cap f = state_.arc(d, v);
    Node x = v;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      f = std::min(f, state_.arc(p ^ 1, u));
      path_.push_back({u, x, p ^ 1});
      x = u;
    }
    const Node source = x;
    const std::size_t above = path_.size();
    f = std::min(f, state_.excess[source]);
    x = w;
    for (int p; (p = code(x)) != tree_root;) {
      const Node u = blocks_.neighbour(x, p);
      f = std::min(f, state_.arc(p, x));
      path_.push_back({x, u, p});
      x = u;
    }
    const Node sink = x;
    f = std::min(f, static_cast<Cap>(-state_.excess[sink]));

    const auto disown = [&](Node orphan, int tree) {
      set_code(orphan, tree_orphan);
      orphans[tree].push_back(orphan);
    };
    flow_ += f;
    push({v, w, d}, f);
    for (std::size_t i = 0; i < above; ++i)
      if (push(path_[i], f)) disown(path_[i].to, 0);
    if (!((state_.excess[source] -= f) > 0)) disown(source, 0);
    for (std::size_t i = above; i < path_.size(); ++i)
      if (push(path_[i], f)) disown(path_[i].from, 1);
    if (!((state_.excess[sink] += f) < 0)) disown(sink, 1);
    return path_.size() + 1;
  }

  void sweep() override { GridSweeps<Cap, Mask>(range_, state_, flow_).run(); }

  void plant() override {
    Ticker tick;
    for (Node v = begin_; v < begin_ + size_; ++v) {
      tick();
      const Cap excess = state_.excess[v];
      s_.tree[v] = static_cast<std::uint8_t>(excess > 0   ? tree_source | tree_root
                                             : excess < 0 ? tree_sink | tree_root
                                                          : 0);
      s_.distance[v] = 0;
    }
  }

  std::int64_t excesses() const override {
    const Cap* const excess = state_.excess + begin_;
    return size_ - std::count(excess, excess + size_, Cap{0});
  }

  void sides(std::int64_t base, std::uint8_t* side) const override {
    const std::int64_t n = blocks_.row_nodes();
    std::vector<Cap> row(n);
    blocks_.load_row(state_.excess + base, row.data());
    const Cap* __restrict const excess = row.data();
    for (std::int64_t x = 0; x < n; ++x)
      side[x] = static_cast<std::uint8_t>((excess[x] > 0 ? tree_source : 0) |
                                          (excess[x] < 0 ? tree_sink : 0));
  }

  void mark_out(std::int64_t begin, std::int64_t end) const override {
    Mask* __restrict const out = s_.out;
    std::fill(out + begin, out + end, Mask{0});
    for (int d = 0; d < blocks_.directions(); ++d) {
      const Cap* __restrict const arcs = state_.residual + d * blocks_.nodes();
      for (std::int64_t v = begin; v < end; ++v) out[v] |= arcs[v] > 0 ? bit(d) : Mask{0};
    }
  }

 private:
  struct Arc {
    Node from, to;
    int direction;
  };

  // Moves f over an arc; true if that took all of it.
  bool push(const Arc& arc, Cap f) {
    const auto [v, w, d] = arc;
    Cap& forth = state_.arc(d, v);
    Cap& back = state_.arc(d ^ 1, w);
    forth -= f;
    back += f;
    s_.out[w] |= bit(d ^ 1);
    s_.in[v] |= bit(d);
    if (forth > 0) return false;
    s_.out[v] &= static_cast<Mask>(~bit(d));
    s_.in[w] &= static_cast<Mask>(~bit(d ^ 1));
    return true;
  }

  const GridRange<Mask> range_;
  State& state_;
  Sum& flow_;
  // Nodes of a path found one after the other are pushed over without waiting for the next.
  std::vector<Arc> path_;
};

}  // namespace msf
