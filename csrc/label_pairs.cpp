// The contingency table of two label images, in one pass over runs of equal pairs: small labels
// count in a table, others in a hash table with linear probing.
#include <algorithm>
#include <memory>

#include "kernels/overlap.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

class PairCounts {
 public:
  void add(std::uint64_t a, std::uint64_t b, std::int64_t n) {
    if ((a | b) < small) {
      table_[a * small + b] += n;
      return;
    }
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = find(a, b);
    used_ += slot.count == 0;
    slot = {a, b, slot.count + n};
  }

  template <class F>
  void for_each(F&& f) const {
    for (std::uint64_t i = 0; i < small * small; ++i)
      if (table_[i]) f(i / small, i % small, table_[i]);
    for (const Slot& slot : slots_)
      if (slot.count) f(slot.a, slot.b, slot.count);
  }

 private:
  static constexpr std::uint64_t small = 64;
  struct Slot {
    std::uint64_t a, b;
    std::int64_t count;
  };

  Slot& find(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t mask = slots_.size() - 1;
    std::uint64_t hash = (a * 0x9E3779B97F4A7C15 ^ b) * 0xC2B2AE3D27D4EB4F;
    hash ^= hash >> 29;
    for (std::uint64_t i = hash & mask;; i = (i + 1) & mask) {
      Slot& slot = slots_[i];
      if (slot.count == 0 || (slot.a == a && slot.b == b)) return slot;
    }
  }

  void grow() {
    std::vector<Slot> old(std::max<std::size_t>(256, 2 * slots_.size()));
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.count) find(slot.a, slot.b) = slot;
  }

  std::vector<std::int64_t> table_ = std::vector<std::int64_t>(small * small);
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

template <class T>
void count_runs(const T* a, const T* b, std::int64_t begin, std::int64_t end, PairCounts& counts) {
  constexpr std::int64_t piece = 1 << 16;
  for (std::int64_t from = begin; from < end; from += piece) {
    poll();
    const std::int64_t to = std::min(end, from + piece);
    for (std::int64_t i = from, start = from; i < to; start = i) {
      const T x = a[start], y = b[start];
      while (++i < to && a[i] == x && b[i] == y) {
      }
      counts.add(x, y, i - start);
    }
  }
}

}  // namespace

LabelPairs label_pairs(const Array& a, const Array& b) {
  const Slabs slabs(a.size(), 1 << 18);
  std::vector<PairCounts> counts(slabs.count);
  visit_bits(a.dtype, [&]<class T>(Type<T>) {
    slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
      count_runs(a.as<T>(), b.as<T>(), begin, end, counts[slab]);
    });
  });
  for (std::int64_t slab = 1; slab < slabs.count; ++slab)
    counts[slab].for_each([&](auto x, auto y, auto n) { counts[0].add(x, y, n); });
  LabelPairs pairs;
  counts[0].for_each([&](auto x, auto y, auto n) {
    pairs.a.push_back(x);
    pairs.b.push_back(y);
    pairs.count.push_back(n);
  });
  return pairs;
}

}  // namespace msf
