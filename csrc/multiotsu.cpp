// Otsu's method for several classes: the thresholds that maximise the between-class variance
//   sigma = sum over classes of (first moment)^2 / (zeroth moment),
// by dynamic programming in O(classes * bins^2) where the exhaustive search of Liao et al. (2001)
// takes O(bins^(classes - 1)).
//
// The search has to end at the very thresholds that scikit-image's exhaustive search finds, which
// computes moments, quotients and sums in float32, adds the last class right after the first and
// then the others from left to right, and keeps the lexicographically first of equal sums. Three
// steps:
//   1. best[m][t], the best sum of m classes up to threshold t, and rest[m][t], of m classes after
//      it. A threshold t can take part in a maximum of the rounded sums only if best + rest there
//      comes within the rounding error of the optimum: a few candidates a threshold are left.
//   2. The maximum of the rounded sums: rounded addition is monotone, so dynamic programming over
//      the candidates, once for every candidate of the last threshold, is exact.
//   3. The lexicographically first maximiser: threshold by threshold the first candidate from which
//      the maximum can still be reached, by the same dynamic programming.
//
// Empty bins give no new sums unless a class is empty; they are left out where an empty class is
// worse than none by more than the rounding error, which is always but for contrived histograms.
#include <limits>
#include <vector>

#include "kernels/multiotsu.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Positions = std::vector<std::int64_t>;  // bins, or indices into such a list, ascending
constexpr float none = -std::numeric_limits<float>::infinity();

// Moments of bins 0..i. The first bin's first moment is its probability, not zero: scikit-image's
// convention, kept because it decides ties. The class of the first bin alone has variance 0, but
// not with an empty second bin, which therefore counts as occupied.
struct Moments {
  std::vector<float> zeroth, first;

  Moments(const float* probability, std::int64_t bins) : zeroth(bins), first(bins) {
    zeroth[0] = first[0] = probability[0];
    for (std::int64_t i = 1; i < bins; ++i) {
      zeroth[i] = zeroth[i - 1] + probability[i];
      first[i] = first[i - 1] + static_cast<float>(i) * probability[i];
    }
  }
  Moments(const Moments& all, const Positions& bins) {
    for (const auto bin : bins) {
      zeroth.push_back(all.zeroth[bin]);
      first.push_back(all.first[bin]);
    }
  }
  std::int64_t size() const { return static_cast<std::int64_t>(zeroth.size()); }

  static float variance(float zeroth, float first) {
    return zeroth > 0 ? first * first / zeroth : 0.0f;
  }
  // Of the class of all positions up to t.
  float up_to(std::int64_t t) const { return t == 0 ? 0.0f : variance(zeroth[t], first[t]); }
  // Of the class after position s, up to t.
  float between(std::int64_t s, std::int64_t t) const {
    return variance(zeroth[t] - zeroth[s], first[t] - first[s]);
  }
};

// max of sums[s] + variance of the class between s and `end`, s in [begin, stop); the class lies on
// the other side of s when `end` < begin: both moments then change sign, and are given as such.
template <bool after>
float best_split(const Moments& m, const float* __restrict sums, std::int64_t begin,
                 std::int64_t stop, std::int64_t end) {
  constexpr int lanes = 16;
  const float* __restrict zeroth = m.zeroth.data();
  const float* __restrict first = m.first.data();
  const float z = zeroth[end], f = first[end];
  const auto sum = [&](std::int64_t s) {
    const float dz = after ? zeroth[s] - z : z - zeroth[s];
    const float df = after ? first[s] - f : f - first[s];
    const float v = df * df / dz;
    return sums[s] + (dz > 0 ? v : 0.0f);
  };
  float best[lanes];
  std::fill_n(best, lanes, none);
  std::int64_t s = begin;
  for (; s + lanes <= stop; s += lanes) {
    for (int k = 0; k < lanes; ++k) {
      const float x = sum(s + k);
      best[k] = x > best[k] ? x : best[k];
    }
  }
  for (; s < stop; ++s) best[0] = std::max(best[0], sum(s));
  return *std::max_element(best, best + lanes);
}

class Search {
 public:
  Search(Moments moments, int thresholds)
      : m_(std::move(moments)), thresholds_(thresholds), n_(m_.size()) {}

  // Steps 1 and 2; false if a class less is as good up to rounding.
  bool run() {
    tables();
    const float fewer = thresholds_ > 1 ? optimum(thresholds_ - 1) : m_.up_to(n_ - 1);
    const float best = optimum(thresholds_), least = best * (1 - slack());
    candidates_.resize(thresholds_);
    for (int k = 0; k < thresholds_; ++k)
      for (std::int64_t t = k; t < n_ - thresholds_ + k; ++t)
        if (best_[k][t] + rest_[thresholds_ - 1 - k][t] >= least) candidates_[k].push_back(t);
    return fewer < least;
  }

