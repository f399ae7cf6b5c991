// Maximum flow on any graph: augmenting paths by two search trees that outlive the paths, Boykov
// and Kolmogorov (2004), IEEE PAMI 26(9):1124-1137; grid_search.hpp is the same on grids.
//
// Deviations: arcs lie in one array, those of a node side by side, sorted when a flow is first
// asked for; a parent is a place in that array. Changed terminals keep the trees (Kohli and Torr
// 2007, IEEE PAMI 29(12)).
#include "kernels/sparse_graph.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "parallel.hpp"

namespace msf {
namespace {

using Node = std::uint32_t;
using Place = std::uint32_t;  // of an arc

enum class Tree : std::uint8_t { none, source, sink };

constexpr Place root = ~Place{0}, orphan = root - 1, most_arcs = orphan;

template <class Cap>
class SparseGraphOf final : public SparseGraph {
  struct Edge {
    Node i, j;
    Cap capacity, reverse;
  };
  struct Arc {
    Cap left;
    Node head;
    Place back;
  };
  struct Vertex {
    Cap excess = 0;  // capacity left from the source; negative: to the sink
    Place parent = root;
    std::uint32_t distance = 0;  // from the root, as known at the time `stamp`
    std::uint64_t stamp = 0;
    Tree tree = Tree::none;
    bool queued = false;
  };

 public:
  explicit SparseGraphOf(std::int64_t n) { add_nodes(n); }

  std::unique_ptr<FlowGraph> clone() const override {
    return std::make_unique<SparseGraphOf>(*this);
  }

  std::int64_t nodes() const override { return static_cast<std::int64_t>(vertices_.size()); }
  std::int64_t edges() const override {
    return static_cast<std::int64_t>(arcs_.size() / 2 + pending_.size());
  }

  void add_nodes(std::int64_t n) override {
    vertices_.resize(vertices_.size() + n);
    sorted_ = planted_ = false;
  }

  void add_edges(const Array& i, const Array& j, const Array& capacity,
                 const Array& reverse) override {
    const auto *const from = i.as<std::int64_t>(), *const to = j.as<std::int64_t>();
    const Cap *const forth = capacity.as<Cap>(), *const back = reverse.as<Cap>();
    if (2 * (edges() + i.size()) >= most_arcs) throw std::length_error("more than 2^31 edges");
    pending_.reserve(pending_.size() + i.size());
    for (std::int64_t e = 0; e < i.size(); ++e)
      pending_.push_back({static_cast<Node>(from[e]), static_cast<Node>(to[e]), forth[e], back[e]});
    sorted_ = planted_ = false;
  }

  void add_terminal(const Array& source, const Array& sink, const Array* at) override {
    const Cap *const s = source.as<Cap>(), *const t = sink.as<Cap>();
    const auto* const named = at != nullptr ? at->as<std::int64_t>() : nullptr;
    for (std::int64_t i = 0; i < source.size(); ++i)
      if (s[i] != 0 || t[i] != 0) add_at(static_cast<Node>(named ? named[i] : i), s[i], t[i]);
    settle();
  }

  void tie(const Array& mask) override {
    sort();
    const auto* const side = mask.as<std::uint8_t>();
    std::vector<Cap> enough(vertices_.size());
    for (Node v = 0; v < vertices_.size(); ++v)
      if (side[v]) enough[v] = more_than_all(v);
    for (Node v = 0; v < vertices_.size(); ++v)
      if (side[v]) add_at(v, side[v] == 1 ? enough[v] : Cap{0}, side[v] == 2 ? enough[v] : Cap{0});
    settle();
  }

  void maxflow() override {
    sort();
    plant();
    Ticker tick(1 << 8);  // a path may be long
    for (;;) {
      if (next_ == active_.size()) {
        active_.clear();
        next_ = 0;
        std::swap(active_, later_);
        if (active_.empty()) return;
      }
      tick();
      const Node v = active_[next_++];
      vertices_[v].queued = false;
      if (vertices_[v].tree != Tree::none) grow(v);
    }
  }

