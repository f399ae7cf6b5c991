// Maximum flow on grids: which graph for which type. Algorithms in grid_search.hpp and
// grid_levels.hpp.
#include "kernels/maxflow.hpp"

#include <array>
#include <bit>
#include <limits>
#include <vector>

#include "grid_graph.hpp"
#include "order_key.hpp"

namespace msf {
namespace {

// Signed integers in the order of values, so that one loop of minima and maxima, which vectorises,
// also finds NaN: beyond an infinity.
template <class T, class Int = std::make_signed_t<OrderKey<T>>>
Int signed_key(T value) {
  const Int bits = std::bit_cast<Int>(value);
  if constexpr (is_float<T>)
    return bits < 0 ? bits ^ std::numeric_limits<Int>::max() : bits;
  else
    return bits;
}
template <class T, class Int = std::make_signed_t<OrderKey<T>>>
double value_of_key(Int key) {
  if constexpr (is_float<T>)
    return std::bit_cast<T>(key < 0 ? key ^ std::numeric_limits<Int>::max() : key);
  else
    return static_cast<double>(key);
}

template <class T>
CapacityRange range_of(const T* capacities, std::int64_t n) {
  using Key = std::make_signed_t<OrderKey<T>>;
  constexpr std::int64_t grain = 1 << 16;
  std::vector<std::array<Key, 2>> ranges((n + grain - 1) / grain);
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    Key least = 0, most = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const Key key = signed_key(capacities[i]);
      least = std::min(least, key);
      most = std::max(most, key);
    }
    ranges[begin / grain] = {least, most};
  });
  Key least = 0, most = 0;
  for (const auto& range : ranges) {
    least = std::min(least, range[0]);
    most = std::max(most, range[1]);
  }
  CapacityRange range{value_of_key<T>(least), value_of_key<T>(most), false};
  if constexpr (is_float<T>) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    range.nan = least < signed_key(-infinity) || most > signed_key(infinity);
  }
  return range;
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
      return std::make_unique<GridGraphOf<std::int32_t>>(blocks);
    case DType::int64:
      return std::make_unique<GridGraphOf<std::int64_t>>(blocks);
    case DType::float32:
      return std::make_unique<GridGraphOf<float>>(blocks);
    case DType::float64:
      return std::make_unique<GridGraphOf<double>>(blocks);
    default:
      throw std::logic_error("maxflow: capacity type");
  }
}

CapacityRange capacity_range(const Array& capacities) {
  return visit(capacities.dtype, [&]<class T>(Type<T>) -> CapacityRange {
    if constexpr (sizeof(T) >= 4 && (std::is_signed_v<T> || is_float<T>))
      return range_of(capacities.as<T>(), capacities.size());
    else
      throw std::logic_error("maxflow: capacity type");
  });
}

}  // namespace msf
