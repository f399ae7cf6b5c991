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
// zero, and three words of bits find the first one. An entry that is not before the last of its
// bucket is appended to a sorted run (all of a uniform area are); the others go to a binary heap,
// which is small enough to stay in the cache.
#include <algorithm>
#include <array>
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
  bool empty() const { return top_ == 0; }

  void push(double distance, std::int64_t voxel) {
    const std::uint64_t b = std::bit_cast<std::uint64_t>(distance) >> shift, o = b / 64;
    if (!octaves_[o]) octaves_[o] = std::make_unique<Octave>();
    octaves_[o]->buckets[b % 64].push({distance, age_++, voxel});
    octaves_[o]->used |= bit(b);
    words_[o / 64] |= bit(o);
    top_ |= bit(o / 64);
  }

  std::int64_t pop() {
    const std::uint64_t word = std::countr_zero(top_);
    const std::uint64_t o = word * 64 + std::countr_zero(words_[word]);
    Octave& octave = *octaves_[o];
    const std::uint64_t b = std::countr_zero(octave.used);
    const std::int64_t voxel = octave.buckets[b].pop();
    if (octave.buckets[b].empty() && (octave.used &= ~bit(b)) == 0)
      if ((words_[word] &= ~bit(o)) == 0) top_ &= ~bit(word);
    return voxel;
  }

 private:
  struct Entry {
    double distance;  // >= 0
    std::int64_t age, voxel;
  };

  static bool later(const Entry& a, const Entry& b) {
    return a.distance != b.distance ? a.distance > b.distance : a.age > b.age;
  }

  class Bucket {
   public:
    bool empty() const { return head_ == run_.size() && heap_.empty(); }

    void push(const Entry& entry) {
      if (head_ == run_.size() || !later(run_.back(), entry)) {
        run_.push_back(entry);
        return;
      }
      heap_.push_back(entry);
      std::push_heap(heap_.begin(), heap_.end(), later);
    }

    std::int64_t pop() {
      if (heap_.empty() || (head_ < run_.size() && later(heap_.front(), run_[head_]))) {
        const std::int64_t voxel = run_[head_++].voxel;
        if (head_ == run_.size()) {
          clear(run_);
          head_ = 0;
        } else if (head_ >= kept && 2 * head_ >= run_.size()) {
          run_.erase(run_.begin(), run_.begin() + static_cast<std::ptrdiff_t>(head_));
          head_ = 0;
        }
        return voxel;
      }
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const std::int64_t voxel = heap_.back().voxel;
      heap_.pop_back();
      if (heap_.empty()) clear(heap_);
      return voxel;
    }

   private:
    static constexpr std::size_t kept = 256;  // entries whose memory an empty bucket keeps

    static void clear(std::vector<Entry>& entries) {
      if (entries.capacity() > kept)
        std::vector<Entry>().swap(entries);
      else
        entries.clear();
    }

    std::vector<Entry> run_;  // sorted, from head_ on
    std::size_t head_ = 0;
    std::vector<Entry> heap_;
  };

  // Distances of one exponent, split by 6 bits of the fraction.
  struct Octave {
    std::array<Bucket, 64> buckets;
    std::uint64_t used = 0;  // buckets that hold entries
  };
  static constexpr int shift = 52 - 6;

  static std::uint64_t bit(std::uint64_t i) { return std::uint64_t{1} << i % 64; }

  std::array<std::unique_ptr<Octave>, 2048> octaves_;  // by exponent, made when first needed
  std::array<std::uint64_t, 32> words_{};              // octaves that hold entries,
  std::uint64_t top_ = 0;                              // and words of words_ in use
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
