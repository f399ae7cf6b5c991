// Sizes of labels that are numbers of an image, not its components.
#include <algorithm>
#include <vector>

#include "kernels/label_sizes.hpp"
#include "parallel.hpp"

namespace msf {

void label_sizes(const Array& labels, const MutableArray& sizes) {
  const std::int64_t counters = sizes.size();
  std::int64_t* const total = sizes.as<std::int64_t>();
  std::fill_n(total, counters, 0);
  visit(labels.dtype, [&]<class T>(Type<T>) {
    if constexpr (!is_float<T>) {
      const T* const label = labels.as<T>();
      // A slab has counters of its own: at least as many pixels as counters, 2^16 at least.
      const Slabs slabs(labels.size(), std::max<std::int64_t>(counters, 1 << 16));
      std::vector<std::int64_t> counts((slabs.count - 1) * counters);
      slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
        std::int64_t* const mine = slab ? counts.data() + (slab - 1) * counters : total;
        for (std::int64_t from = begin; from < end; from += 1 << 20) {
          poll();
          // Counted run by run: two additions to one counter in a row wait for each other.
          const std::int64_t to = std::min<std::int64_t>(end, from + (1 << 20));
          for (std::int64_t i = from, start = from; i < to; start = i) {
            while (++i < to && label[i] == label[start]) {
            }
            mine[label[start]] += i - start;
          }
        }
      });
      for (std::int64_t slab = 1; slab < slabs.count; ++slab)
        for (std::int64_t c = 0; c < counters; ++c) total[c] += counts[(slab - 1) * counters + c];
    }
  });
}

void keep_labels(const Array& labels, const Array& keep, const MutableArray& out) {
  visit(labels.dtype, [&]<class T>(Type<T>) {
    if constexpr (!is_float<T>) {
      const T* const label = labels.as<T>();
      T* const kept = out.as<T>();
      const std::uint8_t* const table = keep.as<std::uint8_t>();
      parallel_for(labels.size(), 1 << 18, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) kept[i] = table[label[i]] ? label[i] : T{0};
      });
    }
  });
}

}  // namespace msf
