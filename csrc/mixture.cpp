// Mixtures of normal distributions: what pixels cost under one, and the moments to fit one. A pixel
// belongs to one component (Rother, Kolmogorov and Blake 2004, "GrabCut", SIGGRAPH), so there is no
// exponential to compute.
#include "kernels/mixture.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "load_values.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

constexpr std::int64_t piece = 1 << 9;  // whose values stay in the first cache

// Values of pixels [begin, end), one channel after the other, so that loops over pixels vectorise.
class Channels {
 public:
  explicit Channels(const Array& image)
      : image_(image), count_(image.shape[image.ndim - 1]), rows_(piece * count_), by_(rows_) {}

  void load(std::int64_t begin, std::int64_t end) {
    n_ = end - begin;
    load_values(image_, begin * count_, n_ * count_, 1, -HUGE_VAL, rows_.data());
    for (std::int64_t c = 0; c < count_; ++c) {
      const double* __restrict const row = rows_.data() + c;
      double* __restrict const channel = by_.data() + c * piece;
      for (std::int64_t i = 0; i < n_; ++i) channel[i] = row[i * count_];
    }
  }
  std::int64_t count() const { return count_; }
  std::int64_t pixels() const { return image_.size() / count_; }
  const double* operator[](std::int64_t c) const { return by_.data() + c * piece; }

 private:
  const Array& image_;
  std::int64_t count_, n_ = 0;
  std::vector<double> rows_, by_;
};

// Keeps the least cost of pixels so far, and in which component. `m`: constant, mean, factors by
// row of component k.
template <int channels>
void keep_least_of(const Channels& v, const double* __restrict m, std::int64_t k, std::int64_t n,
                   double* __restrict least, std::int64_t* __restrict which) {
  const double* value[channels];
  for (int c = 0; c < channels; ++c) value[c] = v[c];
  for (std::int64_t i = 0; i < n; ++i) {
    double cost = m[0];
    const double* factor = m + 1 + channels;
#pragma GCC unroll 4
    for (int c = 0; c < channels; ++c) {
      double z = 0.0;
#pragma GCC unroll 4
      for (int b = 0; b <= c; ++b) z += *factor++ * (value[b][i] - m[1 + b]);
      cost += 0.5 * (z * z);
    }
    which[i] = cost < least[i] ? k : which[i];
    least[i] = cost < least[i] ? cost : least[i];
  }
}

template <class Wide, class Narrow>
void narrow(const Wide* __restrict from, std::int64_t n, Narrow* __restrict to) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<Narrow>(from[i]);
}

// Adds 1, the values less the origin, and their products, to the sums of a pixel's component.
template <int channels>
void add_moments(const double* __restrict value, const double* __restrict origin,
                 double* __restrict sum) {
  constexpr int numbers = 1 + channels + channels * (channels + 1) / 2;
  double moments[numbers] = {1.0};
  double *d = moments + 1, *product = d + channels;
  for (int c = 0; c < channels; ++c) d[c] = value[c] - origin[c];
  for (int c = 0; c < channels; ++c)
    for (int b = 0; b <= c; ++b) *product++ = d[c] * d[b];
  for (int i = 0; i < numbers; ++i) sum[i] += moments[i];
}

void add(double factor, double mean, const double* __restrict value, std::int64_t n,
         double* __restrict z) {
  for (std::int64_t i = 0; i < n; ++i) z[i] += factor * (value[i] - mean);
}
void add_half_square(const double* __restrict z, std::int64_t n, double* __restrict cost) {
  for (std::int64_t i = 0; i < n; ++i) cost[i] += 0.5 * (z[i] * z[i]);
}
void keep_least(const double* __restrict cost, std::int64_t k, std::int64_t n,
                double* __restrict least, std::int64_t* __restrict which) {
  for (std::int64_t i = 0; i < n; ++i) {
    which[i] = cost[i] < least[i] ? k : which[i];
    least[i] = cost[i] < least[i] ? cost[i] : least[i];
  }
}

}  // namespace

void mixture_costs(const Array& image, const Array& mixture, const MutableArray& costs,
                   const MutableArray* components) {
  const std::int64_t channels = image.shape[image.ndim - 1], row = mixture.shape[1];
  parallel_for(costs.size(), 32 * piece, [&](std::int64_t first, std::int64_t last) {
    Channels v(image);
    std::vector<double> least(piece), cost(piece), z(piece);
    std::vector<std::int64_t> which(piece);  // as wide as a double, so that the loop vectorises
    for (std::int64_t begin = first; begin < last; begin += piece) {
      const std::int64_t n = std::min(piece, last - begin);
      v.load(begin, begin + n);
      std::fill(least.begin(), least.end(), HUGE_VAL);
      for (std::int64_t k = 0; k < mixture.shape[0]; ++k) {
        const double* const m = mixture.as<double>() + k * row;
        if (channels == 1 || channels == 3) {
          (channels == 1 ? keep_least_of<1> : keep_least_of<3>)(v, m, k, n, least.data(),
                                                                which.data());
          continue;
        }
        const double* l = m + 1 + channels;
        std::fill(cost.begin(), cost.end(), m[0]);
        for (std::int64_t c = 0; c < channels; ++c) {
          std::fill(z.begin(), z.end(), 0.0);
          for (std::int64_t b = 0; b <= c; ++b, ++l) add(*l, m[1 + b], v[b], n, z.data());
          add_half_square(z.data(), n, cost.data());
        }
        keep_least(cost.data(), k, n, least.data(), which.data());
      }
      narrow(least.data(), n, costs.as<float>() + begin);
      if (components) narrow(which.data(), n, components->as<std::uint8_t>() + begin);
    }
  });
}

void mixture_sums(const Array& image, const Array& components, const Array& origin,
                  const MutableArray& sums) {
  const std::int64_t channels = image.shape[image.ndim - 1], row = sums.shape[1];
  const std::int64_t count = sums.shape[0], numbers = count * row, pixels = components.size();
  constexpr std::int64_t chunk = 1 << 14;
  std::vector<double> parts((pixels + chunk - 1) / chunk * numbers, 0.0);
  parallel_for(pixels, chunk, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> v((end - begin) * channels), d(channels);
    load_values(image, begin * channels, (end - begin) * channels, 1, -HUGE_VAL, v.data());
    double* const part = parts.data() + begin / chunk * numbers;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = components.as<std::uint8_t>()[i];
      if (k >= count) continue;
      double* sum = part + k * row;
      if (channels == 3) {
        add_moments<3>(v.data() + (i - begin) * 3, origin.as<double>(), sum);
        continue;
      }
      *sum++ += 1;
      for (std::int64_t c = 0; c < channels; ++c)
        *sum++ += d[c] = v[(i - begin) * channels + c] - origin.as<double>()[c];
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t b = 0; b <= c; ++b) *sum++ += d[c] * d[b];
    }
  });
  auto* const out = sums.as<double>();
  std::fill_n(out, numbers, 0.0);
  for (std::size_t i = 0; i < parts.size(); ++i)
    out[i % static_cast<std::size_t>(numbers)] += parts[i];
}

}  // namespace msf
