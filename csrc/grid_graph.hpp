// A grid graph of one capacity type: how arrays get into the blocks, in which order parts are
// searched. See grid_search.hpp for the algorithm.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "array.hpp"
#include "grid_blocks.hpp"
#include "grid_flow.hpp"
#include "grid_marks.hpp"
#include "grid_search.hpp"
#include "kernels/maxflow.hpp"
#include "parallel.hpp"

namespace msf {

template <class Cap>
class GridGraphOf final : public GridGraph {
  using State = GridState<Cap>;
  using Node = GridBlocks::Node;
  using Sum = typename State::Sum;

 public:
  explicit GridGraphOf(const GridBlocks& blocks) : state_(blocks) {
    while (depth_ < most_depth && state_.blocks.layers() >> (depth_ + 1) > 0 &&
           state_.blocks.nodes() >> (depth_ + 1) >= least_part)
      ++depth_;
  }
  GridGraphOf(const GridGraphOf& other)
      : state_(other.state_), flow_(other.flow_), used_(other.used_), depth_(other.depth_) {
    terminals_ = other.terminals_;
    if (other.search_ && other.search_->idle())
      search_ = search(0, state_.blocks.nodes(), other.search_->time(), flow_);
    planted_ = other.planted_;
  }

  std::unique_ptr<FlowGraph> clone() const override { return std::make_unique<GridGraphOf>(*this); }

  void add_terminal(const Array& source, const Array& sink, const Array* at) override {
    const Cap* const s = source.as<Cap>();
    const Cap* const t = sink.as<Cap>();
    if (search_ && search_->time() > 0xfffffff0u) search_.reset();
    if (at != nullptr) {
      terminals_ = true;
      const auto* const pixels = at->as<std::int64_t>();
      for (std::int64_t i = 0; i < at->size(); ++i)
        add_at(static_cast<Node>(state_.blocks.node_of(pixels[i])), s[i], t[i]);
      if (search_) search_->settle();
      return;
    }
    if (search_ && changes(s, t) > lines() * line_pixels() / 4) search_.reset();
    if (search_) {  // grown trees change one pixel after the other
      for (std::int64_t line = 0; line < lines(); ++line)
        for (std::int64_t x = 0, pixel = line * line_pixels(); x < line_pixels(); ++x, ++pixel)
          if (s[pixel] != 0 || t[pixel] != 0)
            add_at(static_cast<Node>(line_node(line) + state_.blocks.column(x)), s[pixel],
                   t[pixel]);
      search_->settle();
      return;
    }
    std::vector<Sum> through(lines());
    const bool first = !std::exchange(terminals_, true);
    each_line([&](std::int64_t line, Cap* row) {
      const Cap* const from = s + line * line_pixels();
      const Cap* const to = t + line * line_pixels();
      Cap* const excess = &state_.excess[line_node(line)];
      if (first) {
        through[line] = first_terminals(from, to, row);
      } else {
        state_.blocks.load_row(excess, row);
        for (std::int64_t x = 0; x < line_pixels(); ++x) {
          through[line] += direct(row[x], from[x], to[x]);
          row[x] += from[x] - to[x];
        }
      }
      state_.blocks.store_row(row, excess);
    });
    for (const Sum sum : through) flow_ += sum;
  }

  void add_edges(int direction, const Array& weights, const Array& reverse) override {
    search_.reset();
    const bool fresh = !std::exchange(used_[direction / 2], true);
    each_edge_line(direction, [&](const EdgeLine& e, Cap* row) {
      add(row, e.arcs, e.first, weights, e.pixel, e.n, fresh);
      add(row, e.arcs_back, e.first + e.shift, reverse, e.pixel, e.n, fresh);
    });
  }

  // Kohli and Torr (2007): where an arc has less capacity than flow, the rest of the flow is taken
  // back. Its start has that much more then, and its end less.
  void change_edges(int direction, const Array& weights, const Array& reverse) override {
    search_.reset();
    used_[direction / 2] = terminals_ = true;
    std::vector<Cap> taken_back(lines() * line_pixels(), Cap{0});  // by the arc's first pixel
    each_edge_line(direction, [&](const EdgeLine& e, Cap* row) {
      std::vector<Cap> back_row(state_.blocks.row_nodes()), wide(2 * e.n);
      state_.blocks.load_row(e.arcs, row);
      state_.blocks.load_row(e.arcs_back, back_row.data());
      Cap* const __restrict arcs = row + e.first;
      Cap* const __restrict arcs_back = back_row.data() + e.first + e.shift;
      const Cap* const forth = of_line(weights, e, wide.data());
      const Cap* const back = of_line(reverse, e, wide.data() + e.n);
      Cap* const __restrict taken = taken_back.data() + e.pixel;
      for (std::int64_t x = 0; x < e.n; ++x) {
        const Cap arc = arcs[x] + forth[x], arc_back = arcs_back[x] + back[x];
        taken[x] = std::min(arc_back, Cap{0}) - std::min(arc, Cap{0});
        arcs[x] = std::max<Cap>(arc + taken[x], 0);
        arcs_back[x] = std::max<Cap>(arc_back - taken[x], 0);
      }
      state_.blocks.store_row(row, e.arcs);
      state_.blocks.store_row(back_row.data(), e.arcs_back);
    });
    give_back(direction, taken_back.data());
  }

