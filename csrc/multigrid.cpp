#include "multigrid.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "multigrid_levels.hpp"

namespace msf {
namespace {

template <int K>
struct Sides {  // a value for each right side
  double at[K];
};

template <int K>
using Vector = std::vector<Sides<K>>;

template <int K>
struct Work {  // of one level
  Vector<K> right, residual, step, second, image, second_image, x;
  explicit Work(std::int64_t n)
      : right(n), residual(n), step(n), second(n), image(n), second_image(n), x(n) {}
};

template <int K>
class Cycle {
 public:
  Cycle(const std::vector<Level>& levels, const std::vector<double>& coarsest)
      : levels_(levels), coarsest_(coarsest) {
    for (const Level& level : levels) work_.emplace_back(level.rows());
  }

  // x = an approximation to the solution for r.
  void apply(std::size_t l, const Sides<K>* r, Sides<K>* x) {
    const Level& level = levels_[l];
    const WeightedGraph& g = level.graph;
    if (l + 1 == levels_.size()) {
      direct(r, x);
      return;
    }
    Sides<K>* const s = work_[l].residual.data();
    Sides<K>* const right = work_[l + 1].right.data();
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i) {
        double sum[K];
        for (int k = 0; k < K; ++k) sum[k] = r[i].at[k];
        for (std::uint32_t e = g.first[i]; e < g.first[i + 1]; ++e) {
          const std::uint32_t j = g.column[e];
          if (j >= i) break;
          if (j < begin) continue;
          for (int k = 0; k < K; ++k) sum[k] += g.weight[e] * x[j].at[k];
        }
        for (int k = 0; k < K; ++k) x[i].at[k] = level.inverse[i] * sum[k];
      }
    });
    std::fill_n(right, levels_[l + 1].rows(), Sides<K>{});
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i) {
        const std::uint32_t c = level.group[i];
        if (c == nowhere) continue;
        const Sides<K> a = times(g, x, i);
        for (int k = 0; k < K; ++k) right[c].at[k] += r[i].at[k] - a.at[k];
      }
    });
    Sides<K>* const correction = work_[l + 1].x.data();
    krylov(l + 1, right, correction);
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i)
        if (level.group[i] != nowhere)
          for (int k = 0; k < K; ++k) x[i].at[k] += correction[level.group[i]].at[k];
    });
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i) {
        const Sides<K> a = times(g, x, i);
        for (int k = 0; k < K; ++k) s[i].at[k] = r[i].at[k] - a.at[k];
      }
    });
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = end; i-- > begin;) {
        for (std::uint32_t e = g.first[i + 1]; e-- > g.first[i];) {
          const std::uint32_t j = g.column[e];
          if (j <= i) break;
          if (j >= end) continue;
          for (int k = 0; k < K; ++k) s[i].at[k] += g.weight[e] * s[j].at[k];
        }
        for (int k = 0; k < K; ++k) s[i].at[k] *= level.inverse[i];
      }
      for (std::uint32_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) x[i].at[k] += s[i].at[k];
    });
  }

 private:
  static Sides<K> times(const WeightedGraph& g, const Sides<K>* x, std::uint32_t i) {
    double here[K];  // copies of a struct would go through memory
    Sides<K> sum;
    for (int k = 0; k < K; ++k) here[k] = x[i].at[k];
    for (int k = 0; k < K; ++k) sum.at[k] = g.excess[i] * here[k];
    for (std::uint32_t e = g.first[i]; e < g.first[i + 1]; ++e) {
      const Sides<K>& other = x[g.column[e]];
      for (int k = 0; k < K; ++k) sum.at[k] += g.weight[e] * (here[k] - other.at[k]);
    }
    return sum;
  }

  void direct(const Sides<K>* r, Sides<K>* x) const {
    const std::int64_t n = levels_.back().rows();
    for (std::int64_t i = 0; i < n; ++i) {
      double sum[K] = {};
      for (std::int64_t j = 0; j < n; ++j)
        for (int k = 0; k < K; ++k) sum[k] += coarsest_[i * n + j] * r[j].at[k];
      for (int k = 0; k < K; ++k) x[i].at[k] = sum[k];
    }
  }

  // f(i) for all rows; returns sums over rows of what it adds to its second argument (`N` sums).
  template <int N, class F>
  std::array<Sides<K>, N> summed(std::size_t l, F&& f) {
    const WeightedGraph& g = levels_[l].graph;
    std::vector<std::array<Sides<K>, N>> sums(g.block.size() - 1);
    blocks(g, [&](std::int64_t b, std::uint32_t begin, std::uint32_t end) {
      std::array<Sides<K>, N> sum{};
      for (std::uint32_t i = begin; i < end; ++i) f(i, sum);
      sums[b] = sum;
    });
    std::array<Sides<K>, N> total{};
    for (const auto& sum : sums)
      for (int n = 0; n < N; ++n)
        for (int k = 0; k < K; ++k) total[n].at[k] += sum[n].at[k];
    return total;
  }

  static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

  // At most two steps of flexible conjugate gradients for right side r, which is overwritten.
  void krylov(std::size_t l, Sides<K>* r, Sides<K>* x) {
    if (l + 1 == levels_.size()) {
      direct(r, x);
      return;
    }
    const WeightedGraph& g = levels_[l].graph;
    Work<K>& work = work_[l];
    apply(l, r, x);
    Sides<K>* const v = work.image.data();
    const auto one = summed<3>(l, [&](std::uint32_t i, auto& sum) {
      v[i] = times(g, x, i);
      for (int k = 0; k < K; ++k) {
        sum[0].at[k] += x[i].at[k] * v[i].at[k];
        sum[1].at[k] += x[i].at[k] * r[i].at[k];
        sum[2].at[k] += r[i].at[k] * r[i].at[k];
      }
    });
    double length[K];
    for (int k = 0; k < K; ++k) length[k] = ratio(one[1].at[k], one[0].at[k]);
    const auto left = summed<1>(l, [&](std::uint32_t i, auto& sum) {
      for (int k = 0; k < K; ++k) {
        r[i].at[k] -= length[k] * v[i].at[k];
        sum[0].at[k] += r[i].at[k] * r[i].at[k];
      }
    });
    bool enough = true;
    for (int k = 0; k < K; ++k) enough &= left[0].at[k] <= 0.0625 * one[2].at[k];
    enough |= 3 * levels_[l].rows() > 2 * levels_[l - 1].rows();  // two steps would double the work
    if (enough) {
      blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
        for (std::uint32_t i = begin; i < end; ++i)
          for (int k = 0; k < K; ++k) x[i].at[k] *= length[k];
      });
      return;
    }
    Sides<K>*const y = work.second.data(), *const w = work.second_image.data();
    apply(l, r, y);
    const auto two = summed<3>(l, [&](std::uint32_t i, auto& sum) {
      w[i] = times(g, y, i);
      for (int k = 0; k < K; ++k) {
        sum[0].at[k] += y[i].at[k] * v[i].at[k];
        sum[1].at[k] += y[i].at[k] * w[i].at[k];
        sum[2].at[k] += y[i].at[k] * r[i].at[k];
      }
    });
    double first[K], second[K];
    for (int k = 0; k < K; ++k) {
      const double rho = one[0].at[k], gamma = two[0].at[k];
      const double size = two[1].at[k] - ratio(gamma * gamma, rho);
      const double along = ratio(two[2].at[k], size);
      second[k] = along;
      first[k] = ratio(one[1].at[k], rho) - ratio(gamma, rho) * along;
    }
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) x[i].at[k] = first[k] * x[i].at[k] + second[k] * y[i].at[k];
    });
  }

  const std::vector<Level>& levels_;
  const std::vector<double>& coarsest_;
  std::vector<Work<K>> work_;
};