  // Steps 2 and 3.
  Positions thresholds() const {
    float most = none;
    std::vector<float> reached;
    for (const auto last : candidates_.back()) {
      reached.push_back(reach(0, first_sums(last), last));
      most = std::max(most, reached.back());
    }
    Positions found;
    for (std::size_t i = 0; i < reached.size(); ++i) {
      if (reached[i] != most) continue;
      const Positions path = first_path(candidates_.back()[i], most);
      if (found.empty() || path < found) found = path;
    }
    return found;
  }

 private:
  // Each of the sums in steps 1 and 2 takes `thresholds` rounded additions of terms >= 0 at most.
  float slack() const {
    return 8 * static_cast<float>(thresholds_ + 1) * std::numeric_limits<float>::epsilon();
  }

  float optimum(int thresholds) const {
    float best = none;
    for (std::int64_t t = 0; t + 1 < n_; ++t)
      best = std::max(best, best_[thresholds - 1][t] + rest_[0][t]);
    return best;
  }

  // best_[m][t]: m + 1 classes on [0, t]; rest_[m][t]: m + 1 classes on (t, n - 1].
  void tables() {
    best_.assign(thresholds_, std::vector<float>(n_, none));
    rest_ = best_;
    for (std::int64_t t = 0; t < n_; ++t) {
      best_[0][t] = m_.up_to(t);
      if (t + 1 < n_) rest_[0][t] = m_.between(t, n_ - 1);
    }
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / n_);
    for (int k = 1; k < thresholds_; ++k) {
      parallel_for(n_, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) {
          best_[k][t] = best_split<false>(m_, best_[k - 1].data(), 0, t, t);
          rest_[k][t] = best_split<true>(m_, rest_[k - 1].data(), t + 1, n_, t);
        }
      });
    }
  }

  // Sum of the first and the last class for every candidate of the first threshold.
  std::vector<float> first_sums(std::int64_t last) const {
    std::vector<float> sums;
    for (const auto t : candidates_[0]) {
      const bool fits = thresholds_ == 1 ? t == last : t < last;
      sums.push_back(fits ? m_.up_to(t) + m_.between(last, n_ - 1) : none);
    }
    return sums;
  }

  // The greatest rounded sum when the last threshold is `last` and threshold k is a candidate with
  // the given sum so far.
  float reach(int k, std::vector<float> sums, std::int64_t last) const {
    for (++k; k < thresholds_; ++k) {
      const auto &from = candidates_[k - 1], &to = candidates_[k];
      std::vector<float> next(to.size(), none);
      for (std::size_t j = 0; j < to.size(); ++j) {
        if (k == thresholds_ - 1 ? to[j] != last : to[j] >= last) continue;
        for (std::size_t i = 0; i < from.size() && from[i] < to[j]; ++i)
          if (sums[i] != none) next[j] = std::max(next[j], sums[i] + m_.between(from[i], to[j]));
      }
      sums = std::move(next);
      poll();
    }
    return *std::max_element(sums.begin(), sums.end());
  }

  // The lexicographically first thresholds with this last one whose sum is `most`.
  Positions first_path(std::int64_t last, float most) const {
    Positions path;
    float sum = 0;  // of the classes that `path` settles
    std::vector<float> sums = first_sums(last);
    for (int k = 0; k < thresholds_; ++k) {
      const auto& to = candidates_[k];
      if (k > 0) {
        sums.assign(to.size(), none);
        for (std::size_t j = 0; j < to.size(); ++j) {
          const bool fits = k == thresholds_ - 1 ? to[j] == last : to[j] < last;
          if (fits && to[j] > path.back()) sums[j] = sum + m_.between(path.back(), to[j]);
        }
      }
      for (std::size_t j = 0; j < to.size(); ++j) {
        if (sums[j] == none) continue;
        std::vector<float> only(to.size(), none);
        only[j] = sums[j];
        if (reach(k, std::move(only), last) != most) continue;
        path.push_back(to[j]);
        sum = sums[j];
        break;
      }
    }
    return path;
  }

  Moments m_;
  int thresholds_;
  std::int64_t n_;
  std::vector<std::vector<float>> best_, rest_;
  std::vector<Positions> candidates_;
};

}  // namespace

void multi_otsu(const Array& probabilities, const MutableArray& thresholds) {
  const float* probability = probabilities.as<float>();
  const std::int64_t bins = probabilities.size();
  const int count = static_cast<int>(thresholds.size());
  const Moments all(probability, bins);
  Positions occupied, found;
  for (std::int64_t bin = 0; bin < bins; ++bin)
    if (bin <= 1 || probability[bin] > 0) occupied.push_back(bin);
  Search search(Moments(all, occupied), count);
  if (search.run()) {
    for (const auto position : search.thresholds()) found.push_back(occupied[position]);
  } else {
    Search full(all, count);
    full.run();
    found = full.thresholds();
  }
  std::copy(found.begin(), found.end(), thresholds.as<std::int64_t>());
}

}  // namespace msf
