// A monotone priority queue over unsigned keys: multi-level buckets (Denardo and Fox 1979,
// Operations Research 27(1):161-186), one level per byte of the key.
//
// The queue's current key only rises. An item waits at the level of the highest byte in which its
// key differs from the current key, in the bucket of that byte. To advance, the first bucket of the
// lowest level in use is emptied: its smallest key becomes the current one, and its other items
// move to lower levels. An item thus moves at most sizeof(Key) times, always to the end of a
// vector, where a heap would make log n random accesses.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace msf {

template <class Key, class Value>
class BucketQueue {
  static_assert(std::is_unsigned_v<Key>);

 public:
  explicit BucketQueue(Key current) : current_(current) {}

  Key current() const { return current_; }

  // key > current()
  void push(Key key, Value value) {
    const int level = level_of(key);
    const unsigned digit = digit_of(key, level);
    buckets_[level][digit].push_back({key, value});
    used_[level][digit / 64] |= std::uint64_t{1} << digit % 64;
  }

  // Moves on to the smallest key and hands its values to f in the order of their arrival at the
  // bucket; false when the queue is empty.
  template <class F>
  bool advance(F&& f) {
    for (int level = 0; level < levels; ++level) {
      for (unsigned word = 0; word < 4; ++word) {
        if (!used_[level][word]) continue;
        const unsigned digit = word * 64 + std::countr_zero(used_[level][word]);
        used_[level][word] &= used_[level][word] - 1;
        open(level, digit, f);
        return true;
      }
    }
    return false;
  }

 private:
  static constexpr int levels = sizeof(Key);
  struct Item {
    Key key;
    Value value;
  };

  int level_of(Key key) const {
    const auto difference = static_cast<std::uint64_t>(key ^ current_);
    return (63 - std::countl_zero(difference | 1)) / 8;
  }
  static unsigned digit_of(Key key, int level) { return (key >> 8 * level) & 0xff; }

  template <class F>
  void open(int level, unsigned digit, F&& f) {
    std::vector<Item> items;
    items.swap(buckets_[level][digit]);  // also gives its memory back
    Key least = items.front().key;
    for (const Item& item : items) least = item.key < least ? item.key : least;
    current_ = least;
    for (const Item& item : items) {
      if (item.key == least)
        f(item.value);
      else
        push(item.key, item.value);
    }
  }

  Key current_;
  std::array<std::array<std::vector<Item>, 256>, levels> buckets_;
  std::array<std::array<std::uint64_t, 4>, levels> used_{};  // which buckets hold items
};

}  // namespace msf
