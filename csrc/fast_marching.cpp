// Arrival times of a front: the eikonal equation |grad T| = 1 / speed, by fast marching (Sethian
// 1996, PNAS 93(4):1591-1595), with upwind differences of the first or second order (Sethian 1999,
// Level Set Methods and Fast Marching Methods, section 8.5: of the second order along an axis where
// two settled pixels lie upwind, the farther one not later).
//
// Settled pixels spread in the order of their times, of equal times by position. A trial time is
// the root of a sum of one square for each axis; axes join from the earliest neighbour on while
// the neighbour is earlier than the root, and the root is not earlier than it.
//
// Deviation: the queue is front_queue.hpp, its items are not moved but pushed again. Where the
// second order makes a pixel earlier than the one that reached it, it is next.
#include "kernels/fast_marching.hpp"

#include <cmath>
#include <limits>

#include "front_queue.hpp"
#include "padded_grid.hpp"
#include "parallel.hpp"
#include "zeroed.hpp"

namespace msf {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The margin is a barrier that is never settled.
struct Node {
  double time, slowness;  // seconds per mm; negative: settled
  bool settled() const { return std::signbit(slowness); }
};

struct Axis {
  std::int64_t stride;
  double per_square;  // 1 / spacing^2
};

struct Term {
  double time;            // of the neighbour upwind
  double weight, origin;  // weight * (T - origin)^2
};

template <int order>
class March {
 public:
  March(const Array& speed, const std::vector<double>& spacing)
      : grid_(speed, reach(speed.ndim)), nodes_(grid_.size()) {
    for (int a = 0; a < speed.ndim; ++a) {
      if (speed.shape[a] == 1) continue;
      std::vector<std::int64_t> offset(speed.ndim, 0);
      offset[a] = 1;
      axes_.push_back({grid_.step(offset), 1 / (spacing[a] * spacing[a])});
    }
    terms_.resize(axes_.size());
    parallel_for(grid_.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      std::fill(nodes_.get() + begin, nodes_.get() + end, Node{infinity, infinity});
    });
  }

  // The flat index of a bad speed, or -1.
  std::int64_t load(const Array& speed) {
    std::int64_t bad = -1;
    visit(speed.dtype, [&]<class T>(Type<T>) {
      grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) {
          const auto value = static_cast<double>(speed.as<T>()[flat + i]);
          if (!(value >= 0)) bad = flat + i;
          nodes_.get()[v + i].slowness = value == 0 ? infinity : 1 / value;
        }
        poll();
      });
    });
    return bad;
  }

  void start(std::int64_t pixel, double time) {
    const std::int64_t v = grid_.inside(pixel);
    if (time < nodes_.get()[v].time) {
      nodes_.get()[v].time = time;
      queue_.push(time, v);
    }
  }

  void run(double latest) {
    Node* const nodes = nodes_.get();
    Ticker tick(1 << 9);
    for (;;) {
      tick();
      const auto* const item = queue_.top([&](std::int64_t v) {
        __builtin_prefetch(nodes + v);
        for (std::size_t a = 0; a + 1 < axes_.size(); ++a) {
          __builtin_prefetch(nodes + v - axes_[a].stride);
          __builtin_prefetch(nodes + v + axes_[a].stride);
        }
      });
      if (item == nullptr || item->key > latest) return;
      const std::int64_t v = item->value;
      const bool live = !nodes[v].settled() && nodes[v].time == item->key;
      queue_.pop();
      if (!live) continue;
      nodes[v].slowness = -nodes[v].slowness;
      for (const Axis& axis : axes_) {
        update(v - axis.stride);
        update(v + axis.stride);
      }
    }
  }

  template <class T>
  void copy(T* to) {
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
      const Node* const row = nodes_.get() + v;
      for (std::int64_t i = 0; i < n; ++i)
        to[flat + i] = static_cast<T>(row[i].settled() ? row[i].time : infinity);
      poll();
    });
  }

 private:
  static Offsets reach(int ndim) {
    Offsets offsets(ndim, std::vector<std::int64_t>(ndim, 0));
    for (int a = 0; a < ndim; ++a) offsets[a][a] = 1;
    if constexpr (order == 2)  // a margin of two
      for (int a = 0; a < ndim; ++a) {
        offsets.push_back(offsets[a]);
        offsets.back()[a] = 2;
      }
    return offsets;
  }

  // The time of the settled neighbour upwind along an axis, and what it adds to the equation.
  Term term(const Node* at, const Axis& axis) const {
    const Node &before = at[-axis.stride], &after = at[axis.stride];
    const double t0 = before.settled() ? before.time : infinity;
    const double t1 = after.settled() ? after.time : infinity;
    const double time = std::min(t0, t1);
    if constexpr (order == 2) {
      const Node& second = at[t0 <= t1 ? -2 * axis.stride : 2 * axis.stride];
      if (time < infinity && second.settled() && second.time <= time)
        return {time, 2.25 * axis.per_square, time + (time - second.time) / 3};
    }
    return {time, axis.per_square, time};
  }

  void update(std::int64_t v) {
    Node& node = nodes_.get()[v];
    if (node.settled() || node.slowness == infinity) return;
    std::size_t n = 0;
    for (const Axis& axis : axes_) {
      const Term found = term(&node, axis);
      if (!(found.time < node.time)) continue;
      std::size_t i = n++;
      for (; i > 0 && terms_[i - 1].time > found.time; --i) terms_[i] = terms_[i - 1];
      terms_[i] = found;
    }
    // weight * T^2 - 2 * sum * T + squares = slowness^2, seen from the first origin: differences
    // of times are small where times are large.
    const double rhs = node.slowness * node.slowness, base = n ? terms_[0].origin : 0;
    double weight = 0, sum = 0, squares = 0, time = infinity;
    for (std::size_t i = 0; i < n && terms_[i].time < time; ++i) {
      const double origin = terms_[i].origin - base;
      weight += terms_[i].weight;
      sum += terms_[i].weight * origin;
      squares += terms_[i].weight * origin * origin;
      const double discriminant = sum * sum - weight * (squares - rhs);
      if (discriminant < 0) break;
      const double root = base + (sum + std::sqrt(discriminant)) / weight;
      if (root < terms_[i].time) break;
      time = root;
    }
    if (time < node.time) {
      node.time = time;
      queue_.push(time, v);
    }
  }

  PaddedGrid grid_;
  Scratch<Node> nodes_;
  std::vector<Axis> axes_;
  std::vector<Term> terms_;
  FrontQueue<std::int64_t> queue_;
};

template <int order>
std::int64_t march(const Array& speed, const Array& seeds, const Array& times,
                   const std::vector<double>& spacing, double latest, const MutableArray& out) {
  March<order> front(speed, spacing);
  if (const std::int64_t bad = front.load(speed); bad >= 0) return bad;
  for (std::int64_t i = 0; i < seeds.size(); ++i)
    front.start(seeds.as<std::int64_t>()[i], times.as<double>()[i]);
  front.run(latest);
  if (out.dtype == DType::float32)
    front.copy(out.as<float>());
  else
    front.copy(out.as<double>());
  return -1;
}

}  // namespace

std::int64_t fast_marching(const Array& speed, const Array& seeds, const Array& times,
                           const std::vector<double>& spacing, int order, double latest,
                           const MutableArray& out) {
  return order == 1 ? march<1>(speed, seeds, times, spacing, latest, out)
                    : march<2>(speed, seeds, times, spacing, latest, out);
}

}  // namespace msf
