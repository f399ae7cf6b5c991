// The queues of a flooding: voxels by (key, time of entry), where a key counts as at least the
// current one, because a voxel's key is at least that of the voxel that pushed it.
//
// Whatever is pushed at or below the current level joins one first-in first-out line, so only what
// lies above it needs a place by key. A voxel enters at most once, so there can be room for each in
// an array cut by a histogram.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "parallel.hpp"
#include "watershed.hpp"
#include "zeroed.hpp"

namespace msf {

// How many voxels leave a queue at once: as many lines of memory are fetched together.
inline constexpr std::int64_t most_leaving = 192;

// Where the voxels of each of `bins` consecutive ranges of values begin, if all lie in order.
template <class Index, class Bin>
std::vector<Index> bin_begins(std::int64_t voxels, std::int64_t bins, const Bin& bin) {
  const Slabs slabs(voxels, 4 * bins);
  std::vector<std::vector<Index>> counts(slabs.count);
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    counts[slab].assign(bins, 0);
    Index* const count = counts[slab].data();
    for (std::int64_t v = begin; v < end;) {
      poll();
      for (const std::int64_t stop = std::min(end, v + (1 << 20)); v < stop; ++v) ++count[bin(v)];
    }
  });
  std::vector<Index> begins(bins + 1);
  Index next = 0;
  for (std::int64_t b = 0; b < bins; ++b) {
    begins[b] = next;
    for (const auto& count : counts) next += count[b];
  }
  begins[bins] = next;
  return begins;
}

// 8 and 16 bits: room for each level's voxels, and as much again for the current level's. What
// waits above the current level has that level's own value, so it fits. Only what is used is ever
// touched: 4 bytes for each voxel that enters.
template <class Key, class Index>
class LevelQueue {
  static constexpr std::int64_t levels = std::int64_t{1} << 8 * sizeof(Key);

 public:
  static bool fits(std::int64_t voxels) {
    return voxels < std::int64_t{std::numeric_limits<Index>::max()} / 2;
  }

  // keep: what has left is kept for each_left().
  LevelQueue(const PixelKeys<Key>& keys, std::int64_t voxels, bool keep)
      : keep_(keep),
        entered_(static_cast<Index>(voxels)),
        memory_(2 * voxels),
        items_(memory_.get()),
        begins_(bin_begins<Index>(voxels, levels, [&](std::int64_t v) { return keys[v]; })),
        ends_(begins_) {}

  // For markers, before run().
  void start(Key key, Index v) { items_[ends_[key]++] = v; }

  void push(Key key, Index v) { items_[ends_[std::max(key, current_)]++] = v; }

  // leave(voxels, count) for all voxels in order, at most most_leaving at once, which may push;
  // fetch(f) calls f(v) for voxels that come soon.
  template <class F, class G>
  void run(F&& leave, G&&) {
    for (std::int64_t level = 0; level < levels; ++level) {
      const Index begin = begins_[level], end = ends_[level];
      if (begin == end) continue;
      current_ = static_cast<Key>(level);
      ends_[level] = entered_;  // from now on
      const auto run = [&](Index first, const Index& last) {
        const Index begin = first;
        while (first < last) {
          const std::int64_t count = std::min<std::int64_t>(most_leaving, last - first);
          leave(items_ + first, count);
          first += static_cast<Index>(count);
        }
        if (keep_ && begin < last) left_.push_back({begin, last});
      };
      run(begin, end);
      run(entered_, ends_[level]);
      if (keep_) entered_ = ends_[level];
    }
  }

  // f(voxels, count), which may overwrite them, for all that have left, in order.
  template <class F>
  void each_left(F&& f) {
    for (const auto& [begin, end] : left_) f(items_ + begin, std::int64_t{end} - begin);
  }

 private:
  Key current_ = 0;
  bool keep_;
  Index entered_;  // where those begin that enter the current level
  Scratch<Index> memory_;
  Index* items_;
  std::vector<Index> begins_, ends_;  // of what waits in each level
  std::vector<std::pair<Index, Index>> left_;
};

// 32 and 64 bits: room for the voxels of each of 65536 ranges of keys. What waits in a range is
// sorted when the flood gets there; what enters that range later goes to a heap beside it.
template <class Key, class Index>
class RangeQueue {
 public:
  static bool fits(std::int64_t voxels) { return voxels < std::numeric_limits<Index>::max(); }

