// Paths of least cost over an array of costs, as scikit-image's MCP and MCP_Geometric define them.
#include "cost_search.hpp"
#include "kernels/cost_search.hpp"

namespace msf {
namespace {

template <class T>
struct EnteredCosts {
  using Value = T;
  static constexpr bool labelled = false;
  static constexpr T outside = std::numeric_limits<T>::infinity();
  double most;

  double start(double value) const { return value; }
  double step(double, double to, std::int64_t, std::int64_t, std::int16_t) const { return to; }
  bool passable(T value) const { return value >= 0 && static_cast<double>(value) <= most; }
};

template <class T>
struct MeanCosts {
  using Value = T;
  static constexpr bool labelled = false;
  static constexpr T outside = std::numeric_limits<T>::infinity();
  double most;
  std::vector<double> half_lengths;

  double start(double) const { return 0; }
  double step(double from, double to, std::int64_t, std::int64_t, std::int16_t k) const {
    return half_lengths[k] * (from + to);
  }
  bool passable(T value) const { return value >= 0 && static_cast<double>(value) <= most; }
};

template <class Model>
std::unique_ptr<CostSearch> search(const Array& costs, const Offsets& offsets, Model model) {
  auto search = std::make_unique<GridSearch<Model>>(costs, offsets, std::move(model));
  search->load(costs);
  return search;
}

template <class T>
std::unique_ptr<CostSearch> search(const Array& costs, const Offsets& offsets,
                                   std::vector<double> lengths, bool geometric, double most) {
  if (!geometric) return search(costs, offsets, EnteredCosts<T>{most});
  for (double& length : lengths) length *= 0.5;
  return search(costs, offsets, MeanCosts<T>{most, std::move(lengths)});
}

}  // namespace

std::unique_ptr<CostSearch> search_costs(const Array& costs, const Offsets& offsets,
                                         const std::vector<double>& lengths, bool geometric,
                                         double most) {
  const bool exact_as_float = item_size(costs.dtype) <= 2 || costs.dtype == DType::float32;
  if (exact_as_float) return search<float>(costs, offsets, lengths, geometric, most);
  return search<double>(costs, offsets, lengths, geometric, most);
}

}  // namespace msf
