// A grid graph of one capacity type: how arrays get into the blocks, in which order parts are
// searched. See grid_search.hpp for the algorithm.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "array.hpp"
#include "grid_blocks.hpp"
#include "grid_search.hpp"
#include "kernels/maxflow.hpp"
#include "parallel.hpp"

namespace msf {

template <class Cap, class Mask>
class GridGraphOf final : public GridGraph {
  using State = GridState<Cap, Mask>;
  using Search = GridSearch<Cap, Mask>;
  using Node = GridBlocks::Node;
  using Sum = typename Search::Sum;

 public:
  explicit GridGraphOf(const GridBlocks& blocks) : state_(blocks) {
    while (depth_ < most_depth && state_.blocks.layers() >> (depth_ + 1) > 0 &&
           state_.blocks.nodes() >> (depth_ + 1) >= least_part)
      ++depth_;
  }
  GridGraphOf(const GridGraphOf& other)
      : state_(other.state_), flow_(other.flow_), used_(other.used_), depth_(other.depth_) {
    if (other.search_ && other.search_->idle())
      search_.emplace(state_, 0, state_.blocks.nodes(), other.search_->time(), flow_);
    planted_ = other.planted_;
  }

  std::unique_ptr<GridGraph> clone() const override { return std::make_unique<GridGraphOf>(*this); }

  void add_terminal(const Array& source, const Array& sink, const Array* at) override {
    const Cap* const s = source.as<Cap>();
    const Cap* const t = sink.as<Cap>();
    if (at != nullptr) {
      const auto* const pixels = at->as<std::int64_t>();
      for (std::int64_t i = 0; i < at->size(); ++i)
        add_at(static_cast<Node>(state_.blocks.node_of(pixels[i])), s[i], t[i]);
      if (search_) search_->settle();
      return;
    }
    Ticker tick(64);
    std::vector<Cap> row(row_size());
    each_row([&](std::int64_t base, std::int64_t pixel, std::int64_t n) {
      tick();
      if (search_) {
        for (std::int64_t x = 0; x < n; ++x)
          if (s[pixel + x] != 0 || t[pixel + x] != 0)
            add_at(static_cast<Node>(base + state_.blocks.column(x)), s[pixel + x], t[pixel + x]);
        return;
      }
      state_.blocks.load_row(&state_.excess[base], row.data());
      Sum through = 0;
      for (std::int64_t x = 0; x < n; ++x) {
        through += direct(row[x], s[pixel + x], t[pixel + x]);
        row[x] += s[pixel + x] - t[pixel + x];
      }
      flow_ += through;
      state_.blocks.store_row(row.data(), &state_.excess[base]);
    });
    if (search_) search_->settle();
  }

  void add_edges(int direction, const Array& weights, const Array& reverse) override {
    search_.reset();
    const GridBlocks& blocks = state_.blocks;
    const auto& extents = blocks.extents();
    const GridOffset offset = blocks.offset(direction);
    const bool fresh = !used_[direction / 2];
    used_[direction / 2] = true;
    std::int64_t first[3], last[3];  // pixels whose neighbour lies inside
    for (int axis = 0; axis < 3; ++axis) {
      first[axis] = std::max(0, -offset[axis]);
      last[axis] = extents[axis] - std::max(0, offset[axis]);
    }
    const std::int64_t n = last[2] - first[2], shift = offset[2];
    if (n <= 0) return;
    const bool symmetric = weights.data == reverse.data;
    const std::int64_t row = row_size();
    std::vector<Cap> to(row), from(row);
    std::vector<Mask> outs(2 * row), ins(2 * row);
    const Mask bit = static_cast<Mask>(Mask{1} << direction);
    const Mask opposite = static_cast<Mask>(Mask{1} << (direction ^ 1));
    Cap* const arcs = state_.residual + direction * blocks.nodes();
    Cap* const arcs_back = state_.residual + (direction ^ 1) * blocks.nodes();
    Ticker tick(64);
    for (std::int64_t z = first[0]; z < last[0]; ++z)
      for (std::int64_t y = first[1]; y < last[1]; ++y) {
        tick();
        const std::int64_t here = blocks.row(z, y);
        const std::int64_t there = blocks.row(z + offset[0], y + offset[1]);
        const std::int64_t pixel = (z * extents[1] + y) * extents[2] + first[2];
        if (!fresh) {
          blocks.load_row(arcs + here, to.data());
          blocks.load_row(arcs_back + there, from.data());
        }
        Cap* const forth = to.data() + first[2];
        Cap* const back = from.data() + first[2] + shift;
        add(forth, weights, pixel, n, fresh);
        add(back, reverse, pixel, n, fresh);
        blocks.store_row(to.data(), arcs + here);
        blocks.store_row(from.data(), arcs_back + there);

        blocks.load_row(&state_.out[here], outs.data());
        blocks.load_row(&state_.in[here], ins.data());
        if (here != there) {
          blocks.load_row(&state_.out[there], outs.data() + row);
          blocks.load_row(&state_.in[there], ins.data() + row);
        }
        const std::int64_t far = (here == there ? 0 : row) + first[2] + shift;
        mark(forth, n, bit, outs.data() + first[2], opposite, ins.data() + far);
        mark(symmetric && fresh ? forth : back, n, opposite, outs.data() + far, bit,
             ins.data() + first[2]);
        blocks.store_row(outs.data(), &state_.out[here]);
        blocks.store_row(ins.data(), &state_.in[here]);
        if (here != there) {
          blocks.store_row(outs.data() + row, &state_.out[there]);
          blocks.store_row(ins.data() + row, &state_.in[there]);
        }
      }
  }

