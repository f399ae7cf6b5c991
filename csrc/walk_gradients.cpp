#include "walk_gradients.hpp"

#include <array>
#include <cmath>
#include <cstring>

#include "parallel.hpp"

namespace msf {
namespace {

// Far from seeds first steps are products of many small weights. Numbers of less than 1e-308, also
// as squares, take a hundred times as long.
constexpr double vanishing = 1e-120;

constexpr std::int64_t grain = 1 << 11;  // a piece of r stays in the first cache

template <int K>
struct Sides {  // a value for each right side
  double at[K] = {};
};

// The same in a register.
template <int K>
struct LanesOf {
  using Type [[gnu::vector_size(K * sizeof(double))]] = double;
};
template <>
struct LanesOf<1> {
  using Type = double;
};
template <int K>
using Lanes = typename LanesOf<K>::Type;

template <int K>
[[gnu::always_inline]] inline void load(const Sides<K>& sides, Lanes<K>& lanes) {
  std::memcpy(&lanes, sides.at, sizeof lanes);
}
template <int K>
[[gnu::always_inline]] inline void store(const Lanes<K>& lanes, Sides<K>& sides) {
  std::memcpy(sides.at, &lanes, sizeof lanes);
}

// Sums over nodes, several of each side kept apart, so that no addition waits for the last one.
template <int K>
class Sums {
 public:
  static constexpr int apart = 8 / K;

  // f(i, j) for the nodes i of [begin, end), of which each apart-th has the same j.
  template <class F>
  [[gnu::always_inline]] static void over(std::int64_t begin, std::int64_t end, F&& f) {
    std::int64_t i = begin;
    for (; i + apart <= end; i += apart)
      for (int j = 0; j < apart; ++j) f(i + j, j);
    for (int j = 0; i < end; ++i, ++j) f(i, j);
  }
  [[gnu::always_inline]] void add(int j, const Lanes<K>& term) { sums_[j] += term; }
  Sides<K> total() const {
    Lanes<K> total{};
    for (const Lanes<K>& sum : sums_) total += sum;
    Sides<K> sides;
    store<K>(total, sides);
    return sides;
  }

 private:
  Lanes<K> sums_[apart] = {};
};

struct Side {  // how far one is
  std::int32_t label = 0;
  double norm2 = 0, rho = 0, before = 0, enough = 0;
  double length = 0;  // of the last step, which x has still to make
  bool open = false;
};

template <int K>
class Gradients {
 public:
  Gradients(const WalkSystem& system, std::int32_t first, int count) : Gradients(system) {
    for (int k = 0; k < count; ++k) sides_[k].label = first + k;
    for (const WalkSeed& seed : system.seeds)
      if (seed.label >= first && seed.label < first + count)
        r_[seed.pixel].at[seed.label - first] += seed.weight;
    step_back({});
    for (int k = 0; k < count; ++k) {
      sides_[k].enough = system.tolerance * std::sqrt(sides_[k].norm2);
      sides_[k].open = sides_[k].norm2 > 0;
    }
  }

  // The sides of another that are open, at most K. The other is used up, a vector at a time.
  template <int Wide>
  explicit Gradients(Gradients<Wide>&& other)
      : system_(other.system_), n_(other.n_), sums_(other.sums_.size()) {
    int from[K] = {}, count = 0;
    for (int k = 0; k < Wide; ++k)
      if (other.sides_[k].open) {
        sides_[count] = other.sides_[k];
        from[count++] = k;
      }
    const auto narrow = [&](auto& wide, auto& out) {
      out.resize(wide.size());
      for (std::size_t i = 0; i < wide.size(); ++i)
        for (int k = 0; k < count; ++k) out[i].at[k] = wide[i].at[from[k]];
      wide = {};
    };
    narrow(other.x_, x_);
    narrow(other.r_, r_);
    narrow(other.p_, p_);
    q_.resize(n_);
  }

  int open() const {
    int count = 0;
    for (const Side& s : sides_) count += s.open;
    return count;
  }

  // Goes on until at most half of the sides are open, and gives those that are not. False if all
  // iterations are used up.
  bool run(std::int64_t& iteration, WalkSolutions& solutions) {
    bool left = true;
    while (open() > K / 2) {
      if (iteration == system_.most_iterations) {
        left = false;
        for (Side& s : sides_) s.open = false;
        break;
      }
      iterate();
      ++iteration;
    }
    q_ = {};
    pieces([&](std::int64_t, std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) x_[i].at[k] += sides_[k].length * p_[i + 1].at[k];
    });
    for (int k = 0; k < K; ++k) {
      sides_[k].length = 0;
      if (sides_[k].label != 0 && !sides_[k].open) solutions.take(sides_[k].label, &x_[0].at[k], K);
    }
    return left;
  }

 private:
  template <int>
  friend class Gradients;

  explicit Gradients(const WalkSystem& system)
      : system_(system),
        n_(system.size()),
        x_(n_),
        r_(n_),
        p_(n_ + 2),
        q_(n_),
        sums_((n_ + grain - 1) / grain) {}

  template <class F>
  void pieces(F&& f) {
    parallel_for(n_, grain,
                 [&](std::int64_t begin, std::int64_t end) { f(begin / grain, begin, end); });
  }

