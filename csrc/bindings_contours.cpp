// What Python sees of the deformable contours.
#include <optional>

#include "bindings.hpp"
#include "kernels/active_contour.hpp"
#include "kernels/chan_vese.hpp"
#include "kernels/level_set.hpp"
#include "kernels/morphological_snake.hpp"

namespace py = pybind11;

namespace msf {

void bind_contours(py::module_& m) {
  py::class_<MorphologicalSnake>(m, "MorphologicalSnake", py::module_local())
      .def("iterate", &MorphologicalSnake::iterate, NoGil());
  m.def("chan_vese_snake", &chan_vese_snake, py::keep_alive<0, 1>(), py::keep_alive<0, 2>(),
        NoGil());
  m.def(
      "geodesic_snake",
      [](const Array& edge_map, const std::optional<Array>& open, const MutableArray& level_set,
         int smoothing, int balloon) {
        return geodesic_snake(edge_map, open ? &*open : nullptr, level_set, smoothing, balloon);
      },
      py::keep_alive<0, 1>(), py::keep_alive<0, 3>(), NoGil());

  py::class_<LevelSet>(m, "LevelSet", py::module_local())
      .def("iterate",
           [](LevelSet& level_set, std::int64_t iterations, double tolerance) {
             std::vector<LevelSet::Step> steps;
             {
               const ReleaseGil nogil;
               steps = level_set.iterate(iterations, tolerance);
             }
             py::list result;
             for (const auto& step : steps) result.append(py::make_tuple(step.energy, step.rms));
             return result;
           })
      .def("mask", &LevelSet::mask, NoGil())
      .def("overlay", &LevelSet::overlay, NoGil());
  m.def(
      "geodesic_level_set",
      [](const Array& speed, const Array& init, const std::array<double, 3>& spacing,
         const std::array<double, 3>& weights) {
        return geodesic_level_set(speed, init, spacing, {weights[0], weights[1], weights[2]});
      },
      py::keep_alive<0, 1>(), NoGil());
  m.def(
      "region_level_set",
      [](const Array& image, double low, double scale, const Array& init,
         const std::array<double, 3>& spacing, const std::array<double, 4>& weights) {
        return region_level_set(image, low, scale, init, spacing,
                                {weights[0], weights[1], weights[2], weights[3]});
      },
      py::keep_alive<0, 1>(), NoGil());

  m.def("spline_coefficients", &spline_coefficients, NoGil());
  m.def(
      "active_contour",
      [](const Array& coefficients, const std::array<double, 4>& weights, std::int64_t iterations,
         double convergence, const std::array<int, 2>& ends, const MutableArray& snake) {
        const auto end = [&](int i) { return static_cast<SnakeEnd>(ends[i]); };
        return active_contour(coefficients,
                              {weights[0], weights[1], weights[2], weights[3], iterations,
                               convergence, end(0), end(1)},
                              snake);
      },
      NoGil());
  m.def(
      "chan_vese",
      [](const Array& image, const std::array<double, 5>& weights, std::int64_t iterations,
         bool with_energies, const MutableArray& phi) {
        return chan_vese(image,
                         {weights[0], weights[1], weights[2], weights[3], weights[4], iterations},
                         with_energies, phi);
      },
      NoGil());
}

}  // namespace msf
