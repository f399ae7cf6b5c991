// Merging the regions that boundaries enclose: the last part of Ma and Manjunath's EdgeFlow.
//
// The paper compares neighbours by their colour and texture, their sizes and the share of their
// common boundary that was found rather than closed, without a formula. Here the cost of a merge is
//   n m / (n + m) * sum over the maps of (weight * difference of means)^2 * (share found + 1/8) :
// what it adds to the variance within regions (J. H. Ward, "Hierarchical grouping to optimize an
// objective function", J. American Statistical Association 58 (1963) 236-244), less where little
// of the boundary was found. First regions that are too small go to the neighbour of least cost,
// the smallest region first; then the pair of least cost merges until few enough are left. Of equal
// sizes and costs those of lower numbers come first; a merged region has the lower of both.
#include <cmath>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "kernels/edge_flow.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

constexpr double closed_share = 0.125;  // weight of a boundary that only closes gaps

struct Border {
  Index length = 0, found = 0;
};

class Regions {
 public:
  Regions(const Array& maps, const std::vector<double>& weights, const MutableArray& masks,
          const MutableArray& labels, Index count)
      : maps_(maps.shape[0]),
        weights_(weights),
        size_(count + 1),
        sums_((count + 1) * maps_),
        known_(sums_.size()),
        next_to_(count + 1),
        into_(count + 1),
        version_(count + 1),
        left_(count) {
    for (Index i = 0; i <= count; ++i) into_[i] = static_cast<std::int32_t>(i);
    const Index rows = labels.shape[0], columns = labels.shape[1], size = labels.size();
    const std::int32_t* const label = labels.as<std::int32_t>();
    const std::uint8_t* const mask = masks.as<std::uint8_t>();
    for (Index i = 0; i < size; ++i) ++size_[label[i]];
    parallel_tasks(maps_, [&](Index k) {
      const float* const map = maps.as<float>() + k * size;
      Ticker tick;
      for (Index i = 0; i < size; ++i) {
        tick();
        if (!std::isfinite(map[i])) continue;
        sums_[at(k, label[i])] += map[i];
        ++known_[at(k, label[i])];
      }
    });
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) {
        const Index i = r * columns + c;
        if (mask[i] & 1) add_border(label[i], label[i + 1], !(mask[i] & 4));
        if (mask[i] & 2) add_border(label[i], label[i + columns], !(mask[i] & 8));
      }
  }

  void merge_small(Index least) {
    using Entry = std::pair<Index, std::int32_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const Index n = static_cast<Index>(size_.size());
    for (Index i = 1; i < n; ++i)
      if (size_[i] < least) queue.push({size_[i], static_cast<std::int32_t>(i)});
    Ticker tick(64);
    while (!queue.empty()) {
      const auto [size, region] = queue.top();
      queue.pop();
      tick();
      if (into_[region] != region || size_[region] != size || next_to_[region].empty()) continue;
      std::pair<double, std::int32_t> best{INFINITY, 0};
      for (const auto& [other, border] : next_to_[region])
        best = std::min(best, {cost(region, other, border), other});
      if (best.second == 0) best.second = next_to_[region].begin()->first;
      const std::int32_t merged = merge(region, best.second);
      if (size_[merged] < least) queue.push({size_[merged], merged});
    }
  }

  void merge_alike(Index wanted) {
    using Entry = std::tuple<double, std::int32_t, std::int32_t, Index, Index>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto push = [&](std::int32_t a, std::int32_t b, const Border& border) {
      queue.push({cost(a, b, border), std::min(a, b), std::max(a, b), version_[std::min(a, b)],
                  version_[std::max(a, b)]});
    };
    for (std::size_t i = 1; i < next_to_.size(); ++i)
      for (const auto& [other, border] : next_to_[i])
        if (static_cast<std::int32_t>(i) < other) push(static_cast<std::int32_t>(i), other, border);
    Ticker tick(64);
    while (left_ > wanted && !queue.empty()) {
      const auto [price, a, b, version_a, version_b] = queue.top();
      queue.pop();
      tick();
      if (version_[a] != version_a || version_[b] != version_b) continue;
      const std::int32_t merged = merge(a, b);
      for (const auto& [other, border] : next_to_[merged]) push(merged, other, border);
    }
  }

  std::int32_t root(std::int32_t region) {
    while (into_[region] != region) region = into_[region] = into_[into_[region]];
    return region;
  }

 private:
  Index at(Index map, Index region) const {
    return map * static_cast<Index>(size_.size()) + region;
  }

  void add_border(std::int32_t a, std::int32_t b, bool found) {
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      Border& border = next_to_[from][to];
      ++border.length;
      border.found += found;
    }
  }

  double cost(std::int32_t a, std::int32_t b, const Border& border) const {
    double difference = 0;
    for (Index k = 0; k < maps_; ++k) {
      const Index i = at(k, a), j = at(k, b);
      if (known_[i] == 0 || known_[j] == 0) continue;
      const double d = weights_[k] * (sums_[i] / static_cast<double>(known_[i]) -
                                      sums_[j] / static_cast<double>(known_[j]));
      difference += d * d;
    }
    const double n = static_cast<double>(size_[a]), m = static_cast<double>(size_[b]);
    const double share = static_cast<double>(border.found) / static_cast<double>(border.length);
    return n * m / (n + m) * difference * (share + closed_share);
  }

  // The region with the higher number goes into the other; returns that.
  std::int32_t merge(std::int32_t a, std::int32_t b) {
    if (b < a) std::swap(a, b);
    into_[b] = a;
    size_[a] += size_[b];
    for (Index k = 0; k < maps_; ++k) {
      sums_[at(k, a)] += sums_[at(k, b)];
      known_[at(k, a)] += known_[at(k, b)];
    }
    next_to_[a].erase(b);
    for (const auto& [other, border] : next_to_[b]) {
      if (other == a) continue;
      next_to_[other].erase(b);
      for (Border* to : {&next_to_[a][other], &next_to_[other][a]}) {
        to->length += border.length;
        to->found += border.found;
      }
    }
    next_to_[b].clear();
    ++version_[a];
    ++version_[b];
    --left_;
    return a;
  }

  const Index maps_;
  const std::vector<double>& weights_;
  std::vector<Index> size_;
  std::vector<double> sums_;  // of the finite pixels, by map and region
  std::vector<Index> known_;  // their number
  std::vector<std::unordered_map<std::int32_t, Border>> next_to_;
  std::vector<std::int32_t> into_;
  std::vector<Index> version_;
  Index left_;
};

}  // namespace

Index merge_enclosed(const Array& maps, const std::vector<double>& weights, Index min_size,
                     Index n_regions, const MutableArray& masks, const MutableArray& labels) {
  const Index rows = labels.shape[0], columns = labels.shape[1], size = labels.size();
  std::int32_t* const label = labels.as<std::int32_t>();
  std::uint8_t* const mask = masks.as<std::uint8_t>();
  std::int32_t count = 0;
  for (Index i = 0; i < size; ++i) count = std::max(count, label[i]);
  Regions regions(maps, weights, masks, labels, count);
  regions.merge_small(min_size);
  if (n_regions > 0) regions.merge_alike(n_regions);
  std::vector<std::int32_t> number(count + 1, 0);
  std::int32_t n = 0;
  for (Index i = 0; i < size; ++i) {
    std::int32_t& mine = number[regions.root(label[i])];
    if (mine == 0) mine = ++n;
    label[i] = mine;
  }
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      const Index i = r * columns + c;
      if ((mask[i] & 1) && label[i] == label[i + 1]) mask[i] &= static_cast<std::uint8_t>(~5);
      if ((mask[i] & 2) && label[i] == label[i + columns])
        mask[i] &= static_cast<std::uint8_t>(~10);
    }
  return n;
}

}  // namespace msf
