// Regional minima: plateaus all of whose neighbours are higher.
//
// One vectorised pass compares each pixel with its lowest neighbour. A pixel with a lower one is no
// minimum; one with neither a lower nor an equal one is. The rest are flat: whether they are minima
// depends on their plateau. Flat pixels next to each other have equal values, so that from the flat
// pixels which touch an equal pixel that is no minimum (found by a second vectorised pass, over
// bytes), a flood through flat pixels clears what belongs to the same plateau: the breadth-first
// step of L. Vincent, "Morphological grayscale reconstruction in image analysis", IEEE Trans. Image
// Processing 2(2):176-201 (1993), section II-C, without its image of labels. Slabs are flooded on
// their own threads and pass on what leaves them.
//
// Footprints that are not symmetric make the answer depend on the order of the search; then
// scikit-image's order is followed, one candidate after the other in raster order.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "grid_steps.hpp"
#include "kernels/minima.hpp"
#include "key_image.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// What a pixel is, in the mask itself until the end.
enum : std::uint8_t { no_minimum = 0, minimum = 1, flat = 2 };

template <class U>
U highest_key(const Keys<U>& key, std::int64_t n) {
  std::atomic<std::uint64_t> highest{0};
  parallel_for(n, 1 << 18, [&](std::int64_t begin, std::int64_t end) {
    U most = 0;
    for (std::int64_t i = begin; i < end; ++i) most = std::max(most, key[i]);
    std::uint64_t seen = highest.load(std::memory_order_relaxed);
    while (seen < most && !highest.compare_exchange_weak(seen, most)) {
    }
  });
  return static_cast<U>(highest.load());
}

template <class U>
struct Minima {
  const Keys<U> key;
  const GridSteps& steps;
  const bool borders;
  const U highest;  // in the image; so is what lies outside
  std::uint8_t* const status;

