// Histograms of a whole image, and its range of values.
//
// Counting is a store that depends on a load of the same address: neighbouring pixels of equal
// value wait for each other in the store buffer. Two remedies, both plain C++:
//   - neighbours count into different copies of the table, summed at the end;
//   - a run of equal pixels (the background of most scans) is found by comparing whole words and
//     counted by one addition.
// Tasks of a fixed size take a private set of tables from a shared stock, so that a slow part of
// the image does not hold up one thread; sums of integers do not depend on who counted what.
//
// Floating-point images: numpy.histogram's rule for uniform bins, index and all, in the image's own
// precision: f = (x - first) / (last - first) * bins, truncated, then moved by one where the pixel
// lies on the other side of a bin edge. f is a monotone function of x even in rounded arithmetic,
// so only a pixel whose f lies among the f's of an edge can be on the other side. A block without
// such a pixel (almost every block) skips the look at the edges.
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/histogram.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Pixels of one task: about 50 us of work, less than that is not worth waking a thread.
constexpr std::int64_t grain = 1 << 17;
// Pixels whose bin indices are held at a time: they stay in the first-level cache.
constexpr std::int64_t block = 1 << 10;
// Extra bins between table copies: one cache line, so that equal bins do not share a cache set.
constexpr std::int64_t padding = 16;

// A private set of tables: `ways` copies, `stride` apart. calloc: pages never touched stay free.
class Tables {
 public:
  Tables(std::int64_t stride, int ways)
      : counts(static_cast<std::uint32_t*>(std::calloc(stride * ways, sizeof(std::uint32_t))),
               &std::free) {
    if (!counts) throw std::bad_alloc();
  }
  std::unique_ptr<std::uint32_t, void (*)(void*)> counts;
  std::int64_t pixels = 0;  // counted since the last flush: below 2^32, so that no count overflows
};

// Tables lent to one task at a time, at most as many as there are threads.
class Stock {
 public:
  Stock(std::int64_t bins, std::int64_t stride, int ways, std::int64_t* totals)
      : bins_(bins), stride_(stride), ways_(ways), totals_(totals) {}

  std::unique_ptr<Tables> take(std::int64_t pixels) {
    std::lock_guard lock(mutex_);
    if (free_.empty()) free_.push_back(std::make_unique<Tables>(stride_, ways_));
    auto tables = std::move(free_.back());
    free_.pop_back();
    if (tables->pixels + pixels > std::numeric_limits<std::uint32_t>::max()) flush(*tables);
    tables->pixels += pixels;
    return tables;
  }

  void give_back(std::unique_ptr<Tables> tables) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(tables));
  }

  void flush_all() {
    for (auto& tables : free_) flush(*tables);
  }

 private:
  void flush(Tables& tables) {
    for (int way = 0; way < ways_; ++way) {
      std::uint32_t* counts = tables.counts.get() + way * stride_;
      for (std::int64_t i = 0; i < bins_; ++i) {
        if (counts[i] == 0) continue;  // leaves untouched pages of the totals untouched
        totals_[i] += std::exchange(counts[i], 0);
      }
    }
    tables.pixels = 0;
  }

  std::int64_t bins_, stride_;
  int ways_;
  std::int64_t* totals_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Tables>> free_;
};

// Where the table counts a value: the distance between its copies, and the bin of a bit pattern.
// Known to the compiler for tables that hold every value.
template <class T, std::int64_t bins>
struct WholeType {
  static constexpr std::int64_t stride = bins + padding;
  static T bin(T pattern) { return pattern; }
};

template <class T>
struct FromLow {
  std::int64_t stride;
  T low;
  T bin(T pattern) const { return pattern - low; }  // of signed integers too
};

