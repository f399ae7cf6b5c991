// Sums in an order that vectors of any width keep.
#pragma once

#include <cstdint>

namespace msf {

// Sums of f(i) for i in [0, n), whose order depends on n alone.
template <class F>
double sum_of(std::int64_t n, F&& f) {
  constexpr std::int64_t lanes = 8;  // sums kept apart, so that the loops vectorise
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::int64_t k = 0; k < lanes; ++k) sums[k] += f(i + k);
  for (; i < n; ++i) sums[0] += f(i);
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sums[0];
}

}  // namespace msf
