#include "walk_gradients.hpp"

#include <algorithm>
#include <cmath>

#include "lane_sum.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Far from seeds first steps are products of many small weights. Numbers of less than 1e-308, also
// as squares, or of 1e-38 in float32, take a hundred times as long.
template <class Real>
constexpr Real vanishing = sizeof(Real) == 8 ? 1e-120 : 1e-37f;

constexpr std::int64_t grain = 1 << 10;  // a piece's vectors stay in the first cache
// Pieces that a thread takes at once: one lasts half a microsecond, about as long as it takes to
// get hold of the next.
constexpr std::int64_t together = 16;

}  // namespace

bool WalkSystem::join(WalkRun& run, const WalkRun& node) const {
  for (int axis = 0; axis < 2; ++axis) {
    const std::int64_t before = std::max(run.before[axis], node.before[axis]);
    const std::int64_t after = std::max(run.after[axis], node.after[axis]);
    if (node.begin + after >= size() || run.begin < before) return false;
    if ((run.after[axis] && node.after[axis] && run.after[axis] != node.after[axis]) ||
        (run.before[axis] && node.before[axis] && run.before[axis] != node.before[axis]))
      return false;
    // Without a neighbour before: what lies there must have no edge, which it has to another node.
    const auto no_edge = [&](std::int64_t i) { return weight[axis][i - before + 1] == 0; };
    if (before && !node.before[axis] && !no_edge(node.begin)) return false;
    if (before && !run.before[axis])
      for (std::int64_t i = run.begin; i < node.begin; ++i)
        if (!no_edge(i)) return false;
  }
  for (int axis = 0; axis < 2; ++axis) {
    run.before[axis] = std::max(run.before[axis], node.before[axis]);
    run.after[axis] = std::max(run.after[axis], node.after[axis]);
  }
  return true;
}

template <class Real>
WalkGradients<Real>::WalkGradients(const WalkSystem& system)
    : system_(system),
      n_(system.size()),
      x_(n_),
      r_(n_),
      p_(n_ + 2),
      q_(n_),
      sums_((n_ + grain - 1) / grain) {
  std::size_t run = 0;
  for (std::int64_t begin = 0; begin < n_; begin += grain) {
    while (run + 1 < system.runs.size() && system.runs[run + 1].begin <= begin) ++run;
    first_run_.push_back(run);
  }
}

template <class Real>
std::int64_t WalkGradients<Real>::solve(std::int32_t label) {
  begin(label);
  const double enough = system_.tolerance * std::sqrt(norm2_);
  if (norm2_ == 0) return 0;
  std::int64_t iteration = 0;
  double before = 0, length = 0;  // x has still to make the last step, of this length
  do {
    if (iteration == system_.most_iterations) break;
    turn(static_cast<Real>(before > 0 ? rho_ / before : 0), static_cast<Real>(length));
    length = rho_ / apply();
    before = rho_;
    step_back(static_cast<Real>(length));
    ++iteration;
  } while (!(std::sqrt(norm2_) < enough));
  pieces([&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) x_[i] += static_cast<Real>(length) * p_[i + 1];
  });
  return std::sqrt(norm2_) < enough ? iteration : -1;
}

template <class Real>
void WalkGradients<Real>::begin(std::int32_t label) {
  pieces([&](std::int64_t, std::int64_t begin, std::int64_t end) {
    std::fill(x_.begin() + begin, x_.begin() + end, Real{0});
    std::fill(r_.begin() + begin, r_.begin() + end, Real{0});
    std::fill(p_.begin() + begin + 1, p_.begin() + end + 1, Real{0});
  });
  for (const WalkSeed& seed : system_.seeds)
    if (seed.label == label) r_[seed.pixel] += seed.weight;
  step_back(0);
}

template <class Real>
template <class F>
void WalkGradients<Real>::pieces(F&& f) const {
  parallel_for(n_, together * grain, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += grain) f(begin / grain, begin, std::min(begin + grain, end));
  });
}

template <class Real>
std::array<double, 2> WalkGradients<Real>::total() const {
  std::array<double, 2> total{};
  for (const auto& sum : sums_)
    for (int s = 0; s < 2; ++s) total[s] += sum[s];
  return total;
}

// x makes the last step, along the old p, and p turns.
template <class Real>
void WalkGradients<Real>::turn(Real beta, Real alpha) {
  pieces([&](std::int64_t, std::int64_t begin, std::int64_t end) {
    const float* __restrict m = system_.inverse.data() + begin;
    const Real* __restrict r = r_.data() + begin;
    Real* __restrict x = x_.data() + begin;
    Real* __restrict p = p_.data() + 1 + begin;
    const std::int64_t n = end - begin;
    for (std::int64_t i = 0; i < n; ++i) {
      const Real last = p[i], next = m[i] * r[i] + beta * last;
      x[i] += alpha * last;
      p[i] = std::abs(next) < vanishing<Real> ? 0 : next;
    }
  });
}

// q = A p, and p q.
template <class Real>
double WalkGradients<Real>::apply() {
  pieces([&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
    const std::vector<WalkRun>& runs = system_.runs;
    for (std::size_t k = first_run_[piece]; k < runs.size() && runs[k].begin < end; ++k)
      apply(runs[k], std::max(begin, runs[k].begin),
            k + 1 < runs.size() ? std::min(end, runs[k + 1].begin) : end);
    const Real* const p = p_.data() + 1 + begin;
    const Real* const q = q_.data() + begin;
    sums_[piece][0] =
        sum_of(end - begin, [&](std::int64_t i) { return static_cast<double>(p[i]) * q[i]; });
  });
  return total()[0];
}

template <class Real>
void WalkGradients<Real>::apply(const WalkRun& run, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = end - begin;
  const float *const z = system_.weight[0].data() + 1 + begin, *const z_before = z - run.before[0];
  const float *const y = system_.weight[1].data() + 1 + begin, *const y_before = y - run.before[1];
  const float* const x = system_.weight[2].data() + 1 + begin;
  const float* const excess = system_.excess.data() + begin;
  const Real* const p = p_.data() + 1 + begin;
  const Real *const above = p - run.before[0], *const below = p + run.after[0];
  const Real *const up = p - run.before[1], *const down = p + run.after[1];
  Real* __restrict q = q_.data() + begin;
#pragma GCC ivdep  // q is none of the others, which takes too many checks to find out
  for (std::int64_t i = 0; i < n; ++i) {
    const Real here = p[i];
    q[i] = (x[i] * (here - p[i + 1]) + x[i - 1] * (here - p[i - 1])) +
           (y[i] * (here - down[i]) + y_before[i] * (here - up[i])) +
           (z[i] * (here - below[i]) + z_before[i] * (here - above[i])) + excess[i] * here;
  }
}

// r -= length q, and how great it is.
template <class Real>
void WalkGradients<Real>::step_back(Real length) {
  pieces([&](std::int64_t piece, std::int64_t begin, std::int64_t end) {
    const float* const m = system_.inverse.data() + begin;
    const Real* const q = q_.data() + begin;
    Real* const r = r_.data() + begin;
    for (std::int64_t i = 0; i < end - begin; ++i) r[i] -= length * q[i];
    const auto square = [&](std::int64_t i) { return static_cast<double>(r[i]) * r[i]; };
    sums_[piece] = {sum_of(end - begin, square),
                    sum_of(end - begin, [&](std::int64_t i) { return m[i] * square(i); })};
  });
  const auto sums = total();
  norm2_ = sums[0];
  rho_ = sums[1];
}

template class WalkGradients<float>;
template class WalkGradients<double>;

}  // namespace msf