  std::array<Sides<K>, 2> total() const {
    std::array<Sides<K>, 2> total{};
    for (const auto& sum : sums_)
      for (int k = 0; k < K; ++k) {
        total[0].at[k] += sum[0].at[k];
        total[1].at[k] += sum[1].at[k];
      }
    return total;
  }

  void iterate() {
    Sides<K> turn, length;
    for (int k = 0; k < K; ++k) {
      const Side& s = sides_[k];
      turn.at[k] = s.open && s.before > 0 ? s.rho / s.before : 0;
      length.at[k] = s.length;
    }
    pieces([&](std::int64_t, std::int64_t begin, std::int64_t end) {
      const float* const m = system_.inverse.data();
      const Sides<K>* const r = r_.data();
      Sides<K>* const x = x_.data();
      Sides<K>* const p = p_.data() + 1;
      const Sides<K> beta = turn, alpha = length;
      for (std::int64_t i = begin; i < end; ++i) {
        const double inverse = m[i];
        for (int k = 0; k < K; ++k) {
          const double last = p[i].at[k];
          const double next = inverse * r[i].at[k] + beta.at[k] * last;
          x[i].at[k] += alpha.at[k] * last;
          p[i].at[k] = std::abs(next) < vanishing ? 0 : next;
        }
      }
    });
    pieces([&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
      sums_[piece][0] = curvature(begin, end);
    });
    const auto bend = total()[0];
    for (int k = 0; k < K; ++k) {
      Side& s = sides_[k];
      s.length = s.open ? s.rho / bend.at[k] : 0;
      s.before = s.rho;
      length.at[k] = s.length;
    }
    step_back(length);
    for (Side& s : sides_) s.open = s.open && !(std::sqrt(s.norm2) < s.enough);
  }

  // Row i of A p.
  [[gnu::always_inline]] void apply(std::int64_t i, Lanes<K>& flow) const {
    const WalkNode* const nodes = system_.nodes.data() + 1;
    const Sides<K>* const p = p_.data() + 1;
    const WalkNode& node = nodes[i];
    Lanes<K> here;
    load<K>(p[i], here);
    const auto along = [&](double weight, const Sides<K>& neighbour)
                           __attribute__((always_inline)) {
                             Lanes<K> there;
                             load<K>(neighbour, there);
                             there = weight * (here - there);
                             return there;
                           };
    const std::uint32_t y = node.before[1], z = node.before[0];
    flow = (along(node.weight[2], p[i + 1]) + along(nodes[i - 1].weight[2], p[i - 1])) +
           (along(node.weight[1], p[node.after[1]]) + along(nodes[y].weight[1], p[y])) +
           (along(node.weight[0], p[node.after[0]]) + along(nodes[z].weight[0], p[z])) +
           static_cast<double>(node.excess) * here;
  }

  // q = A p, and the piece's part of p q.
  Sides<K> curvature(std::int64_t begin, std::int64_t end) {
    const Sides<K>* const p = p_.data() + 1;
    Sides<K>* const q = q_.data();
    Sums<K> sums;
    const auto term = [&](std::int64_t i, int j) __attribute__((always_inline)) {
      Lanes<K> here, flow;
      load<K>(p[i], here);
      apply(i, flow);
      store<K>(flow, q[i]);
      sums.add(j, flow * here);
    };
    Sums<K>::over(begin, end, term);
    return sums.total();
  }

  // r -= length q, and how great it is.
  void step_back(const Sides<K>& length) {
    pieces([&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
      const float* const m = system_.inverse.data();
      const Sides<K>* const q = q_.data();
      Sides<K>* const r = r_.data();
      Lanes<K> alpha;
      load<K>(length, alpha);
      Sums<K> norm2, rho;
      const auto step = [&](std::int64_t i, int j) __attribute__((always_inline)) {
        Lanes<K> rest, flow;
        load<K>(r[i], rest);
        load<K>(q[i], flow);
        rest -= alpha * flow;
        store<K>(rest, r[i]);
        norm2.add(j, rest * rest);
        rho.add(j, rest * (static_cast<double>(m[i]) * rest));
      };
      Sums<K>::over(begin, end, step);
      sums_[piece] = {norm2.total(), rho.total()};
    });
    const auto sum = total();
    for (int k = 0; k < K; ++k) {
      sides_[k].norm2 = sum[0].at[k];
      sides_[k].rho = sum[1].at[k];
    }
  }

  const WalkSystem& system_;
  std::int64_t n_;
  std::vector<Sides<K>> x_, r_, p_, q_;  // p from p[1] on
  std::vector<std::array<Sides<K>, 2>> sums_;
  Side sides_[K];
};

template <int K>
bool run_down(Gradients<K> gradients, std::int64_t& iteration, WalkSolutions& solutions) {
  if (!gradients.run(iteration, solutions)) return false;
  if constexpr (K > 1)
    if (gradients.open() > 0) {
      return run_down(Gradients<K / 2>(std::move(gradients)), iteration, solutions);
    }
  return true;
}

}  // namespace

std::int64_t solve_walk(const WalkSystem& system, std::int32_t first, int count,
                        WalkSolutions& solutions) {
  std::int64_t iteration = 0;
  bool done;
  if (count == 1)
    done = run_down(Gradients<1>(system, first, count), iteration, solutions);
  else if (count == 2)
    done = run_down(Gradients<2>(system, first, count), iteration, solutions);
  else
    done = run_down(Gradients<4>(system, first, count), iteration, solutions);
  return done ? iteration : -1;
}

}  // namespace msf
