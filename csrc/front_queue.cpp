// Where the queue's items move: what happens for few pushes, or for many items at once.
#include "front_queue.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace msf {
namespace {

constexpr std::size_t small = 32, many = 256;

std::uint64_t digits_below(int bits) { return (std::uint64_t{1} << bits) - 1; }

}  // namespace

void FrontQueue::clear() {
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

void FrontQueue::store(double key, Value value) {
  const auto bits = std::bit_cast<std::uint64_t>(key);
  const int level = (63 - std::countl_zero((bits ^ reference_) | 1)) / digit_bits;
  const std::uint64_t digit = (bits >> digit_bits * level) % digits;
  buckets_[level][digit].emplace_back(key, value);  // not a copy of 16 bytes from two of 8
  used_[level] |= std::uint64_t{1} << digit;
  levels_used_ |= std::uint32_t{1} << level;
}

void FrontQueue::push_late(const Item& item) {
  late_.push_back(item);
  std::push_heap(late_.begin(), late_.end(), std::greater<>());
  if (late_.size() > many && near_level_ > 0) narrow();
}

void FrontQueue::pop_late() {
  std::pop_heap(late_.begin(), late_.end(), std::greater<>());
  late_.pop_back();
}

// Empties the first bucket, into the near items, which are to be sorted, or one level down.
void FrontQueue::open() {
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
    for (const Item& item : moving_) store(item.key, item.value);
    moving_.clear();
    if (moving_.capacity() > 2 * many) std::vector<Item>().swap(moving_);
    return;
  }
  near_.swap(bucket);  // near_ is empty; small vectors keep their memory
  near_level_ = level;
  near_end_ = static_cast<std::int64_t>(reference_ | digits_below(digit_bits * level)) + 1;
}

// Late items are many: puts all near ones back until few are left, those of the next level down.
void FrontQueue::narrow() {
  const Item& first = first_is_late() ? late_.front() : near_.back();
  const auto least = std::bit_cast<std::uint64_t>(first.key);
  if (static_cast<std::int64_t>(least) < static_cast<std::int64_t>(reference_)) return;
  --near_level_;
  reference_ = least & ~digits_below(digit_bits * near_level_);
  near_end_ = static_cast<std::int64_t>(reference_ | digits_below(digit_bits * near_level_)) + 1;
  moving_.swap(near_);
  moving_.insert(moving_.end(), late_.begin(), late_.end());
  late_.clear();
  for (const Item& item : moving_) {
    if (std::bit_cast<std::int64_t>(item.key) < near_end_)
      near_.push_back(item);
    else
      store(item.key, item.value);
  }
  moving_.clear();
  sort_near();
}

void FrontQueue::sort_near() {
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

}  // namespace msf