  // As of LevelQueue.
  RangeQueue(const PixelKeys<Key>& keys, std::int64_t voxels, bool keep)
      : keep_(keep),
        memory_(voxels),
        waiting_(memory_.get()),
        left_(keep ? voxels : most_leaving),
        next_left_(left_.get()) {
    const Slabs slabs(voxels, 1 << 16);
    std::vector<Key> least(slabs.count), most(slabs.count);
    slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
      Key low = keys[begin], high = low;
      Ticker tick(1 << 20);
      for (std::int64_t v = begin; v < end; ++v) {
        tick();
        const Key key = keys[v];
        low = std::min(low, key);
        high = std::max(high, key);
      }
      least[slab] = low;
      most[slab] = high;
    });
    least_ = *std::min_element(least.begin(), least.end());
    const Key range = *std::max_element(most.begin(), most.end()) - least_;
    shift_ = std::max(0, static_cast<int>(std::bit_width(range)) - bin_bits);
    bins_ = static_cast<std::int64_t>(range >> shift_) + 1;
    begins_ = bin_begins<Index>(voxels, bins_, [&](std::int64_t v) { return bin_of(keys[v]); });
    ends_ = begins_;
  }

  // For markers, before run().
  void start(Key key, Index v) { waiting_[ends_[bin_of(key)]++] = {key, v}; }

  void push(Key key, Index v) {
    if (key <= current_)
      level_.push_back(v);
    else if (const std::int64_t bin = bin_of(key); bin != bin_)
      waiting_[ends_[bin]++] = {key, v};
    else
      push_heap(key, v);
  }

  // As of LevelQueue.
  template <class F, class G>
  void run(F&& leave, G&& fetch) {
    for (bin_ = 0; bin_ < bins_; ++bin_) {
      Item* next = waiting_ + begins_[bin_];
      Item* const end = waiting_ + ends_[bin_];
      sort(next, end);
      for (const Item* item = next; item < std::min(end, next + look_ahead); ++item) fetch(item->v);
      while (next < end || !late_.empty()) {
        current_ = late_.empty() || (next < end && next->key <= late_.front().key)
                       ? next->key
                       : late_.front().key;
        level_.clear();
        for (; next < end && next->key == current_; ++next) {
          level_.push_back(next->v);
          if (end - next > look_ahead) fetch(next[look_ahead].v);
        }
        while (!late_.empty() && late_.front().key == current_) {
          level_.push_back(late_.front().v);
          std::pop_heap(late_.begin(), late_.end(), later);
          late_.pop_back();
        }
        for (std::size_t first = 0; first < level_.size();) {
          const std::size_t count = std::min<std::size_t>(most_leaving, level_.size() - first);
          std::copy_n(level_.data() + first, count, next_left_);  // pushing may move the vector
          leave(next_left_, static_cast<std::int64_t>(count));
          first += count;
          if (keep_) next_left_ += count;
        }
      }
    }
  }

  // As of LevelQueue.
  template <class F>
  void each_left(F&& f) {
    f(left_.get(), next_left_ - left_.get());
  }

 private:
  static constexpr int bin_bits = 16, look_ahead = 8;
  struct Item {
    Key key;
    Index v;
  };
  struct Late {
    Key key;
    Index v;
    std::uint64_t entry;
  };
  static bool later(const Late& a, const Late& b) {
    return a.key != b.key ? a.key > b.key : a.entry > b.entry;
  }

  std::int64_t bin_of(Key key) const { return static_cast<std::int64_t>((key - least_) >> shift_); }

  void push_heap(Key key, Index v) {
    late_.push_back({key, v, entries_++});
    std::push_heap(late_.begin(), late_.end(), later);
  }

  // By key, stable; keys of one bin differ in the lowest shift_ bits at most.
  void sort(Item* first, Item* last) {
    const auto less = [](const Item& a, const Item& b) { return a.key < b.key; };
    const std::int64_t count = last - first;
    if (count < 2 || std::is_sorted(first, last, less)) return;
    if (count < 64) {
      for (Item* at = first + 1; at < last; ++at) {
        const Item item = *at;
        Item* to = at;
        for (; to > first && item.key < to[-1].key; --to) *to = to[-1];
        *to = item;
      }
      return;
    }
    if (static_cast<std::int64_t>(spare_.size()) < count) spare_.resize(count);
    Item *from = first, *to = spare_.data();
    Ticker tick(1 << 18);
    for (int low = 0; low < shift_; low += 8) {
      const auto digit = [&](const Item& item) { return ((item.key - least_) >> low) & 0xff; };
      std::int64_t place[256] = {};
      for (std::int64_t i = 0; i < count; ++i) {
        tick();
        ++place[digit(from[i])];
      }
      std::int64_t next = 0;
      for (std::int64_t& p : place) next += std::exchange(p, next);
      for (std::int64_t i = 0; i < count; ++i) {
        tick();
        to[place[digit(from[i])]++] = from[i];
      }
      std::swap(from, to);
    }
    if (from != first) std::copy_n(from, count, first);
  }

  Key least_ = 0, current_ = 0;
  int shift_ = 0;
  std::int64_t bins_ = 0, bin_ = -1;
  std::uint64_t entries_ = 0;
  bool keep_;
  Scratch<Item> memory_;
  Item* waiting_;
  Scratch<Index> left_;
  Index* next_left_;
  std::vector<Index> begins_, ends_;
  std::vector<Item> spare_;
  std::vector<Late> late_;
  std::vector<Index> level_;  // those of the current key, in order of entry
};

}  // namespace msf
