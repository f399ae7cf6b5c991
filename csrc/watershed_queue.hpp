// The queues of a flooding: voxels by (key, time of entry), where a key is never below the current
// one, because a voxel's key is at least that of the voxel that pushed it.
//
// Whatever is pushed at or below the current level joins one first-in first-out ring, so only what
// lies above it needs a place by key. A voxel enters at most once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "bucket_queue.hpp"
#include "parallel.hpp"
#include "watershed.hpp"

namespace msf {

inline constexpr std::int64_t look_ahead = 8;  // voxels in a queue whose neighbours are prefetched

template <class Index>
class Ring {
 public:
  bool empty() const { return first_ == last_; }
  void push(Index v) {
    if (last_ - first_ == size_) grow();
    items_[last_++ & (size_ - 1)] = v;
  }
  Index pop() { return items_[first_++ & (size_ - 1)]; }
  // The voxel that comes `look_ahead` after the next; the last one if there are fewer.
  Index ahead() const { return items_[std::min(first_ + look_ahead, last_ - 1) & (size_ - 1)]; }

 private:
  void grow() {
    const std::int64_t larger = std::max<std::int64_t>(2 * size_, 1024);
    std::unique_ptr<Index[]> items(new Index[larger]);
    for (std::int64_t i = first_; i < last_; ++i) items[i & (larger - 1)] = items_[i & (size_ - 1)];
    items_ = std::move(items);
    size_ = larger;
  }
  std::unique_ptr<Index[]> items_;
  std::int64_t first_ = 0, last_ = 0, size_ = 0;
};

// 8 and 16 bits: an array with room for each level's voxels, as many as have that value, and for
// the current level's. What waits above the current level has that level's own value, so it fits.
// Room for 2 voxels each, but only what is used is ever touched: 4 bytes for each voxel.
template <class Key, class Index>
class LevelQueue {
  static constexpr std::int64_t levels = std::int64_t{1} << 8 * sizeof(Key);

 public:
  static bool fits(std::int64_t voxels) {
    return voxels < std::int64_t{std::numeric_limits<Index>::max()} / 2;
  }

  LevelQueue(const PixelKeys<Key>& keys, std::int64_t voxels)
      : voxels_(static_cast<Index>(voxels)), items_(new Index[2 * voxels]), ends_(levels) {
    const Slabs slabs(voxels, 4 * levels);
    std::vector<std::vector<Index>> counts(slabs.count);
    slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
      counts[slab].assign(levels, 0);
      Index* const count = counts[slab].data();
      for (std::int64_t v = begin; v < end;) {
        poll();
        for (const std::int64_t stop = std::min(end, v + (1 << 20)); v < stop; ++v)
          ++count[keys[v]];
      }
    });
    Index next = 0;
    for (std::int64_t level = 0; level < levels; ++level) {
      ends_[level] = next;
      for (const auto& count : counts) next += count[level];
    }
    begins_ = ends_;
  }

  // For markers, before run().
  void start(Key key, Index v) { items_[ends_[key]++] = v; }

  void push(Key key, Index v) { items_[ends_[std::max(key, current_)]++] = v; }

  // visit(v, ahead) for every voxel in order; `ahead` is likely to come soon.
  template <class F>
  void run(F&& visit) {
    for (std::int64_t level = 0; level < levels; ++level) {
      const std::int64_t begin = begins_[level], end = ends_[level];
      if (begin == end) continue;
      current_ = static_cast<Key>(level);
      ends_[level] = voxels_;  // from now on
      for (std::int64_t i = begin; i < end; ++i)
        visit(items_[i], items_[std::min(i + look_ahead, end - 1)]);
      for (std::int64_t i = voxels_; i < ends_[level]; ++i)
        visit(items_[i], items_[std::min<std::int64_t>(i + look_ahead, ends_[level] - 1)]);
    }
  }

 private:
  Key current_ = 0;
  Index voxels_;
  std::unique_ptr<Index[]> items_;
  std::vector<Index> begins_, ends_;  // of what waits in each level
};

// 32 and 64 bits: what waits above the current level lies in multi-level buckets.
template <class Key, class Index>
class KeyQueue {
 public:
  static bool fits(std::int64_t voxels) { return voxels < std::numeric_limits<Index>::max(); }

  KeyQueue(const PixelKeys<Key>&, std::int64_t) : above_(0) {}

  void start(Key key, Index v) { push(key, v); }

  void push(Key key, Index v) {
    if (key <= above_.current())
      ring_.push(v);
    else
      above_.push(key, v);
  }

  template <class F>
  void run(F&& visit) {
    do {
      while (!ring_.empty()) {
        const Index ahead = ring_.ahead();
        visit(ring_.pop(), ahead);
      }
    } while (above_.advance([&](Index v) { ring_.push(v); }));
  }

 private:
  BucketQueue<Key, Index> above_;
  Ring<Index> ring_;
};

}  // namespace msf