  void maxflow() override {
    for (;;) {
      try {
        if (!search_) search_all();
        search_->run();
        return;
      } catch (const GridSearch::OutOfTime&) {
        search_.reset();
      } catch (...) {
        if (!finished_ || (search_ && search_->broken())) search_.reset();
        throw;
      }
    }
  }

  std::int64_t flow_integer() const override { return static_cast<std::int64_t>(flow_); }
  double flow_float() const override { return static_cast<double>(flow_); }
  void set_flow(std::int64_t integer, double floating) override {
    flow_ = std::is_integral_v<Cap> ? static_cast<Sum>(integer) : static_cast<Sum>(floating);
  }

  void segments(const MutableArray& out) const override {
    auto* const mask = out.as<std::uint8_t>();
    const std::uint8_t* const sides = state_.sides();
    each_line([&](std::int64_t line, Cap* scratch) {
      auto* const row = reinterpret_cast<std::uint8_t*>(scratch);
      state_.blocks.load_row(&sides[line_node(line)], row);
      std::uint8_t* const to = mask + line * line_pixels();
      for (std::int64_t x = 0; x < line_pixels(); ++x) to[x] = (row[x] & tree_side) == tree_sink;
    });
  }
  void excess(const MutableArray& out) const override { unpack(state_.excess, out); }
  void residual(int direction, const MutableArray& out) const override {
    unpack(state_.residual + direction * state_.blocks.nodes(), out);
  }

 private:
  // Parts are for threads; a path that is found only after a join was sought in vain before, which
  // costs more than the cache gains (10 % with 32 parts; with parts of 2^14 pixels 40 % on a 400 x
  // 350 grid of random capacities and scarce terminals, where GrabCut's first cut gains 10 %).
  static constexpr std::int64_t least_part = std::int64_t{1} << 15;
  static constexpr int most_depth = 3;

  // Lines of pixels, in raster order.
  std::int64_t lines() const { return state_.blocks.extents()[0] * state_.blocks.extents()[1]; }
  std::int64_t line_pixels() const { return state_.blocks.extents()[2]; }
  std::int64_t line_node(std::int64_t line) const {
    const std::int64_t middle = state_.blocks.extents()[1];
    return state_.blocks.row(line / middle, line % middle);
  }

  // f(line, scratch row) for all lines, on all threads.
  template <class F>
  void each_line(F&& f) const {
    const std::int64_t nodes = std::max<std::int64_t>(state_.blocks.row_nodes(), 1);
    const std::int64_t grain = ((1 << 14) / nodes + 8) / 8 * 8;  // whole blocks
    parallel_for(lines(), grain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<Cap> row(nodes);
      for (std::int64_t line = begin; line < end; ++line) f(line, row.data());
    });
  }

  // Arcs from a line of pixels in one direction, and those back from the line they lead to.
  struct EdgeLine {
    Cap *arcs, *arcs_back;  // of the lines' first nodes
    std::int64_t pixel;     // the first with a neighbour inside
    std::int64_t first, n;  // its column, and how many there are
    std::int64_t shift;     // columns to the neighbour
  };

  // f(edge line, scratch row) for all lines, on all threads: a line writes to itself and, of
  // another array, to one other line.
  template <class F>
  void each_edge_line(int direction, F&& f) {
    const GridBlocks& blocks = state_.blocks;
    const auto& extents = blocks.extents();
    const GridOffset offset = blocks.offset(direction);
    std::int64_t first[3], last[3];  // pixels whose neighbour lies inside
    for (int axis = 0; axis < 3; ++axis) {
      first[axis] = std::max(0, -offset[axis]);
      last[axis] = extents[axis] - std::max(0, offset[axis]);
    }
    const std::int64_t n = last[2] - first[2];
    if (n <= 0) return;
    Cap* const arcs = state_.residual + direction * blocks.nodes();
    Cap* const arcs_back = state_.residual + (direction ^ 1) * blocks.nodes();
    each_line([&](std::int64_t line, Cap* row) {
      const std::int64_t z = line / extents[1], y = line % extents[1];
      if (z < first[0] || z >= last[0] || y < first[1] || y >= last[1]) return;
      const std::int64_t there = blocks.row(z + offset[0], y + offset[1]);
      f(EdgeLine{arcs + line_node(line), arcs_back + there, line * extents[2] + first[2], first[2],
                 n, offset[2]},
        row);
    });
  }

