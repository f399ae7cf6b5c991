// NumPy's sum of an array of floats, rounding included, that can be kept up to date: leaves of at
// most 128 elements, each added in eight lanes, under a binary tree of halves (a multiple of eight
// on the left). Only leaves whose elements changed need to be added again.
#pragma once

#include <cstdint>
#include <vector>

namespace msf {

class PairwiseTree {
 public:
  explicit PairwiseTree(std::int64_t n) : n_(n), leaf_of_((n + 63) / 64 + 1) {
    split(0, n);
    starts_.push_back(n);
    std::int64_t leaf = 0;
    for (std::int64_t block = 0; block * 64 < n; ++block) {
      while (starts_[leaf + 1] <= block * 64) ++leaf;
      leaf_of_[block] = leaf;
    }
  }

  std::int64_t leaves() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  std::int64_t start(std::int64_t leaf) const { return starts_[leaf]; }
  std::int64_t leaf_of(std::int64_t element) const {
    std::int64_t leaf = leaf_of_[element / 64];
    while (starts_[leaf + 1] <= element) ++leaf;
    return leaf;
  }

  // Of the leaves' sums.
  template <class T>
  T total(const std::vector<T>& sums) const {
    std::int64_t next = 0;
    return n_ ? merge(sums, n_, next) : T{0};
  }

 private:
  static constexpr std::int64_t most = 128;
  static std::int64_t half(std::int64_t n) { return n / 2 - n / 2 % 8; }

  void split(std::int64_t begin, std::int64_t n) {
    if (n <= most) {
      starts_.push_back(begin);
      return;
    }
    split(begin, half(n));
    split(begin + half(n), n - half(n));
  }
  template <class T>
  static T merge(const std::vector<T>& sums, std::int64_t n, std::int64_t& next) {
    if (n <= most) return sums[next++];
    const T left = merge(sums, half(n), next);
    return left + merge(sums, n - half(n), next);
  }

  std::int64_t n_;
  std::vector<std::int64_t> starts_, leaf_of_;
};

// The sum of a leaf's n <= 128 values. Values are made by a loop of their own and the sum is not
// inlined: with conditions inside it, g++ 12 miscompiles the eight lanes (-O3, double, AVX2).
template <class T>
[[gnu::noinline]] T sum_leaf(const T* values, std::int64_t n) {
  T sum = 0;
  std::int64_t i = 0;
  if (n >= 8) {
    T lane[8];
    for (int k = 0; k < 8; ++k) lane[k] = values[k];
    for (i = 8; i + 8 <= n; i += 8)
      for (int k = 0; k < 8; ++k) lane[k] += values[i + k];
    sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  }
  for (; i < n; ++i) sum += values[i];
  return sum;
}

template <class T, class Value>
T sum_leaf_of(std::int64_t n, const Value& value) {
  T values[128];
  for (std::int64_t i = 0; i < n; ++i) values[i] = value(i);
  return sum_leaf(values, n);
}

}  // namespace msf
