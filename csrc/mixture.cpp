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

constexpr std::int64_t piece = 1 << 12;

// Values of pixels [begin, end), one channel after the other, so that loops over pixels vectorise.
class Channels {
 public:
  explicit Channels(const Array& image)
      : image_(image), count_(image.shape[image.ndim - 1]), rows_(piece * count_), by_(rows_) {}

  void load(std::int64_t begin, std::int64_t end) {
    n_ = end - begin;
    load_values(image_, begin * count_, n_ * count_, 1, -HUGE_VAL, rows_.data());
    for (std::int64_t c = 0; c < count_; ++c)
      for (std::int64_t i = 0; i < n_; ++i) by_[c * piece + i] = rows_[i * count_ + c];
  }
  std::int64_t count() const { return count_; }
  std::int64_t pixels() const { return image_.size() / count_; }
  const double* operator[](std::int64_t c) const { return by_.data() + c * piece; }

 private:
  const Array& image_;
  std::int64_t count_, n_ = 0;
  std::vector<double> rows_, by_;
};

}  // namespace

void mixture_costs(const Array& image, const Array& mixture, const MutableArray& costs,
                   const MutableArray* components) {
  const std::int64_t channels = image.shape[image.ndim - 1], row = mixture.shape[1];
  parallel_for(costs.size(), piece, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin;
    Channels v(image);
    v.load(begin, end);
    std::vector<double> least(n, HUGE_VAL), cost(n), z(n);
    std::vector<std::uint8_t> which(n, 0);
    for (std::int64_t k = 0; k < mixture.shape[0]; ++k) {
      const double* const m = mixture.as<double>() + k * row;
      const double* l = m + 1 + channels;
      std::fill(cost.begin(), cost.end(), m[0]);
      for (std::int64_t c = 0; c < channels; ++c) {
        std::fill(z.begin(), z.end(), 0.0);
        for (std::int64_t b = 0; b <= c; ++b, ++l) {
          const double factor = *l, mean = m[1 + b];
          const double* const value = v[b];
          for (std::int64_t i = 0; i < n; ++i) z[i] += factor * (value[i] - mean);
        }
        for (std::int64_t i = 0; i < n; ++i) cost[i] += 0.5 * (z[i] * z[i]);
      }
      for (std::int64_t i = 0; i < n; ++i)
        if (cost[i] < least[i]) least[i] = cost[i], which[i] = static_cast<std::uint8_t>(k);
    }
    for (std::int64_t i = 0; i < n; ++i)
      costs.as<float>()[begin + i] = static_cast<float>(least[i]);
    if (components) std::copy(which.begin(), which.end(), components->as<std::uint8_t>() + begin);
  });
}

void mixture_sums(const Array& image, const Array& components, const Array& origin,
                  const MutableArray& sums) {
  const std::int64_t channels = image.shape[image.ndim - 1], row = sums.shape[1];
  const std::int64_t count = sums.shape[0], numbers = count * row, pixels = components.size();
  std::vector<double> parts((pixels + piece - 1) / piece * numbers, 0.0);
  parallel_for(pixels, piece, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> v((end - begin) * channels), d(channels);
    load_values(image, begin * channels, (end - begin) * channels, 1, -HUGE_VAL, v.data());
    double* const part = parts.data() + begin / piece * numbers;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = components.as<std::uint8_t>()[i];
      if (k >= count) continue;
      double* sum = part + k * row;
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
