// Active contours without edges (Chan and Vese 2001) on the whole image, in the scheme of Getreuer
// (Image Processing On Line 2, 2012, eq. 22) as scikit-image runs it: the new level set is made
// from the old one, not in place, and never reinitialised. The scheme magnifies rounding (where the
// level set is flat it divides by 1e-8), so that a result is the peer's only if every operation
// rounds as NumPy's does: expressions keep its order, sums its tree (pairwise_sum.hpp). Each
// iteration is a pass for the new level set and one for the sums. Energies, which steer nothing,
// are made on demand.
#include "kernels/chan_vese.hpp"

#include <cmath>
#include <memory>

#include "pairwise_sum.hpp"
#include "parallel.hpp"
#include "zeroed.hpp"

namespace msf {
namespace {

struct EnergySums {
  double h = 0, value = 0, square = 0, length = 0;
};

// Within 2 units in the last place; loops over it vectorise, and it is the same on every machine.
inline double arctan(double x) {
  constexpr double eighth = 0.41421356237309503, pi = 3.141592653589793;
  double t = std::abs(x);
  const bool steep = t > 1;
  t = steep ? 1 / t : t;
  const bool middle = t > eighth;
  const double u = middle ? (t - 1) / (t + 1) : t, square = u * u;
  double series = 0;
  for (int n = 43; n >= 1; n -= 2) series = 1.0 / n - square * series;
  double angle = u * series + (middle ? pi / 4 : 0);
  angle = steep ? pi / 2 - angle : angle;
  return std::copysign(angle, x);
}

template <class T>
class ChanVese {
 public:
  ChanVese(const Array& image, const ChanVeseRule& rule, const MutableArray& phi)
      : rows_(image.shape[0]),
        columns_(image.shape[1]),
        image_(image.as<T>()),
        mu_(static_cast<T>(rule.mu)),
        mu_dt_(static_cast<T>(rule.mu * rule.dt)),
        lambda1_(static_cast<T>(rule.lambda1)),
        lambda2_(static_cast<T>(rule.lambda2)),
        dt_(static_cast<T>(rule.dt)),
        rule_(rule),
        tree_(rows_ * columns_),
        inside_(tree_.leaves()),
        outside_(tree_.leaves()),
        count_(tree_.leaves()),
        change_(tree_.leaves()),
        memory_(rows_ * columns_),
        result_(phi.as<T>()),
        phi_(result_),
        next_(memory_.get()) {}

  std::vector<double> run(bool with_energies) {
    std::vector<double> energies;
    if (with_energies) add_up_image();
    add_up(phi_);
    T change = static_cast<T>(rule_.tolerance + 1);
    const T pixels = static_cast<T>(rows_ * columns_);
    for (std::int64_t i = 0; change > static_cast<T>(rule_.tolerance) && i < rule_.max_num_iter;
         ++i) {
      poll();
      if (with_energies) energies.push_back(energy());
      T c1 = tree_.total(inside_), c2 = tree_.total(outside_);
      const T inside = tree_.total(count_), outside = pixels - inside;
      if (inside != 0) c1 /= inside;
      if (outside != 0) c2 /= outside;
      each_row([&](std::int64_t y) { evolve_row(y, c1, c2); });
      std::swap(phi_, next_);
      add_up(next_);
      change = std::sqrt(tree_.total(change_) / pixels);
    }
    if (phi_ != result_) std::copy_n(phi_, rows_ * columns_, result_);
    return energies;
  }