  std::int64_t flow_integer() const override { return static_cast<std::int64_t>(flow_); }
  double flow_float() const override { return static_cast<double>(flow_); }
  void set_flow(std::int64_t integer, double floating) override {
    flow_ = std::is_integral_v<Cap> ? static_cast<Cap>(integer) : static_cast<Cap>(floating);
  }

  // Of as many nodes as there were when `out` was made: another thread may have added some.
  void segments(const MutableArray& out) const override {
    auto* const mask = out.as<std::uint8_t>();
    for (std::size_t v = 0, n = static_cast<std::size_t>(out.size()); v < n; ++v)
      mask[v] = vertices_[v].tree == Tree::sink;
  }
  void excess(const MutableArray& out) const override {
    for (std::size_t v = 0, n = static_cast<std::size_t>(out.size()); v < n; ++v)
      out.as<Cap>()[v] = vertices_[v].excess;
  }
  void residual(const MutableArray& i, const MutableArray& j, const MutableArray& capacity,
                const MutableArray& reverse) const override {
    std::int64_t at = 0;
    each_edge([&](const Edge& edge) {
      i.as<std::int64_t>()[at] = edge.i;
      j.as<std::int64_t>()[at] = edge.j;
      capacity.as<Cap>()[at] = edge.capacity;
      reverse.as<Cap>()[at++] = edge.reverse;
    });
  }

 private:
  // f(edge) for all, with what is left of its capacities.
  template <class F>
  void each_edge(F&& f) const {
    for (Node v = 0; v + 1 < first_.size(); ++v)
      for (Place a = first_[v]; a < first_[v + 1]; ++a)
        if (arcs_[a].back > a) f(Edge{v, arcs_[a].head, arcs_[a].left, arcs_[arcs_[a].back].left});
    for (const Edge& edge : pending_) f(edge);
  }

  // Lays the arcs of a node side by side.
  void sort() {
    if (sorted_) return;
    std::vector<Place> first(vertices_.size() + 1, 0);
    Ticker tick;
    each_edge([&](const Edge& edge) {
      tick();
      ++first[edge.i];
      ++first[edge.j];
    });
    Place total = 0;
    for (Place& count : first) total += std::exchange(count, total);
    std::vector<Arc> arcs(total);
    std::vector<Place> next = first;
    each_edge([&](const Edge& edge) {
      tick();
      const Place forth = next[edge.i]++, back = next[edge.j]++;
      arcs[forth] = {edge.capacity, edge.j, back};
      arcs[back] = {edge.reverse, edge.i, forth};
    });
    first_ = std::move(first);
    arcs_ = std::move(arcs);
    std::vector<Edge>().swap(pending_);
    sorted_ = true;
  }

  void plant() {
    if (planted_) return;
    active_.clear();
    later_.clear();
    next_ = 0;
    for (Node v = 0; v < vertices_.size(); ++v) {
      Vertex& vertex = vertices_[v];
      vertex.parent = root;
      vertex.distance = 0;
      vertex.stamp = time_;
      vertex.queued = false;
      vertex.tree = vertex.excess > 0 ? Tree::source : vertex.excess < 0 ? Tree::sink : Tree::none;
      if (vertex.excess != 0) activate(v);
    }
    planted_ = true;
  }

  // What flows straight through when (s, t) come to an excess e: e as a capacity from the source
  // or to the sink, and a negative capacity as a positive one of the other terminal.
  static Cap direct(Cap e, Cap s, Cap t) {
    const Cap change = s - t;
    const Cap passes = e < 0 && change > 0   ? std::min<Cap>(change, -e)
                       : e > 0 && change < 0 ? std::min<Cap>(-change, e)
                                             : Cap{0};
    return std::min(s, t) + passes;
  }
  void add_at(Node v, Cap s, Cap t) {
    Vertex& vertex = vertices_[v];
    flow_ += direct(vertex.excess, s, t);
    vertex.excess += s - t;
    if (planted_) change(v);
  }
  // After the excess of a node of grown trees changed; settle() must follow.
  void change(Node v) {
    Vertex& vertex = vertices_[v];
    if (vertex.excess == 0) {
      if (vertex.tree != Tree::none && vertex.parent == root) disown(v);
      return;
    }
    const Tree now = vertex.excess > 0 ? Tree::source : Tree::sink;
    if (vertex.tree != now) {
      if (vertex.tree != Tree::none) leave(v);
      vertex.tree = now;
      activate(v);
    }
    vertex.parent = root;
    vertex.distance = 0;
    vertex.stamp = time_;
  }
  void settle() {
    ++time_;
    adopt(Tree::source);
    adopt(Tree::sink);
  }

