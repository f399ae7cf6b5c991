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

#include <array>
#include <cmath>
#include <limits>

#include "front_queue.hpp"
#include "load_values.hpp"
#include "padded_grid.hpp"
#include "parallel.hpp"
#include "zeroed.hpp"

namespace msf {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Trial {
  double time, slowness;  // seconds per mm; infinite: a barrier
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
      : grid_(speed, reach(speed.ndim)), settled_(grid_.size()), trials_(grid_.size()) {
    for (int a = 0; a < speed.ndim; ++a) {
      if (speed.shape[a] == 1) continue;
      std::vector<std::int64_t> offset(speed.ndim, 0);
      offset[a] = 1;
      axes_.push_back({grid_.step(offset), 1 / (spacing[a] * spacing[a])});
    }
    // The lines of cache that the neighbours' neighbours are in: the last axis runs along them.
    lines_.push_back(0);
    for (std::size_t a = 0; a + 1 < axes_.size(); ++a) {
      const std::int64_t s = axes_[a].stride;
      lines_.insert(lines_.end(), {s, -s, 2 * s, -2 * s});
      for (std::size_t b = 0; b < a; ++b) {
        const std::int64_t t = axes_[b].stride;
        lines_.insert(lines_.end(), {s + t, s - t, -s + t, -s - t});
      }
    }
    parallel_for(grid_.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      std::fill(settled_.get() + begin, settled_.get() + end, infinity);
      std::fill(trials_.get() + begin, trials_.get() + end, Trial{infinity, infinity});
    });
  }

  // The flat index of a bad speed, or -1.
  std::int64_t load(const Array& speed) {
    constexpr std::int64_t piece = 512;
    std::int64_t bad = -1;
    double values[piece];
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t length) {
      for (std::int64_t begin = 0; begin < length; begin += piece) {
        const std::int64_t n = std::min(piece, length - begin);
        load_values(speed, flat + begin, n, 1, -infinity, values);
        Trial* const row = trials_.get() + v + begin;
        for (std::int64_t i = 0; i < n; ++i) {
          if (!(values[i] >= 0)) bad = flat + begin + i;
          row[i].slowness = values[i] == 0 ? infinity : 1 / values[i];
        }
      }
      poll();
    });
    return bad;
  }

  void start(std::int64_t pixel, double time) {
    const std::int64_t v = grid_.inside(pixel);
    if (time < trials_.get()[v].time) {
      trials_.get()[v] = {time, infinity};  // neighbours do not change it
      queue_.push(time, v);
    }
  }

  void run(double latest) {
    const Trial* const trials = trials_.get();
    double* const settled = settled_.get();
    Ticker tick(1 << 9);
    for (;;) {
      tick();
      const auto* const item = queue_.top([&](std::int64_t v) {
        for (const std::int64_t line : lines_) __builtin_prefetch(settled + v + line);
        __builtin_prefetch(trials + v);
      });
      if (item == nullptr || item->key > latest) return;
      const std::int64_t v = item->value;
      const double time = item->key;
      queue_.pop();
      if (settled[v] < infinity || trials[v].time != time) continue;
      settled[v] = time;
      for (const Axis& axis : axes_) {
        update(v - axis.stride);
        update(v + axis.stride);
      }
    }
  }

  template <class T>
  void copy(T* to) {
    grid_.rows([&](std::int64_t flat, std::int64_t v, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) to[flat + i] = static_cast<T>(settled_.get()[v + i]);
      poll();
    });
  }

 private:
  static Offsets reach(int ndim) {
    Offsets offsets(ndim, std::vector<std::int64_t>(ndim, 0));
    for (int a = 0; a < ndim; ++a) offsets[a][a] = 1;
    if (order == 2)  // a margin of two, where the axis has room for such a step
      for (int a = 0; a < ndim; ++a) {
        offsets.push_back(offsets[a]);
        offsets.back()[a] = 2;
      }
    return offsets;
  }

  // The time of the settled neighbour upwind along an axis, and what it adds to the equation.
  static Term term(const double* at, const Axis& axis) {
    const double before = at[-axis.stride], after = at[axis.stride];
    const double time = std::min(before, after);
    if (order == 2 && time < infinity) {
      const double second = at[before <= after ? -2 * axis.stride : 2 * axis.stride];
      if (second <= time) return {time, 2.25 * axis.per_square, time + (time - second) / 3};
    }
    return {time, axis.per_square, time};
  }

  void update(std::int64_t v) {
    Trial& trial = trials_.get()[v];
    const double* const at = settled_.get() + v;
    if (*at < infinity || trial.slowness == infinity) return;
    std::array<Term, max_dims> terms;
    std::size_t n = 0;
    for (const Axis& axis : axes_) {
      const Term found = term(at, axis);
      if (!(found.time < trial.time)) continue;
      std::size_t i = n++;
      for (; i > 0 && terms[i - 1].time > found.time; --i) terms[i] = terms[i - 1];
      terms[i] = found;
    }
    if (n == 0) return;
    // weight * T^2 - 2 * sum * T + squares = slowness^2, T from the first origin on: differences of
    // times are small where times are large. Roots are compared without being computed.
    const double rhs = trial.slowness * trial.slowness, base = terms[0].origin;
    double weight = terms[0].weight, sum = 0, discriminant = weight * rhs, squares = 0;
    for (std::size_t i = 1; i < n; ++i) {
      const double time = terms[i].time - base, origin = terms[i].origin - base;
      const bool rising = weight * time > sum;  // past the least value, between the roots
      if (rising && !((weight * time - 2 * sum) * time + squares < rhs)) break;
      const double w = weight + terms[i].weight, s = sum + terms[i].weight * origin;
      const double q = squares + terms[i].weight * origin * origin;
      const double d = s * s - w * (q - rhs), above = w * time - s;
      if (d < 0 || (above > 0 && d < above * above)) break;
      weight = w, sum = s, squares = q, discriminant = d;
    }
    const double time = base + (sum + std::sqrt(discriminant)) / weight;
    if (time < trial.time) {
      trial.time = time;
      queue_.push(time, v);
    }
  }

  PaddedGrid grid_;
  Scratch<double> settled_;  // times; infinity: not settled, or margin
  Scratch<Trial> trials_;
  std::vector<Axis> axes_;
  std::vector<std::int64_t> lines_;
  FrontQueue queue_;
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
