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

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace msf {

class FrontQueue {
 public:
  using Value = std::int64_t;
  struct Item {
    double key;
    Value value;
    bool operator>(const Item& other) const {
      return key > other.key || (key == other.key && value > other.value);
    }
  };

  void clear();

  void push(double key, Value value) {
    if (std::bit_cast<std::int64_t>(key) >= near_end_) {  // negative keys have negative bits
      store(key, value);
      return;
    }
    push_late({key, value});
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
      sort_near();
    }
    return &near_.back();
  }
  void pop() {  // after top()
    if (!late_.empty() && first_is_late())
      pop_late();
    else
      near_.pop_back();
  }

 private:
  static constexpr int digit_bits = 5, levels = (64 + digit_bits - 1) / digit_bits;
  static constexpr std::uint64_t digits = std::uint64_t{1} << digit_bits;

  bool first_is_late() const { return near_.empty() || near_.back() > late_.front(); }

  void store(double key, Value value);
  void push_late(const Item& item);
  void pop_late();

  void open();
  void narrow();
  void sort_near();

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
