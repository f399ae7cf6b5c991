#include "walk_gradients.hpp"

#include <array>
#include <cmath>

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

// Sums over nodes, several of each side kept apart, so that no addition waits for the last one.
template <int K>
class Sums {
 public:
  static constexpr int nodes = 8 / K;

  // f(i, sums) for [begin, end) adds the terms of node i to sums[0] to sums[K - 1].
  template <class F>
  void over(std::int64_t begin, std::int64_t end, F&& f) {
    std::int64_t i = begin;
    for (; i + nodes <= end; i += nodes)
      for (int j = 0; j < nodes; ++j) f(i + j, sums_ + j * K);
    for (int j = 0; i < end; ++i, ++j) f(i, sums_ + j * K);
  }
  Sides<K> total() const {
    Sides<K> total;
    for (int j = 0; j < nodes; ++j)
      for (int k = 0; k < K; ++k) total.at[k] += sums_[j * K + k];
    return total;
  }

 private:
  double sums_[nodes * K] = {};
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
      sums_[piece][0] = apply(begin, end);
    });
    const auto curvature = total()[0];
    for (int k = 0; k < K; ++k) {
      Side& s = sides_[k];
      s.length = s.open ? s.rho / curvature.at[k] : 0;
      s.before = s.rho;
      length.at[k] = s.length;
    }
    step_back(length);
    for (Side& s : sides_) s.open = s.open && !(std::sqrt(s.norm2) < s.enough);
  }

  // q = A p, and the piece's part of p q.
  Sides<K> apply(std::int64_t begin, std::int64_t end) {
    const WalkNode* const nodes = system_.nodes.data() + 1;
    const Sides<K>* const p = p_.data() + 1;
    Sides<K>* const q = q_.data();
    Sums<K> product;
    product.over(begin, end, [&](std::int64_t i, double* sums) {
      const WalkNode& node = nodes[i];
      double here[K], sum[K];  // copies of a struct would go through memory
      for (int k = 0; k < K; ++k) here[k] = p[i].at[k];
      const auto between = [&](double w1, const Sides<K>& one, double w2, const Sides<K>& two,
                               int k) {
        return w1 * (here[k] - one.at[k]) + w2 * (here[k] - two.at[k]);
      };
      const std::uint32_t y = node.before[1], z = node.before[0];
      for (int k = 0; k < K; ++k)
        sum[k] = between(node.weight[2], p[i + 1], nodes[i - 1].weight[2], p[i - 1], k) +
                 between(node.weight[1], p[node.after[1]], nodes[y].weight[1], p[y], k) +
                 between(node.weight[0], p[node.after[0]], nodes[z].weight[0], p[z], k) +
                 node.excess * here[k];
      for (int k = 0; k < K; ++k) q[i].at[k] = sum[k];
      for (int k = 0; k < K; ++k) sums[k] += sum[k] * here[k];
    });
    return product.total();
  }

  // r -= length q, and how great it is.
  void step_back(const Sides<K>& length) {
    pieces([&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
      const float* const m = system_.inverse.data();
      const Sides<K>* const q = q_.data();
      Sides<K>* const r = r_.data();
      const Sides<K> alpha = length;
      Sums<K> norm2;
      norm2.over(begin, end, [&](std::int64_t i, double* sums) {
        for (int k = 0; k < K; ++k) {
          r[i].at[k] -= alpha.at[k] * q[i].at[k];
          sums[k] += r[i].at[k] * r[i].at[k];
        }
      });
      Sums<K> rho;
      rho.over(begin, end, [&](std::int64_t i, double* sums) {
        const double inverse = m[i];
        for (int k = 0; k < K; ++k) sums[k] += r[i].at[k] * (inverse * r[i].at[k]);
      });
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
