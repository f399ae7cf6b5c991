// Sums over a whole image, exact for integers and reproducible for floats.
//
// Floats are summed in float64 in a fixed pattern: blocks of fixed size, inside a block a fixed
// number of partial sums, blocks added in order. The pattern is the same whatever the number of
// threads and the width of the vector registers, so the result has the same bits everywhere. Its
// relative error against the exact sum of non-negative pixels is below (n / lanes / blocks + blocks
// + lanes) eps = about 1e-12 for 1e8 pixels, in practice near 1e-15.
#include <utility>
#include <vector>

#include "kernels/sums.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

constexpr std::int64_t block = 1 << 16;
constexpr int lanes = 16;

// One block. Narrow integers in 32 bits: 4096 pixels of 16 bits cannot overflow them.
template <class T>
__int128 integer_sum(const T* __restrict pixels, std::int64_t n) {
  if constexpr (sizeof(T) <= 2) {
    constexpr std::int64_t piece = 4096;
    std::int64_t sum = 0;
    for (std::int64_t begin = 0; begin < n; begin += piece) {
      std::int32_t part = 0;
      for (std::int64_t i = begin; i < std::min(n, begin + piece); ++i) part += pixels[i];
      sum += part;
    }
    return sum;
  } else if constexpr (sizeof(T) == 4) {
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += pixels[i];
    return sum;
  } else {  // the two halves of 64 bits apart
    std::int64_t high = 0;
    std::uint64_t low = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      high += static_cast<std::int64_t>(pixels[i] >> 32);
      low += static_cast<std::uint32_t>(pixels[i]);
    }
    return static_cast<__int128>(high) * (std::int64_t{1} << 32) + low;
  }
}

// Sum and number of the pixels that `keep` accepts, of one block; `map` gives the summand.
template <class T, class Map, class Keep>
std::pair<double, double> block_sum(const T* __restrict pixels, std::int64_t n, Map map,
                                    Keep keep) {
  double sum[lanes]{}, count[lanes]{};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int k = 0; k < lanes; ++k) {
      const T y = map(pixels[i + k]);
      const bool inside = keep(y);
      sum[k] += inside ? static_cast<double>(y) : 0.0;
      count[k] += inside ? 1.0 : 0.0;
    }
  }
  for (int k = 0; i < n; ++i, ++k) {
    const T y = map(pixels[i]);
    sum[k] += keep(y) ? static_cast<double>(y) : 0.0;
    count[k] += keep(y) ? 1.0 : 0.0;
  }
  for (int k = 1; k < lanes; ++k) {
    sum[0] += sum[k];
    count[0] += count[k];
  }
  return {sum[0], count[0]};
}

template <class T, class Map, class Keep>
std::pair<double, std::int64_t> ordered_sum(const Array& image, Map map, Keep keep) {
  const T* pixels = image.as<T>();
  std::vector<std::pair<double, double>> parts((image.size() + block - 1) / block);
  parallel_for(image.size(), block, [&](std::int64_t begin, std::int64_t end) {
    parts[begin / block] = block_sum(pixels + begin, end - begin, map, keep);
  });
  double sum = 0;
  std::int64_t count = 0;
  for (const auto& [part, n] : parts) {
    sum += part;
    count += static_cast<std::int64_t>(n);
  }
  return {sum, count};
}

}  // namespace

std::pair<std::int64_t, std::uint64_t> sum_integers(const Array& image) {
  return visit(image.dtype, [&]<class T>(Type<T>) -> std::pair<std::int64_t, std::uint64_t> {
    if constexpr (is_float<T>) {
      throw std::invalid_argument("sum_integers: integers only");
    } else {
      const T* pixels = image.as<T>();
      std::vector<__int128> parts((image.size() + block - 1) / block);
      parallel_for(image.size(), block, [&](std::int64_t begin, std::int64_t end) {
        parts[begin / block] = integer_sum(pixels + begin, end - begin);
      });
      __int128 sum = 0;
      for (const __int128 part : parts) sum += part;
      return {static_cast<std::int64_t>(sum >> 64), static_cast<std::uint64_t>(sum)};
    }
  });
}

double sum_floats(const Array& image) {
  return visit(image.dtype, [&]<class T>(Type<T>) -> double {
    if constexpr (!std::is_same_v<T, float> && !std::is_same_v<T, double>) {
      throw std::invalid_argument("sum_floats: float32 and float64 only");
    } else {
      return ordered_sum<T>(image, [](T x) { return x; }, [](T) { return true; }).first;
    }
  });
}

std::pair<double, std::int64_t> sum_above(const Array& image, double origin, double t) {
  return visit(image.dtype, [&]<class T>(Type<T>) -> std::pair<double, std::int64_t> {
    if constexpr (!std::is_same_v<T, float> && !std::is_same_v<T, double>) {
      throw std::invalid_argument("sum_above: float32 and float64 only");
    } else {
      const T zero = static_cast<T>(origin), threshold = static_cast<T>(t);
      return ordered_sum<T>(
          image, [=](T x) { return x - zero; }, [=](T y) { return y > threshold; });
    }
  });
}

}  // namespace msf