  // Values of the pixels of an edge line; one value is written out in `wide`.
  static const Cap* of_line(const Array& values, const EdgeLine& e, Cap* wide) {
    if (values.ndim != 0) return values.as<Cap>() + e.pixel;
    return std::fill_n(wide, e.n, *values.as<Cap>()) - e.n;
  }

  // Terminals for flow that was taken back from arcs in a direction: `taken` at the pixel where the
  // arc starts, negative if it flowed the other way.
  void give_back(int direction, const Cap* taken) {
    const auto& extents = state_.blocks.extents();
    const GridOffset offset = state_.blocks.offset(direction);
    std::vector<Sum> flows(lines());
    each_line([&](std::int64_t line, Cap* row) {
      const std::int64_t z = line / extents[1] - offset[0], y = line % extents[1] - offset[1];
      const std::int64_t first = std::max(0, offset[2]);
      const std::int64_t last = line_pixels() + std::min(0, offset[2]);
      std::vector<Cap> into(line_pixels(), Cap{0});  // what was taken back from arcs to the line
      if (z >= 0 && z < extents[0] && y >= 0 && y < extents[1] && first < last)
        std::copy_n(taken + (z * extents[1] + y) * line_pixels() + first - offset[2], last - first,
                    into.data() + first);
      const Cap* const out = taken + line * line_pixels();
      Cap* const excess = &state_.excess[line_node(line)];
      state_.blocks.load_row(excess, row);
      Sum flow = 0;
      for (std::int64_t x = 0; x < line_pixels(); ++x) {
        const Cap more = std::max(out[x], Cap{0}) - std::min(into[x], Cap{0});
        const Cap less = std::max(into[x], Cap{0}) - std::min(out[x], Cap{0});
        flow += direct(row[x], more, less) - static_cast<Sum>(std::abs(out[x]));
        row[x] += more - less;
      }
      flows[line] = flow;
      state_.blocks.store_row(row, excess);
    });
    for (const Sum flow : flows) flow_ += flow;
  }

  // The excess of a row; what flows straight through it. Eight sums, so that loops vectorise.
  Sum first_terminals(const Cap* __restrict source, const Cap* __restrict sink,
                      Cap* __restrict row) const {
    constexpr std::int64_t lanes = 8;
    const std::int64_t n = line_pixels(), whole = n / lanes * lanes;
    Sum sums[lanes]{};
    for (std::int64_t x = 0; x < whole; x += lanes)
      for (std::int64_t k = 0; k < lanes; ++k) {
        const Cap from = source[x + k], to = sink[x + k];
        sums[k] += static_cast<Sum>(std::min(from, to));
        row[x + k] = from - to;
      }
    Sum sum = 0;
    for (std::int64_t x = whole; x < n; ++x) {
      sum += static_cast<Sum>(std::min(source[x], sink[x]));
      row[x] = source[x] - sink[x];
    }
    std::fill(row + n, row + state_.blocks.row_nodes(), Cap{0});
    for (const Sum of_lane : sums) sum += of_lane;
    return sum;
  }

  // How many pixels' terminals change. Where most do, trees planted anew on all threads take as
  // long as these on one.
  std::int64_t changes(const Cap* s, const Cap* t) const {
    std::vector<std::int64_t> counts(lines());
    each_line([&](std::int64_t line, Cap*) {
      for (std::int64_t pixel = line * line_pixels(); pixel < (line + 1) * line_pixels(); ++pixel)
        counts[line] += s[pixel] != 0 || t[pixel] != 0;
    });
    return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  }

  // What flows straight through a pixel when (s, t) come to an excess e: e as a capacity from the
  // source or to the sink, and a negative capacity as a positive one of the other terminal.
  static Sum direct(Cap e, Cap s, Cap t) {
    const Cap change = s - t;
    const Cap passes = e < 0 && change > 0   ? std::min<Cap>(change, -e)
                       : e > 0 && change < 0 ? std::min<Cap>(-change, e)
                                             : Cap{0};
    return static_cast<Sum>(std::min(s, t)) + static_cast<Sum>(passes);
  }
  [[gnu::noinline]] void add_at(Node v, Cap s, Cap t) {
    Cap& e = state_.excess[v];
    flow_ += direct(e, s, t);
    e += s - t;
    if (search_) search_->change(v, e > 0 ? tree_source : e < 0 ? tree_sink : 0);
  }