  void compare_with_lowest_neighbour() const {
    const auto strips = steps.strips();
    parallel_for(strips.count, strips.grain(), [&](std::int64_t first, std::int64_t last) {
      U lowest[GridSteps::widest];
      strips.each(first, last, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
        const U* const own = key.data + row * steps.length();
        const auto ends = steps.row_ends(row);
        std::fill(lowest, lowest + (end - begin), static_cast<U>(~U{0}));
        steps.each_in_row(ends, begin, end,
                          [&](std::int64_t, std::int64_t offset, std::int64_t b, std::int64_t e) {
                            const U flip = key.flip;
                            U* const __restrict low = lowest + (b - begin);
                            const U* const near = own + offset + b;
                            for (std::int64_t i = 0; i < e - b; ++i)
                              low[i] = std::min(low[i], static_cast<U>(near[i] ^ flip));
                          });
        std::uint8_t* const out = status + row * steps.length() + begin;
        for (std::int64_t i = 0; i < end - begin; ++i) {
          const U value = static_cast<U>(own[begin + i] ^ key.flip);
          const auto not_lower = static_cast<std::uint8_t>(lowest[i] >= value);
          const auto equal = static_cast<std::uint8_t>(lowest[i] == value);
          out[i] = static_cast<std::uint8_t>(not_lower + equal);
        }
        look_at_border(ends, row, begin, end);
      });
    });
  }

  // Clears pixels on the border that are no minimum because of what lies outside.
  void look_at_border(const GridSteps::Ends& ends, std::int64_t row, std::int64_t begin,
                      std::int64_t end) const {
    const auto look = [&](std::int64_t column) {
      const std::int64_t v = row * steps.length() + column;
      if (!status[v]) return;
      if (!borders || (key[v] == highest && steps.touches_outside(v))) status[v] = no_minimum;
    };
    if (ends.any()) {
      for (std::int64_t column = begin; column < end; ++column) look(column);
      return;
    }
    if (begin == 0) look(0);
    if (end == steps.length()) look(end - 1);
  }

  // Flat pixels of a strip next to an equal pixel that is no minimum.
  void find_seeds(std::int64_t row, std::int64_t begin, std::int64_t end,
                  std::vector<std::int64_t>& seeds) const {
    std::uint8_t* const own = status + row * steps.length();
    if (!std::memchr(own + begin, flat, end - begin)) return;
    std::uint8_t lowest[GridSteps::widest];
    std::fill(lowest, lowest + (end - begin), std::uint8_t{flat});
    const auto ends = steps.row_ends(row);
    steps.each_in_row(ends, begin, end,
                      [&](std::int64_t, std::int64_t offset, std::int64_t b, std::int64_t e) {
                        std::uint8_t* const __restrict low = lowest + (b - begin);
                        const std::uint8_t* const near = own + offset + b;
                        for (std::int64_t i = 0; i < e - b; ++i) low[i] = std::min(low[i], near[i]);
                      });
    for (std::int64_t i = 0; i < end - begin; ++i) {
      if (lowest[i] != no_minimum || own[begin + i] != flat) continue;
      const std::int64_t v = row * steps.length() + begin + i;
      bool seed = false;
      steps.each(v, [&](std::int64_t, std::int64_t w) {
        seed |= status[w] == no_minimum && key[w] == key[v];
      });
      if (seed) seeds.push_back(v);
    }
  }

  void clear_plateaus() const {
    const auto strips = steps.strips();
    const std::int64_t n = steps.pixels();
    const Slabs slabs(strips.count, std::max<std::int64_t>(1, (1 << 16) / strips.length));
    const auto begin_of = [&](std::int64_t slab) {
      const std::int64_t s = slabs.begin(slab);
      return slab == slabs.count
                 ? n
                 : s / strips.per_row * strips.length + s % strips.per_row * GridSteps::widest;
    };
    std::vector<std::vector<std::int64_t>> waiting(slabs.count), leaving(slabs.count);
    slabs.run([&](std::int64_t slab, std::int64_t first, std::int64_t last) {
      Ticker tick(64);
      strips.each(first, last, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
        find_seeds(row, begin, end, waiting[slab]);
        tick();
      });
    });
    for (bool more = true; more;) {
      slabs.run([&](std::int64_t slab, std::int64_t, std::int64_t) {
        flood(begin_of(slab), begin_of(slab + 1), waiting[slab], leaving[slab]);
      });
      more = false;
      for (auto& list : leaving) {
        for (const std::int64_t v : list) {
          std::int64_t slab = 0;
          while (v >= begin_of(slab + 1)) ++slab;
          waiting[slab].push_back(v);
          more = true;
        }
        list.clear();
      }
    }
  }

  // Clears the flat pixels in [begin, end) that are connected to `stack`, which it empties.
  void flood(std::int64_t begin, std::int64_t end, std::vector<std::int64_t>& stack,
             std::vector<std::int64_t>& leaving) const {
    Ticker tick;
    const auto own = stack.size();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < own; ++i)  // what another slab handed over may be done already
      if (status[stack[i]] == flat) {
        status[stack[i]] = no_minimum;
        stack[kept++] = stack[i];
      }
    stack.resize(kept);
    while (!stack.empty()) {
      const std::int64_t v = stack.back();
      stack.pop_back();
      steps.each(v, [&](std::int64_t, std::int64_t w) {
        if (w < begin || w >= end) {
          leaving.push_back(w);
        } else if (status[w] == flat) {
          status[w] = no_minimum;
          stack.push_back(w);
        }
      });
      tick();
    }
  }
};

// As scikit-image does it, for footprints whose neighbours are not mutual.
template <class U>
struct DirectedMinima {
  const Keys<U> key;
  const GridSteps& steps;
  const bool borders;
  const U highest;
  std::uint8_t* const status;

  bool is_border(std::int64_t v) const {
    if (borders) return false;
    const std::int64_t column = v % steps.length();
    return column == 0 || column == steps.length() - 1 || steps.row_ends(v / steps.length()).any();
  }