// counts[way][bin] += 1 for every pixel, the way by its place. T is unsigned.
template <int ways, class T, class Layout>
void count_span(const T* pixels, std::int64_t n, std::uint32_t* counts, const Layout layout) {
  using Word = std::uint64_t;
  constexpr int words = sizeof(T) == 1 ? 2 : 4, per_word = sizeof(Word) / sizeof(T);
  constexpr int step = words * per_word;
  constexpr Word ones = ~Word(0) / static_cast<T>(~T(0));  // 1 in every pixel of a word
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    Word word[words], differs = 0;
    std::memcpy(word, pixels + i, sizeof word);
    const Word repeated = pixels[i] * ones;
    for (int w = 0; w < words; ++w) differs |= word[w] ^ repeated;
    if (differs == 0) {
      counts[layout.bin(pixels[i])] += step;
      continue;
    }
#pragma GCC unroll 16
    for (int k = 0; k < step; ++k) {
      const T pattern = static_cast<T>(word[k / per_word] >> (8 * sizeof(T) * (k % per_word)));
      ++counts[(k % ways) * layout.stride + layout.bin(pattern)];
    }
  }
  for (; i < n; ++i) ++counts[layout.bin(pixels[i])];
}

// count(begin, end, counts) over tasks of the image, then the sums into `totals`.
template <class F>
void count_tasks(std::int64_t n, std::int64_t bins, std::int64_t stride, int ways,
                 std::int64_t* totals, F&& count) {
  Stock stock(bins, stride, ways, totals);
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    auto tables = stock.take(end - begin);
    count(begin, end, tables->counts.get());
    stock.give_back(std::move(tables));
  });
  stock.flush_all();
}

template <int ways, class T, class Layout>
void count_pixels(const Array& image, const MutableArray& counts, const Layout layout) {
  const T* pixels = image.as<T>();
  count_tasks(image.size(), counts.size(), layout.stride, ways, counts.as<std::int64_t>(),
              [&](std::int64_t begin, std::int64_t end, std::uint32_t* table) {
                count_span<ways>(pixels + begin, end - begin, table, layout);
              });
}

// Bin index of a pixel before the look at the edges, and how far it is into that bin.
template <class T>
struct UniformBins {
  T first, width, bins;  // the difference of the outer edges, and the number of bins, in T
  std::int32_t last;     // bin
  const T* edges;
  T low = 0, high = 0;  // how far f lies from a whole number where the pixel equals an edge

  UniformBins(const T* edges, std::int64_t bins)
      : first(edges[0]),
        width(edges[bins] - edges[0]),
        bins(static_cast<T>(bins)),
        last(static_cast<std::int32_t>(bins - 1)),
        edges(edges) {
    for (std::int64_t k = 1; k < bins; ++k) {
      const T offset = position(edges[k]) - static_cast<T>(k);
      low = std::min(low, offset);
      high = std::max(high, offset);
    }
  }
  T position(T x) const { return (x - first) / width * bins; }

  // True if the indices are final, false if `settle` has to look at the edges.
  bool indices(const T* __restrict pixels, std::int64_t n, std::uint32_t* __restrict index) const {
    const T top = 1 + low;
    std::int32_t near = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const T f = position(pixels[i]);
      std::int32_t k = static_cast<std::int32_t>(f);
      k = k < last ? k : last;
      const T part = f - static_cast<T>(k);
      near |= ((part <= high) & (k > 0)) | ((part >= top) & (k < last));
      index[i] = static_cast<std::uint32_t>(k);
    }
    return near == 0;
  }

  void settle(const T* __restrict pixels, std::int64_t n, std::uint32_t* __restrict index) const {
    for (std::int64_t i = 0; i < n; ++i) {
      std::uint32_t k = index[i];
      k -= pixels[i] < edges[k];
      k += (pixels[i] >= edges[k + 1]) & (k != static_cast<std::uint32_t>(last));
      index[i] = k;
    }
  }
};

// Lanes that the compiler keeps in vector registers.
template <class T>
struct Range {
  static constexpr int lanes = 128 / sizeof(T);
  T low[lanes], high[lanes];
  bool nan = false;

