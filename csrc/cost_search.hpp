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
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "front_queue.hpp"
#include "kernels/cost_search.hpp"
#include "padded_grid.hpp"
#include "parallel.hpp"
#include "tie_set.hpp"
#include "zeroed.hpp"

namespace msf {

// Which pixels a path may enter, and what it pays for its first.
struct SearchRules {
  double least = -std::numeric_limits<double>::infinity();  // value of a pixel
  double most = std::numeric_limits<double>::infinity();
  bool pay_first = false;  // the value of the pixel; else nothing
};

// A step to a neighbour: how far it is in the grid, and its offset's number.
struct SearchStep {
  static constexpr std::size_t together = 8;
  std::int64_t flat;
  std::int16_t k;
};

// All but the costs of steps, compiled once for all models of them (cost_search.cpp).
// Value: what it stores for a pixel, a float type. labelled: whether pixels get the label of their
// seed, instead of the step to them.
template <class Value, bool labelled>
class GridSearch : public CostSearch {
 public:
  GridSearch(const Array& image, const Offsets& offsets, const SearchRules& rules);

  const PaddedGrid& grid() const { return grid_; }
  const std::vector<SearchStep>& used() const { return used_; }

  // The values of an image of any type.
  void load(const Array& image);

  // A byte for each pixel of the grid that relax() reads besides the nodes.
  void read_beside(const std::uint8_t* bytes) { beside_ = bytes; }

  void start(const Array& seeds, const Array* labels) override;

  void aim(const Array& ends, std::int64_t count) override;

  std::int64_t run(const SearchLimits& limits) override;

  bool settled(std::int64_t pixel) const override;
  double cost(std::int64_t pixel) const override { return nodes_.get()[grid_.inside(pixel)].cost; }
  bool finished() const override { return finished_; }

  std::vector<std::int64_t> path(std::int64_t pixel) const override;

  void copy_costs(const MutableArray& out) const override;
  void copy_steps(const MutableArray& out) const override;
  void copy_labels([[maybe_unused]] const Array& table,
                   [[maybe_unused]] const MutableArray& out) const override;

 protected:
  using Trace = std::conditional_t<labelled, std::int32_t, std::int16_t>;  // a label or an offset
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  static constexpr std::uint32_t nowhere = ~std::uint32_t{0};

  struct Node {
    double cost;  // least so far
    Value value;
    std::uint32_t place;  // in the front, or nowhere
  };
  // Tells the neighbours of a settled pixel what they cost by way of it: reach() for each that
  // gains.
  virtual void relax(std::int64_t v) = 0;

  void reach(std::int64_t v, double cost, Trace trace) {
    Node& node = nodes_.get()[v];
    if (cost == infinity || !passable(static_cast<double>(node.value))) return;
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
  // Filled up to what is taken together, by steps that stay where they are.
  std::vector<SearchStep> used_;

 private:
  static constexpr Trace start_here = -1, unreached = -2;
  static constexpr int touched_bits = 12;

  bool passable(double value) const { return value >= rules_.least && value <= rules_.most; }

  static bool settled(const Node& node) { return node.place == nowhere && node.cost < infinity; }

  void append(Node& node, std::int64_t v) {
    if (front_.size() >= nowhere) throw std::length_error("front of more than 2^32 pixels");
    node.place = static_cast<std::uint32_t>(front_.size());
    front_.push_back(v);
    touched_[v >> touched_bits] = 1;
  }

  // Forgets a search; only blocks that it reached are written.
  void clear();

  // The item at the top of the queue that still counts.
  const FrontQueue::Item* live_top();

  // Takes the next pixel out of the front; -1: nothing is left.
  std::int64_t take(double most);

  // Back to the queue: a start of negative cost can lead to less than now_.
  void untie();

  void remove(std::int64_t v);

  const SearchRules rules_;
  const std::uint8_t* beside_ = nullptr;
  std::vector<std::uint8_t> touched_;  // blocks of 2^touched_bits nodes
  std::vector<std::int64_t> steps_, lines_;
  FrontQueue queue_;
  TieSet ties_;  // places of the pixels of cost now_ that have left the queue
  double now_ = 0;
  std::vector<std::int64_t> front_, ends_;
  std::int64_t pending_ = -1;  // settled, but its neighbours do not know yet
  std::int64_t found_ = 0, wanted_ = -1;
  bool finished_ = false;
};

extern template class GridSearch<float, false>;
extern template class GridSearch<double, false>;
extern template class GridSearch<float, true>;
extern template class GridSearch<double, true>;

// Model: the costs of steps.
//   Value, labelled     as above
//   steps(from, to, v, steps, costs)   those of `together` steps from pixel v to pixels of the
//                                      values `to`
template <class Model>
class ModelSearch final : public GridSearch<typename Model::Value, Model::labelled> {
  using Search = GridSearch<typename Model::Value, Model::labelled>;
  using typename Search::Node, typename Search::Trace;
  static constexpr bool labelled = Model::labelled;

 public:
  ModelSearch(const Array& image, const Offsets& offsets, const SearchRules& rules, Model model)
      : Search(image, offsets, rules), model_(std::move(model)) {
    this->load(image);
  }

  Model& model() { return model_; }

 private:
  void relax(std::int64_t v) override {
    constexpr std::size_t n = SearchStep::together;
    Node* const nodes = this->nodes_.get();
    const Trace* const traces = this->traces_.get();
    const double base = nodes[v].cost;
    const auto value = static_cast<double>(nodes[v].value);
    // First which neighbours gain, without a branch: there is no predicting it.
    for (std::size_t begin = 0; begin < this->used_.size(); begin += n) {
      const SearchStep* const steps = this->used_.data() + begin;
      double to[n], least[n], costs[n];
      for (std::size_t i = 0; i < n; ++i) {
        const Node& node = nodes[v + steps[i].flat];
        to[i] = static_cast<double>(node.value);
        least[i] = node.cost;
      }
      model_.steps(value, to, v, steps, costs);
      for (std::size_t i = 0; i < n; ++i) costs[i] = base + costs[i];
      std::uint32_t gain = 0;
      for (std::size_t i = 0; i < n; ++i) {
        bool gains = costs[i] < least[i];
        if constexpr (labelled)
          gains |= costs[i] == least[i] && traces[v] < traces[v + steps[i].flat];
        gain |= static_cast<std::uint32_t>(gains) << i;
      }
      for (; gain; gain &= gain - 1) {
        const int i = std::countr_zero(gain);
        this->reach(v + steps[i].flat, costs[i],
                    labelled ? traces[v] : static_cast<Trace>(steps[i].k));
      }
    }
  }

  Model model_;
};

}  // namespace msf