  Cap more_than_all(Node v) const {
    long double all = std::abs(static_cast<long double>(vertices_[v].excess));
    for (Place a = first_[v]; a < first_[v + 1]; ++a)
      all += static_cast<long double>(arcs_[a].left) + arcs_[arcs_[a].back].left;
    if (std::is_floating_point_v<Cap>) return static_cast<Cap>(2 * all + 1);
    if (2 * all + 1 > static_cast<long double>(std::numeric_limits<Cap>::max()))
      throw std::overflow_error("seeds");
    return static_cast<Cap>(all + 1);
  }

  void activate(Node v) {
    if (vertices_[v].queued) return;
    vertices_[v].queued = true;
    later_.push_back(v);
  }

  // What the tree of `v` could send over the arc: away from the source, towards the sink.
  Cap outward(Tree tree, const Arc& arc) const {
    return tree == Tree::source ? arc.left : arcs_[arc.back].left;
  }
  Cap inward(Tree tree, const Arc& arc) const {
    return tree == Tree::source ? arcs_[arc.back].left : arc.left;
  }

  void grow(Node v) {
    const Tree tree = vertices_[v].tree;
    for (Place a = first_[v]; a < first_[v + 1];) {
      const Arc& arc = arcs_[a];
      if (!(outward(tree, arc) > 0)) {
        ++a;
        continue;
      }
      Vertex& there = vertices_[arc.head];
      const Vertex& here = vertices_[v];
      if (there.tree == Tree::none) {
        there.tree = tree;
        attach(there, arc.back, here);
        activate(arc.head);
      } else if (there.tree != tree) {
        augment(tree == Tree::source ? a : arc.back);
        if (here.tree != tree) return;
        continue;  // this arc may have capacity left
      } else if (there.stamp <= here.stamp && there.distance > here.distance + 1) {
        attach(there, arc.back, here);  // a shorter way to a root
      }
      ++a;
    }
  }

  static void attach(Vertex& there, Place to_parent, const Vertex& parent) {
    there.parent = to_parent;
    there.distance = parent.distance + 1;
    there.stamp = parent.stamp;
  }

  // From the root of the arc's tail to the root of its head.
  void augment(Place middle) {
    Cap f = arcs_[middle].left;
    Node x = arcs_[arcs_[middle].back].head;
    for (Place p; (p = vertices_[x].parent) != root; x = arcs_[p].head)
      f = std::min(f, arcs_[arcs_[p].back].left);
    f = std::min(f, vertices_[x].excess);
    x = arcs_[middle].head;
    for (Place p; (p = vertices_[x].parent) != root; x = arcs_[p].head)
      f = std::min(f, arcs_[p].left);
    f = std::min(f, static_cast<Cap>(-vertices_[x].excess));

    ++time_;
    flow_ += f;
    push(middle, f);
    x = arcs_[arcs_[middle].back].head;
    for (Place p; (p = vertices_[x].parent) != root;) {
      const Node u = arcs_[p].head;
      if (push(arcs_[p].back, f)) disown(x);
      x = u;
    }
    if (!((vertices_[x].excess -= f) > 0)) disown(x);
    x = arcs_[middle].head;
    for (Place p; (p = vertices_[x].parent) != root;) {
      const Node u = arcs_[p].head;
      if (push(p, f)) disown(x);
      x = u;
    }
    if (!((vertices_[x].excess += f) < 0)) disown(x);
    // The nearest to the root first: the others then find it connected.
    for (auto& orphans : orphans_) std::reverse(orphans.begin(), orphans.end());
    adopt(Tree::source);
    adopt(Tree::sink);
  }

