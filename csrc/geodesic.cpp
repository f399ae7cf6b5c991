// Geodesic distances: the length of the shortest path over the image seen as a landscape, whose
// steps are straight in space and intensity (Toivanen 1996; Criminisi, Sharp and Blake 2008).
//
// Deviation: not a number of raster scans, which approximate it, but Dijkstra's search, which is
// exact on the graph of the pixels.
#include <cmath>

#include "cost_search.hpp"
#include "kernels/cost_search.hpp"

namespace msf {
namespace {

template <class T, bool with_labels>
struct Landscape {
  using Value = T;
  static constexpr bool labelled = with_labels;
  double intensity;
  std::vector<double> squares;  // of the steps in space

  void steps(double from, const double* to, std::int64_t, const SearchStep* steps,
             double* costs) const {
    for (std::size_t i = 0; i < SearchStep::together; ++i) {
      const double rise = intensity * (to[i] - from);
      costs[i] = std::sqrt(squares[steps[i].k] + rise * rise);
    }
  }
};

template <class T, bool labelled>
std::unique_ptr<CostSearch> search(const Array& image, const Offsets& offsets,
                                   std::vector<double> squares, double intensity) {
  using Model = Landscape<T, labelled>;
  return std::make_unique<ModelSearch<Model>>(image, offsets, SearchRules{},  // NaN costs NaN
                                              Model{intensity, std::move(squares)});
}

}  // namespace

std::unique_ptr<CostSearch> search_geodesic(const Array& image, const Offsets& offsets,
                                            const std::vector<double>& lengths, double spatial,
                                            double intensity, bool labelled) {
  std::vector<double> squares;
  for (const double length : lengths) squares.push_back((spatial * length) * (spatial * length));
  const bool exact_as_float = item_size(image.dtype) <= 2 || image.dtype == DType::float32;
  const auto make = [&]<class T>(Type<T>) {
    return labelled ? search<T, true>(image, offsets, squares, intensity)
                    : search<T, false>(image, offsets, squares, intensity);
  };
  return exact_as_float ? make(Type<float>{}) : make(Type<double>{});
}

}  // namespace msf