  explicit Range(T start) {
    std::fill_n(low, lanes, start);
    std::fill_n(high, lanes, start);
  }
  void add(const T* __restrict pixels, std::int64_t n) {
    std::int64_t i = 0;
    T lo[lanes], hi[lanes];
    std::copy_n(low, lanes, lo);
    std::copy_n(high, lanes, hi);
    std::uint8_t unordered[lanes]{};
    for (; i + lanes <= n; i += lanes) {
      for (int k = 0; k < lanes; ++k) {
        const T x = pixels[i + k];
        lo[k] = x < lo[k] ? x : lo[k];
        hi[k] = x > hi[k] ? x : hi[k];
        if constexpr (is_float<T>) unordered[k] |= x != x;
      }
    }
    for (int k = 0; i < n; ++i, ++k) {
      const T x = pixels[i];
      lo[k] = x < lo[k] ? x : lo[k];
      hi[k] = x > hi[k] ? x : hi[k];
      unordered[k] |= x != x;
    }
    std::copy_n(lo, lanes, low);
    std::copy_n(hi, lanes, high);
    for (const auto u : unordered) nan |= u != 0;
  }
};

}  // namespace

bool value_range(const Array& image, const MutableArray& bounds) {
  return visit(image.dtype, [&]<class T>(Type<T>) {
    const T* pixels = image.as<T>();
    // A NaN compares false with everything and would hide what follows, so start elsewhere.
    const std::int64_t n = image.size();
    std::int64_t start = 0;
    while (start < n - 1 && pixels[start] != pixels[start]) ++start;
    T low = pixels[start], high = low;
    bool nan = false;
    std::mutex mutex;
    parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
      Range<T> range(pixels[start]);
      range.add(pixels + begin, end - begin);
      std::lock_guard lock(mutex);
      low = std::min(low, *std::min_element(range.low, range.low + range.lanes));
      high = std::max(high, *std::max_element(range.high, range.high + range.lanes));
      nan |= range.nan;
    });
    bounds.as<T>()[0] = low;
    bounds.as<T>()[1] = high;
    return nan;
  });
}

void count_values(const Array& image, std::int64_t low, const MutableArray& counts) {
  const std::int64_t bins = counts.size();
  visit_bits(image.dtype, [&]<class T>(Type<T>) {
    if constexpr (sizeof(T) <= 2) {
      constexpr std::int64_t all = std::int64_t{1} << (8 * sizeof(T));
      constexpr int ways = sizeof(T) == 1 ? 16 : 2;  // as many as the first-level cache holds
      if (bins == all && low == 0) return count_pixels<ways, T>(image, counts, WholeType<T, all>{});
    }
    const FromLow<T> layout{bins + padding, static_cast<T>(low)};
    if (bins <= 1024) return count_pixels<4, T>(image, counts, layout);
    if constexpr (sizeof(T) > 1)
      if (bins <= 65536) return count_pixels<2, T>(image, counts, layout);
    if constexpr (sizeof(T) > 2) count_pixels<1, T>(image, counts, layout);
  });
}

void count_bins(const Array& image, const Array& edges, const MutableArray& counts) {
  const std::int64_t bins = counts.size();
  visit(image.dtype, [&]<class T>(Type<T>) {
    if constexpr (!std::is_same_v<T, float> && !std::is_same_v<T, double>) {
      throw std::invalid_argument("count_bins: float32 and float64 only");
    } else {
      const T* pixels = image.as<T>();
      const UniformBins<T> uniform(edges.as<T>(), bins);
      const auto count = [&]<int ways, class Layout>(std::integral_constant<int, ways>,
                                                     const Layout layout) {
        count_tasks(image.size(), bins, layout.stride, ways, counts.as<std::int64_t>(),
                    [&](std::int64_t begin, std::int64_t end, std::uint32_t* table) {
                      std::uint32_t index[block];
                      for (std::int64_t i = begin; i < end; i += block) {
                        const std::int64_t n = std::min(block, end - i);
                        if (!uniform.indices(pixels + i, n, index))
                          uniform.settle(pixels + i, n, index);
                        count_span<ways>(index, n, table, layout);
                      }
                    });
      };
      if (bins <= 256)
        return count(std::integral_constant<int, 8>{}, WholeType<std::uint32_t, 256>{});
      return count(std::integral_constant<int, 1>{}, FromLow<std::uint32_t>{bins + padding, 0});
    }
  });
}

}  // namespace msf
