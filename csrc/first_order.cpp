// Statistics of the intensities of each label, as the IBSI defines them: one sort, then sums over
// the sorted values, which makes them the same whatever order the voxels came in.
//
// A. Zwanenburg et al., "The image biomarker standardization initiative", Radiology 295 (2020)
// 328-338, section 3.3. Percentiles interpolate linearly between the two nearest values.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/regions.hpp"
#include "load_values.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

double percentile(const std::vector<double>& sorted, double part) {
  const double place = part * static_cast<double>(sorted.size() - 1);
  const std::size_t below = static_cast<std::size_t>(place);
  if (below + 1 >= sorted.size() || place == static_cast<double>(below)) return sorted[below];
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[below + 1] - sorted[below]);
}

// Sum of f over the values, in pieces: the error grows with the number of pieces only.
template <class F>
double sum(const std::vector<double>& values, F&& f) {
  double total = 0;
  for (std::size_t i = 0; i < values.size();) {
    double part = 0;
    for (const std::size_t end = std::min(values.size(), i + 4096); i < end; ++i)
      part += f(values[i]);
    total += part;
    poll();
  }
  return total;
}

void describe(std::vector<double>& x, double* out) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  std::erase_if(x, [](double value) { return std::isnan(value); });
  std::fill_n(out, 20, nan);
  out[0] = static_cast<double>(x.size());
  if (x.empty()) return;
  std::sort(x.begin(), x.end());
  const double n = out[0], least = x.front(), most = x.back();
  const double mean = sum(x, [](double v) { return v; }) / n;
  const double variance = sum(x, [&](double v) { return (v - mean) * (v - mean); }) / n;
  const double third = sum(x, [&](double v) { return (v - mean) * (v - mean) * (v - mean); }) / n;
  const double fourth =
      sum(x, [&](double v) { return (v - mean) * (v - mean) * (v - mean) * (v - mean); }) / n;
  const double median = percentile(x, 0.5), p10 = percentile(x, 0.1), p90 = percentile(x, 0.9);
  const double p25 = percentile(x, 0.25), p75 = percentile(x, 0.75);
  const double energy = sum(x, [](double v) { return v * v; });

  const auto inside = [&](double v) { return v >= p10 && v <= p90; };
  const double within = sum(x, [&](double v) { return inside(v) ? 1.0 : 0.0; });
  const double within_mean = sum(x, [&](double v) { return inside(v) ? v : 0.0; }) / within;
  const double robust =
      sum(x, [&](double v) { return inside(v) ? std::abs(v - within_mean) : 0.0; }) / within;

  const bool flat = least == most;  // by definition 0 where the variance is
  const double numbers[] = {
      n,
      flat ? least : mean,
      flat ? 0 : variance,
      flat ? 0 : third / std::pow(variance, 1.5),
      flat ? 0 : fourth / (variance * variance) - 3,
      median,
      least,
      p10,
      p90,
      most,
      p75 - p25,
      most - least,
      flat ? 0 : sum(x, [&](double v) { return std::abs(v - mean); }) / n,
      flat ? 0 : robust,
      sum(x, [&](double v) { return std::abs(v - median); }) / n,
      flat ? 0 : std::sqrt(variance) / mean,
      flat ? 0 : (p75 - p25) / (p75 + p25),
      energy,
      std::sqrt(energy / n),
      flat ? 0 : std::sqrt(variance),
  };
  std::copy(std::begin(numbers), std::end(numbers), out);
}

}  // namespace

void first_order(const Array& values, const Array& starts, const MutableArray& out) {
  parallel_tasks(starts.size() - 1, [&](std::int64_t label) {
    const std::int64_t begin = starts.as<std::int64_t>()[label];
    std::vector<double> x(starts.as<std::int64_t>()[label + 1] - begin);
    load_values(values, begin, static_cast<std::int64_t>(x.size()), 1,
                -std::numeric_limits<double>::infinity(), x.data());
    describe(x, out.as<double>() + label * 20);
  });
}

}  // namespace msf
