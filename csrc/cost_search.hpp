// Dijkstra's search over the pixels of a grid: least costs from seeds, and the steps that lead
// there (Dijkstra 1959, Numerische Mathematik 1:269-271).
//
// What a pixel needs lies side by side: its cost so far, its value and its place in the front, so
// that the eight neighbours in 2D touch three or four lines of cache. The grid is padded
// (padded_grid.hpp), the queue is front_queue.hpp. The search can stop after any pixel and go on.
//
// Ties: of the pixels of equal cost in the front, the next is the one that comes first in a list to
// which new pixels are appended, in which a pixel keeps its place when its cost falls, and in which
// the last pixel moves to the place of the one taken. That is the order of scikit-image's heap, so
// that paths are the same to the pixel; the list costs one swap a pixel, the pixels of equal cost
// are bits over it (tie_set.hpp).
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "front_queue.hpp"
#include "kernels/cost_search.hpp"
#include "load_values.hpp"
#include "padded_grid.hpp"
#include "parallel.hpp"
#include "tie_set.hpp"
#include "zeroed.hpp"

namespace msf {

// Model: the cost of a step.
//   Value               what it stores for a pixel, a float type
//   outside             value of the margin, which no path enters
//   labelled            whether pixels get the label of their seed, instead of the step to them
//   start(value)        cost of a path that starts at the pixel
//   step(from, to, v, w, k)   cost of the step along offset k, from pixel v to w
//   passable(value)     whether a path may enter the pixel
template <class Model>
class GridSearch final : public CostSearch {
  using Value = typename Model::Value;
  using Queue = FrontQueue<std::int64_t>;
  static constexpr bool labelled = Model::labelled;
  using Trace = std::conditional_t<labelled, std::int32_t, std::int16_t>;  // a label or an offset
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  static constexpr std::uint32_t nowhere = ~std::uint32_t{0};

  struct Node {
    double cost;  // least so far
    Value value;
    std::uint32_t place;  // in the front, or nowhere
  };

 public:
  GridSearch(const Array& image, const Offsets& offsets, Model model)
      : grid_(image, offsets),
        nodes_(grid_.size()),
        traces_(grid_.size()),
        touched_((grid_.size() >> touched_bits) + 1, 0),
        model_(std::move(model)) {
    for (std::size_t k = 0; k < offsets.size(); ++k) {
      steps_.push_back(grid_.step(offsets[k]));
      if (grid_.can_stay(offsets[k])) used_.push_back({steps_[k], static_cast<std::int16_t>(k)});
    }
    // One neighbour for each line of cache that neighbours are in.
    lines_.push_back(0);
    for (const Step& step : used_) {
      const auto near = [&](std::int64_t line) { return std::abs(step.flat - line) <= 2; };
      if (std::none_of(lines_.begin(), lines_.end(), near)) lines_.push_back(step.flat);
    }
    parallel_for(grid_.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      std::fill(nodes_.get() + begin, nodes_.get() + end, Node{infinity, Model::outside, nowhere});
      std::fill(traces_.get() + begin, traces_.get() + end, unreached);
    });
  }

  const PaddedGrid& grid() const { return grid_; }
  Model& model() { return model_; }