  // nodes (a line from its first pixel on) += capacities for n pixels from `first` on.
  void add(Cap* row, Cap* nodes, std::int64_t first, const Array& capacities, std::int64_t pixel,
           std::int64_t n, bool fresh) const {
    const Cap* const c = capacities.as<Cap>();
    const bool one = capacities.ndim == 0;
    if (one && fresh && *c == 0) return;
    if (fresh) {
      std::fill_n(row, first, Cap{0});
      std::fill(row + first + n, row + state_.blocks.row_nodes(), Cap{0});
      if (one)
        std::fill_n(row + first, n, *c);
      else
        std::copy_n(c + pixel, n, row + first);
    } else {
      state_.blocks.load_row(nodes, row);
      for (std::int64_t x = 0; x < n; ++x) row[first + x] += one ? *c : c[pixel + x];
    }
    state_.blocks.store_row(row, nodes);
  }

  void unpack(const Cap* nodes, const MutableArray& out) const {
    each_line([&](std::int64_t line, Cap* row) {
      state_.blocks.load_row(nodes + line_node(line), row);
      std::copy_n(row, line_pixels(), out.as<Cap>() + line * line_pixels());
    });
  }

  // Plants trees in parts of the grid and joins them two by two: part i of level k, which has the
  // number 2^k + i, covers layers from L i / 2^k on, so 2 n and 2 n + 1 are the halves of n.
  // Whoever is done with the second of two halves joins them. The parts do not depend on the
  // threads, so neither does the flow.
  void search_all() {
    finished_ = false;
    if (planted_) {
      state_.with_trees([&](const auto& trees) {
        std::fill_n(trees.distance, state_.blocks.nodes(), 0u);
        std::fill_n(trees.stamp, state_.blocks.nodes(), 0u);
      });
    }
    planted_ = true;
    std::vector<Sum> flows(std::size_t{2} << depth_, Sum{0});
    times_.assign(flows.size(), 0);
    struct Collect {  // also what was found before an interruption
      std::vector<Sum>& flows;
      Sum& total;
      ~Collect() {
        for (const Sum flow : flows) total += flow;
      }
    } collect{flows, flow_};
    state_.with_trees([&]<class Mask>(const GridForest<Mask>& trees) {
      const GridRange<Mask> all{state_.blocks, trees, 0, state_.blocks.nodes()};
      GridMarks<Mask>(all, GridFlowOf<Cap, Mask>(all, state_, flow_)).run();
    });
    const std::size_t parts = std::size_t{1} << depth_;
    std::vector<std::atomic<std::uint8_t>> halves(parts);  // searched, of what they make together
    parallel_tasks(static_cast<std::int64_t>(parts), [&](std::int64_t i) {
      std::size_t whole = parts + static_cast<std::size_t>(i);
      search_part(whole, flows);
      while ((whole /= 2) > 0 && halves[whole].fetch_add(1, std::memory_order_acq_rel) == 1)
        join_parts(whole, flows);
    });
    search_ = search(0, state_.blocks.nodes(), times_[1], flow_);
    finished_ = true;
  }

  // The first layer of a part, or of the part `past` behind it.
  std::int64_t layer(std::size_t number, int past = 0) const {
    const int level = std::bit_width(number) - 1;
    const auto i = static_cast<std::int64_t>(number - (std::size_t{1} << level)) + past;
    return state_.blocks.layers() * i >> level;
  }
  std::unique_ptr<GridSearch> search(std::int64_t begin, std::int64_t end, std::uint32_t time,
                                     Sum& flow) {
    return state_.with_trees(
        [&]<class Mask>(const GridForest<Mask>& trees) -> std::unique_ptr<GridSearch> {
          const GridRange<Mask> range{state_.blocks, trees, begin, end};
          auto flow_of = std::make_unique<GridFlowOf<Cap, Mask>>(range, state_, flow);
          return std::make_unique<GridSearchOf<Mask>>(range, time, std::move(flow_of));
        });
  }
  std::unique_ptr<GridSearch> part(std::size_t number, std::uint32_t time,
                                   std::vector<Sum>& flows) {
    const std::int64_t n = state_.blocks.layer_nodes();
    return search(layer(number) * n, layer(number, 1) * n, time, flows[number]);
  }
  void search_part(std::size_t number, std::vector<Sum>& flows) {
    const auto search = part(number, 0, flows);
    search->start();
    search->run();
    times_[number] = search->time();
  }
  void join_parts(std::size_t whole, std::vector<Sum>& flows) {
    const auto search = part(whole, std::max(times_[2 * whole], times_[2 * whole + 1]), flows);
    search->join(layer(2 * whole + 1));
    search->run();
    times_[whole] = search->time();
  }

  State state_;
  Sum flow_ = 0;
  std::unique_ptr<GridSearch> search_;  // over all nodes, once trees are grown
  bool planted_ = false, finished_ = false, terminals_ = false;  // any added
  std::array<bool, GridBlocks::most_directions / 2> used_{};     // offsets with edges
  int depth_ = 0;
  std::vector<std::uint32_t> times_;
};

}  // namespace msf
