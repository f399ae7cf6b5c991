// Paths of least cost over an array of costs, as scikit-image's MCP and MCP_Geometric define them.
#include "cost_search.hpp"
#include "kernels/cost_search.hpp"

namespace msf {
namespace {

template <class T>
struct EnteredCosts {
  using Value = T;
  static constexpr bool labelled = false;
  void steps(double, const double* to, std::int64_t, const SearchStep*, double* costs) const {
    std::copy_n(to, SearchStep::together, costs);
  }
};

template <class T>
struct MeanCosts {
  using Value = T;
  static constexpr bool labelled = false;
  std::vector<double> half_lengths;

  void steps(double from, const double* to, std::int64_t, const SearchStep* steps,
             double* costs) const {
    for (std::size_t i = 0; i < SearchStep::together; ++i)
      costs[i] = half_lengths[steps[i].k] * (from + to[i]);
  }
};

template <class T>
std::unique_ptr<CostSearch> search(const Array& costs, const Offsets& offsets,
                                   std::vector<double> lengths, bool geometric, double most) {
  const SearchRules rules{0, most, !geometric};
  if (!geometric) {
    return std::make_unique<ModelSearch<EnteredCosts<T>>>(costs, offsets, rules, EnteredCosts<T>{});
  }
  for (double& length : lengths) length *= 0.5;
  using Model = MeanCosts<T>;
  return std::make_unique<ModelSearch<Model>>(costs, offsets, rules, Model{std::move(lengths)});
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