  // True if that took all of the arc.
  bool push(Place a, Cap f) {
    arcs_[arcs_[a].back].left += f;
    return !((arcs_[a].left -= f) > 0);
  }

  void disown(Node v) {
    vertices_[v].parent = orphan;
    orphans_[vertices_[v].tree == Tree::sink].push_back(v);
  }

  // Tells the rest of the tree that v is no longer in it: what has capacity to v could grow there.
  [[gnu::noinline]] void leave(Node v) {
    const Tree tree = vertices_[v].tree;
    for (Place a = first_[v]; a < first_[v + 1]; ++a) {
      const Arc& arc = arcs_[a];
      const Vertex& there = vertices_[arc.head];
      if (there.tree != tree) continue;
      if (inward(tree, arc) > 0) activate(arc.head);
      if (there.parent == arc.back) disown(arc.head);
    }
  }

  static constexpr std::uint32_t unconnected = ~std::uint32_t{0};

  // How many steps lead from u to a root; marks the way with that and the time.
  std::uint32_t distance_to_root(Node u) {
    std::uint32_t steps = 0;
    Node y = u;
    while (vertices_[y].stamp != time_) {
      const Place p = vertices_[y].parent;
      if (p == orphan) return unconnected;
      if (p == root) {
        vertices_[y].stamp = time_;
        vertices_[y].distance = 0;
        break;
      }
      y = arcs_[p].head;
      ++steps;
    }
    steps += vertices_[y].distance;
    std::uint32_t left = steps;
    for (y = u; vertices_[y].stamp != time_; y = arcs_[vertices_[y].parent].head) {
      vertices_[y].stamp = time_;
      vertices_[y].distance = left--;
    }
    return steps;
  }

  [[gnu::noinline]] void adopt(Tree tree) {
    auto& orphans = orphans_[tree == Tree::sink];
    for (std::size_t i = 0; i < orphans.size(); ++i) {
      const Node x = orphans[i];
      Vertex& vertex = vertices_[x];
      if (vertex.tree != tree || vertex.parent != orphan) continue;  // changed since
      std::uint32_t least = unconnected;
      Place to_parent = 0;
      for (Place a = first_[x]; a < first_[x + 1]; ++a) {
        const Arc& arc = arcs_[a];
        const Vertex& there = vertices_[arc.head];
        if (there.tree != tree || there.parent == orphan || !(inward(tree, arc) > 0)) continue;
        const std::uint32_t distance = distance_to_root(arc.head);
        if (distance < least) least = distance, to_parent = a;
      }
      if (least != unconnected) {
        vertex.parent = to_parent;
        vertex.stamp = time_;
        vertex.distance = least + 1;
        continue;
      }
      leave(x);
      vertex.tree = Tree::none;
    }
    orphans.clear();
  }

  std::vector<Vertex> vertices_;
  std::vector<Edge> pending_;  // not yet among the arcs
  std::vector<Place> first_;   // of each node's arcs; one more for the end
  std::vector<Arc> arcs_;
  bool sorted_ = false, planted_ = false;
  Cap flow_ = 0;
  std::uint64_t time_ = 0;
  std::vector<Node> active_, later_;  // the queue: what is being scanned, what comes after
  std::size_t next_ = 0;
  std::vector<Node> orphans_[2];
};

}  // namespace

std::unique_ptr<SparseGraph> make_sparse_graph(DType capacity, std::int64_t nodes) {
  if (capacity == DType::int64) return std::make_unique<SparseGraphOf<std::int64_t>>(nodes);
  if (capacity == DType::float64) return std::make_unique<SparseGraphOf<double>>(nodes);
  throw std::logic_error("maxflow: capacity type");
}

}  // namespace msf
