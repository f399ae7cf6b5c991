// The regions of all thresholds around one seed, as one order of the voxels.
//
// The level of a voxel is the highest threshold at which it is still connected to the seed: the
// best, over all paths from the seed, of the path's lowest value. The region of threshold t is the
// set of voxels with level >= t, so with the voxels sorted by falling level every region is a
// prefix. That is the branch of the image's component tree which holds the seed (Salembier,
// Oliveras and Garrido 1998, IEEE Transactions on Image Processing 7(4):555-570), without its
// siblings.
//
// A priority flood from the seed visits the voxels in this order (Barnes, Lehman and Mulla 2014,
// Computers and Geosciences 62:117-127): a voxel reached for the first time has its final level,
// the lower of its own value and of the current level. It either joins the current level at once,
// whose voxels wait in the result itself, or goes to a monotone bucket queue. Each voxel is queued
// at most once. Within a level the voxels are then sorted by position, so that the order does not
// depend on how the flood went and later passes over it run through memory in one direction.
#include <algorithm>
#include <bit>
#include <memory>

#include "bucket_queue.hpp"
#include "kernels/threshold_explorer.hpp"
#include "neighbours.hpp"
#include "order_key.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

constexpr std::int64_t grain = 1 << 16;
enum : std::uint8_t { border = 1, reached = 2 };

// Sorts distinct voxels ascending: in a bitmap where they are dense, by comparison elsewhere.
class PositionSort {
 public:
  explicit PositionSort(std::int64_t size) : words_(size / 64 + 1) {}

  template <class Index>
  void operator()(Index* first, Index* last) {
    if (last - first < 2) return;
    const auto [low, high] = std::minmax_element(first, last);
    const std::int64_t begin = *low / 64, end = *high / 64 + 1;
    if (end - begin > last - first) {
      std::sort(first, last);
      return;
    }
    for (const Index* v = first; v != last; ++v) words_[*v / 64] |= std::uint64_t{1} << *v % 64;
    for (std::int64_t word = begin; word < end; ++word)
      for (; words_[word]; words_[word] &= words_[word] - 1)
        *first++ = static_cast<Index>(64 * word + std::countr_zero(words_[word]));
  }

 private:
  std::vector<std::uint64_t> words_;  // all zero between calls
};

template <class T>
void exclude_nan(const T* image, std::int64_t n, std::uint8_t* status) {
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      if (image[i] != image[i]) status[i] |= reached;
  });
}

// T: as visit_unsigned gives it.
template <class T, class Index>
Levels flood(const Array& image, std::int64_t seed, int connectivity, bool brighter, Index* order) {
  using Key = OrderKey<T>;  // a cost: lower is better
  const VoxelNeighbours neighbours(image, connectivity);
  const std::int64_t n = image.size();
  const T* values = image.as<T>();
  const Key sign = is_float<T> ? Key{0} : sign_bit<Key>(image.dtype);
  const Key flip = brighter ? static_cast<Key>(~sign) : sign;
  const std::unique_ptr<std::uint8_t[]> status(new std::uint8_t[n]());
  neighbours.mark_border(status.get(), border);
  if constexpr (is_float<T>) exclude_nan(values, n, status.get());

  BucketQueue<Key, Index> queue(static_cast<Key>(order_key(values[seed]) ^ flip));
  PositionSort sort(n);
  Levels levels;
  Ticker tick;
  std::int64_t head = 0, tail = 0;
  order[tail++] = static_cast<Index>(seed);
  status[seed] |= reached;
  do {
    const std::int64_t begin = head;
    levels.voxels.push_back(order[begin]);
    const Key level = queue.current();
    while (head < tail) {
      const std::int64_t v = order[head++];
      neighbours.each(v, !(status[v] & border), [&](std::int64_t w) {
        if (status[w] & reached) return;
        status[w] |= reached;
        const Key key = static_cast<Key>(order_key(values[w]) ^ flip);
        if (key <= level)
          order[tail++] = static_cast<Index>(w);
        else
          queue.push(key, static_cast<Index>(w));
      });
      tick();
    }
    levels.ends.push_back(tail);
    sort(order + begin, order + tail);
  } while (queue.advance([&](Index v) { order[tail++] = v; }));
  return levels;
}

}  // namespace

Levels threshold_order(const Array& image, std::int64_t seed, int connectivity, bool brighter,
                       const MutableArray& order) {
  return visit_unsigned(image.dtype, [&]<class T>(Type<T>) {
    if (order.dtype == DType::uint32)
      return flood<T>(image, seed, connectivity, brighter, order.as<std::uint32_t>());
    return flood<T>(image, seed, connectivity, brighter, order.as<std::int64_t>());
  });
}

void fill_voxels(const Array& voxels, bool value, const MutableArray& mask) {
  auto* const out = mask.as<std::uint8_t>();
  const auto fill = [&](const auto* v) {
    parallel_for(voxels.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[v[i]] = value;
    });
  };
  if (voxels.dtype == DType::uint32)
    fill(voxels.as<std::uint32_t>());
  else
    fill(voxels.as<std::int64_t>());
}

}  // namespace msf
