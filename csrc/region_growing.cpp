// Region growing by a rule of the caller's, given as a C function.
//
// Regions grow in steps, breadth first. In a step every voxel next to one that joined in the step
// before is put to the rule together with the region's mean and standard deviation before the step:
// what a step adds does not depend on the order in which it looks at voxels. A step that would
// break a limit is undone and the region is finished.
#include <utility>
#include <vector>

#include "kernels/region_growing.hpp"
#include "neighbours.hpp"
#include "parallel.hpp"
#include "statistics.hpp"

namespace msf {
namespace {

struct Region {
  RunningStatistics statistics;
  double seed_value = 0;            // mean of the seeds
  std::vector<std::int64_t> front;  // what joined in the last step, in order
};

template <class Label>
class CriterionGrowth {
 public:
  CriterionGrowth(const Array& image, int connectivity, Criterion criterion, GrowthLimits limits,
                  Label* labels)
      : value_(image),
        neighbours_(image, connectivity),
        criterion_(criterion),
        limits_(limits),
        labels_(labels) {}

  void seed(Region& region, const std::int64_t* first, const std::int64_t* last, Label label) {
    for (; first != last; ++first) {
      if (labels_[*first]) continue;  // named twice
      labels_[*first] = label;
      region.statistics.add(value_(*first));
      region.front.push_back(*first);
    }
    region.seed_value = region.statistics.mean;
  }

  // One step; false if it broke a limit and was undone, with the limit in `broken`.
  bool step(Region& region, Label label, GrowthLimit& broken) {
    const double mean = region.statistics.mean, deviation = region.statistics.deviation();
    const std::int64_t room = limits_.max_voxels - region.statistics.count;
    std::vector<std::int64_t> joined;
    bool within = true;
    for (const std::int64_t v : region.front) {
      neighbours_.each(v, !neighbours_.on_border(v), [&](std::int64_t w) {
        if (!within || labels_[w]) return;
        const double value = value_(w);
        if (value != value || !accepts(value, mean, deviation, region.seed_value)) return;
        labels_[w] = label;
        joined.push_back(w);
        const auto added = static_cast<std::int64_t>(joined.size());
        if (limits_.max_growth && added > limits_.max_growth) {
          broken = GrowthLimit::growth;
          within = false;
        } else if (limits_.max_voxels && added > room) {
          broken = GrowthLimit::voxels;
          within = false;
        }
      });
      if (!within) break;
      tick_();
    }
    if (within) {
      for (const std::int64_t v : joined) region.statistics.add(value_(v));
    } else {
      for (const std::int64_t v : joined) labels_[v] = 0;
      joined.clear();
    }
    region.front.swap(joined);
    return within;
  }

 private:
  bool accepts(double value, double mean, double deviation, double seed_value) const {
    const std::uint8_t answer = criterion_(value, mean, deviation, seed_value);
    if (answer > 1) throw std::runtime_error("region_growing: criterion raised an exception");
    return answer;
  }

  const Reader value_;
  const VoxelNeighbours neighbours_;
  const Criterion criterion_;
  const GrowthLimits limits_;
  Label* const labels_;
  Ticker tick_{1 << 8};  // the rule may be slow
};

template <class Label>
std::vector<Leak> grow(const Array& image, const Array& seeds, const Array& ends, int connectivity,
                       Criterion criterion, GrowthLimits limits, const Array& values,
                       Label* labels) {
  CriterionGrowth<Label> growth(image, connectivity, criterion, limits, labels);
  std::vector<Region> regions(ends.size());
  const auto label = [&](std::size_t i) {
    return static_cast<Label>(values.as<std::int64_t>()[i]);
  };
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const std::int64_t end = ends.as<std::int64_t>()[i];
    growth.seed(regions[i], seeds.as<std::int64_t>() + begin, seeds.as<std::int64_t>() + end,
                label(i));
    begin = end;
  }
  std::vector<Leak> leaks;
  bool active = true;
  for (std::int64_t step = 1; active; ++step) {
    active = false;
    for (std::size_t i = 0; i < regions.size(); ++i) {
      if (regions[i].front.empty()) continue;
      GrowthLimit broken{};
      if (!growth.step(regions[i], label(i), broken))
        leaks.push_back({static_cast<std::int64_t>(label(i)), step, regions[i].statistics.count,
                         broken == GrowthLimit::growth});
      active = active || !regions[i].front.empty();
    }
  }
  return leaks;
}

}  // namespace

std::vector<Leak> region_growing(const Array& image, const Array& seeds, const Array& ends,
                                 const Array& values, int connectivity, Criterion criterion,
                                 GrowthLimits limits, const MutableArray& labels) {
  if (labels.dtype == DType::boolean)
    return grow(image, seeds, ends, connectivity, criterion, limits, values,
                labels.as<std::uint8_t>());
  return grow(image, seeds, ends, connectivity, criterion, limits, values,
              labels.as<std::int32_t>());
}

}  // namespace msf
