// What searches for least costs share, whatever a step costs: all but the steps.
#include "cost_search.hpp"

#include <chrono>

#include "load_values.hpp"

namespace msf {

template <class Value, bool labelled>
GridSearch<Value, labelled>::GridSearch(const Array& image, const Offsets& offsets,
                                        const SearchRules& rules)
    : grid_(image, offsets),
      nodes_(grid_.size()),
      traces_(grid_.size()),
      rules_(rules),
      touched_((grid_.size() >> touched_bits) + 1, 0) {
  for (std::size_t k = 0; k < offsets.size(); ++k) {
    steps_.push_back(grid_.step(offsets[k]));
    if (grid_.can_stay(offsets[k])) used_.push_back({steps_[k], static_cast<std::int16_t>(k)});
  }
  // One neighbour for each line of cache that neighbours are in.
  lines_.push_back(0);
  for (const SearchStep& step : used_) {
    const auto near = [&](std::int64_t line) { return std::abs(step.flat - line) <= 2; };
    if (std::none_of(lines_.begin(), lines_.end(), near)) lines_.push_back(step.flat);
  }
  // No step to itself makes a pixel cheaper.
  while (used_.size() % SearchStep::together != 0) used_.push_back({0, 0});
  parallel_for(grid_.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    constexpr Value outside = std::numeric_limits<Value>::infinity();  // no path enters
    std::fill(nodes_.get() + begin, nodes_.get() + end, Node{infinity, outside, nowhere});
    std::fill(traces_.get() + begin, traces_.get() + end, unreached);
  });
}

template <class Value, bool labelled>
void GridSearch<Value, labelled>::load(const Array& image) {
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

template <class Value, bool labelled>
void GridSearch<Value, labelled>::start(const Array& seeds, const Array* labels) {
  clear();
  for (std::int64_t i = 0; i < seeds.size(); ++i) {
    const std::int64_t v = grid_.inside(seeds.as<std::int64_t>()[i]);
    Node& node = nodes_.get()[v];
    if (node.place != nowhere) continue;  // twice the same
    append(node, v);
    // Not -0: keys are bits.
    node.cost = (rules_.pay_first ? static_cast<double>(node.value) : 0.0) + 0.0;
    traces_.get()[v] = labelled ? static_cast<Trace>(labels->as<std::int32_t>()[i]) : start_here;
    if (node.cost < infinity) queue_.push(node.cost, v);
  }
}

template <class Value, bool labelled>
void GridSearch<Value, labelled>::aim(const Array& ends, std::int64_t count) {
  ends_.clear();
  for (std::int64_t i = 0; i < ends.size(); ++i)
    ends_.push_back(grid_.inside(ends.as<std::int64_t>()[i]));
  std::sort(ends_.begin(), ends_.end());
  found_ = 0;
  wanted_ = count;
}

template <class Value, bool labelled>
std::int64_t GridSearch<Value, labelled>::run(const SearchLimits& limits) {
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

template <class Value, bool labelled>
bool GridSearch<Value, labelled>::settled(std::int64_t pixel) const {
  return settled(nodes_.get()[grid_.inside(pixel)]);
}

template <class Value, bool labelled>
std::vector<std::int64_t> GridSearch<Value, labelled>::path(std::int64_t pixel) const {
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

template <class Value, bool labelled>
void GridSearch<Value, labelled>::copy_costs(const MutableArray& out) const {
  auto* const to = out.as<double>();
  grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
    const Node* const row = nodes_.get() + v;
    for (std::int64_t i = 0; i < n; ++i) to[flat + i] = settled(row[i]) ? row[i].cost : infinity;
    poll();
  });
}

template <class Value, bool labelled>
void GridSearch<Value, labelled>::copy_steps(const MutableArray& out) const {
  auto* const to = out.as<std::int16_t>();
  grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
    std::copy_n(traces_.get() + v, n, to + flat);
    poll();
  });
}

template <class Value, bool labelled>
void GridSearch<Value, labelled>::copy_labels([[maybe_unused]] const Array& table,
                                              [[maybe_unused]] const MutableArray& out) const {
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

template <class Value, bool labelled>
void GridSearch<Value, labelled>::clear() {
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

template <class Value, bool labelled>
const FrontQueue::Item* GridSearch<Value, labelled>::live_top() {
  const Node* const nodes = nodes_.get();
  for (;;) {
    const auto* const item = queue_.top([&](std::int64_t v) {
      for (const std::int64_t line : lines_) {
        __builtin_prefetch(nodes + v + line);
        if (beside_) __builtin_prefetch(beside_ + v + line);
      }
    });
    if (item == nullptr) return nullptr;
    const Node& node = nodes[item->value];
    if (node.place != nowhere && node.cost == item->key) return item;
    queue_.pop();
  }
}

template <class Value, bool labelled>
std::int64_t GridSearch<Value, labelled>::take(double most) {
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

template <class Value, bool labelled>
void GridSearch<Value, labelled>::untie() {
  while (!ties_.empty()) {
    queue_.push(now_, front_[ties_.least()]);
    ties_.erase(ties_.least());
  }
}

template <class Value, bool labelled>
void GridSearch<Value, labelled>::remove(std::int64_t v) {
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

template class GridSearch<float, false>;
template class GridSearch<double, false>;
template class GridSearch<float, true>;
template class GridSearch<double, true>;

}  // namespace msf
