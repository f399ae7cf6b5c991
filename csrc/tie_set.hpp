// A set of small integers that yields the least: bits, and for every 64 of them a bit in the level
// above.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

namespace msf {

class TieSet {
 public:
  bool empty() const { return count_ == 0; }

  void clear() {
    while (!empty()) erase(least());
  }

  void put(std::uint32_t i) {
    if (contains(i)) return;
    ++count_;
    for (auto& level : levels_) {
      const std::size_t word = i / 64;
      if (word >= level.size()) level.resize(2 * word + 1);
      const bool more = level[word] != 0;
      level[word] |= std::uint64_t{1} << i % 64;
      if (more) return;  // the levels above know
      i /= 64;
    }
  }

  bool contains(std::uint32_t i) const {
    return i / 64 < levels_[0].size() && levels_[0][i / 64] >> i % 64 & 1;
  }

  void erase(std::uint32_t i) {  // that it contains
    --count_;
    for (auto& level : levels_) {
      level[i / 64] &= ~(std::uint64_t{1} << i % 64);
      if (level[i / 64]) return;
      i /= 64;
    }
  }

  std::uint32_t least() const {  // of a set that is not empty
    std::uint32_t i = 0;
    for (std::size_t level = levels_.size(); level-- > 0;)
      i = i * 64 + std::countr_zero(levels_[level][i]);
    return i;
  }

 private:
  std::array<std::vector<std::uint64_t>, 6> levels_;  // 64^6 > 2^32
  std::int64_t count_ = 0;
};

}  // namespace msf