// Flexible conjugate gradients in float64.
template <int K>
std::int64_t conjugate_gradients(const std::vector<Level>& levels,
                                 const std::vector<double>& coarsest, const double* b,
                                 const double* enough, std::int64_t most, double* out) {
  using Row = Sides<K>;
  const WeightedGraph& g = levels[0].graph;
  const std::int64_t n = g.rows();
  Cycle<K> cycle(levels, coarsest);
  std::vector<Row> r(n), p(n), q(n), z(n);
  Row* const x = reinterpret_cast<Row*>(out);
  std::vector<std::array<Row, 2>> sums(g.block.size() - 1);
  const auto total = [&](int which) {
    Row sum{};
    for (const auto& s : sums)
      for (int k = 0; k < K; ++k) sum.at[k] += s[which].at[k];
    return sum;
  };
  blocks(g, [&](std::int64_t block, std::uint32_t begin, std::uint32_t end) {
    Row sum{};
    for (std::uint32_t i = begin; i < end; ++i) {
      r[i] = reinterpret_cast<const Row*>(b)[i];
      x[i] = p[i] = Row{};
      for (int k = 0; k < K; ++k) sum.at[k] += r[i].at[k] * r[i].at[k];
    }
    sums[block][0] = sum;
  });
  Row norm2 = total(0), rho{}, alpha{}, beta{};
  for (std::int64_t iteration = 0;; ++iteration) {
    bool done = true;
    for (int k = 0; k < K; ++k) done &= norm2.at[k] == 0 || std::sqrt(norm2.at[k]) < enough[k];
    if (done) return iteration;
    if (iteration == most) return -1;
    cycle.apply(0, r.data(), z.data());
    blocks(g, [&](std::int64_t block, std::uint32_t begin, std::uint32_t end) {
      std::array<Row, 2> sum{};
      for (std::uint32_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) {
          sum[0].at[k] += r[i].at[k] * z[i].at[k];
          sum[1].at[k] += q[i].at[k] * z[i].at[k];
        }
      sums[block] = sum;
    });
    const Row next = total(0), back = total(1);
    for (int k = 0; k < K; ++k) {  // the residual changed by -alpha q
      beta.at[k] = rho.at[k] > 0 ? -alpha.at[k] * back.at[k] / rho.at[k] : 0;
      rho.at[k] = next.at[k];
    }
    blocks(g, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
      for (std::uint32_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) p[i].at[k] = z[i].at[k] + beta.at[k] * p[i].at[k];
    });
    blocks(g, [&](std::int64_t block, std::uint32_t begin, std::uint32_t end) {
      Row product{};
      for (std::uint32_t i = begin; i < end; ++i) {
        double here[K], sum[K];
        for (int k = 0; k < K; ++k) here[k] = p[i].at[k];
        for (int k = 0; k < K; ++k) sum[k] = g.excess[i] * here[k];
        for (std::uint32_t e = g.first[i]; e < g.first[i + 1]; ++e) {
          const Row& other = p[g.column[e]];
          for (int k = 0; k < K; ++k) sum[k] += g.weight[e] * (here[k] - other.at[k]);
        }
        for (int k = 0; k < K; ++k) q[i].at[k] = sum[k];
        for (int k = 0; k < K; ++k) product.at[k] += sum[k] * here[k];
      }
      sums[block][0] = product;
    });
    const Row curvature = total(0);
    for (int k = 0; k < K; ++k) alpha.at[k] = curvature.at[k] > 0 ? rho.at[k] / curvature.at[k] : 0;
    blocks(g, [&](std::int64_t block, std::uint32_t begin, std::uint32_t end) {
      Row sum{};
      for (std::uint32_t i = begin; i < end; ++i)
        for (int k = 0; k < K; ++k) {
          x[i].at[k] += alpha.at[k] * p[i].at[k];
          r[i].at[k] -= alpha.at[k] * q[i].at[k];
          sum.at[k] += r[i].at[k] * r[i].at[k];
        }
      sums[block][0] = sum;
    });
    norm2 = total(0);
  }
}

}  // namespace

struct Multigrid::Levels {
  std::vector<Level> levels;
  std::vector<double> coarsest;
};

Multigrid::Multigrid(WeightedGraph graph)
    : levels_(new Levels{coarser_levels(std::move(graph)), {}}) {
  levels_->coarsest = inverse_of(levels_->levels.back().graph);
}

Multigrid::~Multigrid() = default;

std::int64_t Multigrid::solve(int count, const double* b, const double* enough, std::int64_t most,
                              double* x) {
  const auto& levels = levels_->levels;
  if (count == 1) return conjugate_gradients<1>(levels, levels_->coarsest, b, enough, most, x);
  if (count == 2) return conjugate_gradients<2>(levels, levels_->coarsest, b, enough, most, x);
  return conjugate_gradients<4>(levels, levels_->coarsest, b, enough, most, x);
}

}  // namespace msf
