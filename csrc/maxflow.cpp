// Maximum flow on grids: which graph for which type. Algorithm in grid_search.hpp.
#include "kernels/maxflow.hpp"

#include "grid_graph.hpp"

namespace msf {
namespace {

template <class Cap>
std::unique_ptr<GridGraph> make(const GridBlocks& blocks) {
  // 64 bits are rare: a mask of more bits than needed costs them less than a build of their own.
  if constexpr (sizeof(Cap) == 4)
    if (blocks.directions() <= 8) return std::make_unique<GridGraphOf<Cap, std::uint8_t>>(blocks);
  return std::make_unique<GridGraphOf<Cap, std::uint32_t>>(blocks);
}

}  // namespace

std::unique_ptr<GridGraph> make_grid_graph(DType capacity, const std::vector<std::int64_t>& shape,
                                           const std::vector<std::vector<int>>& offsets) {
  const std::size_t missing = 3 - shape.size();
  std::array<std::int64_t, 3> extents{1, 1, 1};
  std::copy(shape.begin(), shape.end(), extents.begin() + missing);
  std::vector<GridOffset> steps;
  for (const auto& offset : offsets) {
    steps.push_back({0, 0, 0});
    std::copy(offset.begin(), offset.end(), steps.back().begin() + missing);
  }
  const GridBlocks blocks(extents, steps);
  switch (capacity) {
    case DType::int32:
      return make<std::int32_t>(blocks);
    case DType::int64:
      return make<std::int64_t>(blocks);
    case DType::float32:
      return make<float>(blocks);
    case DType::float64:
      return make<double>(blocks);
    default:
      throw std::logic_error("maxflow: capacity type");
  }
}

CapacityRange capacity_range(const Array& capacities) {
  return visit(capacities.dtype, [&]<class T>(Type<T>) {
    CapacityRange range;
    if constexpr (std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::int64_t> ||
                  std::is_same_v<T, float> || std::is_same_v<T, double>) {
      constexpr int lanes = 32;  // so that the loop vectorises
      const T* const c = capacities.as<T>();
      const std::int64_t n = capacities.size();
      T least[lanes], most[lanes];
      bool nan = false;
      std::fill_n(least, lanes, T{0});
      std::fill_n(most, lanes, T{0});
      Ticker tick;
      std::int64_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        tick();
        bool nans = false;
        for (int k = 0; k < lanes; ++k) {
          const T x = c[i + k];
          least[k] = x < least[k] ? x : least[k];
          most[k] = x > most[k] ? x : most[k];
          nans |= x != x;
        }
        nan |= nans;
      }
      for (; i < n; ++i) {
        least[0] = std::min(least[0], c[i]);
        most[0] = std::max(most[0], c[i]);
        nan |= c[i] != c[i];
      }
      range.least = static_cast<double>(*std::min_element(least, least + lanes));
      range.most = static_cast<double>(*std::max_element(most, most + lanes));
      range.nan = nan;
      return range;
    } else {
      throw std::logic_error("maxflow: capacity type");
      return range;
    }
  });
}

}  // namespace msf
