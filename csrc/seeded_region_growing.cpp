// Seeded region growing (Adams and Bischof 1994, IEEE TPAMI 16(6):641-647).
//
// A list holds unlabelled voxels next to a region, sorted by |value - mean of the region| at the
// time of their entry; of equal distances the one that entered first comes first. The first is
// taken, given to the region with the nearest mean among those that it touches (of equally near
// ones to the lowest label), that mean is updated, and the voxel's neighbours that are neither
// labelled nor in the list enter it. The paper has voxels between two regions become a boundary or
// join the nearest (its equations 2 and 3); we do the latter.
//
// The list is cut into buckets by the leading bits of the distance, so in ever finer steps towards
// zero; each bucket is a binary heap. The order is that of one heap, but a bucket stays in the
// cache, and three words of bits find the first one.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/seeded_region_growing.hpp"
#include "neighbours.hpp"
#include "parallel.hpp"
#include "statistics.hpp"

namespace msf {
namespace {

enum : std::uint8_t { border = 1, listed = 2, barred = 4 };

class SortedList {
 public:
  struct Entry {
    double distance;  // >= 0
    std::int64_t age, voxel;
  };

  SortedList() : buckets_(bucket_count), used_(bucket_count / 64) {}

  bool empty() const { return top_ == 0; }

  void push(double distance, std::int64_t voxel) {
    const std::uint64_t b = std::bit_cast<std::uint64_t>(distance) >> shift;
    buckets_[b].push_back({distance, age_++, voxel});
    std::push_heap(buckets_[b].begin(), buckets_[b].end(), later);
    used_[b / 64] |= bit(b);
    words_[b / 4096] |= bit(b / 64);
    top_ |= bit(b / 4096);
  }

  std::int64_t pop() {
    const std::uint64_t group = std::countr_zero(top_);
    const std::uint64_t word = group * 64 + std::countr_zero(words_[group]);
    const std::uint64_t b = word * 64 + std::countr_zero(used_[word]);
    std::vector<Entry>& heap = buckets_[b];
    std::pop_heap(heap.begin(), heap.end(), later);
    const std::int64_t voxel = heap.back().voxel;
    heap.pop_back();
    if (heap.empty()) {
      std::vector<Entry>().swap(heap);  // a front passes through many buckets: give memory back
      if ((used_[word] &= ~bit(b)) == 0)
        if ((words_[group] &= ~bit(word)) == 0) top_ &= ~bit(group);
    }
    return voxel;
  }

 private:
  // The exponent of a double and 6 bits of its fraction: 64 buckets an octave.
  static constexpr int shift = 46;
  static constexpr std::size_t bucket_count = std::size_t{1} << (63 - shift);

  static bool later(const Entry& a, const Entry& b) {
    return a.distance != b.distance ? a.distance > b.distance : a.age > b.age;
  }
  static std::uint64_t bit(std::uint64_t i) { return std::uint64_t{1} << i % 64; }

  std::vector<std::vector<Entry>> buckets_;
  std::vector<std::uint64_t> used_;                         // buckets in use,
  std::array<std::uint64_t, bucket_count / 4096> words_{};  // words of used_ in use,
  std::uint64_t top_ = 0;                                   // and words of words_
  std::int64_t age_ = 0;
};

// While it grows, a region's label is its rank among the labels, counted from 1: it fits the
// labels' own type, and tables by label stay small.
template <class Label>
class Growth {
 public:
  Growth(const Array& image, int connectivity, double max_distance, std::int64_t max_voxels,
         const MutableArray& labels)
      : value_(image),
        neighbours_(image, connectivity),
        max_distance_(max_distance),
        max_voxels_(max_voxels),
        labels_(labels.as<Label>()),
        status_(new std::uint8_t[image.size()]()) {}

  std::vector<std::int64_t> run(const Array& image, const std::optional<Array>& mask) {
    neighbours_.mark_border(status_.get(), border);
    bar(image, mask);
    rank_labels();
    for (std::int64_t v = 0; v < neighbours_.size(); ++v) {
      if (labels_[v]) enter_neighbours<true>(v);
      tick_();
    }
    while (!list_.empty()) {
      take(list_.pop());
      tick_();
    }
    return restore_labels();
  }

 private:
  struct Region : RunningStatistics {
    Label label = 0;
    bool overfull = false;  // max_voxels kept it from a voxel
  };