 private:
  template <class F>
  void each_row(F&& f) {
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 13) / columns_);
    parallel_for(rows_, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t y = begin; y < end; ++y) f(y);
    });
  }

  // Sums over the leaves of NumPy's tree, for the means of phi's sides and the change from `old`.
  void add_up(const T* old) {
    parallel_for(tree_.leaves(), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t leaf = begin; leaf < end; ++leaf) {
        const std::int64_t first = tree_.start(leaf), n = tree_.start(leaf + 1) - first;
        const T* const v = image_ + first;
        const T* const phi = phi_ + first;
        const T* const before = old + first;
        inside_[leaf] = sum_leaf_of<T>(n, [=](std::int64_t i) { return phi[i] > 0 ? v[i] : T(0); });
        outside_[leaf] =
            sum_leaf_of<T>(n, [=](std::int64_t i) { return phi[i] > 0 ? T(0) : v[i]; });
        count_[leaf] = sum_leaf_of<T>(n, [=](std::int64_t i) { return phi[i] > 0 ? T(1) : T(0); });
        change_[leaf] = sum_leaf_of<T>(n, [=](std::int64_t i) {
          const T by = phi[i] - before[i];
          return by * by;
        });
      }
    });
  }

  void add_up_image() {
    std::vector<EnergySums> rows(rows_);
    each_row([&](std::int64_t y) {
      const T* const image = image_ + y * columns_;
      for (std::int64_t x = 0; x < columns_; ++x) {
        const double v = image[x];
        rows[y].value += v;
        rows[y].square += v * v;
      }
    });
    for (const EnergySums& row : rows) sum_ += row.value, squares_ += row.square;
  }

  // A row with its ends repeated on both sides.
  const T* padded(std::int64_t y, std::vector<T>& row) const {
    const T* const from = phi_ + std::clamp<std::int64_t>(y, 0, rows_ - 1) * columns_;
    row.resize(columns_ + 2);
    std::copy_n(from, columns_, row.data() + 1);
    row[0] = from[0];
    row[columns_ + 1] = from[columns_ - 1];
    return row.data() + 1;
  }

  void evolve_row(std::int64_t y, T c1, T c2) {
    static thread_local std::vector<T> kept;
    const T* const __restrict here = padded(y, kept);
    const T* const __restrict up = phi_ + std::max<std::int64_t>(y - 1, 0) * columns_;
    const T* const __restrict down = phi_ + std::min(y + 1, rows_ - 1) * columns_;
    const T* const __restrict image = image_ + y * columns_;
    T* const __restrict out = next_ + y * columns_;
    const T eta = static_cast<T>(1e-16), one = 1, two = 2;
    for (std::int64_t x = 0; x < columns_; ++x) {
      const T phi = here[x], left = here[x - 1], right = here[x + 1];
      const T xp = right - phi, xn = phi - left, x0 = (right - left) / two;
      const T yp = down[x] - phi, yn = phi - up[x], y0 = (down[x] - up[x]) / two;
      const T k1 = one / std::sqrt(eta + xp * xp + y0 * y0);
      const T k2 = one / std::sqrt(eta + xn * xn + y0 * y0);
      const T k3 = one / std::sqrt(eta + x0 * x0 + yp * yp);
      const T k4 = one / std::sqrt(eta + x0 * x0 + yn * yn);
      const T curvature = right * k1 + left * k2 + down[x] * k3 + up[x] * k4;
      const T in = image[x] - c1, outer = image[x] - c2;
      const T fit = -lambda1_ * (in * in) + lambda2_ * (outer * outer);
      const T delta = one / (one + phi * phi);
      const T moved = phi + (dt_ * delta) * (mu_ * curvature + fit);
      out[x] = moved / (one + mu_dt_ * delta * (k1 + k2 + k3 + k4));
    }
  }

  double energy() {
    std::vector<EnergySums> rows(rows_);
    each_row([&](std::int64_t y) {
      static thread_local std::vector<T> kept;
      const T* const here = padded(y, kept);
      const T* const up = phi_ + std::max<std::int64_t>(y - 1, 0) * columns_;
      const T* const down = phi_ + std::min(y + 1, rows_ - 1) * columns_;
      const T* const image = image_ + y * columns_;
      static thread_local std::vector<double> inside, length;
      inside.resize(columns_);
      length.resize(columns_);
      for (std::int64_t x = 0; x < columns_; ++x) {
        const double phi = here[x];
        const double fy = (static_cast<double>(down[x]) - up[x]) / 2;
        const double fx = (static_cast<double>(here[x + 1]) - here[x - 1]) / 2;
        inside[x] = 0.5 * (1 + (2 / 3.141592653589793) * arctan(phi));
        length[x] = std::sqrt(fx * fx + fy * fy) / (1 + phi * phi);
      }
      EnergySums& sums = rows[y];
      for (std::int64_t x = 0; x < columns_; ++x) {
        const double v = image[x], h = inside[x];
        sums.h += h;
        sums.value += h * v;
        sums.square += h * v * v;
        sums.length += length[x];
      }
    });
    EnergySums in;
    for (const EnergySums& row : rows) {
      in.h += row.h;
      in.value += row.value;
      in.square += row.square;
      in.length += row.length;
    }
    const EnergySums out{static_cast<double>(rows_ * columns_) - in.h, sum_ - in.value,
                         squares_ - in.square, 0};
    const auto spread = [](const EnergySums& s) {
      const double mean = s.h != 0 ? s.value / s.h : s.value;
      return s.square - 2 * mean * s.value + mean * mean * s.h;
    };
    return rule_.lambda1 * spread(in) + rule_.lambda2 * spread(out) + rule_.mu * in.length;
  }

  std::int64_t rows_, columns_;
  const T* image_;
  T mu_, mu_dt_, lambda1_, lambda2_, dt_;
  const ChanVeseRule& rule_;
  PairwiseTree tree_;
  std::vector<T> inside_, outside_, count_, change_;
  Scratch<T> memory_;
  T *result_, *phi_, *next_;
  double sum_ = 0, squares_ = 0;
};

}  // namespace

std::vector<double> chan_vese(const Array& image, const ChanVeseRule& rule, bool with_energies,
                              const MutableArray& phi) {
  if (image.dtype == DType::float32) return ChanVese<float>(image, rule, phi).run(with_energies);
  return ChanVese<double>(image, rule, phi).run(with_energies);
}

}  // namespace msf