  // The values of an image of any type.
  void load(const Array& image) {
    constexpr std::int64_t piece = 512;
    double values[piece];
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t length) {
      for (std::int64_t begin = 0; begin < length; begin += piece) {
        const std::int64_t n = std::min(piece, length - begin);
        load_values(image, flat + begin, n, 1, -infinity, values);
        Node* const row = nodes_.get() + v + begin;
        for (std::int64_t i = 0; i < n; ++i) row[i].value = static_cast<Value>(values[i]);
      }
      poll();
    });
  }

  void start(const Array& seeds, const Array* labels) override {
    clear();
    for (std::int64_t i = 0; i < seeds.size(); ++i) {
      const std::int64_t v = grid_.inside(seeds.as<std::int64_t>()[i]);
      Node& node = nodes_.get()[v];
      if (node.place != nowhere) continue;  // twice the same
      append(node, v);
      node.cost = model_.start(static_cast<double>(node.value)) + 0.0;  // not -0: keys are bits
      traces_.get()[v] = labelled ? static_cast<Trace>(labels->as<std::int32_t>()[i]) : start_here;
      if (node.cost < infinity) queue_.push(node.cost, v);
    }
  }

  void aim(const Array& ends, std::int64_t count) override {
    ends_.clear();
    for (std::int64_t i = 0; i < ends.size(); ++i)
      ends_.push_back(grid_.inside(ends.as<std::int64_t>()[i]));
    std::sort(ends_.begin(), ends_.end());
    found_ = 0;
    wanted_ = count;
  }

  std::int64_t run(const SearchLimits& limits) override {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    Ticker tick(1 << 10);
    std::int64_t settled = 0;
    while (settled < limits.pixels) {
      if (limits.seconds < infinity && settled % 256 == 255)
        if (std::chrono::duration<double>(Clock::now() - begin).count() > limits.seconds) break;
      tick();  // may throw: here the search can go on
      if (pending_ >= 0) relax(std::exchange(pending_, -1));
      pending_ = take(limits.cost);
      if (pending_ < 0) {
        finished_ = ties_.empty() && live_top() == nullptr;
        break;
      }
      ++settled;
      if (wanted_ >= 0) {
        found_ += std::binary_search(ends_.begin(), ends_.end(), pending_);
        if (found_ == wanted_) return settled;
      }
    }
    if (pending_ >= 0) relax(std::exchange(pending_, -1));
    return settled;
  }

  bool settled(std::int64_t pixel) const override {
    return settled(nodes_.get()[grid_.inside(pixel)]);
  }
  double cost(std::int64_t pixel) const override { return nodes_.get()[grid_.inside(pixel)].cost; }
  bool finished() const override { return finished_; }

  std::vector<std::int64_t> path(std::int64_t pixel) const override {
    std::vector<std::int64_t> pixels, coordinates;
    if (labelled || !settled(pixel)) return coordinates;
    for (std::int64_t v = grid_.inside(pixel);;) {
      pixels.push_back(v);
      const Trace k = traces_.get()[v];
      if (k < 0) break;
      v -= steps_[k];
    }
    const std::size_t ndim = grid_.shape().size();
    coordinates.resize(pixels.size() * ndim);
    std::int64_t* to = coordinates.data();
    for (auto v = pixels.rbegin(); v != pixels.rend(); ++v, to += ndim) grid_.coordinates(*v, to);
    return coordinates;
  }

  void copy_costs(const MutableArray& out) const override {
    auto* const to = out.as<double>();
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
      const Node* const row = nodes_.get() + v;
      for (std::int64_t i = 0; i < n; ++i) to[flat + i] = settled(row[i]) ? row[i].cost : infinity;
      poll();
    });
  }
  void copy_steps(const MutableArray& out) const override {
    auto* const to = out.as<std::int16_t>();
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
      std::copy_n(traces_.get() + v, n, to + flat);
      poll();
    });
  }
  void copy_labels([[maybe_unused]] const Array& table,
                   [[maybe_unused]] const MutableArray& out) const override {
    if constexpr (labelled)
      visit_bits(out.dtype, [&]<class T>(Type<T>) {
        const T* const labels = table.as<T>();
        T* const to = out.as<T>();
        grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
          for (std::int64_t i = 0; i < n; ++i)
            to[flat + i] = settled(nodes_.get()[v + i]) ? labels[traces_.get()[v + i]] : T{0};
          poll();
        });
      });
  }

 private:
  static constexpr Trace start_here = -1, unreached = -2;
  static constexpr int touched_bits = 12;
  static constexpr std::size_t block = 32;

  struct Step {
    std::int64_t flat;
    std::int16_t k;
  };

  static bool settled(const Node& node) { return node.place == nowhere && node.cost < infinity; }

  void append(Node& node, std::int64_t v) {
    if (front_.size() >= nowhere) throw std::length_error("front of more than 2^32 pixels");
    node.place = static_cast<std::uint32_t>(front_.size());
    front_.push_back(v);
    touched_[v >> touched_bits] = 1;
  }

  // Forgets a search; only blocks that it reached are written.
  void clear() {
    for (std::size_t i = 0; i < touched_.size(); ++i) {
      if (!touched_[i]) continue;
      const std::int64_t begin = static_cast<std::int64_t>(i) << touched_bits;
      const std::int64_t end = std::min(grid_.size(), begin + (std::int64_t{1} << touched_bits));
      for (std::int64_t v = begin; v < end; ++v) {
        nodes_.get()[v].cost = infinity;
        nodes_.get()[v].place = nowhere;
      }
      std::fill(traces_.get() + begin, traces_.get() + end, unreached);
      touched_[i] = 0;
    }
    queue_.clear();
    ties_.clear();
    front_.clear();
    ends_.clear();
    wanted_ = pending_ = -1;
    finished_ = false;
  }

  // The item at the top of the queue that still counts.
  const typename Queue::Item* live_top() {
    const Node* const nodes = nodes_.get();
    for (;;) {
      const auto* const item = queue_.top([&](std::int64_t v) {
        for (const std::int64_t line : lines_) __builtin_prefetch(nodes + v + line);
      });
      if (item == nullptr) return nullptr;
      const Node& node = nodes[item->value];
      if (node.place != nowhere && node.cost == item->key) return item;
      queue_.pop();
    }
  }

  // Takes the next pixel out of the front; -1: nothing is left.
  std::int64_t take(double most) {
    Node* const nodes = nodes_.get();
    const auto* item = live_top();
    if (!ties_.empty() && item != nullptr && item->key < now_) {
      untie();
      item = live_top();
    }
    std::int64_t v;
    if (ties_.empty()) {
      if (item == nullptr || item->key > most) return -1;
      now_ = item->key;
      v = item->value;
      queue_.pop();
      item = live_top();
      if (item == nullptr || item->key > now_) {
        remove(v);
        return v;
      }
      ties_.put(nodes[v].place);
    }
    for (; item != nullptr && item->key == now_; item = live_top()) {
      ties_.put(nodes[item->value].place);
      queue_.pop();
    }
    const std::uint32_t place = ties_.least();
    v = front_[place];
    ties_.erase(place);
    remove(v);
    return v;
  }

  // Back to the queue: a start of negative cost can lead to less than now_.
  void untie() {
    while (!ties_.empty()) {
      queue_.push(now_, front_[ties_.least()]);
      ties_.erase(ties_.least());
    }
  }

  void remove(std::int64_t v) {
    Node* const nodes = nodes_.get();
    const std::uint32_t place = nodes[v].place;
    const std::int64_t last = front_.back();
    const auto from = static_cast<std::uint32_t>(front_.size() - 1);
    front_.pop_back();
    if (last != v) {
      front_[place] = last;
      nodes[last].place = place;
      if (!ties_.empty() && ties_.contains(from)) {
        ties_.erase(from);
        ties_.put(place);
      }
    }
    nodes[v].place = nowhere;
  }

  void relax(std::int64_t v) {
    Node* const nodes = nodes_.get();
    const Trace* const traces = traces_.get();
    const double base = nodes[v].cost;
    const auto value = static_cast<double>(nodes[v].value);
    // First which neighbours gain, without a branch: there is no predicting it.
    for (std::size_t begin = 0; begin < used_.size(); begin += block) {
      const std::size_t n = std::min(block, used_.size() - begin);
      double costs[block];
      std::uint32_t gain = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const Step& step = used_[begin + i];
        const std::int64_t w = v + step.flat;
        const Node& to = nodes[w];
        costs[i] = base + model_.step(value, static_cast<double>(to.value), v, w, step.k);
        bool gains = costs[i] < to.cost;
        if constexpr (labelled) gains |= costs[i] == to.cost && traces[v] < traces[w];
        gain |= static_cast<std::uint32_t>(gains) << i;
      }
      for (; gain; gain &= gain - 1) {
        const int i = std::countr_zero(gain);
        const Step& step = used_[begin + i];
        reach(v + step.flat, costs[i], labelled ? traces[v] : static_cast<Trace>(step.k));
      }
    }
  }

  void reach(std::int64_t v, double cost, Trace trace) {
    Node& node = nodes_.get()[v];
    if (cost == infinity || !model_.passable(node.value)) return;
    if (node.place == nowhere) {
      // Settled already: the step left a start of negative cost. But a lower label spreads again.
      if (node.cost < infinity && !(labelled && cost == node.cost)) return;
      append(node, v);
    }
    if (cost < now_ && !ties_.empty() && ties_.contains(node.place)) ties_.erase(node.place);
    node.cost = cost;
    traces_.get()[v] = trace;
    if (cost == now_ && !ties_.empty())
      ties_.put(node.place);
    else
      queue_.push(cost, v);
  }

  PaddedGrid grid_;
  mutable Scratch<Node> nodes_;
  mutable Scratch<Trace> traces_;
  std::vector<std::uint8_t> touched_;  // blocks of 2^touched_bits nodes
  Model model_;
  std::vector<std::int64_t> steps_, lines_;
  std::vector<Step> used_;
  Queue queue_;
  TieSet ties_;  // places of the pixels of cost now_ that have left the queue
  double now_ = 0;
  std::vector<std::int64_t> front_, ends_;
  std::int64_t pending_ = -1;  // settled, but its neighbours do not know yet
  std::int64_t found_ = 0, wanted_ = -1;
  bool finished_ = false;
};

}  // namespace msf