  // Voxels that no region may take: outside the mask (a marker there is no seed), not finite.
  void bar(const Array& image, const std::optional<Array>& mask) {
    const std::int64_t n = neighbours_.size();
    constexpr std::int64_t grain = 1 << 16;
    if (mask) {
      const auto* inside = mask->as<std::uint8_t>();
      parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t v = begin; v < end; ++v) {
          if (inside[v]) continue;
          status_[v] |= barred;
          labels_[v] = 0;
        }
      });
    }
    visit(image.dtype, [&]<class T>(Type<T>) {
      if constexpr (is_float<T>) {
        parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t v = begin; v < end; ++v)
            if (!std::isfinite(static_cast<double>(image.as<T>()[v]))) status_[v] |= barred;
        });
      }
    });
  }

  void rank_labels() {
    std::vector<Label> found;
    Label last = 0;
    for (std::int64_t v = 0; v < neighbours_.size(); ++v) {
      const Label label = labels_[v];
      tick_();
      if (label == last) continue;
      last = label;
      const auto place = std::lower_bound(found.begin(), found.end(), label);
      if (label && (place == found.end() || *place != label)) found.insert(place, label);
    }
    regions_.resize(found.size() + 1);
    for (std::size_t rank = 1; rank <= found.size(); ++rank) regions_[rank].label = found[rank - 1];
    for (std::int64_t v = 0; v < neighbours_.size(); ++v) {
      tick_();
      if (!labels_[v]) continue;
      if (status_[v] & barred)
        throw std::invalid_argument(
            "seeded_region_growing: markers must not be on NaN or infinite voxels");
      const auto place = std::lower_bound(found.begin(), found.end(), labels_[v]);
      labels_[v] = static_cast<Label>(place - found.begin() + 1);
      regions_[labels_[v]].add(value_(v));
    }
  }

  std::vector<std::int64_t> restore_labels() {
    bool ranks = true;  // the labels are 1, 2, 3, ... already
    for (std::size_t rank = 1; rank < regions_.size(); ++rank)
      ranks = ranks && regions_[rank].label == rank;
    if (!ranks) {
      parallel_for(neighbours_.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t v = begin; v < end; ++v) labels_[v] = regions_[labels_[v]].label;
      });
    }
    std::vector<std::int64_t> overfull;
    for (const Region& region : regions_)
      if (region.overfull) overfull.push_back(static_cast<std::int64_t>(region.label));
    return overfull;
  }

  bool full(const Region& region) const { return max_voxels_ && region.count >= max_voxels_; }

  // Rank of the nearest region that v touches and that may take it, 0 for none.
  Label nearest(std::int64_t v, double value, double& distance) {
    Label best = 0;
    neighbours_.each(v, !(status_[v] & border), [&](std::int64_t w) {
      const Label rank = labels_[w];
      if (!rank) return;
      Region& region = regions_[rank];
      const double d = std::abs(value - region.mean);
      if (!(d <= max_distance_)) return;
      if (full(region)) {
        region.overfull = true;
      } else if (!best || d < distance || (d == distance && rank < best)) {
        best = rank;
        distance = d;
      }
    });
    return best;
  }

  // Enters the free neighbours of v, which has just joined a region, into the list. At the start
  // all seeds are there at once: a neighbour of several regions enters with its nearest.
  template <bool start>
  void enter_neighbours(std::int64_t v) {
    Region& region = regions_[labels_[v]];
    neighbours_.each(v, !(status_[v] & border), [&](std::int64_t w) {
      if (labels_[w] || (status_[w] & (listed | barred))) return;
      const double value = value_(w);
      double distance = 0;
      if constexpr (start) {
        if (!nearest(w, value, distance)) return;
      } else {
        distance = std::abs(value - region.mean);
        if (!(distance <= max_distance_)) return;
        if (full(region)) {
          region.overfull = true;
          return;
        }
      }
      status_[w] |= listed;
      list_.push(distance, w);
    });
  }

  void take(std::int64_t v) {
    status_[v] &= ~listed;  // refused now, it may enter again beside another region
    const double value = value_(v);
    double distance = 0;
    const Label rank = nearest(v, value, distance);
    if (!rank) return;
    labels_[v] = rank;
    regions_[rank].add(value);
    enter_neighbours<false>(v);
  }

  const Reader value_;
  const VoxelNeighbours neighbours_;
  const double max_distance_;
  const std::int64_t max_voxels_;
  Label* const labels_;
  const std::unique_ptr<std::uint8_t[]> status_;
  std::vector<Region> regions_;  // by rank; the first is none
  SortedList list_;
  Ticker tick_;
};

}  // namespace

std::vector<std::int64_t> seeded_region_growing(const Array& image, const MutableArray& labels,
                                                const std::optional<Array>& mask, int connectivity,
                                                double max_distance, std::int64_t max_voxels) {
  const auto grow = [&]<class Label>(Type<Label>) {
    return Growth<Label>(image, connectivity, max_distance, max_voxels, labels).run(image, mask);
  };
  switch (labels.dtype) {  // labels are not negative: signed types hold them like unsigned ones
    case DType::boolean:
    case DType::uint8:
    case DType::int8:
      return grow(Type<std::uint8_t>{});
    case DType::uint16:
    case DType::int16:
      return grow(Type<std::uint16_t>{});
    case DType::uint32:
    case DType::int32:
      return grow(Type<std::uint32_t>{});
    default:
      return grow(Type<std::uint64_t>{});
  }
}

}  // namespace msf