  void maxflow() override {
    for (;;) {
      try {
        if (!search_) search_all();
        search_->run();
        return;
      } catch (const typename Search::OutOfTime&) {
        search_.reset();
      } catch (...) {
        if (!finished_) search_.reset();
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
    std::vector<std::uint8_t> row(row_size());
    each_row([&](std::int64_t base, std::int64_t pixel, std::int64_t n) {
      state_.blocks.load_row(&state_.tree[base], row.data());
      for (std::int64_t x = 0; x < n; ++x) mask[pixel + x] = (row[x] & tree_side) == tree_sink;
    });
  }
  void excess(const MutableArray& out) const override { unpack(state_.excess, out); }
  void residual(int direction, const MutableArray& out) const override {
    unpack(state_.residual + direction * state_.blocks.nodes(), out);
  }

 private:
  // Parts are for threads; a path that is found only after a join was sought in vain before, which
  // costs more than the cache gains (10 % with 32 parts).
  static constexpr std::int64_t least_part = std::int64_t{1} << 16;
  static constexpr int most_depth = 3;

  std::int64_t row_size() const { return std::max<std::int64_t>(state_.blocks.row_nodes(), 1); }

  // f(first node, first pixel, pixels) of every row.
  template <class F>
  void each_row(F&& f) const {
    const auto& extents = state_.blocks.extents();
    std::int64_t pixel = 0;
    for (std::int64_t z = 0; z < extents[0]; ++z)
      for (std::int64_t y = 0; y < extents[1]; ++y, pixel += extents[2])
        f(state_.blocks.row(z, y), pixel, extents[2]);
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
  void add_at(Node v, Cap s, Cap t) {
    const Cap e = state_.excess[v];
    flow_ += direct(e, s, t);
    if (search_)
      search_->change(v, e + (s - t));
    else
      state_.excess[v] = e + (s - t);
  }

  static void add(Cap* to, const Array& weights, std::int64_t pixel, std::int64_t n, bool fresh) {
    const Cap* const w = weights.as<Cap>();
    if (weights.ndim == 0) {
      for (std::int64_t x = 0; x < n; ++x) to[x] = fresh ? *w : static_cast<Cap>(to[x] + *w);
    } else if (fresh) {
      std::copy_n(w + pixel, n, to);
    } else {
      for (std::int64_t x = 0; x < n; ++x) to[x] += w[pixel + x];
    }
  }
  static void mark(const Cap* capacity, std::int64_t n, Mask bit, Mask* out, Mask opposite,
                   Mask* in) {
    for (std::int64_t x = 0; x < n; ++x) out[x] |= capacity[x] > 0 ? bit : Mask{0};
    for (std::int64_t x = 0; x < n; ++x) in[x] |= capacity[x] > 0 ? opposite : Mask{0};
  }

  void unpack(const Cap* nodes, const MutableArray& out) const {
    Cap* const to = out.as<Cap>();
    std::vector<Cap> row(row_size());
    each_row([&](std::int64_t base, std::int64_t pixel, std::int64_t n) {
      state_.blocks.load_row(nodes + base, row.data());
      std::copy_n(row.data(), n, to + pixel);
    });
  }

  // Plants trees in parts of the grid and joins them two by two: part i of level k covers layers
  // from L i / 2^k on. The parts do not depend on the threads, so neither does the flow.
  void search_all() {
    finished_ = false;
    if (planted_) {
      std::fill_n(state_.distance, state_.blocks.nodes(), 0u);
      std::fill_n(state_.stamp, state_.blocks.nodes(), 0u);
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
    int level = 0;
    while (level < depth_ && 1 << level < 4 * num_threads() && num_threads() > 1) ++level;
    parallel_tasks(1 << level, [&](std::int64_t i) { search_part(level, i, flows); });
    while (level-- > 0)
      parallel_tasks(1 << level, [&](std::int64_t i) { join_parts(level, i, flows); });
    search_.emplace(state_, 0, state_.blocks.nodes(), times_[1], flow_);
    finished_ = true;
  }

  std::int64_t layer(int level, std::int64_t i) const {
    return state_.blocks.layers() * i >> level;
  }
  Search part(int level, std::int64_t i, std::uint32_t time, std::vector<Sum>& flows) {
    const std::int64_t n = state_.blocks.layer_nodes();
    return {state_, layer(level, i) * n, layer(level, i + 1) * n, time,
            flows[(std::size_t{1} << level) + i]};
  }
  void search_part(int level, std::int64_t i, std::vector<Sum>& flows) {
    if (level < depth_) {
      search_part(level + 1, 2 * i, flows);
      search_part(level + 1, 2 * i + 1, flows);
      join_parts(level, i, flows);
      return;
    }
    Search search = part(level, i, 0, flows);
    search.plant();
    search.run();
    times_[(std::size_t{1} << level) + i] = search.time();
  }
  void join_parts(int level, std::int64_t i, std::vector<Sum>& flows) {
    const std::size_t whole = (std::size_t{1} << level) + i;
    Search search = part(level, i, std::max(times_[2 * whole], times_[2 * whole + 1]), flows);
    search.join(layer(level + 1, 2 * i + 1));
    search.run();
    times_[whole] = search.time();
  }

  State state_;
  Sum flow_ = 0;
  std::optional<Search> search_;  // over all nodes, once trees are grown
  bool planted_ = false, finished_ = false;
  std::array<bool, GridBlocks::most_directions / 2> used_{};  // offsets with edges
  int depth_ = 0;
  std::vector<std::uint32_t> times_;
};

}  // namespace msf
