// Intensities for augmentation: a bias field, gamma and normal noise in two passes over an image.
//
// Powers, exponentials, logarithms and cosines are polynomials in plain loops, so they fill vectors
// and give the same bits in every build. Random numbers are Philox 4x32-10 (J. Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a function of the seed and of a voxel's
// index, so no order of work changes them; Box and Muller's formula makes them normal.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/augment.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

inline float round_to_whole(float x) { return (x + 12582912.0f) - 12582912.0f; }  // |x| < 2^22

// 2^x for |x| <= 126 to 2 units in the last place; beyond, that of the limit.
inline float exp2_of(float x) {
  x = std::min(std::max(x, -126.0f), 126.0f);
  const float whole = round_to_whole(x), f = x - whole;
  float p = 1.535336188e-4f;  // the series of exp(f log 2), refitted on [-1/2, 1/2]
  p = p * f + 1.339887440e-3f;
  p = p * f + 9.618437357e-3f;
  p = p * f + 5.550332548e-2f;
  p = p * f + 2.402264791e-1f;
  p = p * f + 6.931472028e-1f;
  p = p * f + 1.0f;
  const auto scale = std::bit_cast<float>((static_cast<std::int32_t>(whole) + 127) << 23);
  return p * scale;
}

// The natural logarithm of a positive normal number, to 2 units in the last place.
inline float log_of(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t exponent = (bits - 0x3f3504f3) >> 23;  // mantissa from sqrt(1/2) on
  const float f = std::bit_cast<float>(bits - (exponent << 23)) - 1,
              e = static_cast<float>(exponent);
  float p = 7.0376836292e-2f;  // Cephes' logf
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float square = f * f;
  return (f + (p * f * square - 0.5f * square + e * -2.12194440e-4f)) + e * 0.693359375f;
}

// The polynomial's terms z^i y^j x^k with i + j + k <= 3, gathered by k for one row.
std::array<float, 4> along_row(const std::vector<double>& bias, double z, double y) {
  std::array<double, 4> terms{};
  std::size_t next = 0;
  double zi = 1;
  for (int i = 0; i <= 3; ++i, zi *= z) {
    double yj = 1;
    for (int j = 0; i + j <= 3; ++j, yj *= y)
      for (int k = 0; i + j + k <= 3; ++k) terms[k] += bias[next++] * zi * yj;
  }
  std::array<float, 4> row;
  for (int k = 0; k < 4; ++k) row[k] = static_cast<float>(terms[k] * 1.4426950408889634);  // log2 e
  return row;
}

// The coordinate of voxel i of n, from -1 to 1.
double centred(Index i, Index n) {
  return n > 1 ? 2.0 * static_cast<double>(i) / static_cast<double>(n - 1) - 1 : 0.0;
}

void multiply_row(float* __restrict row, Index n, const std::array<float, 4>& terms) {
  const float step = n > 1 ? static_cast<float>(2.0 / static_cast<double>(n - 1)) : 0.0f;
  const float first = n > 1 ? -1.0f : 0.0f, c0 = terms[0], c1 = terms[1], c2 = terms[2],
              c3 = terms[3];
  for (std::int32_t i = 0; i < n; ++i) {
    const float x = first + step * static_cast<float>(i);
    row[i] *= exp2_of(c0 + x * (c1 + x * (c2 + x * c3)));
  }
}

struct Range {
  float low = std::numeric_limits<float>::infinity();
  float high = -std::numeric_limits<float>::infinity();
};

Range range_of(const float* __restrict row, Index n) {  // NaN is in no range
  constexpr int lanes = 16;
  float low[lanes], high[lanes];
  std::fill_n(low, lanes, std::numeric_limits<float>::infinity());
  std::fill_n(high, lanes, -std::numeric_limits<float>::infinity());
  Index i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int k = 0; k < lanes; ++k) {
      low[k] = row[i + k] < low[k] ? row[i + k] : low[k];
      high[k] = row[i + k] > high[k] ? row[i + k] : high[k];
    }
  for (; i < n; ++i) {
    low[0] = row[i] < low[0] ? row[i] : low[0];
    high[0] = row[i] > high[0] ? row[i] : high[0];
  }
  return {*std::min_element(low, low + lanes), *std::max_element(high, high + lanes)};
}

constexpr int counters = 64;           // a block's; each gives four numbers
constexpr Index block = 4 * counters;  // voxels

void power(float* __restrict values, Index n, Range range, float gamma) {
  const float width = range.high - range.low, least = std::numeric_limits<float>::min();
  const float inverse = 1 / width, low = range.low;
  for (Index i = 0; i < n; ++i) {
    const float part = (values[i] - low) * inverse;
    const float p = exp2_of(gamma * (log_of(std::max(least, part)) * 1.44269504f)) * width + low;
    values[i] = part > 0 ? p : values[i];  // the lowest value, and NaN, stay
  }
}