  // Runs of equal pixels along a row with higher pixels at both ends, or all.
  void mark_candidates(bool along_rows) const {
    const std::int64_t length = steps.length();
    Ticker tick;
    for (std::int64_t row = 0; row < steps.rows(); ++row) {
      std::uint8_t* const out = status + row * length;
      const std::int64_t base = row * length;
      std::memset(out, along_rows ? no_minimum : flat, length);
      const std::int64_t first = borders ? 0 : 1, last = borders ? length : length - 1;
      for (std::int64_t begin = first; along_rows && begin < last;) {
        std::int64_t end = begin + 1;
        while (end < last && key[base + end] == key[base + begin]) ++end;
        const U before = begin == 0 ? highest : key[base + begin - 1];
        const U after = end == length ? highest : key[base + end];
        if (before > key[base + begin] && after > key[base + begin])
          std::memset(out + begin, flat, end - begin);
        begin = end;
        tick();
      }
      if (borders) continue;
      for (std::int64_t column = 0; column < length; ++column)
        if (is_border(base + column)) out[column] = no_minimum;
    }
  }

  void fill_plateau(std::int64_t start, std::vector<std::int64_t>& queue, Ticker& tick) const {
    bool lowest = true;
    queue.assign(1, start);
    status[start] = minimum;
    for (std::size_t head = 0; head < queue.size(); ++head) {
      const std::int64_t v = queue[head];
      lowest &= !(borders && key[v] == highest && steps.touches_outside(v));
      steps.each(v, [&](std::int64_t, std::int64_t w) {
        if (key[w] < key[v]) {
          lowest = false;
        } else if (key[w] == key[v]) {
          if (is_border(w)) {
            lowest = false;
          } else if (status[w] != minimum) {
            status[w] = minimum;
            queue.push_back(w);
          }
        }
      });
      tick();
    }
    if (!lowest)
      for (const std::int64_t v : queue) status[v] = no_minimum;
  }

  void run(bool along_rows) const {
    mark_candidates(along_rows);
    std::vector<std::int64_t> queue;
    Ticker tick;
    for (std::int64_t v = 0; v < steps.pixels(); ++v, tick())
      if (status[v] == flat) fill_plateau(v, queue, tick);
  }
};

void clear_nan(const Array& image, std::uint8_t* status) {
  visit(image.dtype, [&]<class T>(Type<T>) {
    const T* const values = image.as<T>();
    parallel_for(image.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) status[i] &= values[i] == values[i];
    });
  });
}

}  // namespace

void local_minima(const Array& image, bool maxima, const Array& steps, bool symmetric, bool borders,
                  const MutableArray& minima) {
  const std::int64_t n = image.size();
  if (n == 0) return;
  const auto* const by = steps.as<std::int8_t>();
  const GridSteps grid(image, by, steps.shape[0], !symmetric);
  std::uint8_t* const status = minima.as<std::uint8_t>();
  KeyImage keys(image, maxima);
  if (keys.has_nan()) keys.lower_nan(image);
  keys.visit_keys([&]<class U>(const Keys<U>& key) {
    const U highest = highest_key(key, n);
    if (symmetric) {
      const Minima<U> search{key, grid, borders, highest, status};
      search.compare_with_lowest_neighbour();
      search.clear_plateaus();
    } else {
      int along_rows = 0;  // steps along the last axis alone
      for (std::int64_t s = 0; s < steps.shape[0]; ++s) {
        int moves = 0;
        for (int axis = 0; axis + 1 < image.ndim; ++axis) moves += by[s * image.ndim + axis] != 0;
        along_rows += moves == 0;
      }
      DirectedMinima<U>{key, grid, borders, highest, status}.run(along_rows == 2);
    }
  });
  parallel_for(n, 1 << 18, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) status[i] = status[i] != no_minimum;
  });
  if (keys.has_nan()) clear_nan(image, status);
}

}  // namespace msf
