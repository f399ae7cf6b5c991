// How two masks overlap, in one pass: each voxel adds 0 or 1 to lanes as wide as its type, which
// are emptied before they run over.
#include "kernels/overlap.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace msf {
namespace {

constexpr std::int64_t block = 1 << 16;

template <class T>
std::array<std::int64_t, 3> count_block(const T* a, const T* b, std::int64_t n) {
  constexpr std::int64_t width = 64 / sizeof(T), most = 255;  // additions to a lane
  std::array<std::int64_t, 3> total{};
  std::int64_t i = 0;
  while (i + width <= n) {
    T both[width] = {}, first[width] = {}, second[width] = {};
    for (std::int64_t step = 0; step < most && i + width <= n; ++step, i += width)
      for (std::int64_t lane = 0; lane < width; ++lane) {
        const T x = a[i + lane] != 0, y = b[i + lane] != 0;
        both[lane] += x & y;
        first[lane] += x;
        second[lane] += y;
      }
    for (std::int64_t lane = 0; lane < width; ++lane) {
      total[0] += both[lane];
      total[1] += first[lane];
      total[2] += second[lane];
    }
  }
  for (; i < n; ++i) {
    total[0] += a[i] != 0 && b[i] != 0;
    total[1] += a[i] != 0;
    total[2] += b[i] != 0;
  }
  return total;
}

}  // namespace

std::array<std::int64_t, 3> overlap_counts(const Array& a, const Array& b) {
  const std::int64_t n = a.size(), blocks = (n + block - 1) / block;
  std::vector<std::array<std::int64_t, 3>> counts(blocks);
  visit_bits(a.dtype, [&]<class T>(Type<T>) {
    parallel_tasks(blocks, [&](std::int64_t i) {
      const std::int64_t begin = i * block;
      counts[i] = count_block(a.as<T>() + begin, b.as<T>() + begin,
                              std::min<std::int64_t>(block, n - begin));
    });
  });
  std::array<std::int64_t, 3> total{};
  for (const auto& part : counts)
    for (int k = 0; k < 3; ++k) total[k] += part[k];
  return {total[0], total[1] - total[0], total[2] - total[0]};
}

}  // namespace msf