// sin and cos of 2 pi u, u in [0, 1): Cephes' polynomials on an eighth of the circle.
inline void circle(float u, float& sine, float& cosine) {
  const float quarter = round_to_whole(4 * u), a = (u - 0.25f * quarter) * 6.28318531f;
  const float square = a * a;
  const float s =
      a +
      a * square * (-1.6666654611e-1f + square * (8.3321608736e-3f - square * 1.9515295891e-4f));
  const float c =
      1 - 0.5f * square +
      square * square * (4.166664568e-2f + square * (-1.388731625e-3f + square * 2.443315711e-5f));
  const auto q = static_cast<std::int32_t>(quarter);
  const float s1 = q & 1 ? c : s, c1 = q & 1 ? s : c;
  sine = q & 2 ? -s1 : s1;
  cosine = (q + 1) & 2 ? -c1 : c1;
}

// Adds noise to up to `block` voxels, number `first` on of channel `channel`; voxel k counters + l
// gets word k of counter l.
void add_noise(float* __restrict values, Index n, Index first, std::uint32_t channel,
               std::uint64_t seed, float deviation) {
  std::uint32_t w[4][counters];
  for (int l = 0; l < counters; ++l) {
    const std::uint64_t counter = static_cast<std::uint64_t>(first / 4 + l);
    w[0][l] = static_cast<std::uint32_t>(counter);
    w[1][l] = static_cast<std::uint32_t>(counter >> 32);
    w[2][l] = channel;
    w[3][l] = 0;
  }
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < counters; ++l) {
      const std::uint64_t a = std::uint64_t{0xD2511F53} * w[0][l];
      const std::uint64_t b = std::uint64_t{0xCD9E8D57} * w[2][l];
      w[0][l] = static_cast<std::uint32_t>(b >> 32) ^ w[1][l] ^ key0;
      w[2][l] = static_cast<std::uint32_t>(a >> 32) ^ w[3][l] ^ key1;
      w[1][l] = static_cast<std::uint32_t>(b);
      w[3][l] = static_cast<std::uint32_t>(a);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  float normal[4][counters];
  for (int k = 0; k < 4; k += 2)
    for (int l = 0; l < counters; ++l) {
      // 24 bits each: in (0, 1), and in [0, 1)
      const float u =
          (static_cast<float>(static_cast<std::int32_t>(w[k][l] >> 8)) + 0.5f) * 0x1p-24f;
      const float v = static_cast<float>(static_cast<std::int32_t>(w[k + 1][l] >> 8)) * 0x1p-24f;
      float sine, cosine;
      circle(v, sine, cosine);
      const float radius = deviation * std::sqrt(std::max(-2 * log_of(u), 0.0f));
      normal[k][l] = radius * cosine;
      normal[k + 1][l] = radius * sine;
    }
  const float* const all = &normal[0][0];
  for (Index i = 0; i < n; ++i) values[i] += all[i];
}

}  // namespace

void shade(const MutableArray& image, const std::vector<double>& bias,
           const std::vector<double>& gamma, const std::vector<double>& noise, std::uint64_t seed) {
  const Index planes = image.shape[1], rows = image.shape[2], n = image.shape[3];
  const Index voxels = planes * rows * n;
  if (image.size() == 0) return;
  for (Index c = 0; c < image.shape[0]; ++c) {
    float* const channel = image.as<float>() + c * voxels;
    const bool curved = gamma[c] != 1;
    Range range;
    if (!bias.empty() || curved) {
      const Index grain = std::max<Index>(1, 16384 / n);
      std::vector<Range> found((planes * rows + grain - 1) / grain);
      parallel_for(planes * rows, grain, [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r)
          if (!bias.empty())
            multiply_row(channel + r * n, n,
                         along_row(bias, centred(r / rows, planes), centred(r % rows, rows)));
        if (curved) found[begin / grain] = range_of(channel + begin * n, (end - begin) * n);
      });
      for (const Range& part : found) {
        range.low = std::min(range.low, part.low);
        range.high = std::max(range.high, part.high);
      }
    }
    const bool stretch = curved && range.high > range.low &&
                         range.high - range.low < std::numeric_limits<float>::infinity();
    if (!stretch && noise[c] == 0) continue;
    parallel_for(voxels, 64 * block, [&](Index begin, Index end) {
      for (Index i = begin; i < end; i += block) {
        const Index size = std::min(block, end - i);
        if (stretch) power(channel + i, size, range, static_cast<float>(gamma[c]));
        if (noise[c] != 0)
          add_noise(channel + i, size, i, static_cast<std::uint32_t>(c), seed,
                    static_cast<float>(noise[c]));
      }
    });
  }
}

}  // namespace msf
