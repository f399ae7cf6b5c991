// A priority queue for fronts: the keys that arrive are hardly ever less than the last one taken.
//
// A radix heap (Ahuja, Mehlhorn, Orlin and Tarjan 1990, Journal of the ACM 37(2):213-223) with a
// level for every five bits of the key, whose bits are, for doubles that are not negative, in the
// order of the keys. An item waits at the level of the highest digit in which its key differs from
// a reference key, in the bucket of that digit. Deviations: the first bucket of the lowest level in
// use is split by its next digit only while it is large; a small one is sorted, the "near" items.
// So an item takes two or three moves to the end of a vector and the sorting of a dozen in the
// first cache, where one heap of all items would make log n random accesses; and a key below the
// reference is welcome too: it goes to a heap beside the near items.
//
// Keys are not decreased: the caller pushes the item again and skips stale ones.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace msf {

template <class Value>
class FrontQueue {
 public:
  struct Item {
    double key;
    Value value;
    bool operator>(const Item& other) const {
      return key > other.key || (key == other.key && value > other.value);
    }
  };

  void clear() {
    near_.clear();
    late_.clear();
    for (auto& level : buckets_)
      for (auto& bucket : level) bucket.clear();
    used_ = {};
    levels_used_ = 0;
    reference_ = 0;
    near_end_ = 0;
    near_level_ = 0;
  }

  void push(double key, Value value) {
    if (std::bit_cast<std::int64_t>(key) >= near_end_) {  // negative keys have negative bits
      store({key, value});
      return;
    }
    late_.push_back({key, value});
    std::push_heap(late_.begin(), late_.end(), std::greater<>());
    if (late_.size() > many && near_level_ > 0) narrow();
  }

  // The item of the least key, of equal keys the one of the least value; nullptr: none is left.
  // announce(value) tells which ones follow soon.
  template <class F>
  const Item* top(F&& announce) {
    if (!late_.empty()) return first_is_late() ? &late_.front() : &near_.back();
    if (near_.empty()) [[unlikely]] {
      do {
        if (levels_used_ == 0) return nullptr;
        open();
      } while (near_.empty());
      for (const Item& item : near_) announce(item.value);
    }
    return &near_.back();
  }
  void pop() {  // after top()
    if (!late_.empty() && first_is_late()) {
      std::pop_heap(late_.begin(), late_.end(), std::greater<>());
      late_.pop_back();
    } else {
      near_.pop_back();
    }
  }

 private:
  static constexpr int digit_bits = 5, levels = (64 + digit_bits - 1) / digit_bits;
  static constexpr std::uint64_t digits = std::uint64_t{1} << digit_bits;
  static constexpr std::size_t small = 64, many = 256;

  bool first_is_late() const { return near_.empty() || near_.back() > late_.front(); }

  static std::uint64_t below(int level) { return (std::uint64_t{1} << digit_bits * level) - 1; }

  void store(const Item& item) {
    const auto bits = std::bit_cast<std::uint64_t>(item.key);
    const int level = (63 - std::countl_zero((bits ^ reference_) | 1)) / digit_bits;
    const std::uint64_t digit = (bits >> digit_bits * level) % digits;
    buckets_[level][digit].push_back(item);
    used_[level] |= std::uint64_t{1} << digit;
    levels_used_ |= std::uint32_t{1} << level;
  }

  // Empties the first bucket, into the near items or one level down.
  void open() {
    const int level = std::countr_zero(levels_used_);
    const std::uint64_t digit = std::countr_zero(used_[level]);
    used_[level] &= used_[level] - 1;
    if (used_[level] == 0) levels_used_ &= levels_used_ - 1;
    reference_ = (reference_ >> digit_bits * level >> digit_bits << digit_bits | digit)
                 << digit_bits * level;
    auto& bucket = buckets_[level][digit];
    if (bucket.size() > small && level > 0) {
      near_end_ = static_cast<std::int64_t>(reference_);
      moving_.swap(bucket);
      for (const Item& item : moving_) store(item);
      moving_.clear();
      if (moving_.capacity() > 2 * many) std::vector<Item>().swap(moving_);
      return;
    }
    near_.swap(bucket);  // near_ is empty; small vectors keep their memory
    sort_near();
    near_level_ = level;
    near_end_ = static_cast<std::int64_t>(reference_ | below(level)) + 1;
  }

  // Late items are many: puts all near ones back until few are left, those of the next level down.
  void narrow() {
    const Item& first = first_is_late() ? late_.front() : near_.back();
    const auto least = std::bit_cast<std::uint64_t>(first.key);
    if (static_cast<std::int64_t>(least) < static_cast<std::int64_t>(reference_)) return;
    --near_level_;
    reference_ = least & ~below(near_level_);
    near_end_ = static_cast<std::int64_t>(reference_ | below(near_level_)) + 1;
    moving_.swap(near_);
    moving_.insert(moving_.end(), late_.begin(), late_.end());
    late_.clear();
    for (const Item& item : moving_) {
      if (std::bit_cast<std::int64_t>(item.key) < near_end_)
        near_.push_back(item);
      else
        store(item);
    }
    moving_.clear();
    sort_near();
  }

  void sort_near() {
    if (near_.size() > small) {
      std::sort(near_.begin(), near_.end(), std::greater<>());
      return;
    }
    for (std::size_t i = 1; i < near_.size(); ++i) {
      const Item item = near_[i];
      std::size_t j = i;
      for (; j > 0 && item > near_[j - 1]; --j) near_[j] = near_[j - 1];
      near_[j] = item;
    }
  }

  std::uint64_t reference_ = 0;
  std::int64_t near_end_ = 0;  // bits of the first key that is not near
  int near_level_ = 0;         // the near items share all digits above it with the reference
  std::vector<Item> near_;     // sorted, the first last
  std::vector<Item> late_;     // near too, but came later: a heap
  std::vector<Item> moving_;
  std::array<std::array<std::vector<Item>, digits>, levels> buckets_;
  std::array<std::uint64_t, levels> used_{};  // which buckets hold items
  std::uint32_t levels_used_ = 0;
};

}  // namespace msf
