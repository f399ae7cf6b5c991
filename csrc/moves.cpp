// Moves of many labels at once, as minimum cuts: Boykov, Veksler and Zabih (2001), "Fast
// approximate energy minimization via graph cuts", IEEE PAMI 23(11):1222-1239; how a pair of binary
// variables becomes edges: Kolmogorov and Zabih (2004), IEEE PAMI 26(2):147-159. And a label at a
// time: Besag (1986), "On the statistical analysis of dirty pictures", J. Royal Stat. Soc. B 48.
#include "kernels/moves.hpp"

#include <algorithm>
#include <stdexcept>

#include "parallel.hpp"

namespace msf {
namespace {

template <class F>
decltype(auto) visit_cost(DType dtype, F&& f) {
  switch (dtype) {
    case DType::int32:
      return f(Type<std::int32_t>{});
    case DType::int64:
      return f(Type<std::int64_t>{});
    case DType::float32:
      return f(Type<float>{});
    case DType::float64:
      return f(Type<double>{});
    default:
      throw std::logic_error("moves: cost type");
  }
}

}  // namespace

void move_unary(const Array& unary, const Array& labels, const Array& stay, const Array& go,
                const MutableArray& gain) {
  const auto* const f = labels.as<std::int32_t>();
  const auto *const s = stay.as<std::int32_t>(), *const g = go.as<std::int32_t>();
  const std::int64_t count = stay.size();
  visit_cost(unary.dtype, [&]<class T>(Type<T>) {
    parallel_for(labels.size(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* const cost = unary.as<T>() + i * count;
        gain.as<T>()[i] = cost[g[f[i]]] - cost[s[f[i]]];
      }
    });
  });
}

void move_pairs(const Array& labels, const std::array<int, 3>& offset, const Array& pairwise,
                const Array& weights, const Array& stay, const Array& go, const MutableArray& gain,
                const MutableArray& forth) {
  const auto* const f = labels.as<std::int32_t>();
  const auto *const s = stay.as<std::int32_t>(), *const g = go.as<std::int32_t>();
  const auto& shape = labels.shape;
  const std::int64_t count = stay.size(), length = shape[2];
  const std::int64_t first = std::max(0, -offset[2]), last = length - std::max(0, offset[2]);
  const std::int64_t shift = (offset[0] * shape[1] + offset[1]) * length + offset[2];
  visit_cost(gain.dtype, [&]<class T>(Type<T>) {
    const T *const v = pairwise.as<T>(), *const w = weights.as<T>();
    T *const u = gain.as<T>(), *const edges = forth.as<T>();
    // In order, since a row adds to itself and to another; the work is small beside the cut.
    Ticker tick(64);
    for (std::int64_t row = 0; row < shape[0] * shape[1]; ++row) {
      tick();
      const std::int64_t z = row / shape[1] + offset[0], y = row % shape[1] + offset[1];
      std::fill_n(edges + row * length, length, T{0});
      if (z < 0 || z >= shape[0] || y < 0 || y >= shape[1]) continue;
      for (std::int64_t p = row * length + first; p < row * length + last; ++p) {
        const std::int64_t q = p + shift;
        const std::int32_t ps = s[f[p]], pg = g[f[p]], qs = s[f[q]], qg = g[f[q]];
        const T weight = weights.ndim == 0 ? *w : w[p];
        const T both_stay = v[ps * count + qs], q_goes = v[ps * count + qg];
        const T p_goes = v[pg * count + qs], both_go = v[pg * count + qg];
        u[p] += weight * (p_goes - both_stay);
        u[q] += weight * (both_go - p_goes);
        edges[p] = weight * std::max<T>(0, (q_goes - both_stay) + (p_goes - both_go));
      }
    }
  });
}

std::int64_t move_labels(const MutableArray& labels, const Array& segments, const Array& stay,
                         const Array& go) {
  auto* const f = labels.as<std::int32_t>();
  const auto *const s = stay.as<std::int32_t>(), *const g = go.as<std::int32_t>();
  const auto* const goes = segments.as<std::uint8_t>();
  std::int64_t changed = 0;
  for (std::int64_t i = 0; i < labels.size(); ++i) {
    const std::int32_t now = goes[i] ? g[f[i]] : s[f[i]];
    changed += now != f[i];
    f[i] = now;
  }
  return changed;
}

std::int64_t icm_sweep(const Array& unary, const Array& pairwise,
                       const std::vector<std::array<int, 3>>& offsets,
                       const std::vector<Array>& weights, const MutableArray& labels) {
  auto* const f = labels.as<std::int32_t>();
  const auto& shape = labels.shape;
  const std::int64_t count = pairwise.shape[0];
  return visit_cost(unary.dtype, [&]<class T>(Type<T>) {
    const T* const v = pairwise.as<T>();
    std::vector<T> cost(count);
    std::int64_t changed = 0, p = 0;
    Ticker tick(1 << 10);
    for (std::int64_t z = 0; z < shape[0]; ++z)
      for (std::int64_t y = 0; y < shape[1]; ++y)
        for (std::int64_t x = 0; x < shape[2]; ++x, ++p) {
          tick();
          std::copy_n(unary.as<T>() + p * count, count, cost.begin());
          for (std::size_t k = 0; k < offsets.size(); ++k)
            for (const int way : {1, -1}) {
              const std::int64_t z1 = z + way * offsets[k][0], y1 = y + way * offsets[k][1];
              const std::int64_t x1 = x + way * offsets[k][2];
              if (z1 < 0 || z1 >= shape[0] || y1 < 0 || y1 >= shape[1] || x1 < 0 || x1 >= shape[2])
                continue;
              const std::int64_t q = (z1 * shape[1] + y1) * shape[2] + x1;
              const T* const w = weights[k].as<T>();
              const T weight = weights[k].ndim == 0 ? *w : w[way > 0 ? p : q];
              for (std::int64_t label = 0; label < count; ++label)
                cost[label] +=
                    weight * (way > 0 ? v[label * count + f[q]] : v[f[q] * count + label]);
            }
          const auto best =
              static_cast<std::int32_t>(std::min_element(cost.begin(), cost.end()) - cost.begin());
          if (cost[best] < cost[f[p]]) f[p] = best, ++changed;
        }
    return changed;
  });
}

}  // namespace msf
